// SPDX-License-Identifier: Apache-2.0
#include "agent/node/prober.h"

#include <boost/asio/steady_timer.hpp>

namespace shoal::node {

namespace asio = boost::asio;

struct Prober::Impl : std::enable_shared_from_this<Impl> {
  Impl(asio::io_context& io, const Clock& c, ProbeSpec p, ActionTarget t, MonoTime started,
       bool passing, std::function<void(const ProbeNews&)> result)
      : loop(io), clock(c), probe(std::move(p)), target(std::move(t)),
        machine(probe.timing, started, passing), on_result(std::move(result)), timer(io) {}

  void arm() {
    timer.expires_after(std::max(Duration::zero(), machine.due() - clock.now()));
    timer.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
      if (!error && !self->stopped)
        self->begin();
    });
  }

  void begin() {
    const std::uint64_t token = machine.begin(clock.now());
    run = std::make_unique<ActionRun>(loop, probe.action, target,
                                      std::chrono::milliseconds(probe.timing.timeout_ms),
                                      [self = shared_from_this(), token](ActionResult result) {
                                        self->finish(token, std::move(result));
                                      });
  }

  void finish(std::uint64_t token, ActionResult result) {
    ProbeNews news;
    // As in kubelet, a command that cannot be run neither passes nor fails.
    if (result.unknown)
      machine.skip(token, clock.now());
    const bool first = !result.unknown && !std::exchange(told, true);
    news.changed = (!result.unknown && machine.finish(token, result.ok, clock.now())) || first;
    news.passing = machine.passing();
    news.failed = machine.failed();
    news.last = std::move(result);
    on_result(news);
    if (!stopped)
      arm();
  }

  void stop() {
    stopped = true;
    timer.cancel();
    run.reset();
  }

  asio::io_context& loop;
  const Clock& clock;
  const ProbeSpec probe;
  const ActionTarget target;
  runtime::ProbeMachine machine;
  std::function<void(const ProbeNews&)> on_result;
  asio::steady_timer timer;
  std::unique_ptr<ActionRun> run;
  bool told = false;
  bool stopped = false;
};

Prober::Prober(asio::io_context& loop, const Clock& clock, ProbeSpec probe, ActionTarget target,
               MonoTime container_started, bool passing,
               std::function<void(const ProbeNews&)> on_result)
    : impl_(std::make_shared<Impl>(loop, clock, std::move(probe), std::move(target),
                                   container_started, passing, std::move(on_result))) {
  impl_->arm();
}

Prober::~Prober() { impl_->stop(); }

}  // namespace shoal::node
