// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/drain_board.h"

#include "tests/fakes/objects.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::daemon {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::string_view kService =
    R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},
        "spec":{"selector":{"app":"web"},"ports":[{"port":80}]}})";

class DrainBoardTest : public ::testing::Test {
protected:
  DrainBoardTest() {
    test.put(kService);
    for (const char* host : {"h1", "h2", "h3"})
      members.set(host, {host != std::string_view("h3"), {}});
  }
  store::Revision put_pod(std::string name, bool terminating, std::string app = "web") {
    return test
        .put(fakes::pod({.name = std::move(name),
                         .labels = R"({"app":")" + app + R"("})",
                         .node = "h1",
                         .ip = "10.244.1.5",
                         .terminating = terminating}))
        ->revision;
  }
  DrainBoard make() {
    return {"h1", test.view,
            [this](std::string value) -> Result<> {
              if (failing)
                return fail(Errc::kExhausted, "no room");
              published.push_back(std::move(value));
              return {};
            },
            [this] { retries_wanted++; },
            [this](store::Revision revision) { awaited.push_back(revision); }};
  }
  void complete_to(store::Revision revision) { test.view.set_position(true, revision); }
  static void tell(DrainBoard& board, std::string_view host, store::Revision revision) {
    const std::string value = std::to_string(revision);
    board.told(host, &value);
  }

  fakes::TestView test;
  view::Members members;
  std::vector<std::string> published;
  std::vector<store::Revision> awaited;
  bool failing = false;
  int retries_wanted = 0;
};

TEST_F(DrainBoardTest, APodIsDrainedWhenEveryLiveHostIsWhereItWasStopped) {
  complete_to(put_pod("a", false));
  DrainBoard board = make();
  int news = 0;
  board.on_news([&] { news++; });
  board.applied();
  EXPECT_THAT(published, IsEmpty());  // nothing is being stopped

  const store::Revision stopped = put_pod("a", true);
  complete_to(stopped);
  tell(board, "h2", stopped);
  EXPECT_FALSE(board.drained("uid-a", members));  // not here yet
  board.applied();
  board.applied();  // nothing new
  EXPECT_THAT(published, ElementsAre(std::to_string(stopped)));
  EXPECT_TRUE(board.drained("uid-a", members));  // h3 is dead
  EXPECT_EQ(news, 3);                            // applied twice, told once

  members.set("h3", {true, {}});
  EXPECT_FALSE(board.drained("uid-a", members));
  tell(board, "h3", stopped - 1);
  EXPECT_FALSE(board.drained("uid-a", members));
  tell(board, "h3", stopped + 5);
  EXPECT_TRUE(board.drained("uid-a", members));
  board.told("h3", nullptr);
  EXPECT_FALSE(board.drained("uid-a", members));

  test.remove(view::kPods, "default", "a");
  EXPECT_TRUE(board.drained("uid-a", members));
}

// A pod's change may arrive before it is known that nothing before it is missing.
TEST_F(DrainBoardTest, ANumberIsToldOnlyOfACompleteView) {
  const store::Revision stopped = put_pod("a", true);
  complete_to(stopped - 1);
  DrainBoard board = make();
  board.applied();
  board.applied();
  EXPECT_THAT(published, IsEmpty());
  EXPECT_THAT(awaited, ElementsAre(stopped));  // once
  EXPECT_FALSE(board.drained("uid-a", members));
  complete_to(stopped);
  board.applied();
  EXPECT_THAT(published, ElementsAre(std::to_string(stopped)));
}

// Its own host counts from where it saw it first; who has not told of it yet, from the last.
TEST_F(DrainBoardTest, APodThatChangesWhileItIsStoppedIsToldOfAgain) {
  const store::Revision first = put_pod("a", true);
  complete_to(first);
  DrainBoard board = make();
  board.applied();
  const store::Revision second = put_pod("a", true);
  complete_to(second);
  board.applied();
  EXPECT_THAT(published, ElementsAre(std::to_string(first), std::to_string(second)));
  tell(board, "h2", first);
  EXPECT_TRUE(board.drained("uid-a", members));
}

TEST_F(DrainBoardTest, APodThatNobodyBalancesOverIsNotWaitedFor) {
  complete_to(put_pod("a", true, "other"));
  DrainBoard board = make();
  board.applied();
  EXPECT_THAT(published, IsEmpty());
  EXPECT_TRUE(board.drained("uid-a", members));
}

TEST_F(DrainBoardTest, WhatCouldNotBeToldIsToldLater) {
  const store::Revision stopped = put_pod("a", true);
  complete_to(stopped);
  DrainBoard board = make();
  failing = true;
  board.applied();
  board.applied();
  EXPECT_EQ(retries_wanted, 1);  // one at a time
  board.retry();
  EXPECT_EQ(retries_wanted, 2);
  EXPECT_THAT(published, IsEmpty());
  failing = false;
  board.retry();
  EXPECT_THAT(published, ElementsAre(std::to_string(stopped)));
  board.retry();
  board.applied();
  EXPECT_EQ(published.size(), 1U);
  EXPECT_EQ(retries_wanted, 2);
}

TEST_F(DrainBoardTest, WhatWasBeingStoppedBeforeCountsToo) {
  put_pod("b", true);
  const store::Revision last = put_pod("a", true);
  complete_to(last);
  DrainBoard board = make();
  board.applied();
  EXPECT_THAT(published, ElementsAre(std::to_string(last)));
}

}  // namespace
}  // namespace shoal::daemon
