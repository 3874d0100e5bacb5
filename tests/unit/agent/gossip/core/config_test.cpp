// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/config.h"

#include <functional>
#include <gtest/gtest.h>

namespace shoal::gossip {
namespace {

using namespace std::chrono_literals;

ProtocolConfig good() {
  ProtocolConfig c;
  c.name = "h1";
  c.start_id = 1;
  c.meta.gossip_address = *SocketAddress::parse("198.18.0.11:7946");
  return c;
}

TEST(GossipConfig, TheDefaultsHold) {
  const auto ok = validate(good());
  EXPECT_TRUE(ok) << ok.error().message();
}

TEST(GossipConfig, BrokenRelationsAreNamed) {
  const std::pair<const char*, std::function<void(ProtocolConfig&)>> cases[] = {
      {"node name", [](auto& c) { c.name = "desired"; }},
      {"node name", [](auto& c) { c.name = "Upper"; }},
      {"start_id", [](auto& c) { c.start_id = 0; }},
      {"0.0.0.0", [](auto& c) { c.meta.gossip_address = *SocketAddress::parse("0.0.0.0:7946"); }},
      {"probe_interval", [](auto& c) { c.probe_timeout = 300ms; }},
      {"gossip_interval", [](auto& c) { c.gossip_interval = 2s; }},
      {"suspicion_mult", [](auto& c) { c.suspicion_mult = 1; }},
      {"fan-outs", [](auto& c) { c.push_fanout = 0; }},
      {"dead_retention", [](auto& c) { c.dead_retention = 1s; }},
      {"announce_delays", [](auto& c) { c.announce_delays[1] = 5ms; }},
      {"sync_interval", [](auto& c) { c.sync_interval = 20ms; }},
      {"tombstone_retention", [](auto& c) { c.tombstone_retention = 5s; }},
      {"datagram_bytes_max", [](auto& c) { c.datagram_bytes_max = 9000; }},
      {"datagram_bytes_max", [](auto& c) { c.datagram_bytes_max = 100; }},
  };
  for (const auto& [word, breaks] : cases) {
    ProtocolConfig c = good();
    breaks(c);
    const auto result = validate(c);
    ASSERT_FALSE(result) << word;
    EXPECT_NE(result.error().message().find(word), std::string::npos) << result.error().message();
  }
}

TEST(GossipConfig, WhatDependsOnTheProbesFollowsThem) {
  for (const auto interval : {1ms, 50ms, 100ms, 500ms, 3000ms, 60'000ms}) {
    ProtocolConfig c = good();
    set_probing(c, interval, interval / 2 + interval % 2);
    EXPECT_EQ(validate(c).has_value(), interval.count() % 2 == 0) << interval.count();
    set_probing(c, interval, std::max(interval / 2, 1ms));
    EXPECT_EQ(validate(c).has_value(), interval > 1ms) << interval.count();
  }
  ProtocolConfig c = good();
  set_probing(c, 500ms, 200ms);
  EXPECT_EQ(c.gossip_interval, ProtocolConfig().gossip_interval) << "not touched without need";
  EXPECT_EQ(c.join_retry, ProtocolConfig().join_retry);
  EXPECT_EQ(c.dead_probe_interval, ProtocolConfig().dead_probe_interval);
}

}  // namespace
}  // namespace shoal::gossip
