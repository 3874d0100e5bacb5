// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/node_status.h"

#include "agent/api/selector.h"

#include <boost/json.hpp>

namespace shoal::daemon {
namespace {

namespace json = boost::json;
using Kind = node::Pressure::Kind;
using namespace std::chrono_literals;

TEST(NodeStatus, ConditionsAreKubernetes) {
  NodeFacts facts;
  facts.name = "h1";
  facts.ready = true;
  const WallTime then(1'767'225'600s);
  facts.pressure = {{Kind::kMemory, true, then}, {Kind::kDisk, false, then}};
  const json::object status = node_status(facts);
  std::string told;
  for (const json::value& value : status.at("conditions").as_array()) {
    const json::object& one = value.as_object();
    told += fmt::format("{} {} {}\n", api::find_string(one, "type"),
                        api::find_string(one, "status"), api::find_string(one, "reason"));
  }
  EXPECT_EQ(told, "MemoryPressure True KubeletHasInsufficientMemory\n"
                  "DiskPressure False KubeletHasNoDiskPressure\n"
                  "Ready True AgentReady\n");
  EXPECT_EQ(api::find_string(status.at("conditions").at(0).as_object(), "lastTransitionTime"),
            "2026-01-01T00:00:00Z");
}

TEST(NodeStatus, WhatIsKeptIsNotAllocatable) {
  const NodeResources have = node_resources(100, 1 << 20, "/", 10);
  EXPECT_EQ(have.cpu_milli - have.pods_cpu_milli, 100);
  EXPECT_EQ(have.memory_bytes - have.pods_memory_bytes, 1 << 20);
  EXPECT_GT(have.disk_bytes, have.pods_disk_bytes);
  EXPECT_GE(have.pods_disk_bytes, have.disk_bytes / 100 * 90);
  // A disk that cannot be looked at is not told of.
  NodeFacts facts;
  facts.resources = node_resources(100, 1 << 20, "/nonexistent", 10);
  EXPECT_FALSE(node_status(facts).at("capacity").as_object().contains("ephemeral-storage"));
}

}  // namespace
}  // namespace shoal::daemon
