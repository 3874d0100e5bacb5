// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/source_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::daemon {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// h2 as h1 sees it: rounds, a second each.
class Rounds : public testing::Test {
protected:
  // Whether the verdict has changed within so many rounds, in each of which these came.
  bool rounds(unsigned count, bool own, bool foreign) {
    bool changed = false;
    for (unsigned i = 0; i < count; i++, now_ += std::chrono::seconds(1), round_.number++) {
      if (own)
        changed = verdicts_.heard("h2", round_, false, now_) || changed;
      if (foreign)
        changed = verdicts_.heard("h2", round_, true, now_) || changed;
    }
    return changed;
  }
  SourceVerdict verdict() const { return verdicts_.verdict("h2"); }

  SourceVerdicts verdicts_;
  SourceRound round_{7, 1};
  MonoTime now_{};
};

TEST_F(Rounds, NothingIsSaidOfAHostThatSendsNothing) {
  EXPECT_EQ(verdict(), SourceVerdict::kUnknown);
  EXPECT_FALSE(rounds(100, false, false));
  EXPECT_EQ(verdict(), SourceVerdict::kUnknown);
}

TEST_F(Rounds, WhatComesThroughPassesAtOnceAndIsNoChange) {
  EXPECT_FALSE(rounds(2, true, true));
  EXPECT_EQ(verdict(), SourceVerdict::kPasses);
  EXPECT_EQ(verdicts_.changes(), 0U);
}

TEST_F(Rounds, ARoundIsJudgedWhenTheNextBegins) {
  EXPECT_FALSE(rounds(kSourceMisses, true, false));
  EXPECT_EQ(verdict(), SourceVerdict::kUnknown);
  EXPECT_TRUE(rounds(1, true, false));
  EXPECT_EQ(verdict(), SourceVerdict::kDrops);
  EXPECT_THAT(verdicts_.dropped(), ElementsAre("h2"));
}

TEST_F(Rounds, LossesThatAreNotInARowChangeNothing) {
  for (int i = 0; i < 20; i++) {
    EXPECT_FALSE(rounds(kSourceMisses - 1, true, false));
    EXPECT_FALSE(rounds(1, true, true));
  }
  EXPECT_EQ(verdict(), SourceVerdict::kPasses);
}

TEST_F(Rounds, LossesOfBothSayNothing) {
  rounds(2, true, true);
  for (int i = 0; i < 3; i++) {
    rounds(1, true, false);
    rounds(100, false, false);
  }
  EXPECT_EQ(verdict(), SourceVerdict::kPasses);
}

TEST_F(Rounds, TheWayBackTakesLongerAndLongerWhenItDoesNotHold) {
  rounds(kSourceMisses + 1, true, false);
  for (unsigned needed = kSourceHits; needed < kSourceHitsMax; needed *= 2) {
    EXPECT_FALSE(rounds(needed - 1, true, true));
    ASSERT_EQ(verdict(), SourceVerdict::kDrops) << needed;
    EXPECT_TRUE(rounds(2, true, true));
    ASSERT_EQ(verdict(), SourceVerdict::kPasses) << needed;
    EXPECT_TRUE(rounds(kSourceMisses + 1, true, false));
  }
  // It held: forgiven.
  rounds(kSourceHitsMax + 1, true, true);
  ASSERT_EQ(verdict(), SourceVerdict::kPasses);
  now_ += kSourceHolds;
  rounds(kSourceMisses + 1, true, false);
  ASSERT_EQ(verdict(), SourceVerdict::kDrops);
  EXPECT_TRUE(rounds(kSourceHits + 1, true, true));
}

TEST_F(Rounds, WhatIsLateOrSentAgainIsPassedOver) {
  const SourceRound early = round_;
  rounds(kSourceMisses + 2, true, false);
  ASSERT_EQ(verdict(), SourceVerdict::kDrops);
  for (unsigned i = 0; i < 2 * kSourceHits; i++)
    EXPECT_FALSE(verdicts_.heard("h2", early, true, now_));
  EXPECT_EQ(verdict(), SourceVerdict::kDrops);
  // Its agent was started anew.
  round_ = {8, 1};
  EXPECT_TRUE(rounds(kSourceHits + 1, true, true));
}

TEST_F(Rounds, WhatAnEarlierAgentFoundOutHoldsUntilThereIsNews) {
  verdicts_.presume_drops("h2");
  verdicts_.presume_drops("h3");
  EXPECT_THAT(verdicts_.dropped(), ElementsAre("h2", "h3"));
  verdicts_.keep_only({"h2"});
  EXPECT_THAT(verdicts_.dropped(), ElementsAre("h2"));
  EXPECT_TRUE(rounds(kSourceHits + 1, true, true));
  EXPECT_THAT(verdicts_.dropped(), IsEmpty());
}

gossip::Member member(const std::string& name, const std::string& underlay) {
  gossip::Member out{.name = name};
  out.meta.underlay = IpAddress::parse(underlay).value();
  out.meta.gossip_address = {*out.meta.underlay, 7946};
  return out;
}

TEST(ForeignSource, IsThePoolsOrAThirdHosts) {
  std::vector<gossip::Member> members = {member("h1", "198.18.0.11"), member("h2", "198.18.0.12")};
  std::vector<IpAddress> announced;
  const auto source = [&](std::vector<std::string> pools) {
    std::vector<IpPrefix> prefixes;
    for (const std::string& pool : pools)
      prefixes.push_back(IpPrefix::parse(pool).value());
    const auto found = foreign_source(prefixes, members, "h1", "h2", announced);
    return found ? found->to_string() : "none";
  };
  EXPECT_EQ(source({"2001:db8::/120", "198.18.0.208/28"}), "198.18.0.208");
  EXPECT_EQ(source({"198.18.0.12/32", "198.18.0.209/32"}), "198.18.0.209");
  EXPECT_EQ(source({"2001:db8::/120"}), "none");
  // Its own it may send from, as far as that says.
  announced = {IpAddress::parse("198.18.0.208").value(), IpAddress::parse("198.18.0.209").value()};
  EXPECT_EQ(source({"198.18.0.208/28"}), "198.18.0.210");
  EXPECT_EQ(source({"198.18.0.208/31"}), "none");
  members.push_back(member("h3", "198.18.0.13"));
  EXPECT_EQ(source({}), "198.18.0.13");
}

TEST(SourceWord, IsReadAsItWasWritten) {
  const SourceWord word{"h2", {1'764'000'000'000, 42}, true};
  EXPECT_EQ(encode(word), "source 1764000000000 42 1 h2");
  EXPECT_EQ(decode_source_word(encode(word)), word);
  for (const char* bad : {"", "source", "source 1 2 3 h2", "source 1 2 1 ", "source -1 2 1 h2",
                          "other 1 2 1 h2", "source 1 2 1 h2 h3"})
    EXPECT_FALSE(decode_source_word(bad)) << bad;
}

TEST(RawUdp, APacketHasTheChecksumsThatAReceiverHolds) {
  const SocketAddress from{IpAddress::parse("198.18.0.208").value(), 7946};
  const SocketAddress to{IpAddress::parse("198.18.0.12").value(), 7946};
  const std::string packet = kernel::udp_packet(from, to, "abc");
  ASSERT_EQ(packet.size(), 31U);
  // Of the pseudo header and all of UDP, with its checksum, comes all ones (RFC 1071).
  const auto at = [&](std::size_t i) -> std::uint32_t {
    return i < packet.size() ? static_cast<std::uint8_t>(packet[i]) : 0;
  };
  std::uint32_t sum = 17 + 11;
  for (std::size_t i = 12; i < packet.size(); i += 2)
    sum += at(i) << 8 | at(i + 1);
  while ((sum >> 16) != 0)
    sum = (sum & 0xffff) + (sum >> 16);
  EXPECT_EQ(sum, 0xffffU);
}

}  // namespace
}  // namespace shoal::daemon
