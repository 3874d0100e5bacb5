// SPDX-License-Identifier: Apache-2.0
// shoal-loadgen as its users run it, against a server of this test on the loopback address that can
// misbehave.
#include "netplane/base/process.h"
#include "netplane/base/unique_fd.h"

#include <arpa/inet.h>
#include <atomic>
#include <boost/json.hpp>
#include <chrono>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <map>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace shoal {
namespace {

using namespace std::chrono_literals;
namespace json = boost::json;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

// Answers HTTP with versions in turn; bytes that are no request are echoed.
class Server {
public:
  Server() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    auto address = loopback(0);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(listener_.get(), 1024), 0);
    socklen_t size = sizeof(address);
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~Server() {
    stop_ = true;
    thread_.join();
  }
  std::string to() const { return "127.0.0.1:" + std::to_string(port_); }
  std::size_t open() const { return open_; }

  std::atomic<bool> stalled = false;  // accepts and answers nothing
  std::atomic<int> to_break = 0;      // closes that many connections

private:
  void run() {
    std::map<int, UniqueFd> connections;
    int turn = 0;
    while (!stop_) {
      for (; to_break > 0 && !connections.empty(); --to_break)
        connections.erase(connections.begin());
      open_ = connections.size();
      if (stalled) {
        std::this_thread::yield();
        ::poll(nullptr, 0, 5);
        continue;
      }
      std::vector<pollfd> fds{{listener_.get(), POLLIN, 0}};
      for (const auto& [fd, owner] : connections)
        fds.push_back({fd, POLLIN, 0});
      ::poll(fds.data(), fds.size(), 5);
      if (fds[0].revents)
        for (int fd; (fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)) >= 0;)
          connections.emplace(fd, UniqueFd(fd));
      for (std::size_t i = 1; i < fds.size(); ++i)
        if (fds[i].revents && !serve(fds[i].fd, turn))
          connections.erase(fds[i].fd);
    }
  }

  static bool serve(int fd, int& turn) {
    char buffer[4096];
    const ssize_t got = ::recv(fd, buffer, sizeof(buffer), 0);
    if (got <= 0)
      return false;
    const std::string_view text(buffer, static_cast<std::size_t>(got));
    if (!text.starts_with("GET ")) {
      ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
      return true;
    }
    const std::string body =
        std::string("host=x version=") + (turn++ % 4 == 0 ? "green" : "blue") + " pod=y\n";
    const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) +
                               "\r\nConnection: close\r\n\r\n" + body;
    ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
    return false;
  }

  UniqueFd listener_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stop_ = false;
  std::atomic<std::size_t> open_ = 0;
  std::thread thread_;
};

// A port that nobody listens on while this lives.
class ClosedPort {
public:
  ClosedPort() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    auto address = loopback(0);
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    socklen_t size = sizeof(address);
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    to = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  std::string to;

private:
  UniqueFd fd_;
};

// The program with its standard input and output at hand.
class Loadgen {
public:
  explicit Loadgen(std::vector<std::string> arguments) {
    int in[2], out[2];
    EXPECT_EQ(::pipe2(in, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(out, O_CLOEXEC), 0);
    arguments.insert(arguments.begin(), SHOAL_LOADGEN);
    std::vector<char*> argv;
    for (std::string& argument : arguments)
      argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    in_.reset(in[1]);
    out_.reset(out[0]);
    ::close(in[0]);
    ::close(out[1]);
  }
  ~Loadgen() {
    in_.reset();
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  void say(const std::string& line) {
    const std::string text = line + "\n";
    EXPECT_EQ(::write(in_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void close_input() { in_.reset(); }
  // The next line of this type; null when the output ends or nothing comes for long.
  json::value next(std::string_view type) {
    for (;;) {
      const std::size_t end = buffer_.find('\n');
      if (end != std::string::npos) {
        const json::value line = json::parse(buffer_.substr(0, end));
        buffer_.erase(0, end + 1);
        if (line.at("type").as_string() == type)
          return line;
        continue;
      }
      pollfd wait{out_.get(), POLLIN, 0};
      char chunk[4096];
      const ssize_t got =
          ::poll(&wait, 1, 30'000) == 1 ? ::read(out_.get(), chunk, sizeof(chunk)) : 0;
      if (got <= 0)
        return nullptr;
      buffer_.append(chunk, static_cast<std::size_t>(got));
    }
  }
  void kill(int signal) const { ::kill(pid_, signal); }
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, 0), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

private:
  pid_t pid_ = 0;
  UniqueFd in_, out_;
  std::string buffer_;
};

json::value run(std::vector<std::string> arguments, int expected_exit) {
  arguments.insert(arguments.begin(), SHOAL_LOADGEN);
  RunOptions options;
  options.timeout = 60s;
  const auto result = run_process(arguments, options);
  EXPECT_TRUE(result.has_value());
  EXPECT_EQ(result->exit_code, expected_exit) << result->err;
  return result->out.empty() ? json::value() : json::parse(result->out);
}

TEST(Requests, CountsByVersion) {
  Server server;
  const auto summary = run({"requests", "--to", server.to(), "-n", "400", "--concurrency", "8"}, 0);
  EXPECT_EQ(summary.at("requests").as_int64(), 400);
  EXPECT_EQ(summary.at("failed").as_int64(), 0);
  EXPECT_EQ(summary.at("seen").at("blue").as_int64(), 300);
  EXPECT_EQ(summary.at("seen").at("green").as_int64(), 100);
}

TEST(Requests, CountsFailuresByKind) {
  ClosedPort closed;
  const auto refused = run({"requests", "--to", closed.to, "-n", "20"}, 1);
  EXPECT_EQ(refused.at("failures").at("refused").as_int64(), 20);
  Server server;
  server.stalled = true;
  const auto late = run({"requests", "--to", server.to(), "-n", "3", "--timeout", "100ms"}, 1);
  EXPECT_EQ(late.at("failures").at("timeout").as_int64(), 3);
}

TEST(Requests, CountsByAnotherKey) {
  Server server;
  const auto summary = run({"requests", "--to", server.to(), "-n", "20", "--by", "pod"}, 0);
  EXPECT_EQ(summary.at("seen").at("y").as_int64(), 20);
  const auto none = run({"requests", "--to", server.to(), "-n", "4", "--by", "colour"}, 1);
  EXPECT_EQ(none.at("failures").at("no colour").as_int64(), 4);
}

TEST(Connect, TellsEachInFull) {
  Server server;
  ClosedPort closed;
  Loadgen connect({"connect", "--to", server.to(), "--to", closed.to, "-n", "2"});
  for (int round = 0; round < 2; ++round) {
    const auto good = connect.next("connect");
    EXPECT_EQ(good.at("outcome").as_string(), "ok");
    EXPECT_EQ(good.at("to").as_string(), server.to());
    EXPECT_EQ(good.at("peer").as_string(), server.to());
    EXPECT_TRUE(good.at("self").as_string().starts_with("127.0.0.1:"));
    EXPECT_TRUE(good.at("body").as_string().ends_with("pod=y\n"));
    const auto refused = connect.next("connect");
    EXPECT_EQ(refused.at("outcome").as_string(), "refused");
    EXPECT_EQ(refused.at("peer").as_string(), "");
    EXPECT_LT(refused.at("ms").to_number<double>(), 1000);
  }
  EXPECT_EQ(connect.wait(), 1) << "one of the targets refuses";
}

TEST(Connect, IsBoundedInTime) {
  Server server;
  server.stalled = true;
  const auto late = run({"connect", "--to", server.to(), "--timeout", "100ms"}, 1);
  EXPECT_EQ(late.at("outcome").as_string(), "timeout");
  EXPECT_GE(late.at("ms").to_number<double>(), 100);
}

TEST(Serve, ShowsWhoAsks) {
  Loadgen serve({"serve", "--port", "0", "--body", "version=v", "--show-client"});
  const auto port = serve.next("serving").at("port").as_int64();
  const auto answer = run({"connect", "--to", "127.0.0.1:" + std::to_string(port)}, 0);
  EXPECT_EQ(answer.at("body").as_string(), "version=v client=127.0.0.1\n");
}

TEST(Requests, RefusesWrongUse) {
  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{"requests"},
                                             {"requests", "--to", "nowhere"},
                                             {"requests", "--to", "127.0.0.1:99999"},
                                             {"requests", "--to", "127.0.0.1:1", "-n", "0"},
                                             {"requests", "--to", "127.0.0.1:1", "--wat"},
                                             {"crr", "--duration", "1s"},
                                             {"stream", "--duration", "1s"},
                                             {"sink", "--port", "65536"},
                                             {"serve", "--serial", "--keep-alive"},
                                             {"crr", "--to", "127.0.0.1:1", "--duration", "0"},
                                             {"hello", "--to", "127.0.0.1:1", "-n", "1"},
                                             {"connect"},
                                             {"sing"}})
    run(wrong, 2);
}

TEST(Load, KeepsItsRateAndCountsByWindow) {
  Server server;
  Loadgen load({"load", "--to", server.to(), "--rate", "200", "--duration", "60s"});
  EXPECT_FALSE(load.next("second").is_null());
  load.say("mark first");
  EXPECT_EQ(load.next("window").at("name").as_string(), "start");
  EXPECT_FALSE(load.next("second").is_null());
  load.say("mark last");
  const auto first = load.next("window");
  EXPECT_EQ(first.at("name").as_string(), "first");
  EXPECT_EQ(first.at("failed").as_int64(), 0);
  load.close_input();
  EXPECT_EQ(load.next("window").at("name").as_string(), "last") << "also the one that the end cuts";
  const auto all = load.next("summary");
  const double rate =
      static_cast<double>(all.at("requests").as_int64()) / all.at("seconds").to_number<double>();
  EXPECT_NEAR(rate, 200, 20);
  EXPECT_EQ(load.wait(), 0);
}

TEST(Load, LatencyCountsFromWhenARequestWasDue) {
  Server server;
  Loadgen load(
      {"load", "--to", server.to(), "--rate", "200", "--duration", "60s", "--timeout", "20s"});
  EXPECT_FALSE(load.next("second").is_null());
  server.stalled = true;
  EXPECT_FALSE(load.next("second").is_null());
  EXPECT_FALSE(load.next("second").is_null());
  server.stalled = false;
  load.close_input();
  const auto all = load.next("summary");
  EXPECT_EQ(all.at("failed").as_int64(), 0);
  // A stall of about a second and more: many requests waited, not the one that met it.
  EXPECT_GT(all.at("latency_us").at("p99").as_int64(), 500'000);
  EXPECT_EQ(load.wait(), 0);
}

TEST(Load, SaysWhenTheLastFailureWas) {
  Server server;
  Loadgen load(
      {"load", "--to", server.to(), "--rate", "100", "--duration", "60s", "--timeout", "50ms"});
  server.stalled = true;
  load.say("mark killed");
  auto second = load.next("second");
  while (!second.is_null() && second.at("failed").as_int64() == 0)
    second = load.next("second");
  server.stalled = false;
  while (!second.is_null() && second.at("failed").as_int64() != 0)
    second = load.next("second");
  load.say("mark done");
  load.close_input();
  auto window = load.next("window");
  while (!window.is_null() && window.at("name").as_string() != "killed")
    window = load.next("window");
  ASSERT_FALSE(window.is_null());
  EXPECT_GT(window.at("failures").at("timeout").as_int64(), 0);
  EXPECT_LT(window.at("last_failure_s").to_number<double>(),
            window.at("seconds").to_number<double>());
  EXPECT_EQ(load.wait(), 1);
}

TEST(Idle, FindsBrokenConnections) {
  Server server;
  Loadgen idle({"idle", "--to", server.to(), "-n", "100"});
  EXPECT_EQ(idle.next("ready").at("open").as_int64(), 100);
  idle.say("check");
  EXPECT_EQ(idle.next("check").at("broken").as_int64(), 0);
  server.to_break = 3;
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (server.open() > 97 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::yield();
  idle.say("check");
  EXPECT_EQ(idle.next("check").at("broken").as_int64(), 3);
  idle.say("check");
  EXPECT_EQ(idle.next("check").at("broken").as_int64(), 3) << "once broken, always broken";
  idle.close_input();
  EXPECT_EQ(idle.wait(), 1);
}

TEST(Crr, GoesThroughOneConnectionAfterTheOther) {
  Server server;
  const auto all = run({"crr", "--to", server.to(), "--duration", "300ms"}, 0);
  EXPECT_GT(all.at("requests").as_int64(), 10);
  EXPECT_EQ(all.at("failed").as_int64(), 0);
  EXPECT_GE(all.at("seconds").to_number<double>(), 0.3);
}

TEST(Crr, NamesFailuresAndGivesUpOnADeadPath) {
  const ClosedPort closed;
  const auto refused = run({"crr", "--to", closed.to, "--duration", "60s"}, 1);
  EXPECT_EQ(refused.at("failures").at("refused").as_int64(), 100);
  Server server;
  server.stalled = true;
  const auto late = run({"crr", "--to", server.to(), "--duration", "1ms", "--timeout", "100ms"}, 1);
  EXPECT_EQ(late.at("failures").at("timeout").as_int64(), 1);
}

TEST(Serve, AnswersOneConnectionAfterTheOther) {
  Loadgen server({"serve", "--serial", "--port", "0"});
  const json::value serving = server.next("serving");
  ASSERT_TRUE(serving.is_object());
  const std::string to = "127.0.0.1:" + std::to_string(serving.at("port").to_number<int>());
  const auto all = run({"crr", "--to", to, "--duration", "100ms"}, 0);
  EXPECT_GT(all.at("requests").as_int64(), 1);
  EXPECT_EQ(all.at("failed").as_int64(), 0);
}

TEST(RoundTrip, EndsByCountOrWithTheConnection) {
  Server server;  // closes after each answer
  EXPECT_EQ(run({"rr", "--to", server.to(), "-n", "1"}, 0).at("requests").as_int64(), 1);
  for (const std::vector<std::string>& until :
       std::vector<std::vector<std::string>>{{"-n", "1000"}, {"--duration", "60s"}}) {
    const auto all = run({"rr", "--to", server.to(), until[0], until[1]}, 1);
    EXPECT_EQ(all.at("requests").as_int64(), 2);
    EXPECT_EQ(all.at("failures").at("broken").as_int64(), 1);
  }
}

TEST(Stream, CountsWhatArrivedAndWhatBothEndsSpent) {
  Loadgen sink({"sink", "--port", "0"});
  const json::value serving = sink.next("serving");
  ASSERT_TRUE(serving.is_object());
  const std::string to = "127.0.0.1:" + std::to_string(serving.at("port").to_number<int>());
  for (int i = 0; i < 2; i++) {  // one after the other
    const auto said = run({"stream", "--to", to, "--duration", "100ms"}, 0);
    EXPECT_GE(said.at("bytes").as_int64(), 64 << 10);
    EXPECT_EQ(said.at("bytes").as_int64() % (64 << 10), 0);
    EXPECT_GE(said.at("seconds").as_double(), 0.1);
    for (const auto* end : {"cpu_ns", "sink_cpu_ns"}) {
      EXPECT_GT(said.at(end).as_int64(), 0);
      EXPECT_LT(said.at(end).to_number<double>(), said.at("seconds").as_double() * 1e9) << end;
    }
  }
}

TEST(Stream, SaysWhyThereIsNone) {
  const auto error = [](const std::vector<std::string>& arguments) {
    const auto result = run_process(arguments);
    EXPECT_TRUE(result.has_value());
    EXPECT_EQ(result->exit_code, 2);
    return result->err;
  };
  ClosedPort closed;
  EXPECT_EQ(error({SHOAL_LOADGEN, "stream", "--to", closed.to}),
            "shoal-loadgen: connect to " + closed.to + ": refused\n");
  Server server;
  server.to_break = 1;  // takes the stream and does not say what came
  EXPECT_NE(error({SHOAL_LOADGEN, "stream", "--to", server.to(), "--duration", "1ms"}), "");
}

TEST(Hello, SaysWhenItBeganAndEndsWhenTold) {
  const UniqueFd ear(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  auto address = loopback(0);
  ASSERT_EQ(::bind(ear.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  socklen_t size = sizeof(address);
  ::getsockname(ear.get(), reinterpret_cast<sockaddr*>(&address), &size);
  const auto now = [] {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  };
  const auto before = now();
  Loadgen hello(
      {"hello", "--to", "127.0.0.1:" + std::to_string(ntohs(address.sin_port)), "--text", "pod 7"});
  char text[256] = {};
  pollfd wait{ear.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&wait, 1, 20'000), 1);
  const ssize_t got = ::recv(ear.get(), text, sizeof(text) - 1, 0);
  ASSERT_GT(got, 0);
  const std::string said(text, static_cast<std::size_t>(got));
  ASSERT_TRUE(said.starts_with("pod 7 ")) << said;
  const long long began = std::stoll(said.substr(6));
  EXPECT_GT(began, before);
  EXPECT_LT(began, now());
  hello.kill(SIGTERM);
  EXPECT_EQ(hello.wait(), 0);
}

}  // namespace
}  // namespace shoal
