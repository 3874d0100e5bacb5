// SPDX-License-Identifier: Apache-2.0
// How full the tables are that the BPF programs fill themselves: flows and session affinity. The
// kernel does not count the entries of such a map, and reading one of 262,144 at once would hold up
// the agent's loop for some 50 ms. So they are walked in steps of one batched read, a step a tick:
// a pass over a full table of that size lasts 13 s at five ticks a second, and costs about a
// millisecond in each. What is reported is the last whole pass, with its time.
//
// Being full is not pressure: nothing removes the entry of a connection that has ended until its
// room is needed, so on a busy host the flow table is full after a while and stays so. Pressure is
// the part of the table that is active (seen within kernel::kUdpIdle_s and not closing): when that
// nears the table's size, entries of live connections are forgotten. A forgotten TCP connection
// finds its backend again by its hash as long as the ring is the same.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/result.h"
#include "netplane/kernel/bpf/data_maps.h"

#include <array>
#include <chrono>
#include <optional>

namespace shoal::apply {

inline constexpr std::chrono::seconds kCensusInterval{30};  // from the end of a pass to the next

class TableCensus {
public:
  struct Count {
    kernel::Tally tally;
    MonoTime at;  // the end of the pass
  };

  // At most one step. An error ends the pass; the next begins after the interval.
  Result<> tick(const kernel::DataMaps& maps, MonoTime now);
  // Nothing before the first pass has ended.
  const std::optional<Count>& counted(kernel::LruTable table) const {
    return counts_.at(static_cast<std::size_t>(table));
  }

private:
  static constexpr std::array kTables = {kernel::LruTable::kFlows, kernel::LruTable::kAffinity};

  std::array<std::optional<Count>, kTables.size()> counts_;
  std::size_t table_ = 0;  // of kTables, under way
  kernel::TableWalk walk_;
  kernel::Tally tally_;
  std::optional<MonoTime> next_pass_;
};

}  // namespace shoal::apply
