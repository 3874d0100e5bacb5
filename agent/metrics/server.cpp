// SPDX-License-Identifier: Apache-2.0
#include "agent/metrics/metrics.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

namespace shoal::metrics {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;

namespace {
constexpr std::chrono::seconds kIdleTimeout{30};
constexpr std::size_t kHeaderBytesMax = 16 * 1024;
}  // namespace

struct MetricsServer::Impl : std::enable_shared_from_this<Impl> {
  Impl(asio::io_context& io, const Metrics& m) : acceptor(io), metrics(m) {}

  struct Connection : std::enable_shared_from_this<Connection> {
    Connection(tcp::socket socket, std::shared_ptr<Impl> owner)
        : stream(std::move(socket)), server(std::move(owner)) {
      server->connections++;
    }
    ~Connection() { server->connections--; }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    void read() {
      parser.emplace();
      parser->header_limit(kHeaderBytesMax);
      parser->body_limit(0);
      stream.expires_after(kIdleTimeout);
      http::async_read(stream, buffer, *parser,
                       [self = shared_from_this()](beast::error_code error, std::size_t) {
                         if (!error)
                           self->respond();
                       });
    }

    void respond() {
      const auto& request = parser->get();
      const bool found = request.target() == "/metrics" || request.target() == "/metrics/";
      const bool get = request.method() == http::verb::get;
      response = {};
      response.version(request.version());
      response.keep_alive(request.keep_alive());
      response.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
      if (get && found)
        return server->metrics.prepare([self = shared_from_this()] {
          self->response.body() = self->server->metrics.render();
          self->send();
        });
      response.result(get ? http::status::not_found : http::status::method_not_allowed);
      response.body() = "metrics are at GET /metrics\n";
      send();
    }

    void send() {
      response.prepare_payload();
      http::async_write(stream, response,
                        [self = shared_from_this()](beast::error_code error, std::size_t) {
                          if (!error && self->response.keep_alive())
                            self->read();
                        });
    }

    beast::tcp_stream stream;
    std::shared_ptr<Impl> server;
    beast::flat_buffer buffer{kHeaderBytesMax * 2};
    std::optional<http::request_parser<http::empty_body>> parser;
    http::response<http::string_body> response;
  };

  void accept() {
    acceptor.async_accept([self = shared_from_this()](beast::error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted || !self->acceptor.is_open())
        return;
      if (!error && self->connections < kConnectionsMax)
        std::make_shared<Connection>(std::move(socket), self)->read();
      self->accept();
    });
  }

  tcp::acceptor acceptor;
  const Metrics& metrics;
  std::size_t connections = 0;
};

MetricsServer::MetricsServer(asio::io_context& io, const Metrics& metrics)
    : impl_(std::make_shared<Impl>(io, metrics)) {}

MetricsServer::~MetricsServer() { stop(); }

Result<> MetricsServer::listen(const SocketAddress& address) {
  const tcp::endpoint endpoint(asio::ip::make_address(address.ip.to_string()), address.port);
  boost::system::error_code error;
  impl_->acceptor.open(endpoint.protocol(), error);
  if (!error)
    impl_->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error)
    impl_->acceptor.bind(endpoint, error);
  if (!error)
    impl_->acceptor.listen(kConnectionsMax, error);
  if (error) {
    boost::system::error_code ignored;
    impl_->acceptor.close(ignored);
    return fail_errno(error.value(), fmt::format("serve metrics on {}", address.to_string()));
  }
  impl_->accept();
  return {};
}

std::uint16_t MetricsServer::port() const {
  boost::system::error_code ignored;
  return impl_->acceptor.local_endpoint(ignored).port();
}

void MetricsServer::stop() {
  boost::system::error_code ignored;
  impl_->acceptor.close(ignored);
}

}  // namespace shoal::metrics
