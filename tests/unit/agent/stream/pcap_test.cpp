// SPDX-License-Identifier: Apache-2.0
// The bytes of a pcap file, as draft-ietf-opsawg-pcap has them.
#include "agent/stream/pcap.h"

#include <gtest/gtest.h>
#include <string_view>
#include <vector>

namespace shoal::stream {
namespace {

using namespace std::string_view_literals;

TEST(Pcap, TheFileHeaderIsThatOfNanosecondsAndEthernet) {
  EXPECT_EQ(pcap_file_header(262'144), "\x4d\x3c\xb2\xa1"
                                       "\x02\x00\x04\x00"
                                       "\x00\x00\x00\x00\x00\x00\x00\x00"
                                       "\x00\x00\x04\x00"
                                       "\x01\x00\x00\x00"sv);
}

TEST(Pcap, APacketStandsBehindItsTimeAndBothItsLengths) {
  std::string out = "before";
  const std::vector<std::uint8_t> bytes = {0xde, 0xad, 0xbe};
  append_pcap_packet(out, 0x65a1b2c3LL * 1'000'000'000 + 123'456'789, 1'514, bytes);
  EXPECT_EQ(out, "before"
                 "\xc3\xb2\xa1\x65"
                 "\x15\xcd\x5b\x07"
                 "\x03\x00\x00\x00"
                 "\xea\x05\x00\x00"
                 "\xde\xad\xbe"sv);
  out.clear();
  append_pcap_packet(out, 0, 0, {});
  EXPECT_EQ(out, std::string(kPcapPacketHeaderBytes, '\0'));
}

}  // namespace
}  // namespace shoal::stream
