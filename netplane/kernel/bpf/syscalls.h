// SPDX-License-Identifier: Apache-2.0
// The few bpf(2) shapes that the loader and the maps share. Private to netplane/kernel/bpf.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>
#include <vector>

namespace shoal::kernel {

inline constexpr std::uint32_t kBatchEntriesMax = 4096;  // one bpf(2) call's worth

Result<UniqueFd> open_pin(const std::filesystem::path& path);  // kNotFound when there is none
Result<> pin_fd(int fd, const std::filesystem::path& path);
Result<> remove_pin(const std::filesystem::path& path);  // absent is fine
// Whatever was pinned there, at every moment the old or the new. Uses the name "new-..." beside it,
// which an agent that ended may have left.
Result<> replace_pin(int fd, const std::filesystem::path& path);
inline constexpr std::string_view kNewPinPrefix = "new-";

struct MapInfo {
  std::uint32_t type = 0;
  std::uint32_t id = 0;
  std::uint32_t key_bytes = 0;
  std::uint32_t value_bytes = 0;
  std::uint32_t entries_max = 0;
  std::uint32_t flags = 0;   // BPF_F_...
  std::uint32_t btf_id = 0;  // 0: nothing is known of what lies in keys and values
  std::uint32_t btf_key_type = 0;
  std::uint32_t btf_value_type = 0;
};
Result<MapInfo> map_info(int fd);

// `count` keys and values, tightly packed. Writes in batches, one by one where the kernel has no
// batch for this kind of map.
Result<> update_entries(int fd, const void* keys, std::size_t key_bytes, const void* values,
                        std::size_t value_bytes, std::uint32_t count);

// Calls visit(key, value) for every entry until it returns false. For per-CPU maps value_bytes is
// that of all CPUs.
Result<> for_each_entry(int fd, std::size_t key_bytes, std::size_t value_bytes,
                        const std::function<bool(const void* key, const void* value)>& visit);
// One step of the same over a hash map: at most kBatchEntriesMax entries from the cursor `at`
// (empty: from the beginning), which is moved on. False when nothing is left, and `at` is empty
// again.
Result<bool> next_entries(int fd, std::size_t key_bytes, std::size_t value_bytes,
                          std::vector<std::uint8_t>& at,
                          const std::function<bool(const void* key, const void* value)>& visit);

}  // namespace shoal::kernel
