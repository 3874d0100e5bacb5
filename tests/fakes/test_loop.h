// SPDX-License-Identifier: Apache-2.0
// TestLoop: a deterministic event loop whose time moves only when it is run. Work runs by (time,
// order of posting).
#pragma once

#include "agent/controllers/runner.h"
#include "tests/fakes/fake_clock.h"

#include <functional>
#include <map>
#include <utility>

namespace shoal::fakes {

class TestLoop final : public controllers::Timers {
public:
  const Clock& clock() const { return clock_; }
  MonoTime now() const { return clock_.now(); }

  void run_at(MonoTime when, std::function<void()> run) override {
    work_.emplace(std::pair(std::max(when, now()), next_++), std::move(run));
  }
  void after(Duration delay, std::function<void()> run) { run_at(now() + delay, std::move(run)); }
  void post(std::function<void()> run) { run_at(now(), std::move(run)); }

  // Runs everything that is due within `span`; the clock ends at its end.
  void run_for(Duration span) {
    const MonoTime end = now() + span;
    while (step(end)) {
    }
    clock_.advance(end - now());
  }
  // Runs until the condition holds; false when it does not within `limit`.
  bool run_until(const std::function<bool()>& condition, Duration limit) {
    const MonoTime end = now() + limit;
    while (!condition()) {
      if (!step(end)) {
        clock_.advance(end - now());
        return condition();
      }
    }
    return true;
  }
  std::uint64_t steps() const { return steps_; }

private:
  bool step(MonoTime end) {
    if (work_.empty() || work_.begin()->first.first > end)
      return false;
    const auto first = work_.begin();
    clock_.advance(first->first.first - now());
    const auto run = std::move(first->second);
    work_.erase(first);
    ++steps_;
    run();
    return true;
  }

  FakeClock clock_;
  std::map<std::pair<MonoTime, std::uint64_t>, std::function<void()>> work_;
  std::uint64_t next_ = 0;
  std::uint64_t steps_ = 0;
};

}  // namespace shoal::fakes
