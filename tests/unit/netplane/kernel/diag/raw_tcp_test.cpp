// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/rtnl/raw_tcp.h"

#include <gtest/gtest.h>

namespace shoal::kernel {
namespace {

SocketAddress at(std::string_view text) { return *SocketAddress::parse(text); }

std::uint32_t number(const std::string& bytes, std::size_t from, std::size_t size) {
  std::uint32_t out = 0;
  for (std::size_t i = from; i < from + size; ++i)
    out = out << 8 | static_cast<std::uint8_t>(bytes.at(i));
  return out;
}

// In one's complement, as RFC 1071 has it.
std::uint32_t sum(const std::string& bytes) {
  std::uint32_t out = 0;
  for (std::size_t i = 0; i < bytes.size(); i += 2)
    out += number(bytes, i, 2);
  while (out >> 16 != 0)
    out = (out & 0xffff) + (out >> 16);
  return out;
}

TEST(RawTcpTest, AnAcknowledgementOfIpv4) {
  const std::string packet =
      ack_packet(at("198.18.0.200:80"), at("10.0.0.7:40000"), 0x80000000U, 0x12345678);
  ASSERT_EQ(packet.size(), 40U);
  EXPECT_EQ(number(packet, 0, 1), 0x45U);
  EXPECT_EQ(number(packet, 2, 2), 40U);
  EXPECT_EQ(number(packet, 9, 1), 6U);
  EXPECT_EQ(number(packet, 12, 4), 0xc61200c8U);
  EXPECT_EQ(number(packet, 16, 4), 0x0a000007U);
  EXPECT_EQ(number(packet, 20, 2), 80U);
  EXPECT_EQ(number(packet, 22, 2), 40000U);
  EXPECT_EQ(number(packet, 24, 4), 0x80000000U);
  EXPECT_EQ(number(packet, 28, 4), 0x12345678U);
  EXPECT_EQ(number(packet, 32, 2), 0x5010U) << "five words, ACK alone";
  EXPECT_EQ(sum(packet.substr(12) + std::string("\0\6\0\x14", 4)), 0xffffU) << "the checksum";
}

TEST(RawTcpTest, AnAcknowledgementOfIpv6) {
  const std::string packet = ack_packet(at("[2001:db8::1]:80"), at("[2001:db8::2]:40001"), 0, 0);
  ASSERT_EQ(packet.size(), 60U);
  EXPECT_EQ(number(packet, 0, 4), 0x60000000U);
  EXPECT_EQ(number(packet, 4, 2), 20U);
  EXPECT_EQ(number(packet, 6, 1), 6U);
  EXPECT_EQ(number(packet, 8, 4), 0x20010db8U);
  EXPECT_EQ(number(packet, 36, 4), 2U);
  EXPECT_EQ(number(packet, 52, 2), 0x5010U);
  EXPECT_EQ(sum(packet.substr(8) + std::string("\0\6\0\x14", 4)), 0xffffU);
}

}  // namespace
}  // namespace shoal::kernel
