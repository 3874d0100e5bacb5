// SPDX-License-Identifier: Apache-2.0
// Gossip on real sockets, over loopback:
//
//      h1 ---- h2         each on 127.0.0.1, a free port, UDP and TCP
//        \    /           x: another cluster's key
//         h3     x
#include "agent/gossip/net/gossip.h"

#include "netplane/base/hash.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/write.hpp>
#include <gtest/gtest.h>

namespace shoal::gossip {
namespace {

using namespace std::chrono_literals;

KeyRing ring(std::vector<std::uint8_t> fills) {
  std::vector<Key> keys;
  for (const std::uint8_t fill : fills)
    keys.emplace_back().fill(fill);
  return *KeyRing::make(std::move(keys));
}

class GossipOnLoopback : public testing::Test {
protected:
  struct Host {
    std::unique_ptr<Gossip> gossip;
    std::vector<MemberChanged> members;
    std::vector<EntryChanged> entries;
    std::vector<std::uint64_t> completes;
  };

  Config config(const std::string& name, std::uint64_t start_id = 1, std::uint16_t port = 0) {
    Config c;
    c.protocol.name = name;
    c.protocol.start_id = start_id;
    c.protocol.meta.gossip_address = {IpAddress::v4(0x7f000001), port};
    c.listen = {IpAddress::v4(0x7f000001), port};
    c.cluster_id = "test";
    c.keys = ring({1});
    return c;
  }

  std::unique_ptr<Host> start(Config c) {
    auto host = std::make_unique<Host>();
    host->gossip = std::make_unique<Gossip>(io, std::move(c), clock, random);
    host->gossip->on_member([h = host.get()](const MemberChanged& m) { h->members.push_back(m); });
    host->gossip->on_entry([h = host.get()](const EntryChanged& e) { h->entries.push_back(e); });
    host->gossip->on_desired_complete(
        [h = host.get()](std::uint64_t r) { h->completes.push_back(r); });
    const auto started = host->gossip->start();
    EXPECT_TRUE(started) << started.error().message();
    return host;
  }

  void three() {
    for (const char* name : {"h1", "h2", "h3"}) {
      hosts.push_back(start(config(name)));
      if (hosts.size() > 1)
        hosts.back()->gossip->join({hosts[0]->gossip->local_address()});
    }
    ASSERT_TRUE(
        until([&] { return std::ranges::all_of(hosts, [&](auto& h) { return alive(*h) == 3; }); }));
  }

  static std::size_t alive(const Host& host) {
    return static_cast<std::size_t>(
        std::ranges::count(host.gossip->members(), MemberState::kAlive, &Member::state));
  }
  static std::optional<std::string> read(const Host& host, std::string_view origin,
                                         std::string_view key) {
    const auto entry = host.gossip->entry(origin, key);
    return entry ? std::optional(*entry->value) : std::nullopt;
  }

  bool until(const std::function<bool()>& condition, std::chrono::milliseconds at_most = 15s) {
    const auto end = std::chrono::steady_clock::now() + at_most;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end)
        return false;
      io.run_for(1ms);
      io.restart();
    }
    return true;
  }

  boost::asio::io_context io;
  SystemClock clock;
  SystemRandom random;
  std::vector<std::unique_ptr<Host>> hosts;
};

TEST_F(GossipOnLoopback, EntriesOfAllSizesReachAll) {
  three();
  const std::string large(kValueBytesMax, 'L');
  for (const std::size_t size : {std::size_t{10}, std::size_t{2000}, kValueBytesMax}) {
    const std::string text(size, 'v');
    const auto begin = clock.now();
    ASSERT_TRUE(hosts[1]->gossip->publish("/pods/default/web", text));
    ASSERT_TRUE(until([&] {
      return read(*hosts[0], "h2", "/pods/default/web") == text &&
             read(*hosts[2], "h2", "/pods/default/web") == text;
    }));
    fmt::print("a value of {} bytes to both others: {:.1f} ms\n", size,
               std::chrono::duration<double, std::milli>(clock.now() - begin).count());
  }
  EXPECT_EQ(hosts[1]->gossip->publish("k", std::string(kValueBytesMax + 1, 'x')).error().code(),
            Errc::kInvalid);
  ASSERT_TRUE(hosts[1]->gossip->publish("/pods/default/web", std::nullopt));
  ASSERT_TRUE(until([&] { return !read(*hosts[0], "h2", "/pods/default/web"); }));
  EXPECT_FALSE(hosts[0]->entries.back().entry.value);
  EXPECT_TRUE(hosts[1]->entries.empty()) << "nobody is told what it wrote itself";
}

TEST_F(GossipOnLoopback, DesiredStateTravelsWithItsRevisions) {
  three();
  std::vector<DesiredEvent> snapshot;
  for (std::uint64_t i = 1; i <= 500; ++i)
    snapshot.push_back({fmt::format("/pods/default/p{}", i), std::string(500, 'd'), i, i});
  ASSERT_TRUE(hosts[0]->gossip->publish_desired_snapshot(snapshot, 500));
  const std::vector<DesiredEvent> commit{
      {"/pods/default/p1", std::nullopt, 1, 501},
      {"/pods/default/big", std::string(900'000, 'B'), 501, 501}};
  ASSERT_TRUE(hosts[0]->gossip->publish_desired(commit, 501));
  ASSERT_TRUE(until([&] {
    return hosts[1]->gossip->desired_complete_to() == 501 &&
           hosts[2]->gossip->desired_complete_to() == 501;
  }));
  EXPECT_FALSE(read(*hosts[2], kDesiredOrigin, "/pods/default/p1"));
  const auto big = hosts[2]->gossip->entry(kDesiredOrigin, "/pods/default/big");
  ASSERT_TRUE(big);
  EXPECT_EQ(big->version, 501U);
  EXPECT_EQ(big->create_revision, 501U);
  EXPECT_EQ(hosts[1]->completes.back(), 501U);
  EXPECT_TRUE(hosts[0]->completes.empty());
}

TEST_F(GossipOnLoopback, AKilledHostIsNoticedAndComesBack) {
  three();
  ASSERT_TRUE(hosts[2]->gossip->publish("state", "before"));
  ASSERT_TRUE(until([&] { return read(*hosts[0], "h3", "state") == "before"; }));
  const std::uint16_t port = hosts[2]->gossip->local_address().port;
  const auto begin = clock.now();
  hosts.pop_back();  // without a word
  const auto dead = [&](const Host& h) {
    return h.gossip->member("h3")->state == MemberState::kDead;
  };
  ASSERT_TRUE(until([&] { return dead(*hosts[0]) && dead(*hosts[1]); }));
  const double took = std::chrono::duration<double>(clock.now() - begin).count();
  fmt::print("killed host of 3 declared dead by both others: {:.2f} s\n", took);
  EXPECT_LT(took, 6.0);
  EXPECT_EQ(read(*hosts[0], "h3", "state"), "before");

  // The same address and name, a later start, and nobody to ask: the others dial the dead.
  hosts.push_back(start(config("h3", 2, port)));
  ASSERT_TRUE(
      until([&] { return std::ranges::all_of(hosts, [&](auto& h) { return alive(*h) == 3; }); }));
  EXPECT_EQ(hosts[0]->gossip->member("h3")->start_id, 2U);
  ASSERT_TRUE(hosts[2]->gossip->publish("state", "after"));
  hosts[2]->gossip->publish_settled();
  ASSERT_TRUE(until([&] { return read(*hosts[1], "h3", "state") == "after"; }));
}

TEST_F(GossipOnLoopback, LeavingIsSaid) {
  three();
  bool done = false;
  hosts[2]->gossip->leave([&] { done = true; });
  ASSERT_TRUE(until([&] {
    return hosts[0]->gossip->member("h3")->state == MemberState::kLeft &&
           hosts[1]->gossip->member("h3")->state == MemberState::kLeft;
  }));
  ASSERT_TRUE(until([&] { return done; }));
  ASSERT_TRUE(hosts[0]->gossip->forget("h3"));
  ASSERT_TRUE(until([&] { return !hosts[1]->gossip->member("h3"); }));
}

TEST_F(GossipOnLoopback, AWrongKeyIsCountedAndHarmless) {
  three();
  Config wrong = config("x");
  wrong.keys = ring({9});
  auto x = start(std::move(wrong));
  x->gossip->join({hosts[0]->gossip->local_address()});
  // By datagram first, then by stream.
  ASSERT_TRUE(until([&] {
    const Metrics m = hosts[0]->gossip->metrics();
    return m.datagrams_wrong_key > 0 && m.streams_wrong_key > 0;
  }));
  EXPECT_EQ(alive(*hosts[0]), 3U);
  EXPECT_EQ(alive(*x), 1U);
  x->gossip->set_keys(ring({9, 1}));  // mended: both keys open, and then ours is made primary
  x->gossip->set_keys(ring({1, 9}));
  ASSERT_TRUE(until([&] { return alive(*hosts[2]) == 4 && alive(*x) == 4; }));
}

TEST_F(GossipOnLoopback, KeysRotateWithoutALoss) {
  three();
  for (const auto& step : {ring({1, 2}), ring({2, 1}), ring({2})})
    for (auto& host : hosts) {
      host->gossip->set_keys(step);
      ASSERT_TRUE(hosts[0]->gossip->publish("k", fmt::format("{}", mix64(random.next()))));
      ASSERT_TRUE(until([&] {
        return read(*hosts[1], "h1", "k") == read(*hosts[0], "h1", "k") &&
               read(*hosts[2], "h1", "k") == read(*hosts[0], "h1", "k");
      }));
    }
  EXPECT_EQ(hosts[1]->gossip->metrics().datagrams_wrong_key, 0U);
}

TEST_F(GossipOnLoopback, GarbageOnTheSocketsIsHarmless) {
  three();
  namespace asio = boost::asio;
  const auto target = hosts[0]->gossip->local_address();
  asio::ip::tcp::socket raw(io);
  raw.connect({asio::ip::address_v4::loopback(), target.port});
  asio::write(raw, asio::buffer(std::string(4096, 'G')));
  asio::ip::tcp::socket mute(io);
  mute.connect({asio::ip::address_v4::loopback(), target.port});
  asio::ip::udp::socket udp(io, asio::ip::udp::v4());
  for (std::size_t size : {0, 1, 40, 41, 1400, 9000})
    udp.send_to(asio::buffer(std::string(size, '\x01')),
                {asio::ip::address_v4::loopback(), target.port});
  ASSERT_TRUE(until([&] { return hosts[0]->gossip->metrics().streams_failed > 0; }));
  ASSERT_TRUE(hosts[0]->gossip->publish("still", "here"));
  ASSERT_TRUE(until([&] { return read(*hosts[2], "h1", "still") == "here"; }));
}

TEST_F(GossipOnLoopback, ABurstArrivesWhole) {
  three();
  const auto begin = clock.now();
  for (int i = 0; i < 2000; ++i)
    ASSERT_TRUE(
        hosts[0]->gossip->publish(fmt::format("/pods/default/p{}", i), std::string(200, 'x')));
  ASSERT_TRUE(
      until([&] { return hosts[1]->entries.size() == 2000 && hosts[2]->entries.size() == 2000; }));
  fmt::print("burst of 2000 to both others: {:.1f} ms\n",
             std::chrono::duration<double, std::milli>(clock.now() - begin).count());
}

TEST_F(GossipOnLoopback, APortInUseIsAnErrorThatNamesIt) {
  hosts.push_back(start(config("h1")));
  Config c = config("h2", 1, hosts[0]->gossip->local_address().port);
  Gossip second(io, c, clock, random);
  const auto result = second.start();
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find(std::to_string(c.listen.port)), std::string::npos)
      << result.error().message();
}

TEST_F(GossipOnLoopback, CallbacksMayPublish) {
  three();
  hosts[1]->gossip->on_entry([&](const EntryChanged& e) {
    if (e.origin == "h1") {
      EXPECT_TRUE(hosts[1]->gossip->publish("echo", *e.entry.value));
    }
  });
  ASSERT_TRUE(hosts[0]->gossip->publish("call", "hello"));
  ASSERT_TRUE(until([&] { return read(*hosts[0], "h2", "echo") == "hello"; }));
}

}  // namespace
}  // namespace shoal::gossip
