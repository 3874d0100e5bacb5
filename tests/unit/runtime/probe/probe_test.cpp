// SPDX-License-Identifier: Apache-2.0
#include "runtime/probe/probe.h"

#include <gtest/gtest.h>

namespace shoal::runtime {
namespace {

MonoTime at_ms(int ms) { return MonoTime(std::chrono::milliseconds(ms)); }

// One probe that takes no time.
bool probe(ProbeMachine& machine, int ms, bool ok) {
  return machine.finish(machine.begin(at_ms(ms)), ok, at_ms(ms));
}

TEST(ProbeMachine, BeginsFailedAfterItsDelay) {
  ProbeMachine machine({.initial_delay_ms = 500, .period_ms = 1000}, at_ms(100));
  EXPECT_FALSE(machine.passing());
  EXPECT_EQ(machine.due(), at_ms(600));
  EXPECT_TRUE(probe(machine, 600, true));
  EXPECT_TRUE(machine.passing());
  EXPECT_EQ(machine.due(), at_ms(1600));
}

TEST(ProbeMachine, ThresholdsCountResultsInARow) {
  ProbeMachine machine({.period_ms = 10, .success_threshold = 2, .failure_threshold = 3}, at_ms(0));
  EXPECT_FALSE(probe(machine, 0, true));
  EXPECT_FALSE(probe(machine, 10, false));
  EXPECT_FALSE(probe(machine, 20, true));
  EXPECT_TRUE(probe(machine, 30, true));
  EXPECT_FALSE(probe(machine, 40, false));
  EXPECT_FALSE(probe(machine, 50, false));
  EXPECT_FALSE(probe(machine, 60, true));
  EXPECT_FALSE(probe(machine, 70, false));
  EXPECT_FALSE(probe(machine, 80, false));
  EXPECT_TRUE(probe(machine, 90, false));
  EXPECT_FALSE(machine.passing());
}

TEST(ProbeMachine, LateResultsAreIgnored) {
  ProbeMachine machine({.period_ms = 10}, at_ms(0));
  const std::uint64_t first = machine.begin(at_ms(0));
  EXPECT_TRUE(machine.under_way());
  EXPECT_TRUE(machine.finish(first, true, at_ms(1)));
  EXPECT_FALSE(machine.finish(first, false, at_ms(2)));
  const std::uint64_t second = machine.begin(at_ms(10));
  EXPECT_FALSE(machine.finish(first, false, at_ms(11)));
  EXPECT_TRUE(machine.under_way());
  EXPECT_FALSE(machine.finish(second, true, at_ms(12)));
  EXPECT_TRUE(machine.passing());
}

TEST(ProbeMachine, ASlowProbeIsNotFollowedByABurst) {
  ProbeMachine machine({.period_ms = 10}, at_ms(0));
  const std::uint64_t token = machine.begin(at_ms(0));
  machine.finish(token, false, at_ms(1000));
  EXPECT_EQ(machine.due(), at_ms(1000));
}

TEST(ProbeMachine, WhatCannotBeRunCountsAsNeither) {
  ProbeMachine machine({.period_ms = 10, .failure_threshold = 2}, at_ms(0), true);
  machine.finish(machine.begin(at_ms(0)), false, at_ms(1));
  machine.skip(machine.begin(at_ms(10)), at_ms(11));
  EXPECT_EQ(machine.due(), at_ms(20));
  EXPECT_TRUE(machine.passing());
  EXPECT_TRUE(machine.finish(machine.begin(at_ms(20)), false, at_ms(21)));
}

TEST(HttpStatus, IsReadStrictly) {
  EXPECT_EQ(*parse_http_status("HTTP/1.1 200 OK\r\nX: y\r\n"), 200);
  EXPECT_EQ(*parse_http_status("HTTP/1.0 503\r\n"), 503);
  for (const char* bad : {"", "200", "HTTP/1.1", "HTTP/1.1 2000 x", "HTTP/1.1 20x OK",
                          "HTTP/1.1 099 x", "SSH-2.0-x 200 y"})
    EXPECT_EQ(parse_http_status(bad).error().code(), Errc::kCorrupt) << bad;
  EXPECT_TRUE(http_probe_passes(200) && http_probe_passes(399));
  EXPECT_FALSE(http_probe_passes(199) || http_probe_passes(400));
}

TEST(HttpRequest, IsWhole) {
  EXPECT_EQ(
      *http_probe_request("10.0.0.1", 80, "/ok?x=1", {{"X-A", "b"}, {"Connection", "keep-alive"}}),
      "GET /ok?x=1 HTTP/1.1\r\nHost: 10.0.0.1:80\r\nUser-Agent: shoal-probe/1\r\nAccept: "
      "*/*\r\nX-A: b\r\n"
      "Connection: close\r\n\r\n");
  EXPECT_NE(
      http_probe_request("fd00::1", 80, "x", {})->find("GET /x HTTP/1.1\r\nHost: [fd00::1]:80\r\n"),
      std::string::npos);
  EXPECT_EQ(http_probe_request("h", 1, "/", {{"host", "v"}})->find("Host: h"), std::string::npos);
  EXPECT_FALSE(http_probe_request("h", 1, "/a b", {}));
  EXPECT_FALSE(http_probe_request("h", 1, "/\r\nX: y", {}));
  EXPECT_FALSE(http_probe_request("h", 1, "/", {{"A", "b\r\nC: d"}}));
  EXPECT_FALSE(http_probe_request("h", 1, "/", {{"A:", "b"}}));
}

}  // namespace
}  // namespace shoal::runtime
