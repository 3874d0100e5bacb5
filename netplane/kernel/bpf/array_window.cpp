// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/array_window.h"

#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace shoal::kernel {

std::optional<ArrayWindow> ArrayWindow::map(int fd, std::uint32_t first, std::uint32_t count,
                                            std::size_t value_bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t stride = (value_bytes + 7) / 8 * 8;
  const std::size_t offset = first * stride / page * page;
  const std::size_t bytes = (std::size_t{first} + count) * stride - offset;
  void* const at =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (at == MAP_FAILED)
    return std::nullopt;
  return ArrayWindow(static_cast<std::uint8_t*>(at), bytes, offset, stride);
}

ArrayWindow::ArrayWindow(ArrayWindow&& other) noexcept
    : mapped_(std::exchange(other.mapped_, nullptr)), bytes_(other.bytes_), offset_(other.offset_),
      stride_(other.stride_) {}

ArrayWindow::~ArrayWindow() {
  if (mapped_ != nullptr)
    ::munmap(mapped_, bytes_);
}

}  // namespace shoal::kernel
