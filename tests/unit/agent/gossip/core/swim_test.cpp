// SPDX-License-Identifier: Apache-2.0
// One core against a scripted network: the test plays all peers, sees each packet and fires each
// timer.
#include "agent/gossip/core/core.h"
#include "agent/gossip/core/message.h"
#include "netplane/base/random.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <map>
#include <set>

namespace shoal::gossip {
namespace {

using namespace std::chrono_literals;

SocketAddress address_of(int n) {
  return {IpAddress::v4(0xc612000aU + static_cast<std::uint32_t>(n)), 7946};
}

Member peer(int n, std::uint64_t incarnation = 0, std::uint64_t start_id = 1) {
  Member m{fmt::format("h{}", n), MemberState::kAlive, start_id, incarnation, {}};
  m.meta.gossip_address = address_of(n);
  return m;
}

template <class T>
struct Sent {
  SocketAddress to;
  T message;
};

class Script {
public:
  explicit Script(int peers, std::uint64_t start_id = 100) : random_(7) {
    ProtocolConfig config;
    config.name = "h1";
    config.start_id = start_id;
    config.meta.gossip_address = address_of(1);
    core = std::make_unique<Core>(config, random_);
    run([&](Effects& out) { core->start(now, out); });
    for (int n = 2; n < 2 + peers; ++n)
      hear(n, {Record{peer(n), 0}});
    forget();
  }

  void hear(int from, const std::vector<Message>& said) {
    std::string bytes;
    begin_packet(bytes, fmt::format("h{}", from));
    for (const Message& m : said)
      bytes += encode(m);
    run([&](Effects& out) { core->on_datagram(address_of(from), bytes, now, out); });
  }

  // Time passes; timers fire when due. Each ping to one of `silent` goes unanswered, others are
  // acked.
  void pass(Duration span) {
    const MonoTime end = now + span;
    for (;;) {
      auto next = timers.begin();
      if (next == timers.end() || next->first > end)
        break;
      now = std::max(now, next->first);
      const std::uint64_t token = next->second;
      timers.erase(next);
      run([&](Effects& out) { core->on_timer(token, now, out); });
      answer();
    }
    now = end;
  }

  // Nothing runs for so long; then everything that was due fires late.
  void stand_still(Duration span) { now += span; }

  template <class T>
  std::vector<Sent<T>> sent() const {
    std::vector<Sent<T>> out;
    for (const auto& [to, message] : messages)
      if (const T* m = std::get_if<T>(&message))
        out.push_back({to, *m});
    return out;
  }

  std::size_t count(MemberChange change) const {
    return static_cast<std::size_t>(std::ranges::count(changes, change, &MemberChanged::change));
  }

  void forget() {
    messages.clear();
    changes.clear();
    entries.clear();
  }

  void run(const std::function<void(Effects&)>& input) {
    Effects out;
    input(out);
    for (Effect& effect : out) {
      if (const auto* d = std::get_if<SendDatagram>(&effect)) {
        const auto packet = decode_packet(d->bytes);
        ASSERT_TRUE(packet);
        for (const Message& m : packet->messages)
          messages.emplace_back(d->to, m);
      } else if (const auto* t = std::get_if<ArmTimer>(&effect)) {
        timers.emplace(t->at, t->token);
      } else if (const auto* m = std::get_if<MemberChanged>(&effect)) {
        changes.push_back(*m);
      } else if (const auto* e = std::get_if<EntryChanged>(&effect)) {
        entries.push_back(*e);
      } else {
        others.push_back(effect);
      }
    }
  }

  SeededRandom random_;
  std::unique_ptr<Core> core;
  MonoTime now{1h};
  std::set<int> silent;
  std::multimap<MonoTime, std::uint64_t> timers;
  std::vector<std::pair<SocketAddress, Message>> messages;
  std::vector<MemberChanged> changes;
  std::vector<EntryChanged> entries;
  std::vector<Effect> others;

private:
  void answer() {
    const auto pings = sent<Ping>();
    for (const auto& ping : pings) {
      if (!answered_.insert(ping.message.sequence).second)
        continue;
      const int n = std::stoi(ping.message.target.substr(1));
      if (!silent.contains(n))
        hear(n, {Ack{ping.message.sequence}});
    }
  }
  std::set<std::uint64_t> answered_;
};

TEST(Swim, EachMemberIsProbedInEachRound) {
  Script s(5);
  s.pass(2500ms);
  std::map<std::string, int> probed;
  for (const auto& ping : s.sent<Ping>())
    ++probed[ping.message.target];
  EXPECT_EQ(probed.size(), 5U);
  for (const auto& [name, times] : probed)
    EXPECT_EQ(times, 1) << name;
  EXPECT_EQ(s.count(MemberChange::kSuspected), 0U);
}

TEST(Swim, ASilentMemberIsAskedForThroughHelpersThenSuspectedThenDead) {
  Script s(4);
  s.silent = {3};
  s.pass(4s);
  const auto requests = s.sent<PingRequest>();
  ASSERT_GE(requests.size(), 3U);
  for (const auto& r : requests) {
    EXPECT_EQ(r.message.target, "h3");
    EXPECT_NE(r.to, address_of(3));
  }
  EXPECT_EQ(s.count(MemberChange::kSuspected), 1U);
  EXPECT_EQ(s.count(MemberChange::kDied), 0U);
  EXPECT_TRUE(s.core->member("h3")->is_live());
  s.pass(20s);
  EXPECT_EQ(s.count(MemberChange::kDied), 1U);
  EXPECT_EQ(s.core->member("h3")->state, MemberState::kDead);
}

TEST(Swim, AHelpersAckSavesTheTarget) {
  Script s(2);
  s.silent = {3};
  for (int i = 0; i < 200; ++i) {
    s.pass(50ms);
    for (const auto& r : s.sent<PingRequest>())
      s.hear(2, {Ack{r.message.sequence}});
  }
  EXPECT_EQ(s.count(MemberChange::kSuspected), 0U);
}

TEST(Swim, ConfirmationsShortenTheSuspicion) {
  Script s(4);
  s.hear(2, {Verdict{"h3", MemberState::kSuspect, 1, 0, {"h2"}}});
  s.hear(4, {Verdict{"h3", MemberState::kSuspect, 1, 0, {"h4"}}});
  s.hear(4, {Verdict{"h3", MemberState::kSuspect, 1, 0, {"h4", "h5"}}});
  EXPECT_EQ(s.count(MemberChange::kSuspected), 1U);
  s.pass(1900ms);
  EXPECT_EQ(s.count(MemberChange::kDied), 0U);
  s.pass(200ms);
  EXPECT_EQ(s.count(MemberChange::kDied), 1U);
}

TEST(Swim, TheSameAccuserTwiceConfirmsNothing) {
  Script s(4);
  for (int i = 0; i < 10; ++i)
    s.hear(2, {Verdict{"h3", MemberState::kSuspect, 1, 0, {"h2"}}});
  s.pass(2100ms);
  EXPECT_EQ(s.count(MemberChange::kDied), 0U);
}

TEST(Swim, ALargerIncarnationRefutesAndAnEqualOneDoesNot) {
  Script s(4);
  s.hear(2, {Verdict{"h3", MemberState::kSuspect, 1, 0, {"h2"}}});
  s.hear(2, {Record{peer(3, 0), 0}});
  EXPECT_EQ(s.core->member("h3")->state, MemberState::kSuspect);
  s.hear(2, {Record{peer(3, 1), 0}});
  EXPECT_EQ(s.core->member("h3")->state, MemberState::kAlive);
  EXPECT_EQ(s.count(MemberChange::kRefuted), 1U);
  s.pass(30s);
  EXPECT_EQ(s.count(MemberChange::kDied), 0U) << "the old suspicion's timer is stale";
}

TEST(Swim, DeadIsOverruledByALargerIncarnationOnly) {
  Script s(4);
  s.hear(2, {Verdict{"h3", MemberState::kDead, 1, 0, {}}});
  EXPECT_EQ(s.count(MemberChange::kDied), 1U);
  s.hear(2, {Record{peer(3, 0), 0}});
  EXPECT_EQ(s.core->member("h3")->state, MemberState::kDead);
  s.hear(2, {Verdict{"h3", MemberState::kSuspect, 1, 0, {"h2"}}});
  EXPECT_EQ(s.core->member("h3")->state, MemberState::kDead);
  s.hear(3, {Record{peer(3, 1), 0}});
  EXPECT_EQ(s.core->member("h3")->state, MemberState::kAlive);
  EXPECT_EQ(s.count(MemberChange::kJoined), 1U);
}

TEST(Swim, ANewLifeSupersedesWhateverWasSaidOfTheOld) {
  Script s(4);
  s.hear(3, {Record{peer(3, 90), 0}});
  s.hear(2, {Verdict{"h3", MemberState::kDead, 1, 95, {}}});
  s.hear(3, {Record{peer(3, 0, 2), 0}});
  EXPECT_EQ(s.core->member("h3")->state, MemberState::kAlive);
  s.hear(2, {Verdict{"h3", MemberState::kDead, 1, 99, {}}});
  EXPECT_EQ(s.core->member("h3")->state, MemberState::kAlive) << "said of the past";
}

TEST(Swim, ThisHostRefutes) {
  Script s(4);
  s.hear(2, {Verdict{"h1", MemberState::kSuspect, 100, 0, {"h2"}}});
  EXPECT_EQ(s.core->self().incarnation, 1U);
  EXPECT_EQ(s.core->self().state, MemberState::kAlive);
  EXPECT_EQ(s.core->health(), 1U);
  s.pass(100ms);
  bool told = false;
  for (const auto& r : s.sent<Record>())
    told = told || (r.message.member.name == "h1" && r.message.member.incarnation == 1);
  EXPECT_TRUE(told);
  s.hear(2, {Verdict{"h1", MemberState::kSuspect, 100, 0, {"h2"}}});
  EXPECT_EQ(s.core->self().incarnation, 1U) << "refuted already";
}

TEST(Swim, ASuspectIsToldSoWithThePing) {
  Script s(4);
  s.hear(2, {Verdict{"h3", MemberState::kSuspect, 1, 0, {"h2"}}});
  s.forget();
  s.pass(1s);
  bool pinged = false;
  bool told = false;
  for (const auto& p : s.sent<Ping>())
    pinged = pinged || p.message.target == "h3";
  for (const auto& v : s.sent<Verdict>())
    told = told || (v.to == address_of(3) && v.message.name == "h3");
  EXPECT_TRUE(pinged) << "a suspicion heard of is looked into at once";
  EXPECT_TRUE(told);
}

TEST(Swim, APauseOfThisHostBlamesNobody) {
  Script s(4);
  s.hear(2, {Verdict{"h3", MemberState::kSuspect, 1, 0, {"h2", "h4"}}});
  s.stand_still(10s);
  s.pass(400ms);
  EXPECT_EQ(s.count(MemberChange::kDied), 0U);
  EXPECT_EQ(s.core->stats().pauses, 1U);
  s.hear(3, {Record{peer(3, 1), 0}});
  s.pass(10s);
  EXPECT_EQ(s.count(MemberChange::kDied), 0U);
}

TEST(Swim, APingForAnotherNameIsNotAnswered) {
  Script s(2);
  s.hear(2, {Ping{5, "h9", 0}});
  EXPECT_TRUE(s.sent<Ack>().empty());
  s.hear(2, {Ping{5, "h1", s.core->summary()}});
  ASSERT_EQ(s.sent<Ack>().size(), 1U);
  EXPECT_TRUE(s.sent<Sync>().empty());
  s.hear(2, {Ping{6, "h1", s.core->summary() + 1}});
  s.hear(2, {Ping{7, "h1", s.core->summary() + 1}});
  EXPECT_EQ(s.sent<Sync>().size(), 1U)
      << "digests are exchanged when they differ, and not too often";
}

TEST(Swim, StrangersAreNotPingedOnRequest) {
  Script s(2);
  s.hear(2, {PingRequest{1, "h3", address_of(77)}, PingRequest{2, "h77", address_of(77)}});
  EXPECT_TRUE(s.sent<Ping>().empty());
  s.hear(2, {PingRequest{3, "h3", address_of(3)}});
  EXPECT_EQ(s.sent<Ping>().size(), 1U);
}

TEST(Swim, ARefusedProbeAsksHelpersAtOnceAndIsNoProof) {
  Script s(3);
  s.silent = {2, 3, 4};
  while (s.sent<Ping>().empty())
    s.pass(10ms);
  const auto ping = s.sent<Ping>().front();
  s.run([&](Effects& out) { s.core->on_refused(ping.to, s.now, out); });
  const auto requests = s.sent<PingRequest>();
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(s.count(MemberChange::kSuspected), 0U);
  for (const auto& r : requests)
    for (int n = 2; n <= 4; ++n)
      if (r.to == address_of(n))
        s.hear(n, {Nack{r.message.sequence}});
  EXPECT_EQ(s.count(MemberChange::kSuspected), 1U);
  EXPECT_EQ(s.core->health(), 0U) << "all helpers answered: this host hears well";
}

TEST(Swim, DeadMembersAreDialled) {
  Script s(2);
  s.hear(2, {Verdict{"h3", MemberState::kDead, 1, 0, {}}});
  s.silent = {3};
  s.forget();
  s.pass(10s);
  std::size_t dialled = 0;
  for (const auto& p : s.sent<Ping>())
    dialled += p.message.target == "h3" ? 1 : 0;
  EXPECT_GE(dialled, 4U);
  EXPECT_LE(dialled, 6U);
}

TEST(Swim, LeavingIsSaidAndSticks) {
  Script s(3);
  s.run([&](Effects& out) { s.core->leave(s.now, out); });
  std::set<SocketAddress> told;
  for (const auto& v : s.sent<Verdict>())
    if (v.message.name == "h1" && v.message.state == MemberState::kLeft)
      told.insert(v.to);
  EXPECT_EQ(told.size(), 3U);
  s.hear(2, {Verdict{"h1", MemberState::kDead, 100, 0, {}}});
  s.pass(1100ms);
  EXPECT_EQ(s.core->self().state, MemberState::kLeft);
  ASSERT_EQ(s.others.size(), 1U);
  EXPECT_TRUE(std::holds_alternative<LeaveDone>(s.others[0]));

  Script other(3);
  other.hear(2, {Verdict{"h2", MemberState::kLeft, 1, 0, {}}});
  EXPECT_EQ(other.count(MemberChange::kLeft), 1U);
  other.hear(3, {Verdict{"h2", MemberState::kDead, 1, 0, {}}});
  EXPECT_EQ(other.core->member("h2")->state, MemberState::kLeft);
}

TEST(Swim, ForgettingTakesTheEntriesToo) {
  Script s(3);
  Delta d{.origin = "h3", .epoch = 1, .to = {2, {}}};
  d.entries = {{"k", std::make_shared<const std::string>("v"), 1, 0}};
  s.hear(3, {d});
  ASSERT_TRUE(s.core->entry("h3", "k"));
  const auto forget = [&] {
    Result<> result;
    s.run([&](Effects& out) { result = s.core->forget("h3", s.now, out); });
    return result;
  };
  EXPECT_EQ(forget().error().code(), Errc::kConflict);
  s.hear(2, {Verdict{"h3", MemberState::kDead, 1, 0, {}}});
  EXPECT_TRUE(s.core->entry("h3", "k")) << "the dead keep their entries until somebody decides";
  s.entries.clear();
  EXPECT_TRUE(forget());
  EXPECT_FALSE(s.core->entry("h3", "k"));
  EXPECT_FALSE(s.core->member("h3"));
  ASSERT_EQ(s.entries.size(), 1U);
  EXPECT_FALSE(s.entries[0].entry.value);
  s.hear(2, {d, Record{peer(3), 0}});
  EXPECT_FALSE(s.core->entry("h3", "k")) << "a host that has not heard of it brings nothing back";
  EXPECT_FALSE(s.core->member("h3"));
  s.hear(3, {Record{peer(3, 0, 2), 0}});
  EXPECT_TRUE(s.core->member("h3")) << "a new life is welcome";
  EXPECT_EQ(forget().error().code(), Errc::kConflict);
}

TEST(Swim, ALaterLifeOfThisHostRaisesTheStartId) {
  Script s(2);
  Member dead = peer(1, 3, 500);
  dead.state = MemberState::kDead;
  s.hear(2, {Record{dead, 10}});
  EXPECT_EQ(s.core->self().start_id, 501U);
  ASSERT_EQ(s.others.size(), 1U);
  EXPECT_EQ(std::get<StartIdRaised>(s.others[0]).start_id, 501U);
}

TEST(Swim, TwoHostsOfOneNameAreReportedAndDoNotRace) {
  Script s(2);
  Member other = peer(1, 0, 500);
  other.meta.gossip_address = address_of(44);
  for (int i = 0; i < 5; ++i)
    s.hear(2, {Record{other, 0}});
  EXPECT_EQ(s.core->self().start_id, 100U);
  ASSERT_EQ(s.others.size(), 1U) << "once a minute";
  EXPECT_EQ(std::get<NameConflict>(s.others[0]).other, address_of(44));
}

TEST(Swim, TheMemberTableIsBounded) {
  Script s(0);
  for (int n = 2; n < 2 + static_cast<int>(kMembersMax) + 50; ++n)
    s.hear(2, {Record{peer(n), 0}});
  EXPECT_EQ(s.core->members().size(), kMembersMax);
  EXPECT_GT(s.core->stats().members_refused, 0U);
}

TEST(Swim, RecordsOfTheLongDeadAreNotTakenUp) {
  Script s(1);
  Member old = peer(9);
  old.state = MemberState::kDead;
  s.hear(2, {Record{old, 3 * 24 * 3600}});
  EXPECT_FALSE(s.core->member("h9"));
  s.hear(2, {Record{old, 3600}});
  EXPECT_TRUE(s.core->member("h9"));
}

}  // namespace
}  // namespace shoal::gossip
