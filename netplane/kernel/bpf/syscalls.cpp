// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/syscalls.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <cerrno>
#include <cstdio>
#include <fmt/format.h>
#include <unistd.h>
#include <vector>

namespace shoal::kernel {
namespace {

constexpr int kEnotsupp = 524;  // the kernel's own, for map types without batches

bool no_batches(int error) { return error == kEnotsupp || error == EOPNOTSUPP || error == EINVAL; }

// Entry by entry, for maps without batches. A key that goes away while we walk starts the kernel
// over at the first one; the bound keeps that finite.
Result<> walk(int fd, std::size_t key_bytes, std::size_t value_bytes,
              const std::function<bool(const void*, const void*)>& visit) {
  std::vector<std::uint8_t> key(key_bytes), next(key_bytes), value(value_bytes);
  auto info = SHOAL_TRY(map_info(fd));
  bool first = true;
  for (std::uint64_t steps = 0; steps <= 2ULL * info.entries_max + 1; ++steps) {
    if (bpf_map_get_next_key(fd, first ? nullptr : key.data(), next.data()) != 0) {
      if (errno == ENOENT)
        return {};
      return fail_errno("walk a BPF map");
    }
    first = false;
    key = next;
    if (bpf_map_lookup_elem(fd, key.data(), value.data()) != 0)
      continue;
    if (!visit(key.data(), value.data()))
      return {};
  }
  return {};
}

}  // namespace

Result<UniqueFd> open_pin(const std::filesystem::path& path) {
  int fd = bpf_obj_get(path.c_str());
  if (fd < 0)
    return fail_errno(fmt::format("open {}", path.string()));
  return UniqueFd(fd);
}

Result<> pin_fd(int fd, const std::filesystem::path& path) {
  if (bpf_obj_pin(fd, path.c_str()) != 0)
    return fail_errno(fmt::format("pin {}", path.string()));
  return {};
}

Result<> remove_pin(const std::filesystem::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    return fail_errno(fmt::format("remove {}", path.string()));
  return {};
}

Result<> replace_pin(int fd, const std::filesystem::path& path) {
  const std::filesystem::path fresh =
      path.parent_path() / fmt::format("{}{}", kNewPinPrefix, path.filename().string());
  SHOAL_TRY(remove_pin(fresh));
  SHOAL_TRY(pin_fd(fd, fresh));
  if (std::rename(fresh.c_str(), path.c_str()) != 0)
    return fail_errno(fmt::format("rename {} to {}", fresh.string(), path.filename().string()));
  return {};
}

Result<MapInfo> map_info(int fd) {
  bpf_map_info info{};
  __u32 bytes = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &bytes) != 0)
    return fail_errno("read a BPF map's description");
  return MapInfo{.type = info.type,
                 .id = info.id,
                 .key_bytes = info.key_size,
                 .value_bytes = info.value_size,
                 .entries_max = info.max_entries,
                 .flags = info.map_flags,
                 .btf_id = info.btf_id,
                 .btf_key_type = info.btf_key_type_id,
                 .btf_value_type = info.btf_value_type_id};
}

Result<> update_entries(int fd, const void* keys, std::size_t key_bytes, const void* values,
                        std::size_t value_bytes, std::uint32_t count) {
  const auto* key = static_cast<const std::uint8_t*>(keys);
  const auto* value = static_cast<const std::uint8_t*>(values);
  std::uint32_t done = 0;
  while (done < count) {
    __u32 n = std::min(count - done, kBatchEntriesMax);
    if (n == 1 || bpf_map_update_batch(fd, key + done * key_bytes, value + done * value_bytes, &n,
                                       nullptr) != 0) {
      if (n != 1 && !no_batches(errno))
        return fail_errno("write a BPF map");
      n = std::min(count - done, kBatchEntriesMax);
      for (std::uint32_t i = done; i < done + n; ++i)
        if (bpf_map_update_elem(fd, key + i * key_bytes, value + i * value_bytes, BPF_ANY) != 0)
          return fail_errno("write a BPF map");
    }
    done += n;
  }
  return {};
}

Result<> for_each_entry(int fd, std::size_t key_bytes, std::size_t value_bytes,
                        const std::function<bool(const void*, const void*)>& visit) {
  std::vector<std::uint8_t> keys(key_bytes * kBatchEntriesMax),
      values(value_bytes * kBatchEntriesMax);
  std::vector<std::uint8_t> at(std::max<std::size_t>(key_bytes, 8));
  bool first = true;
  for (;;) {
    __u32 n = kBatchEntriesMax;
    int rc = bpf_map_lookup_batch(fd, first ? nullptr : at.data(), at.data(), keys.data(),
                                  values.data(), &n, nullptr);
    const int error = rc != 0 ? errno : 0;
    if (first && error != 0 && no_batches(error))
      return walk(fd, key_bytes, value_bytes, visit);
    if (error != 0 && error != ENOENT)
      return fail_errno(error, "read a BPF map");
    for (__u32 i = 0; i < n; ++i)
      if (!visit(keys.data() + i * key_bytes, values.data() + i * value_bytes))
        return {};
    if (error == ENOENT)
      return {};
    first = false;
  }
}

Result<bool> next_entries(int fd, std::size_t key_bytes, std::size_t value_bytes,
                          std::vector<std::uint8_t>& at,
                          const std::function<bool(const void*, const void*)>& visit) {
  std::vector<std::uint8_t> keys(key_bytes * kBatchEntriesMax),
      values(value_bytes * kBatchEntriesMax);
  const bool first = at.empty();
  at.resize(std::max<std::size_t>(key_bytes, 8));
  __u32 n = kBatchEntriesMax;
  const int rc = bpf_map_lookup_batch(fd, first ? nullptr : at.data(), at.data(), keys.data(),
                                      values.data(), &n, nullptr);
  const int error = rc != 0 ? errno : 0;
  if (error != 0 && error != ENOENT) {
    at.clear();
    return fail_errno(error, "read a BPF map in steps");
  }
  for (__u32 i = 0; i < n; ++i)
    visit(keys.data() + i * key_bytes, values.data() + i * value_bytes);
  if (error == ENOENT)
    at.clear();
  return error == 0;
}

}  // namespace shoal::kernel
