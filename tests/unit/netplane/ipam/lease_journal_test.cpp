// SPDX-License-Identifier: Apache-2.0
#include "netplane/ipam/lease_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::ipam {
namespace {

JournalRecord lease(const char* ip, std::uint16_t generation) {
  return {
      .ip = *IpAddress::parse(ip),
      .slot = {.generation = generation, .leased = true, .owner = "uid-1", .boot_id = "boot-1"}};
}

const IpPrefix kCidr = *IpPrefix::parse("10.244.1.0/24");

TEST(LeaseJournal, CrcIsCastagnolis) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);            // the check value in RFC 3720's tradition
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(""), 0U);
}

TEST(LeaseJournal, ReadsWhatItWrites) {
  const JournalRecord given = {
      .ip = *IpAddress::parse("10.244.1.9"),
      .slot = {.generation = 7, .released_at = WallTime(std::chrono::milliseconds(1770))}};
  const JournalRecord last = {.ip = *IpAddress::parse("10.244.1.9"), .is_cursor = true};
  const std::string text = header_line(kCidr) + record_line(lease("10.244.1.7", 3)) +
                           record_line(given) + record_line(last);
  EXPECT_THAT(text, testing::StartsWith("shoal-leases 1 10.244.1.0/24 #"));
  EXPECT_THAT(text, testing::HasSubstr("\nlease 10.244.1.7 3 boot-1 uid-1 #"));
  EXPECT_THAT(text, testing::HasSubstr("\nfree 10.244.1.9 7 1770 #"));
  const auto journal = parse_journal(text);
  ASSERT_TRUE(journal) << journal.error().message();
  EXPECT_EQ(journal->cidr, kCidr);
  EXPECT_EQ(journal->records, (std::vector<JournalRecord>{lease("10.244.1.7", 3), given, last}));
  EXPECT_EQ(journal->good_bytes, text.size());
}

TEST(LeaseJournal, ATornEndIsCutAtAnyByte) {
  const std::string whole = header_line(kCidr) + record_line(lease("10.244.1.7", 3));
  const std::string torn = record_line(lease("10.244.1.8", 1));
  for (std::size_t size = 0; size < torn.size(); ++size) {
    const auto journal = parse_journal(whole + torn.substr(0, size));
    ASSERT_TRUE(journal) << size;
    EXPECT_EQ(journal->records.size(), 1U) << size;
    EXPECT_EQ(journal->good_bytes, whole.size()) << size;
  }
  // A disk that had grown the file before it had the bytes.
  const auto zeros = parse_journal(whole + std::string(torn.size(), '\0'));
  ASSERT_TRUE(zeros);
  EXPECT_EQ(zeros->good_bytes, whole.size());
}

TEST(LeaseJournal, AnyFlippedByteIsNoticed) {
  const std::string head = header_line(kCidr);
  const std::string line = record_line(lease("10.244.1.7", 3));
  const std::string tail = record_line(lease("10.244.1.8", 1));
  for (std::size_t at = 0; at + 1 < line.size(); ++at) {
    std::string damaged = line;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    const auto journal = parse_journal(head + damaged + tail);
    ASSERT_FALSE(journal) << at;
    EXPECT_EQ(journal.error().code(), Errc::kCorrupt);
    EXPECT_THAT(journal.error().message(), testing::HasSubstr("line 2")) << at;
  }
}

TEST(LeaseJournal, RecordsWithoutAHeaderAreDamage) {
  EXPECT_FALSE(parse_journal(record_line(lease("10.244.1.7", 3))));
  EXPECT_FALSE(parse_journal("")->cidr);
  EXPECT_FALSE(parse_journal(header_line(kCidr).substr(0, 10))->cidr);
}

}  // namespace
}  // namespace shoal::ipam
