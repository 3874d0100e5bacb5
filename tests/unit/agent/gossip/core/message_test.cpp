// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/message.h"

#include "agent/gossip/core/core.h"
#include "netplane/base/random.h"

#include <cstdlib>
#include <gtest/gtest.h>

namespace shoal::gossip {
namespace {

Value value(std::string text) { return std::make_shared<const std::string>(std::move(text)); }

Member full_member() {
  Member m{"h1.rack-2", MemberState::kDead, 1'767'225'600'000, 7, {}};
  m.meta.gossip_address = *SocketAddress::parse("198.18.0.11:7946");
  m.meta.api_address = *SocketAddress::parse("[2001:db8:1::11]:6443");
  m.meta.underlay = *IpAddress::parse("198.18.0.11");
  m.meta.pod_cidrs = {*IpPrefix::parse("10.244.3.0/24"), *IpPrefix::parse("fd00:3::/64")};
  m.meta.version = "0.1.0";
  m.meta.native_routes = true;
  return m;
}

std::vector<Message> one_of_each() {
  Delta delta;
  delta.origin = kDesiredOrigin;
  delta.from = {5, {}};
  delta.to = {9, "/pods/default/b"};
  delta.settled = 3;
  delta.reset = delta.more = delta.pushed = true;
  delta.entries = {{"/pods/default/a", value(std::string(300, '\0')), 5, 2},
                   {"/pods/default/b", nullptr, 6, 0}};
  return {
      Ping{UINT64_MAX, "h2", 42},
      Ack{1},
      PingRequest{2, "h3", *SocketAddress::parse("198.18.0.13:7946")},
      Nack{3},
      Record{full_member(), 61},
      Verdict{"h2", MemberState::kSuspect, 9, 1, {"h1", "h3"}},
      Sync{
          true, true, {{"h1", MemberState::kAlive, 1, 2}}, {{"h1", 1, 2, 3}, {"desired", 0, 9, 0}}},
      Announce{{{"desired", 0, 77, 0}}},
      Want{"h2", 9, {4, "k"}, true},
      delta};
}

std::string packet_of(const std::vector<Message>& messages) {
  std::string bytes;
  begin_packet(bytes, "h1");
  for (const Message& m : messages)
    bytes += encode(m);
  return bytes;
}

TEST(Message, EveryKindRoundTrips) {
  const auto messages = one_of_each();
  ASSERT_EQ(messages.size(), std::variant_size_v<Message>);
  const auto packet = decode_packet(packet_of(messages));
  ASSERT_TRUE(packet) << packet.error().message();
  EXPECT_EQ(packet->sender, "h1");
  EXPECT_EQ(packet->messages, messages);
}

TEST(Message, TheBoundOfAMemberRecordHolds) {
  Record r{full_member(), UINT32_MAX};
  r.member.name = std::string(63, 'a') + "." + std::string(63, 'b') + "." + std::string(63, 'c') +
                  "." + std::string(61, 'd');
  r.member.start_id = r.member.incarnation = 1ULL << 62;
  r.member.meta.gossip_address = *SocketAddress::parse("[2001:db8::1]:1");
  r.member.meta.underlay = IpAddress::parse("2001:db8::1").value();
  r.member.meta.pod_cidrs.assign(kPodCidrsMax, *IpPrefix::parse("2001:db8::/64"));
  r.member.meta.version = std::string(kVersionTextBytesMax, 'v');
  ASSERT_EQ(r.member.name.size(), kNameBytesMax);
  EXPECT_LE(encode(r).size(), kMemberRecordBytesMax);
  EXPECT_TRUE(decode_packet(packet_of({r})));
}

TEST(Message, ANewerMembersAdditionsAreSkipped) {
  std::string bytes = packet_of({Ack{1}});
  bytes += std::string("\x7f\x03xyz", 5);  // a type of the future
  bytes += encode(Ack{2});
  std::string longer = encode(Ack{3});  // a body with more at its end
  longer[1] = static_cast<char>(longer[1] + 2);
  bytes += longer + "zz";
  const auto packet = decode_packet(bytes);
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->messages, (std::vector<Message>{Ack{1}, Ack{2}, Ack{3}}));
}

TEST(Message, AnotherWireVersionIsRefusedByName) {
  std::string bytes = packet_of({Ack{1}});
  bytes[0] = 9;
  const auto packet = decode_packet(bytes);
  ASSERT_FALSE(packet);
  EXPECT_EQ(packet.error().code(), Errc::kUnsupported);
}

TEST(Message, NamesThatAreNoneAreRefused) {
  for (const char* name : {"", "desired", "UPPER", "a b", "\x1b[31m", "a..b"}) {
    EXPECT_FALSE(is_member_name(name)) << name;
    EXPECT_FALSE(decode_packet(packet_of({Ping{1, name, 0}}))) << name;
  }
  EXPECT_FALSE(
      decode_packet(packet_of({Delta{.origin = "h1", .entries = {{"", value("x"), 1, 0}}}})));
  EXPECT_FALSE(
      decode_packet(packet_of({Delta{.origin = "h1", .entries = {{"k", value("x"), 0, 0}}}})));
}

TEST(Message, CountersCannotComeNearWrapping) {
  Record r{full_member(), 0};
  r.member.incarnation = UINT64_MAX;
  EXPECT_FALSE(decode_packet(packet_of({r})));
  EXPECT_FALSE(decode_packet(packet_of({Delta{.origin = "h1", .to = {UINT64_MAX, {}}}})));
  EXPECT_FALSE(decode_packet(packet_of({Delta{.origin = "h1", .from = {0, {}}}})));
}

TEST(Message, EveryTruncationIsRefusedOrWhole) {
  const std::string bytes = packet_of(one_of_each());
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const auto packet = decode_packet(std::string_view(bytes).substr(0, n));
    if (packet) {
      EXPECT_LT(packet->messages.size(), std::variant_size_v<Message>);
    }
  }
}

// Bytes of any kind, into the parser and into a whole core: nothing may crash or run away. What
// parses must survive encoding again.
TEST(Message, MutationFuzz) {
  const char* env = std::getenv("SHOAL_FUZZ_SEED");
  const std::uint64_t seed = env != nullptr ? std::strtoull(env, nullptr, 10) : 20'260'101;
  SCOPED_TRACE(fmt::format("replay with SHOAL_FUZZ_SEED={}", seed));
  SeededRandom random(seed);
  SeededRandom core_random(seed + 1);
  ProtocolConfig config;
  config.name = "h1";
  config.start_id = 1;
  config.meta.gossip_address = *SocketAddress::parse("198.18.0.11:7946");
  Core core(config, core_random);
  Effects effects;
  MonoTime now{std::chrono::hours(1)};
  core.start(now, effects);
  const SocketAddress from = *SocketAddress::parse("198.18.0.12:7946");
  const auto messages = one_of_each();
  std::size_t parsed = 0;
  for (int round = 0; round < 60'000; ++round) {
    std::string bytes;
    begin_packet(bytes, "h2");
    for (std::uint64_t n = random.below(4); n > 0; --n)
      bytes += encode(messages[random.below(messages.size())]);
    for (std::uint64_t n = random.below(6); n > 0 && !bytes.empty(); --n) {
      const std::size_t at = random.below(bytes.size());
      switch (random.below(4)) {
      case 0:
        bytes[at] = static_cast<char>(random.next());
        break;
      case 1:
        bytes[at] = static_cast<char>(bytes[at] ^ 1 << random.below(8));
        break;
      case 2:
        bytes.erase(at, random.below(8));
        break;
      default:
        bytes.insert(at, random.below(8), static_cast<char>(random.next()));
      }
    }
    if (const auto packet = decode_packet(bytes)) {
      ++parsed;
      const auto again = decode_packet(packet_of(packet->messages));
      ASSERT_TRUE(again);
      ASSERT_EQ(again->messages, packet->messages);
    }
    effects.clear();
    now += std::chrono::microseconds(100);
    if (round % 2 == 0)
      core.on_datagram(from, bytes, now, effects);
    else
      core.on_stream_message(from, bytes, now, effects);
    ASSERT_LT(effects.size(), 1000U);
    for (const Effect& effect : effects) {
      if (const auto* d = std::get_if<SendDatagram>(&effect)) {
        ASSERT_LE(d->bytes.size(), config.datagram_bytes_max);
      }
    }
  }
  EXPECT_GT(parsed, 1000U);
  EXPECT_EQ(core.self().name, "h1");
  EXPECT_EQ(core.self().state, MemberState::kAlive);
  EXPECT_LE(core.members().size(), kMembersMax);
}

}  // namespace
}  // namespace shoal::gossip
