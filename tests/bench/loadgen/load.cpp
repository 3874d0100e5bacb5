// SPDX-License-Identifier: Apache-2.0
// Open loop: requests are due at a fixed rate whatever happens to earlier ones; no retries. Lines
// on standard input begin new windows: `mark NAME`. A window is printed when all requests that were
// due in it are decided. Ends after the duration or when standard
// input closes, with the last window and a summary.
#include "tests/bench/loadgen/connection.h"

#include <algorithm>
#include <cstdio>
#include <deque>
#include <fcntl.h>
#include <memory>
#include <sys/epoll.h>
#include <unistd.h>
#include <unordered_map>

namespace loadgen {
namespace {

constexpr std::uint64_t kStdinTag = UINT64_MAX;
constexpr std::size_t kOpenMax = 20'000;

class Load {
public:
  explicit Load(const LoadOptions& options)
      : options_(options), request_(http_request(options.to, options.path, true)),
        epoll_(::epoll_create1(EPOLL_CLOEXEC)), began_(now_ns()),
        gap_(static_cast<Nanos>(1e9 / options.rate)) {
    open_window("start", began_);
    next_second_ = began_ + 1'000'000'000;
    second_.began = began_;
    ::fcntl(0, F_SETFL, ::fcntl(0, F_GETFL) | O_NONBLOCK);
    epoll_event event{EPOLLIN, {.u64 = kStdinTag}};
    stdin_open_ = ::epoll_ctl(epoll_, EPOLL_CTL_ADD, 0, &event) == 0;
  }
  ~Load() { ::close(epoll_); }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  int run() {
    const Nanos end = began_ + options_.duration;
    while (!(stopping_ && open_.empty())) {
      const Nanos now = now_ns();
      if (now >= end)
        stopping_ = true;
      while (!stopping_ && next_due() <= now)
        begin(next_due());
      expire(now);
      every_second(now);
      print_decided();
      wait(now);
    }
    windows_.back()->closed = true;
    print_decided();
    std::printf("%s\n", total_.to_json("summary", now_ns()).c_str());
    return total_.failed ? 1 : 0;
  }

private:
  struct Window {
    Tally tally;
    std::int64_t open = 0;
    bool closed = false;
  };

  Nanos next_due() const { return began_ + sent_ * gap_; }

  void open_window(const std::string& name, Nanos now) {
    if (!windows_.empty())
      windows_.back()->closed = true;
    windows_.push_back(std::make_shared<Window>());
    windows_.back()->tally.name = name;
    windows_.back()->tally.began = now;
    if (total_.began == 0)
      total_.began = now;
    total_.name = "all";
  }

  void begin(Nanos due) {
    sent_++;
    auto window = windows_.back();
    window->open++;
    const std::uint64_t tag = next_tag_++;
    if (open_.size() >= kOpenMax) {
      decide(*window, nullptr, "too many open", due);
      return;
    }
    auto exchange =
        std::make_unique<Exchange>(epoll_, tag, options_.to, request_, due, due + options_.timeout);
    if (exchange->state() == Exchange::State::kFailed) {
      decide(*window, nullptr, exchange->failure(), due);
      return;
    }
    order_.push_back(tag);
    open_.emplace(tag, Open{std::move(exchange), window});
  }

  void decide(Window& window, const Exchange* done, const std::string& failure, Nanos due) {
    window.open--;
    for (Tally* tally : {&window.tally, &total_, &second_}) {
      if (done)
        tally->succeed(done->value(), now_ns() - due);
      else
        tally->fail(failure, due);
    }
  }

  void settle(std::uint64_t tag) {
    const auto it = open_.find(tag);
    const Exchange& exchange = *it->second.exchange;
    const bool good = exchange.state() == Exchange::State::kDone;
    decide(*it->second.window, good ? &exchange : nullptr, exchange.failure(), exchange.due());
    open_.erase(it);
  }

  // Deadlines are in the order of sending: the oldest first.
  void expire(Nanos now) {
    while (!order_.empty()) {
      const auto it = open_.find(order_.front());
      if (it != open_.end()) {
        if (it->second.exchange->deadline() > now)
          return;
        it->second.exchange->time_out();
        settle(order_.front());
      }
      order_.pop_front();
    }
  }

  void every_second(Nanos now) {
    if (now < next_second_)
      return;
    second_.name = std::to_string((next_second_ - began_) / 1'000'000'000);
    std::printf("%s\n", second_.to_json("second", now).c_str());
    std::fflush(stdout);
    second_ = Tally{};
    second_.began = now;
    next_second_ += 1'000'000'000;
  }

  void print_decided() {
    while (!windows_.empty() && windows_.front()->closed && windows_.front()->open == 0) {
      std::printf("%s\n", windows_.front()->tally.to_json("window", now_ns()).c_str());
      std::fflush(stdout);
      windows_.pop_front();
    }
  }

  void read_commands() {
    char buffer[4096];
    for (;;) {
      const ssize_t n = ::read(0, buffer, sizeof(buffer));
      if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        ::epoll_ctl(epoll_, EPOLL_CTL_DEL, 0, nullptr);
        stdin_open_ = false;
        stopping_ = true;
        return;
      }
      if (n < 0)
        return;
      input_.append(buffer, static_cast<std::size_t>(n));
      std::size_t end = 0;
      while ((end = input_.find('\n')) != std::string::npos) {
        if (input_.starts_with("mark "))
          open_window(input_.substr(5, end - 5), now_ns());
        input_.erase(0, end + 1);
      }
    }
  }

  void wait(Nanos now) {
    const Nanos until = stopping_ ? now + 50'000'000 : std::min(next_due(), next_second_);
    // To the nanosecond: whole milliseconds would be either late or a busy loop at 500 a second.
    const Nanos left = std::clamp<Nanos>(until - now, 0, 50'000'000);
    const timespec span{0, static_cast<long>(left)};
    epoll_event events[512];
    const int n = ::epoll_pwait2(epoll_, events, 512, &span, nullptr);
    for (int i = 0; i < n; i++) {
      const std::uint64_t tag = events[i].data.u64;
      if (tag == kStdinTag) {
        read_commands();
        continue;
      }
      const auto it = open_.find(tag);
      if (it == open_.end())
        continue;
      const Exchange::State state = it->second.exchange->on_event(events[i].events);
      if (state == Exchange::State::kDone || state == Exchange::State::kFailed)
        settle(tag);
    }
  }

  struct Open {
    std::unique_ptr<Exchange> exchange;
    std::shared_ptr<Window> window;
  };

  const LoadOptions& options_;
  const std::string request_;
  int epoll_;
  Nanos began_;
  Nanos gap_;
  Nanos next_second_ = 0;
  std::int64_t sent_ = 0;
  std::uint64_t next_tag_ = 1;
  bool stopping_ = false;
  bool stdin_open_ = false;
  std::string input_;
  std::unordered_map<std::uint64_t, Open> open_;
  std::deque<std::uint64_t> order_;
  std::deque<std::shared_ptr<Window>> windows_;
  Tally total_;
  Tally second_;
};

}  // namespace

int run_load(const LoadOptions& options) { return Load(options).run(); }

}  // namespace loadgen
