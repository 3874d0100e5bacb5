// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/wire.h"

#include <gtest/gtest.h>

namespace shoal::gossip {
namespace {

TEST(Wire, VarintsRoundTripAtTheirEdges) {
  for (const std::uint64_t value :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{127}, std::uint64_t{128},
        std::uint64_t{16'383}, std::uint64_t{16'384}, std::uint64_t{1} << 63, UINT64_MAX}) {
    std::string bytes;
    ByteWriter(bytes).varint(value);
    EXPECT_EQ(bytes.size(), varint_bytes(value));
    ByteReader r(bytes);
    EXPECT_EQ(r.varint(), value);
    EXPECT_TRUE(r.ok() && r.at_end());
  }
}

TEST(Wire, VarintsHaveOneEncoding) {
  const auto refused = [](std::string_view bytes) {
    ByteReader r(bytes);
    r.varint();
    return !r.ok();
  };
  EXPECT_TRUE(refused(std::string_view("\x80\x00", 2)));             // zero in two bytes
  EXPECT_TRUE(refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"));  // 65 bits
  EXPECT_TRUE(refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
  EXPECT_TRUE(refused("\x80"));
  EXPECT_TRUE(refused(""));
}

TEST(Wire, AddressesOfBothFamilies) {
  for (const char* text : {"198.18.0.11:7946", "[2001:db8:1::11]:7946", "[::]:0"}) {
    const auto address = *SocketAddress::parse(text);
    std::string bytes;
    ByteWriter(bytes).address(address);
    ByteReader r(bytes);
    EXPECT_EQ(r.address(), address);
    EXPECT_TRUE(r.ok() && r.at_end());
  }
  // An IPv4 address in the form of the other family.
  std::string bytes("\x06");
  bytes.append(10, '\0');
  bytes.append("\xff\xff\x01\x02\x03\x04");
  ByteReader r(bytes);
  r.ip();
  EXPECT_FALSE(r.ok());
}

TEST(Wire, PrefixesWithHostBitsAreRefused) {
  std::string bytes;
  ByteWriter w(bytes);
  w.ip(*IpAddress::parse("10.0.0.1"));
  w.u8(8);
  ByteReader r(bytes);
  r.prefix();
  EXPECT_FALSE(r.ok());
}

TEST(Wire, AfterAFailureNothingMoreIsRead) {
  ByteReader r("\x05"
               "ab");
  EXPECT_EQ(r.text(100), "");
  EXPECT_FALSE(r.ok());
  EXPECT_EQ(r.u8(), 0);
  EXPECT_EQ(r.u64_fixed(), 0U);
  EXPECT_EQ(r.varint(), 0U);
  EXPECT_FALSE(r.ok());
}

}  // namespace
}  // namespace shoal::gossip
