// SPDX-License-Identifier: Apache-2.0
#include "agent/node/prober.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>

namespace shoal::node {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {
constexpr std::size_t kHeadBytesMax = 4096;
}

struct Prober::Impl : std::enable_shared_from_this<Impl> {
  Impl(asio::io_context& io, const Clock& c, ReadinessProbe p, const IpAddress& a, MonoTime started,
       std::function<void(bool)> change)
      : loop(io), clock(c), probe(std::move(p)), ip(a), machine(probe.timing, started),
        on_change(std::move(change)), timer(io), deadline(io) {}

  void arm() {
    timer.expires_after(std::max(Duration::zero(), machine.due() - clock.now()));
    timer.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
      if (!error && !self->stopped)
        self->begin();
    });
  }

  void begin() {
    token = machine.begin(clock.now());
    head.clear();
    socket = std::make_unique<tcp::socket>(loop);
    deadline.expires_after(std::chrono::milliseconds(probe.timing.timeout_ms));
    deadline.async_wait(
        [self = shared_from_this(), t = token](const boost::system::error_code& error) {
          if (!error)
            self->finish(t, false);
        });
    const tcp::endpoint to(asio::ip::make_address(ip.to_string()), probe.port);
    socket->async_connect(to, [self = shared_from_this(), t = token](
                                  const boost::system::error_code& e) { self->connected(t, !e); });
  }

  void connected(std::uint64_t t, bool good) {
    if (stopped || t != token)
      return;
    if (!good || probe.kind == ReadinessProbe::Kind::kTcp)
      return finish(t, good);
    auto text = runtime::http_probe_request(ip.to_string(), probe.port, probe.path, probe.headers);
    if (!text)
      return finish(t, false);
    request = std::move(*text);
    asio::async_write(
        *socket, asio::buffer(request),
        [self = shared_from_this(), t](const boost::system::error_code& e, std::size_t) {
          e ? self->finish(t, false) : self->read(t);
        });
  }

  void read(std::uint64_t t) {
    if (stopped || t != token)
      return;
    socket->async_read_some(
        asio::buffer(buffer),
        [self = shared_from_this(), t](const boost::system::error_code& e, std::size_t n) {
          if (self->stopped || t != self->token)
            return;
          self->head.append(self->buffer, n);
          if (self->head.find('\n') != std::string::npos) {
            const auto status = runtime::parse_http_status(self->head);
            return self->finish(t, status && runtime::http_probe_passes(*status));
          }
          if (e || self->head.size() > kHeadBytesMax)
            return self->finish(t, false);
          self->read(t);
        });
  }

  void finish(std::uint64_t t, bool good) {
    if (stopped || t != token)
      return;
    token = 0;  // whatever of this probe still comes is late
    deadline.cancel();
    socket.reset();
    const bool first = !std::exchange(told, true);
    if (machine.finish(t, good, clock.now()) || first)
      on_change(machine.passing());
    if (!stopped)
      arm();
  }

  void stop() {
    stopped = true;
    timer.cancel();
    deadline.cancel();
    socket.reset();
  }

  asio::io_context& loop;
  const Clock& clock;
  const ReadinessProbe probe;
  const IpAddress ip;
  runtime::ProbeMachine machine;
  std::function<void(bool)> on_change;
  asio::steady_timer timer;
  asio::steady_timer deadline;
  std::unique_ptr<tcp::socket> socket;
  std::uint64_t token = 0;
  std::string request;
  std::string head;
  char buffer[1024];
  bool told = false;
  bool stopped = false;
};

Prober::Prober(asio::io_context& loop, const Clock& clock, ReadinessProbe probe,
               const IpAddress& ip, MonoTime container_started, std::function<void(bool)> on_change)
    : impl_(std::make_shared<Impl>(loop, clock, std::move(probe), ip, container_started,
                                   std::move(on_change))) {
  impl_->arm();
}

Prober::~Prober() { impl_->stop(); }

}  // namespace shoal::node
