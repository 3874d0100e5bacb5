// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/drain_board.h"

#include "tests/fakes/objects.h"

#include <gtest/gtest.h>

namespace shoal::daemon {
namespace {

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
  void put_pod(std::string name, bool terminating, std::string app = "web") {
    test.put(fakes::pod({.name = std::move(name),
                         .labels = R"({"app":")" + app + R"("})",
                         .node = "h1",
                         .ip = "10.244.1.5",
                         .terminating = terminating}));
  }
  DrainBoard make() {
    return {"h1", test.view,
            [this](std::optional<std::string> value) -> Result<> {
              if (failing)
                return fail(Errc::kExhausted, "no room");
              published.push_back(std::move(value));
              return {};
            },
            [this] { retries_wanted++; }};
  }

  fakes::TestView test;
  view::Members members;
  std::vector<std::optional<std::string>> published;
  bool failing = false;
  int retries_wanted = 0;
};

TEST_F(DrainBoardTest, APodIsDrainedWhenEveryLiveHostHasSaidSo) {
  put_pod("a", false);
  DrainBoard board = make();
  int news = 0;
  board.on_news([&] { news++; });
  board.applied();
  EXPECT_TRUE(published.empty());  // nothing is being stopped

  put_pod("a", true);
  const std::string a = "uid-a";
  board.told("h2", &a);
  EXPECT_FALSE(board.drained("uid-a", members));  // not here yet
  board.applied();
  board.applied();  // nothing new
  ASSERT_EQ(published.size(), 1U);
  EXPECT_EQ(published[0], "uid-a");
  EXPECT_TRUE(board.drained("uid-a", members));  // h3 is dead
  EXPECT_EQ(news, 2);

  members.set("h3", {true, {}});
  EXPECT_FALSE(board.drained("uid-a", members));
  const std::string both = "uid-a\nuid-b";
  board.told("h3", &both);
  EXPECT_TRUE(board.drained("uid-a", members));
  board.told("h3", nullptr);
  EXPECT_FALSE(board.drained("uid-a", members));

  test.remove(view::kPods, "default", "a");
  board.applied();
  ASSERT_EQ(published.size(), 2U);
  EXPECT_EQ(published[1], std::nullopt);
  EXPECT_TRUE(board.drained("uid-a", members));
}

TEST_F(DrainBoardTest, APodThatNobodyBalancesOverIsNotWaitedFor) {
  put_pod("a", true, "other");
  DrainBoard board = make();
  board.applied();
  EXPECT_TRUE(published.empty());
  EXPECT_TRUE(board.drained("uid-a", members));
}

TEST_F(DrainBoardTest, WhatCouldNotBeToldIsToldLater) {
  put_pod("a", true);
  DrainBoard board = make();
  failing = true;
  board.applied();
  board.applied();
  EXPECT_EQ(retries_wanted, 1);  // one at a time
  board.retry();
  EXPECT_EQ(retries_wanted, 2);
  EXPECT_TRUE(published.empty());
  failing = false;
  board.retry();
  ASSERT_EQ(published.size(), 1U);
  EXPECT_EQ(published[0], "uid-a");
  board.retry();
  board.applied();
  EXPECT_EQ(published.size(), 1U);
  EXPECT_EQ(retries_wanted, 2);
}

TEST_F(DrainBoardTest, WhatWasBeingStoppedBeforeCountsToo) {
  put_pod("b", true);
  put_pod("a", true);
  DrainBoard board = make();
  board.applied();
  ASSERT_EQ(published.size(), 1U);
  EXPECT_EQ(published[0], "uid-a\nuid-b");
}

}  // namespace
}  // namespace shoal::daemon
