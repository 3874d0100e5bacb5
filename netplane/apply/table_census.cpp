// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/table_census.h"

namespace shoal::apply {

Result<> TableCensus::tick(const kernel::DataMaps& maps, MonoTime now) {
  if (next_pass_ && now < *next_pass_)
    return {};
  const Result<bool> more = maps.tally(kTables.at(table_), walk_, tally_);
  if (more && *more)
    return {};
  if (more)
    counts_.at(table_) = Count{tally_, now};
  walk_ = {};
  tally_ = {};
  table_ = more ? (table_ + 1) % kTables.size() : 0;
  next_pass_.reset();
  if (table_ == 0)
    next_pass_ = now + kCensusInterval;
  if (!more)
    return fail(Error(more.error()).wrap("count the entries of a table"));
  return {};
}

}  // namespace shoal::apply
