// SPDX-License-Identifier: Apache-2.0
// A small world for controller tests: a view, hosts h1..h3 alive, a time.
#pragma once

#include "agent/controllers/controllers.h"
#include "agent/controllers/plan.h"
#include "agent/view/facts.h"
#include "tests/fakes/objects.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace shoal::controllers {

struct TestWorld : fakes::TestView {
  TestWorld() {
    for (const char* name : {"h1", "h2", "h3"}) {
      put(fakes::node(name));
      members.set(name, {true, mono});
    }
    put(std::string_view(
        R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"default"}})"));
  }
  World world() const { return {view, members, options, mono, now}; }
  void advance(Duration by) {
    mono += by;
    now += by;
  }

  view::Members members;
  Options options;
  MonoTime mono{std::chrono::hours(1)};
  WallTime now = *view::parse_time("2026-01-01T01:00:00Z");
};

// Applies a plan's steps to the view as a store would: for tests that go step by step.
inline void carry_out(TestWorld& world, const Plan& plan) {
  for (const Step& step : plan.steps) {
    if (const auto* create = std::get_if<Create>(&step.op)) {
      world.put(create->body);
    } else if (const auto* update = std::get_if<Update>(&step.op)) {
      world.change(target_of(step.op).resource, target_of(step.op).ns, target_of(step.op).name,
                   [&](boost::json::object& body) { body = update->body; });
    } else if (const auto* status = std::get_if<UpdateStatus>(&step.op)) {
      world.change(target_of(step.op).resource, target_of(step.op).ns, target_of(step.op).name,
                   [&](boost::json::object& body) { body["status"] = status->body.at("status"); });
    } else {
      const Ref ref = target_of(step.op);
      world.remove(ref.resource, ref.ns, ref.name);
    }
  }
}

}  // namespace shoal::controllers
