// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/controllers/world.h"

namespace shoal::controllers {
namespace {

std::string look(const TestWorld& world, std::string_view name) {
  return to_text(collect_garbage(world.world(), *world.view.get(view::kPods, "default", name)));
}

void put_owner(TestWorld& world) {
  world.put(std::string_view(
      R"({"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"web"}})"));
}

TEST(Garbage, AChildGoesWithItsOwner) {
  TestWorld world;
  put_owner(world);
  world.put(fakes::pod({.name = "a", .node = "h1", .owner = "web"}));
  world.put(fakes::pod({.name = "bare", .node = "h1"}));
  EXPECT_EQ(look(world, "a"), "");
  world.remove(view::kReplicaSets, "default", "web");
  EXPECT_EQ(look(world, "a"), "delete pods default/a\n");
  EXPECT_EQ(look(world, "bare"), "");
}

TEST(Garbage, ANamesakeIsNotTheOwner) {
  TestWorld world;
  world.put(std::string_view(
      R"({"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"web","uid":"another life"}})"));
  world.put(fakes::pod({.name = "a", .node = "h1", .owner = "web"}));
  EXPECT_EQ(look(world, "a"), "delete pods default/a\n");
}

TEST(Garbage, AbsenceProvesNothingInAnIncompleteView) {
  TestWorld world;
  const auto pod = world.put(fakes::pod({.name = "a", .node = "h1", .owner = "web"}));
  world.view.set_position(true, pod->revision - 1);
  EXPECT_EQ(look(world, "a"), "");
  world.view.set_position(false, pod->revision);
  EXPECT_EQ(look(world, "a"), "");
  world.view.set_position(true, pod->revision);
  EXPECT_EQ(look(world, "a"), "delete pods default/a\n");
}

TEST(Garbage, PodsOfAHostThatWasRemovedGoAtOnce) {
  TestWorld world;
  world.put(fakes::pod({.name = "a", .node = "h9"}));
  EXPECT_EQ(look(world, "a"), "delete pods default/a grace=0\n");
}

TEST(Garbage, WhatIsBeingDeletedIsLeftAlone) {
  TestWorld world;
  world.put(fakes::pod({.name = "a", .node = "h1", .terminating = true, .owner = "web"}));
  EXPECT_EQ(look(world, "a"), "");
}

TEST(Namespace, ItsContentsGoFirst) {
  TestWorld world;
  world.put(fakes::pod({.name = "a", .node = "h1"}));
  const auto ns = [&] {
    return to_text(
        reconcile_namespace(world.world(), *world.view.get(view::kNamespaces, "", "default")));
  };
  EXPECT_EQ(ns(), "");
  world.change(view::kNamespaces, "", "default", [](boost::json::object& body) {
    body["metadata"].as_object()["deletionTimestamp"] = "2026-01-01T00:00:00Z";
  });
  EXPECT_EQ(ns(), "delete pods default/a\n");
  world.put(fakes::pod({.name = "a", .node = "h1", .terminating = true}));
  EXPECT_EQ(ns(), "") << "its host is stopping it";
  world.remove(view::kPods, "default", "a");
  EXPECT_EQ(ns(), "delete namespaces default\n");
}

}  // namespace
}  // namespace shoal::controllers
