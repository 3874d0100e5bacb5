// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/loadgen/loadgen.h"

#include <arpa/inet.h>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <sys/resource.h>

namespace loadgen {

namespace {

constexpr const char* kUsage =
    "shoal-loadgen MODE [options]\n"
    "  requests --to IP:PORT [-n N] [--concurrency C] [--timeout D] [--path P] [--by KEY]\n"
    "      N requests, each on its own connection; tallies `version=...` in the bodies, or KEY\n"
    "  connect --to IP:PORT [--to IP:PORT ...] [-n N] [--timeout D] [--path P]\n"
    "      one after the other, each with its outcome, time, both ends' names and the body\n"
    "  load --to IP:PORT [--rate R] [--duration D] [--timeout D] [--path P]\n"
    "      open loop at R a second, no retries; `mark NAME` on standard input begins a window\n"
    "  idle --to IP:PORT [-n N] [--timeout D]\n"
    "      N connections to an echo server; `check` on standard input proves each of them\n"
    "  serve [--port P] [--body TEXT] [--keep-alive] [--show-client] [--serial]\n"
    "      --serial: one connection at a time\n"
    "  rr --to IP:PORT [-n N | --duration D] [--timeout D]\n"
    "      request-response on one connection, against serve --keep-alive\n"
    "  crr --to IP:PORT [--duration D] [--timeout D]\n"
    "      connect, request, response, close, one at a time, against serve\n"
    "  sink [--port P] [--timeout D]\n"
    "  stream --to IP:PORT [--duration D] [--timeout D]\n"
    "      one stream of bytes against sink: how many, and the CPU time of both ends\n"
    "  hello --to IP:PORT [--text T]\n"
    "      one datagram \"T NANOSECONDS\": CLOCK_MONOTONIC at the start of main; then waits for "
    "SIGTERM\n";

class Args {
public:
  Args(int argc, char** argv) : argc_(argc), argv_(argv) {}
  bool next() { return ++at_ < argc_; }
  std::string name() const { return argv_[at_]; }
  std::string value() {
    if (at_ + 1 >= argc_)
      die(name() + " needs a value");
    return argv_[++at_];
  }

private:
  int argc_;
  char** argv_;
  int at_ = 1;
};

[[noreturn]] void unknown(const std::string& name) {
  die("unknown option " + name + "\n" + kUsage);
  std::abort();
}

void need(const Target& to) {
  if (to.text.empty())
    die("--to IP:PORT is missing");
}

int requests(Args args) {
  RequestsOptions o;
  while (args.next()) {
    const std::string name = args.name();
    if (name == "--to")
      o.to = parse_target(args.value());
    else if (name == "-n")
      o.count = parse_number(args.value(), 1, 100'000'000);
    else if (name == "--concurrency")
      o.concurrency = parse_number(args.value(), 1, 10'000);
    else if (name == "--timeout")
      o.timeout = parse_duration(args.value());
    else if (name == "--path")
      o.path = args.value();
    else if (name == "--by")
      o.by = args.value();
    else
      unknown(name);
  }
  need(o.to);
  return run_requests(o);
}

int connect(Args args) {
  ConnectOptions o;
  while (args.next()) {
    const std::string name = args.name();
    if (name == "--to")
      o.to.push_back(parse_target(args.value()));
    else if (name == "-n")
      o.count = parse_number(args.value(), 1, 1'000'000);
    else if (name == "--timeout")
      o.timeout = parse_duration(args.value());
    else if (name == "--path")
      o.path = args.value();
    else
      unknown(name);
  }
  need(o.to.empty() ? Target{} : o.to.front());
  return run_connect(o);
}

int load(Args args) {
  LoadOptions o;
  while (args.next()) {
    const std::string name = args.name();
    if (name == "--to")
      o.to = parse_target(args.value());
    else if (name == "--rate")
      o.rate = static_cast<double>(parse_number(args.value(), 1, 1'000'000));
    else if (name == "--duration")
      o.duration = parse_duration(args.value());
    else if (name == "--timeout")
      o.timeout = parse_duration(args.value());
    else if (name == "--path")
      o.path = args.value();
    else
      unknown(name);
  }
  need(o.to);
  return run_load(o);
}

int idle(Args args) {
  IdleOptions o;
  while (args.next()) {
    const std::string name = args.name();
    if (name == "--to")
      o.to = parse_target(args.value());
    else if (name == "-n")
      o.count = parse_number(args.value(), 1, 60'000);
    else if (name == "--timeout")
      o.timeout = parse_duration(args.value());
    else
      unknown(name);
  }
  need(o.to);
  return run_idle(o);
}

int serve(Args args) {
  ServeOptions o;
  while (args.next()) {
    const std::string name = args.name();
    if (name == "--port")
      o.port = static_cast<std::uint16_t>(parse_number(args.value(), 0, 65535));
    else if (name == "--body")
      o.body = args.value() + "\n";
    else if (name == "--keep-alive")
      o.keep_alive = true;
    else if (name == "--show-client")
      o.show_client = true;
    else if (name == "--serial")
      o.serial = true;
    else
      unknown(name);
  }
  if (o.serial && (o.keep_alive || o.show_client))
    die("--serial goes with neither --keep-alive nor --show-client");
  return run_serve(o);
}

int round_trip(Args args) {
  RoundTripOptions o;
  while (args.next()) {
    const std::string name = args.name();
    if (name == "--to")
      o.to = parse_target(args.value());
    else if (name == "-n")
      o.count = parse_number(args.value(), 1, 100'000'000);
    else if (name == "--duration")
      o.duration = parse_duration(args.value());
    else if (name == "--timeout")
      o.timeout = parse_duration(args.value());
    else
      unknown(name);
  }
  need(o.to);
  return run_round_trip(o);
}

int crr(Args args) {
  CrrOptions o;
  while (args.next()) {
    const std::string name = args.name();
    if (name == "--to")
      o.to = parse_target(args.value());
    else if (name == "--duration")
      o.duration = parse_duration(args.value());
    else if (name == "--timeout")
      o.timeout = parse_duration(args.value());
    else
      unknown(name);
  }
  need(o.to);
  return run_crr(o);
}

int sink(Args args) {
  SinkOptions o;
  while (args.next()) {
    const std::string name = args.name();
    if (name == "--port")
      o.port = static_cast<std::uint16_t>(parse_number(args.value(), 0, 65535));
    else if (name == "--timeout")
      o.timeout = parse_duration(args.value());
    else
      unknown(name);
  }
  return run_sink(o);
}

int stream(Args args) {
  StreamOptions o;
  while (args.next()) {
    const std::string name = args.name();
    if (name == "--to")
      o.to = parse_target(args.value());
    else if (name == "--duration")
      o.duration = parse_duration(args.value());
    else if (name == "--timeout")
      o.timeout = parse_duration(args.value());
    else
      unknown(name);
  }
  need(o.to);
  return run_stream(o);
}

int hello(Args args, Nanos began) {
  HelloOptions o;
  while (args.next()) {
    const std::string name = args.name();
    if (name == "--to")
      o.to = parse_target(args.value());
    else if (name == "--text")
      o.text = args.value();
    else
      unknown(name);
  }
  need(o.to);
  return run_hello(o, began);
}

}  // namespace

Nanos now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

void die(const std::string& text) {
  std::fprintf(stderr, "shoal-loadgen: %s\n", text.c_str());
  std::exit(2);
}

std::int64_t parse_number(const std::string& text, std::int64_t min, std::int64_t max) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end || value < min || value > max)
    die("\"" + text + "\" is not a number from " + std::to_string(min) + " to " +
        std::to_string(max));
  return value;
}

Nanos parse_duration(const std::string& text) {
  if (text.ends_with("ms"))
    return parse_number(text.substr(0, text.size() - 2), 1, 86'400'000) * 1'000'000;
  const std::string number = text.ends_with("s") ? text.substr(0, text.size() - 1) : text;
  return parse_number(number, 1, 86'400) * 1'000'000'000;
}

Target parse_target(const std::string& text) {
  Target target;
  target.text = text;
  const std::size_t colon = text.rfind(':');
  target.address.sin_family = AF_INET;
  if (colon == std::string::npos ||
      ::inet_pton(AF_INET, text.substr(0, colon).c_str(), &target.address.sin_addr) != 1)
    die("\"" + text + "\" is not IP:PORT");
  target.address.sin_port =
      htons(static_cast<std::uint16_t>(parse_number(text.substr(colon + 1), 1, 65535)));
  return target;
}

}  // namespace loadgen

int main(int argc, char** argv) {
  const loadgen::Nanos began = loadgen::now_ns();
  std::signal(SIGPIPE, SIG_IGN);
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  const std::string mode = argc > 1 ? argv[1] : "";
  const loadgen::Args args(argc, argv);
  if (mode == "requests")
    return loadgen::requests(args);
  if (mode == "connect")
    return loadgen::connect(args);
  if (mode == "load")
    return loadgen::load(args);
  if (mode == "idle")
    return loadgen::idle(args);
  if (mode == "serve")
    return loadgen::serve(args);
  if (mode == "rr")
    return loadgen::round_trip(args);
  if (mode == "crr")
    return loadgen::crr(args);
  if (mode == "sink")
    return loadgen::sink(args);
  if (mode == "stream")
    return loadgen::stream(args);
  if (mode == "hello")
    return loadgen::hello(args, began);
  loadgen::die(std::string("a mode is missing or unknown\n") + loadgen::kUsage);
  return 2;
}
