// SPDX-License-Identifier: Apache-2.0
// MapCopy: the entries of one BPF map into another of another layout or size (layout.h says how).
//
// Entries are read from the kernel and written to it, in batches; what other writers do meanwhile
// to the old map may be missed, so tables that programs write to are copied again later.
#pragma once

#include "netplane/kernel/bpf/map_shape.h"

#include <cstdint>
#include <functional>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace shoal::kernel {

// What became of the entries of a map.
struct CopyCount {
  std::uint64_t copied = 0;
  std::uint64_t lost = 0;  // a number, the index, or one entry more does not fit
};

// Values of all CPUs by index, as they were copied last; those that are not 0.
using CopiedCounters = std::unordered_map<std::uint32_t, std::vector<std::uint64_t>>;

class MapCopy {
public:
  // kUnsupported when entries cannot be converted; the error says why.
  static Result<MapCopy> between(const MapShape& from, const MapShape& to);

  // Sets these bits of a 32-bit member in every value that is written. kInternal: there is no such.
  Result<> add_bits(std::string_view member, std::uint32_t bits);

  // Entries of `to` are overwritten: nobody else writes to it yet. Arrays: entries that are 0 are
  // taken to be so there. counters: what was written, for add_since(); only of per-CPU arrays.
  Result<CopyCount> copy(int from_fd, int to_fd, CopiedCounters* counters = nullptr) const;
  // Programs write to `to` already, and to `from` no more: only what is not there, or was seen
  // (seen_s) later.
  Result<CopyCount> merge(int from_fd, int to_fd) const;
  // Adds to per-CPU counters of `to` what was counted in `from` since they were copied.
  Result<> add_since(int from_fd, int to_fd, const CopiedCounters& counters) const;

private:
  MapCopy(const MapShape& from, const MapShape& to, Conversion key, Conversion value);

  Result<> each_converted(
      int from_fd, CopyCount& count,
      const std::function<bool(const std::uint8_t* key, const std::uint8_t* value)>& visit) const;
  bool convert_value(const std::uint8_t* from, std::uint8_t* to) const;
  std::uint64_t seen(const std::uint8_t* value) const;

  MapShape from_;
  MapShape to_;
  Conversion key_;
  Conversion value_;
  std::size_t cpus_;  // values an entry
  std::uint32_t bits_ = 0, bits_at_ = 0;
};

}  // namespace shoal::kernel
