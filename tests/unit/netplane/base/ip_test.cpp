// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/ip.h"

#include "netplane/base/random.h"

namespace shoal {
namespace {

TEST(IpAddress, ParsesAndPrintsBothFamilies) {
  for (const char* text :
       {"0.0.0.0", "10.1.2.3", "255.255.255.255", "::", "::1", "2001:db8:1::5"}) {
    auto address = IpAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), text);
  }
  EXPECT_TRUE(IpAddress::parse("10.0.0.1")->is_v4());
  EXPECT_TRUE(IpAddress::parse("2001:db8::1")->is_v6());
}

TEST(IpAddress, RefusesWhatIsNotAnAddress) {
  for (const char* text : {"", "10.0.0", "10.0.0.256", "1.2.3.4 ", "1.2.3.04", "1.2..4",
                           "1.2.3.4.5", "1.2.3.1000", "2001:db8::g", "::ffff:10.0.0.1"})
    EXPECT_FALSE(IpAddress::parse(text)) << text;
  EXPECT_FALSE(IpAddress::parse(std::string_view("10.0.0.1\0", 9)));
}

TEST(IpAddress, ArithmeticCarriesAcrossBytes) {
  const auto base = *IpAddress::parse("10.0.0.255");
  EXPECT_EQ(base.plus(1).to_string(), "10.0.1.0");
  EXPECT_EQ(base.plus(65536).minus(base), 65536U);
  const auto six = *IpAddress::parse("2001:db8::ffff:ffff");
  EXPECT_EQ(six.plus(1).to_string(), "2001:db8::1:0:0");
  EXPECT_EQ(six.plus(0xffffffffffULL).minus(six), 0xffffffffffULL);
}

TEST(IpPrefix, ParsesAndSaysWhatWasMeant) {
  EXPECT_EQ(IpPrefix::parse("10.244.0.0/16")->to_string(), "10.244.0.0/16");
  EXPECT_EQ(IpPrefix::parse("0.0.0.0/0")->size(), std::uint64_t{1} << 32);
  const auto bad = IpPrefix::parse("10.244.1.1/16");
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message().find("10.244.0.0/16"), std::string::npos);
  for (const char* text : {"10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "/8", "::/129", "10.0.0.0/8 "})
    EXPECT_FALSE(IpPrefix::parse(text)) << text;
}

TEST(IpPrefix, ContainsAndOverlaps) {
  const auto wide = *IpPrefix::parse("10.244.0.0/16");
  const auto narrow = *IpPrefix::parse("10.244.7.0/24");
  EXPECT_TRUE(wide.contains(narrow));
  EXPECT_FALSE(narrow.contains(wide));
  EXPECT_TRUE(narrow.overlaps(wide));
  EXPECT_TRUE(narrow.contains(*IpAddress::parse("10.244.7.255")));
  EXPECT_FALSE(narrow.contains(*IpAddress::parse("10.244.8.0")));
  EXPECT_FALSE(IpPrefix::parse("::/0")->contains(*IpAddress::parse("10.0.0.1")));
}

TEST(IpPrefix, NthSubnet) {
  const auto pool = *IpPrefix::parse("10.244.0.0/16");
  EXPECT_EQ(pool.count_of(24), 256U);
  EXPECT_EQ(pool.nth(24, 0)->to_string(), "10.244.0.0/24");
  EXPECT_EQ(pool.nth(24, 255)->to_string(), "10.244.255.0/24");
  EXPECT_EQ(pool.nth(24, 256).error().code(), Errc::kExhausted);
  const auto six = *IpPrefix::parse("2001:db8::/32");
  EXPECT_EQ(six.nth(64, 0x12345)->to_string(), "2001:db8:1:2345::/64");
}

// The clever byte walk against a 32-bit mask, which is obviously right.
TEST(IpPrefix, AgreesWithMaskArithmetic) {
  const std::uint64_t seed = 20261123;
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  for (int i = 0; i < 20'000; i++) {
    const auto word = static_cast<std::uint32_t>(random.next());
    const auto other = static_cast<std::uint32_t>(random.next());
    const auto length = static_cast<unsigned>(random.below(33));
    const std::uint32_t mask = length ? ~std::uint32_t{0} << (32 - length) : 0;
    const auto prefix = IpPrefix::containing(IpAddress::v4(word), length);
    ASSERT_EQ(prefix.address().v4_host_order(), word & mask);
    ASSERT_EQ(prefix.contains(IpAddress::v4(other)), (other & mask) == (word & mask));
    const auto n = random.below(prefix.count_of(32));
    ASSERT_EQ(prefix.nth(32, n)->address().v4_host_order(), (word & mask) + n);
  }
}

TEST(MacAddress, ParsesPrintsAndDerives) {
  EXPECT_EQ(MacAddress::parse("02:00:5e:10:00:ff")->to_string(), "02:00:5e:10:00:ff");
  for (const char* text : {"", "02:00:5e:10:00", "02:00:5e:10:00:gg", "2:0:5e:10:0:1"})
    EXPECT_FALSE(MacAddress::parse(text)) << text;
  const auto mac = MacAddress::from_name("default/web-1");
  EXPECT_EQ(mac, MacAddress::from_name("default/web-1"));
  EXPECT_EQ(mac.bytes()[0] & 3, 2);
}

TEST(SocketAddress, ParsesBothFamilies) {
  EXPECT_EQ(SocketAddress::parse("10.0.0.1:80")->to_string(), "10.0.0.1:80");
  EXPECT_EQ(SocketAddress::parse("[2001:db8::1]:443")->to_string(), "[2001:db8::1]:443");
  for (const char* text : {"10.0.0.1", "10.0.0.1:65536", "2001:db8::1:80", ":80", "[::1]", "a:1"})
    EXPECT_FALSE(SocketAddress::parse(text)) << text;
}

TEST(L4Proto, RefusesSctpByName) {
  EXPECT_EQ(*parse_l4_proto("UDP"), L4Proto::kUdp);
  EXPECT_EQ(parse_l4_proto("SCTP").error().code(), Errc::kUnsupported);
  EXPECT_EQ(parse_l4_proto("tcp").error().code(), Errc::kInvalid);
}

}  // namespace
}  // namespace shoal
