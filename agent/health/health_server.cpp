// SPDX-License-Identifier: Apache-2.0
#include "agent/health/health_server.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <map>
#include <optional>

namespace shoal::health {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace json = boost::json;
using desired::HealthCheck;
using tcp = asio::ip::tcp;

namespace {

constexpr std::chrono::seconds kIdleTimeout{10};
constexpr std::size_t kRequestBytesMax = 16 * 1024;

// One port. Its check changes in place: a connection answers with what is so at the moment.
struct Listener : std::enable_shared_from_this<Listener> {
  Listener(asio::io_context& io, const HealthCheck& c) : acceptor(io), check(c) {}
  tcp::acceptor acceptor;
  HealthCheck check;
  std::string error;
};

}  // namespace

struct HealthServer::Impl : std::enable_shared_from_this<Impl> {
  Impl(asio::io_context& loop, std::function<bool()> is_healthy, const HealthOptions& options)
      : io(loop), healthy(std::move(is_healthy)), ipv6(options.ipv6),
        retry_interval(options.retry_interval), retry_timer(loop) {}

  struct Connection : std::enable_shared_from_this<Connection> {
    Connection(tcp::socket socket, std::shared_ptr<Impl> owner, std::shared_ptr<Listener> port)
        : stream(std::move(socket)), server(std::move(owner)), listener(std::move(port)) {
      server->connections++;
    }
    ~Connection() { server->connections--; }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    void read() {
      parser.emplace();
      parser->header_limit(kRequestBytesMax);
      parser->body_limit(0);
      stream.expires_after(kIdleTimeout);
      http::async_read(stream, buffer, *parser,
                       [self = shared_from_this()](beast::error_code error, std::size_t) {
                         if (!error)
                           self->respond();
                       });
    }

    void respond() {
      const HealthCheck& check = listener->check;
      const bool healthy = server->healthy();
      response = {};
      response.version(parser->get().version());
      response.keep_alive(parser->get().keep_alive());
      response.result(healthy && check.local_ready > 0 ? http::status::ok
                                                       : http::status::service_unavailable);
      response.set(http::field::content_type, "application/json");
      response.set("X-Content-Type-Options", "nosniff");
      response.set("X-Load-Balancing-Endpoint-Weight", std::to_string(check.local_ready));
      response.body() = json::serialize(
          json::object{{"service", json::object{{"namespace", check.ns}, {"name", check.service}}},
                       {"localEndpoints", check.local_ready},
                       {"serviceProxyHealthy", healthy}});
      response.prepare_payload();
      http::async_write(
          stream, response, [self = shared_from_this()](beast::error_code error, std::size_t) {
            if (!error && self->response.keep_alive() && self->listener->acceptor.is_open())
              self->read();
          });
    }

    beast::tcp_stream stream;
    std::shared_ptr<Impl> server;
    std::shared_ptr<Listener> listener;
    beast::flat_buffer buffer{kRequestBytesMax * 2};
    std::optional<http::request_parser<http::empty_body>> parser;
    http::response<http::string_body> response;
  };

  void open(Listener& listener) {
    boost::system::error_code error;
    const tcp::endpoint endpoint(ipv6 ? tcp::v6() : tcp::v4(), listener.check.port);
    listener.acceptor.open(endpoint.protocol(), error);
    if (!error && ipv6)
      listener.acceptor.set_option(asio::ip::v6_only(false), error);
    if (!error)
      listener.acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error)
      listener.acceptor.bind(endpoint, error);
    if (!error)
      listener.acceptor.listen(tcp::acceptor::max_listen_connections, error);
    listener.error.clear();
    if (!error)
      return accept(listener.shared_from_this());
    listener.error = fmt::format(
        "healthCheckNodePort {} of Service {}/{}: {}; end what listens there on this host, or give "
        "the Service another healthCheckNodePort",
        listener.check.port, listener.check.ns, listener.check.service, error.message());
    close(listener);
  }

  static void close(Listener& listener) {
    boost::system::error_code ignored;
    listener.acceptor.close(ignored);
  }

  void accept(std::shared_ptr<Listener> listener) {
    tcp::acceptor& acceptor = listener->acceptor;
    acceptor.async_accept([self = shared_from_this(), listener = std::move(listener)](
                              beast::error_code error, tcp::socket socket) mutable {
      if (error == asio::error::operation_aborted || !listener->acceptor.is_open())
        return;
      if (!error && self->connections < kConnectionsMax)
        std::make_shared<Connection>(std::move(socket), self, listener)->read();
      self->accept(std::move(listener));
    });
  }

  bool failing() const {
    return std::any_of(listeners.begin(), listeners.end(),
                       [](const auto& entry) { return !entry.second->error.empty(); });
  }

  void retry_later() {
    if (!failing() || retrying)
      return;
    retrying = true;
    retry_timer.expires_after(retry_interval);
    retry_timer.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
      self->retrying = false;
      if (error)
        return;
      for (const auto& [port, listener] : self->listeners)
        if (!listener->error.empty())
          self->open(*listener);
      self->retry_later();
    });
  }

  asio::io_context& io;
  std::function<bool()> healthy;
  const bool ipv6;
  std::chrono::milliseconds retry_interval;
  asio::steady_timer retry_timer;
  bool retrying = false;
  std::map<std::uint16_t, std::shared_ptr<Listener>> listeners;
  std::size_t connections = 0;
};

HealthServer::HealthServer(asio::io_context& io, std::function<bool()> healthy,
                           const HealthOptions& options)
    : impl_(std::make_shared<Impl>(io, std::move(healthy), options)) {}

HealthServer::~HealthServer() {
  impl_->healthy = [] { return false; };  // what it captured may be gone before the connections
  impl_->retry_timer.cancel();
  update({});
}

void HealthServer::update(const std::vector<HealthCheck>& checks) {
  std::map<std::uint16_t, HealthCheck> wanted;
  for (const HealthCheck& check : checks)
    wanted.emplace(check.port, check);
  std::erase_if(impl_->listeners, [&](const auto& entry) {
    if (wanted.contains(entry.first))
      return false;
    Impl::close(*entry.second);
    return true;
  });
  for (const auto& [port, check] : wanted) {
    const auto [at, fresh] = impl_->listeners.try_emplace(port);
    if (!fresh) {
      at->second->check = check;
      continue;
    }
    at->second = std::make_shared<Listener>(impl_->io, check);
    impl_->open(*at->second);
  }
  impl_->retry_later();
}

std::vector<std::string> HealthServer::errors() const {
  std::vector<std::string> out;
  for (const auto& [port, listener] : impl_->listeners)
    if (!listener->error.empty())
      out.push_back(listener->error);
  return out;
}

}  // namespace shoal::health
