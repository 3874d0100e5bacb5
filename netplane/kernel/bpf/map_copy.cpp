// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/map_copy.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>

namespace shoal::kernel {
namespace {

constexpr std::string_view kSeenMember = "seen_s";  // when an entry was last of use

std::size_t stride_of(const MapShape& shape) {
  return shape.per_cpu() ? (shape.value_bytes + 7) / 8 * 8 : shape.value_bytes;
}

bool is_array(const MapShape& shape) {
  return shape.type == BPF_MAP_TYPE_ARRAY || shape.type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

bool is_zero(const std::uint8_t* bytes, std::size_t count) {
  return std::all_of(bytes, bytes + count, [](std::uint8_t byte) { return byte == 0; });
}

// Nothing but 8-byte numbers, so that values can be added up.
bool is_counters(const Layout& layout) {
  if (layout.kind == Layout::Kind::kNumber)
    return layout.bytes == 8 && !layout.network_order;
  return !layout.members.empty() && std::ranges::all_of(layout.members, [](const Member& member) {
    return is_counters(member.layout);
  });
}

std::uint32_t index_of(const std::uint8_t* key) {
  std::uint32_t out = 0;
  std::memcpy(&out, key, sizeof(out));
  return out;
}

// Entries on their way into a map, many a system call.
class Writer {
public:
  Writer(int fd, std::size_t key_bytes, std::size_t value_bytes)
      : fd_(fd), key_bytes_(key_bytes), value_bytes_(value_bytes) {}

  Result<> put(const std::uint8_t* key, const std::uint8_t* value) {
    keys_.insert(keys_.end(), key, key + key_bytes_);
    values_.insert(values_.end(), value, value + value_bytes_);
    return ++count_ == kBatchEntriesMax ? flush() : Result<>();
  }
  Result<> flush() {
    if (count_ != 0)
      SHOAL_TRY(
          update_entries(fd_, keys_.data(), key_bytes_, values_.data(), value_bytes_, count_));
    keys_.clear();
    values_.clear();
    count_ = 0;
    return {};
  }

private:
  int fd_;
  std::size_t key_bytes_, value_bytes_;
  std::vector<std::uint8_t> keys_, values_;
  std::uint32_t count_ = 0;
};

}  // namespace

Result<MapCopy> MapCopy::between(const MapShape& from, const MapShape& to) {
  if (from.type != to.type)
    return fail(Errc::kUnsupported, fmt::format("it is of type {}, not {}", from.type, to.type));
  if (!from.key || !from.value || !to.key || !to.value)
    return fail(Errc::kUnsupported, "what lies where in it is not known");
  if (to.type == BPF_MAP_TYPE_SK_STORAGE)
    return fail(Errc::kUnsupported, "what sockets hold cannot be copied");
  const int cpus = to.per_cpu() ? libbpf_num_possible_cpus() : 1;
  if (cpus <= 0)
    return fail_errno(-cpus, "count the CPUs");
  MapCopy out(from, to, SHOAL_TRY_WRAP(Conversion::between(*from.key, *to.key), "key"),
              SHOAL_TRY_WRAP(Conversion::between(*from.value, *to.value), "value"));
  out.cpus_ = static_cast<std::size_t>(cpus);
  return out;
}

MapCopy::MapCopy(const MapShape& from, const MapShape& to, Conversion key, Conversion value)
    : from_(from), to_(to), key_(std::move(key)), value_(std::move(value)), cpus_(1) {}

Result<> MapCopy::add_bits(std::string_view member, std::uint32_t bits) {
  for (const Member& is : to_.value->members) {
    if (is.name != member || is.layout.bytes != sizeof(bits) || is.layout.network_order)
      continue;
    bits_ = bits;
    bits_at_ = is.offset;
    return {};
  }
  return fail(Errc::kInternal, fmt::format("its values have no 32-bit member {}", member));
}

bool MapCopy::convert_value(const std::uint8_t* from, std::uint8_t* to) const {
  for (std::size_t cpu = 0; cpu < cpus_; ++cpu)
    if (!value_.apply(from + cpu * stride_of(from_), to + cpu * stride_of(to_)))
      return false;
  if (bits_ != 0)
    for (std::size_t cpu = 0; cpu < cpus_; ++cpu) {
      std::uint8_t* at = to + cpu * stride_of(to_) + bits_at_;
      const std::uint32_t all = index_of(at) | bits_;
      std::memcpy(at, &all, sizeof(all));
    }
  return true;
}

Result<> MapCopy::each_converted(
    int from_fd, CopyCount& count,
    const std::function<bool(const std::uint8_t*, const std::uint8_t*)>& visit) const {
  const std::size_t from_bytes = cpus_ * stride_of(from_);
  std::vector<std::uint8_t> key(to_.key_bytes), value(cpus_ * stride_of(to_));
  return for_each_entry(from_fd, from_.key_bytes, from_bytes, [&](const void* k, const void* v) {
    const auto* old_key = static_cast<const std::uint8_t*>(k);
    const auto* old_value = static_cast<const std::uint8_t*>(v);
    if (is_array(to_) && is_zero(old_value, from_bytes))
      return true;
    if (!key_.apply(old_key, key.data()) || !convert_value(old_value, value.data()) ||
        (is_array(to_) && index_of(key.data()) >= to_.entries_max)) {
      count.lost++;
      return true;
    }
    return visit(key.data(), value.data());
  });
}

Result<CopyCount> MapCopy::copy(int from_fd, int to_fd, CopiedCounters* counters) const {
  CopyCount count;
  const std::size_t value_bytes = cpus_ * stride_of(to_);
  Writer writer(to_fd, to_.key_bytes, value_bytes);
  Result<> written;
  if (counters != nullptr)
    counters->clear();
  SHOAL_TRY(each_converted(from_fd, count, [&](const std::uint8_t* key, const std::uint8_t* value) {
    written = writer.put(key, value);
    count.copied++;
    if (counters != nullptr && to_.per_cpu() && is_counters(*to_.value)) {
      auto& kept = (*counters)[index_of(key)];
      kept.resize(value_bytes / 8);
      std::memcpy(kept.data(), value, value_bytes);
    }
    return written.has_value();
  }));
  SHOAL_TRY(written);
  SHOAL_TRY(writer.flush());
  return count;
}

std::uint64_t MapCopy::seen(const std::uint8_t* value) const {
  for (const Member& member : to_.value->members)
    if (member.name == kSeenMember && member.layout.bytes == sizeof(std::uint32_t))
      return index_of(value + member.offset);
  return 0;
}

Result<CopyCount> MapCopy::merge(int from_fd, int to_fd) const {
  CopyCount count;
  Result<> written;
  std::vector<std::uint8_t> there(to_.value_bytes);
  SHOAL_TRY(each_converted(from_fd, count, [&](const std::uint8_t* key, const std::uint8_t* value) {
    const bool present = bpf_map_lookup_elem(to_fd, key, there.data()) == 0;
    if (present && seen(value) <= seen(there.data()))
      return true;
    if (bpf_map_update_elem(to_fd, key, value, present ? BPF_ANY : BPF_NOEXIST) == 0)
      count.copied++;
    else if (errno != EEXIST)
      written = fail_errno("write a BPF map");
    return written.has_value();
  }));
  SHOAL_TRY(written);
  return count;
}

Result<> MapCopy::add_since(int from_fd, int to_fd, const CopiedCounters& counters) const {
  if (!is_counters(*to_.value))
    return {};
  CopyCount count;
  Result<> written;
  const std::size_t words = cpus_ * stride_of(to_) / 8;
  std::vector<std::uint64_t> now(words), sum(words);
  SHOAL_TRY(each_converted(from_fd, count, [&](const std::uint8_t* key, const std::uint8_t* value) {
    std::memcpy(now.data(), value, words * 8);
    const auto before = counters.find(index_of(key));
    if (before != counters.end() && before->second == now)
      return true;
    if (bpf_map_lookup_elem(to_fd, key, sum.data()) != 0) {
      written = fail_errno("read a counter");
      return false;
    }
    for (std::size_t i = 0; i < words; ++i)
      sum[i] += now[i] - (before == counters.end() ? 0 : before->second[i]);
    if (bpf_map_update_elem(to_fd, key, sum.data(), BPF_ANY) != 0)
      written = fail_errno("write a counter");
    return written.has_value();
  }));
  return written;
}

}  // namespace shoal::kernel
