// SPDX-License-Identifier: Apache-2.0
// ArrayWindow: some neighbouring entries of a BPF array map in this process's memory, to write many
// of them without a system call each. For maps with BPF_F_MMAPABLE (Linux 5.5). Unmapped when
// destroyed: what is mapped counts as this process's memory, though the map has it anyway.
//
// Stores are plain memory stores, which programs may see one by one: for entries that nobody reads
// yet, or that are of use half written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace shoal::kernel {

class ArrayWindow {
public:
  // Nothing when the map cannot be mapped: the caller writes by system calls then. The entries
  // [first, first + count) must be in the map.
  static std::optional<ArrayWindow> map(int fd, std::uint32_t first, std::uint32_t count,
                                        std::size_t value_bytes);
  ArrayWindow(ArrayWindow&& other) noexcept;
  ArrayWindow& operator=(ArrayWindow&&) = delete;
  ~ArrayWindow();

  std::uint8_t* at(std::uint32_t index) { return mapped_ + (index * stride_ - offset_); }

private:
  ArrayWindow(std::uint8_t* mapped, std::size_t bytes, std::size_t offset, std::size_t stride)
      : mapped_(mapped), bytes_(bytes), offset_(offset), stride_(stride) {}

  std::uint8_t* mapped_;
  std::size_t bytes_;
  std::size_t offset_;  // of the window in the map, in bytes
  std::size_t stride_;  // an entry's bytes, of which the kernel makes a multiple of 8
};

}  // namespace shoal::kernel
