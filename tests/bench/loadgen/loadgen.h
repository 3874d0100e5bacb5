// SPDX-License-Identifier: Apache-2.0
// shoal-loadgen: load for the demo, the lab tests and the benches. One thread, one epoll, static,
// no dependencies, so that it can be copied into a busybox image. Output is JSON, one object a
// line.
//
// Every latency counts from the time at which the request was due, not from when it was sent, so
// that a stall shows in every request that it delayed (coordinated omission, Tene).
#pragma once

#include <cstdint>
#include <map>
#include <netinet/in.h>
#include <string>
#include <vector>

namespace loadgen {

using Nanos = std::int64_t;  // CLOCK_MONOTONIC

Nanos now_ns();
void die(const std::string& text);  // exit status 2: wrong use or a broken environment

struct Target {
  sockaddr_in address{};
  std::string text;
};
Target parse_target(const std::string& text);   // "10.96.0.10:80"
Nanos parse_duration(const std::string& text);  // "500ms", "1s", "10" (seconds)
std::int64_t parse_number(const std::string& text, std::int64_t min, std::int64_t max);

// Values of a window: counts by outcome and by what the body says, latencies.
struct Tally {
  std::string name;
  Nanos began = 0;
  std::int64_t requests = 0;  // due in this window and decided
  std::int64_t failed = 0;
  std::map<std::string, std::int64_t> failures;  // by kind
  std::map<std::string, std::int64_t> seen;      // by version, or what else is asked for
  std::vector<std::uint32_t> latency_us;
  Nanos last_failure = 0;               // due time of the last request that failed
  std::vector<std::int64_t> failed_at;  // second since `began`, of each failure (bounded)

  void succeed(const std::string& version, Nanos latency);
  void fail(const std::string& kind, Nanos due);
  // type is the "type" member; extra is appended inside the object (may be empty).
  std::string to_json(const std::string& type, Nanos now) const;
};

std::string json_quote(const std::string& text);

// Each mode returns the exit status: 0 all well, 1 something failed that was asked to succeed.
struct RequestsOptions {
  Target to;
  std::int64_t count = 1000;
  std::int64_t concurrency = 8;
  Nanos timeout = 5'000'000'000;
  std::string path = "/";
  std::string by = "version";  // what is tallied: the value of this key in the bodies
};
int run_requests(const RequestsOptions& options);

struct ConnectOptions {
  std::vector<Target> to;
  std::int64_t count = 1;  // of each, in turn
  Nanos timeout = 1'000'000'000;
  std::string path = "/";
};
int run_connect(const ConnectOptions& options);

struct LoadOptions {
  Target to;
  double rate = 500;
  Nanos duration = 10'000'000'000;
  Nanos timeout = 1'000'000'000;
  std::string path = "/";
};
int run_load(const LoadOptions& options);

struct IdleOptions {
  Target to;
  std::int64_t count = 1000;
  Nanos timeout = 5'000'000'000;
};
int run_idle(const IdleOptions& options);

struct ServeOptions {
  std::uint16_t port = 8080;  // 0: a free one, which is told
  std::string body = "version=none\n";
  bool keep_alive = false;
  bool show_client = false;  // the body ends with "client=IP"
  bool serial = false;       // one connection at a time, closed after its answer
};
int run_serve(const ServeOptions& options);

struct RoundTripOptions {
  Target to;
  std::int64_t count = 10'000;
  Nanos duration = 0;  // when not 0: for this long, and count is ignored
  Nanos timeout = 5'000'000'000;
};
// Request-response on one open connection, against run_serve with keep_alive.
int run_round_trip(const RoundTripOptions& options);

struct CrrOptions {
  Target to;
  Nanos duration = 1'000'000'000;
  Nanos timeout = 5'000'000'000;
};
// Connect-request-response-close, one at a time, against run_serve.
int run_crr(const CrrOptions& options);

struct SinkOptions {
  std::uint16_t port = 8080;  // 0: a free one, which is told
  Nanos timeout = 5'000'000'000;
};
// Reads one stream after the other; each is told how many bytes came and the CPU time it took here.
int run_sink(const SinkOptions& options);

struct StreamOptions {
  Target to;
  Nanos duration = 1'000'000'000;
  Nanos timeout = 5'000'000'000;
};
// Sends to run_sink for that long; prints bytes, time, and the CPU time of both ends.
int run_stream(const StreamOptions& options);

struct HelloOptions {
  Target to;  // UDP
  std::string text = "hello";
};
// Sends "TEXT BEGAN" and waits for SIGTERM or SIGINT.
int run_hello(const HelloOptions& options, Nanos began);

}  // namespace loadgen
