// SPDX-License-Identifier: Apache-2.0
// The text of a lease journal. Pure: bytes in, records out, and back. Private to ipam/ and its
// tests.
//
//   shoal-leases 1 10.244.1.0/24 #9d2c7e51
//   lease 10.244.1.7 3 BOOT-ID OWNER #...
//   free 10.244.1.7 3 1770000000000 #...        given back, milliseconds since the epoch
//   last 10.244.1.7 #...                        the address given last; in rewritten files
// The number after an address is its generation; the one after '#' is the CRC-32C (RFC 3720,
// appendix B.4) of all that stands before the blank in front of it. A record holds an address's
// whole state, so that the last one counts.
#pragma once

#include "netplane/ipam/lease_pool.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::ipam {

std::uint32_t crc32c(std::string_view bytes);

struct JournalRecord {
  IpAddress ip;
  Slot slot;
  bool is_cursor = false;  // a "last" line: only ip counts
  bool operator==(const JournalRecord&) const = default;
};

struct Journal {
  std::optional<IpPrefix> cidr;  // nothing: not even the header is whole
  std::vector<JournalRecord> records;
  std::uint64_t good_bytes = 0;  // what follows is a torn end
};

std::string header_line(const IpPrefix& cidr);
std::string record_line(const JournalRecord& record);

// kCorrupt: a bad line with a good one after it.
Result<Journal> parse_journal(std::string_view text);

}  // namespace shoal::ipam
