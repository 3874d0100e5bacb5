// SPDX-License-Identifier: Apache-2.0
// Closed loop: `count` requests, `concurrency` at a time, each on a connection of its own.
#include "tests/bench/loadgen/connection.h"

#include <cstdio>
#include <memory>
#include <sys/epoll.h>
#include <unistd.h>

namespace loadgen {

int run_requests(const RequestsOptions& options) {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  const std::string request = http_request(options.to, options.path, true);
  std::vector<std::unique_ptr<Exchange>> slots(static_cast<std::size_t>(options.concurrency));
  Tally tally;
  tally.name = "all";
  tally.began = now_ns();
  std::int64_t begun = 0;
  std::int64_t open = 0;

  const auto account = [&](std::unique_ptr<Exchange>& slot) {
    if (slot->state() == Exchange::State::kDone)
      tally.succeed(slot->value(), now_ns() - slot->due());
    else
      tally.fail(slot->failure(), slot->due());
    slot.reset();
    open--;
  };
  while (tally.requests < options.count) {
    for (std::size_t i = 0; i < slots.size() && begun < options.count; i++) {
      if (slots[i])
        continue;
      const Nanos now = now_ns();
      slots[i] = std::make_unique<Exchange>(epoll, i, options.to, request, now,
                                            now + options.timeout, options.by);
      begun++;
      open++;
      if (slots[i]->state() == Exchange::State::kFailed)
        account(slots[i]);
    }
    if (open == 0)
      continue;
    epoll_event events[256];
    const int n = ::epoll_wait(epoll, events, 256, 100);
    for (int i = 0; i < n; i++) {
      auto& slot = slots[events[i].data.u64];
      if (!slot)
        continue;
      const Exchange::State state = slot->on_event(events[i].events);
      if (state == Exchange::State::kDone || state == Exchange::State::kFailed)
        account(slot);
    }
    const Nanos now = now_ns();
    for (auto& slot : slots) {
      if (slot && now > slot->deadline()) {
        slot->time_out();
        account(slot);
      }
    }
  }
  ::close(epoll);
  std::printf("%s\n", tally.to_json("summary", now_ns()).c_str());
  return tally.failed ? 1 : 0;
}

}  // namespace loadgen
