// SPDX-License-Identifier: Apache-2.0
#include "agent/node/prober.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <fmt/format.h>

namespace shoal::node {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr std::size_t kStatusLineMax = 8192;

asio::ip::address to_asio(const IpAddress& ip) {
  if (ip.is_v4())
    return asio::ip::address_v4(ip.v4_host_order());
  return asio::ip::address_v6(ip.bytes());
}

class Run final : public ProbeRun, public std::enable_shared_from_this<Run> {
public:
  Run(asio::io_context& loop, const ReadinessProbe& probe, std::function<void(ProbeOutcome)> done)
      : probe_(probe), socket_(loop), deadline_(loop), input_(kStatusLineMax),
        done_(std::move(done)) {}

  // Handlers hold only weak references: whoever drops the handle ends the probe without an answer.
  void start(const IpAddress& ip) {
    deadline_.expires_after(std::chrono::milliseconds(probe_.timing.timeout_ms));
    deadline_.async_wait(guarded([](Run& run, error_code error) {
      if (!error)
        run.finish({false, fmt::format("no answer within {} ms", run.probe_.timing.timeout_ms)});
    }));
    if (probe_.http) {
      auto request =
          runtime::http_probe_request(ip.to_string(), probe_.port, probe_.path, probe_.headers);
      if (!request) {
        asio::post(socket_.get_executor(),
                   [weak = weak_from_this(), message = request.error().message()] {
                     if (const auto run = weak.lock())
                       run->finish({false, message});
                   });
        return;
      }
      request_ = std::move(*request);
    }
    socket_.async_connect({to_asio(ip), probe_.port},
                          guarded([](Run& run, error_code error) { run.connected(error); }));
  }

private:
  template <class F>
  auto guarded(F&& then) {
    return [weak = weak_from_this(), then = std::forward<F>(then)](error_code error, auto&&...) {
      if (const auto run = weak.lock(); run && run->done_)
        then(*run, error);
    };
  }

  void connected(error_code error) {
    if (error)
      return finish({false, fmt::format("connect: {}", error.message())});
    if (!probe_.http)
      return finish({true, {}});
    asio::async_write(socket_, asio::buffer(request_), guarded([](Run& run, error_code written) {
                        if (written)
                          return run.finish({false, fmt::format("send: {}", written.message())});
                        run.read();
                      }));
  }

  void read() {
    asio::async_read_until(socket_, input_, '\n', guarded([](Run& run, error_code error) {
                             if (error)
                               return run.finish(
                                   {false, fmt::format("receive: {}", error.message())});
                             run.judge();
                           }));
  }

  void judge() {
    const auto data = input_.data();
    const std::string_view head(static_cast<const char*>(data.data()), data.size());
    const auto status = runtime::parse_http_status(head);
    if (!status)
      return finish({false, status.error().message()});
    finish({runtime::http_probe_passes(*status),
            fmt::format("HTTP probe failed with statuscode: {}", *status)});
  }

  void finish(ProbeOutcome outcome) {
    auto done = std::exchange(done_, nullptr);
    error_code ignored;
    // Reset, not FIN and TIME_WAIT: a probe a second a pod must not fill the host's port table.
    socket_.set_option(asio::socket_base::linger(true, 0), ignored);
    socket_.close(ignored);
    deadline_.cancel();
    if (done)
      done(std::move(outcome));
  }

  ReadinessProbe probe_;
  asio::ip::tcp::socket socket_;
  asio::steady_timer deadline_;
  asio::streambuf input_;
  std::string request_;
  std::function<void(ProbeOutcome)> done_;
};

}  // namespace

std::shared_ptr<ProbeRun> start_probe(asio::io_context& loop, const ReadinessProbe& probe,
                                      const IpAddress& ip, std::function<void(ProbeOutcome)> done) {
  auto run = std::make_shared<Run>(loop, probe, std::move(done));
  run->start(ip);
  return run;
}

}  // namespace shoal::node
