// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/net/start_record.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::gossip {
namespace {
constexpr std::size_t kFileBytesMax = 64;
}

Result<std::uint64_t> next_start_id(const std::filesystem::path& file, const Clock& clock) {
  std::uint64_t last = 0;
  if (const auto text = read_file(file, kFileBytesMax)) {
    // An unreadable number is no reason not to start: the wall clock is the floor, and the cluster
    // corrects it (StartIdRaised) should it be too low.
    last = parse_uint(trim(*text), UINT64_MAX >> 2).value_or(0);
  } else if (text.error().code() != Errc::kNotFound) {
    return fail(Error(text.error()).wrap("read the gossip start id"));
  }
  const auto wall =
      std::chrono::duration_cast<std::chrono::milliseconds>(clock.wall().time_since_epoch());
  const std::uint64_t floor = wall.count() > 0 ? static_cast<std::uint64_t>(wall.count()) : 1;
  return std::max(last + 1, floor);
}

Result<> save_start_id(const std::filesystem::path& file, std::uint64_t start_id) {
  auto written = write_file_atomic(file, fmt::format("{}\n", start_id));
  if (!written)
    return fail(std::move(written).error().wrap("store the gossip start id"));
  return {};
}

}  // namespace shoal::gossip
