// SPDX-License-Identifier: Apache-2.0
#include "agent/api/relay.h"

#include "agent/api/connection.h"
#include "netplane/base/strings.h"

#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <fmt/format.h>
#include <openssl/ssl.h>

namespace shoal::api {
namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

constexpr std::size_t kPieceBytes = 32 << 10;
constexpr std::chrono::milliseconds kLingerTime{2'000};

class Run : public std::enable_shared_from_this<Run> {
public:
  Run(asio::io_context& loop, std::shared_ptr<asio::ssl::context> tls, PeerHost host,
      std::chrono::milliseconds timeout, ExchangePtr x)
      : tls_(std::move(tls)), stream_(loop, *tls_), linger_(loop), host_(std::move(host)),
        timeout_(timeout), x_(std::move(x)) {}

  void start() {
    const Request& asked = x_->request();
    request_.version(11);
    request_.method_string(asked.method);
    request_.target(target_of(asked));
    request_.set(http::field::host, host_.name);
    request_.set(kRelayedHeader, "1");
    for (const std::string_view name : {"content-type", "accept", "upgrade", "connection"})
      if (const std::string_view value = asked.header(name); !value.empty())
        request_.set(name, value);
    request_.body() = asked.body;
    request_.prepare_payload();
    x_->on_gone([weak = weak_from_this()] {
      if (const auto self = weak.lock())
        self->close();
    });
    connect();
  }

private:
  void connect() {
    error_code error;
    const auto address = asio::ip::make_address(host_.address, error);
    if (error)
      return refuse("its address cannot be read");
    SSL_set1_host(stream_.native_handle(), host_.name.c_str());
    tcp().expires_after(timeout_);
    tcp().async_connect(asio::ip::tcp::endpoint(address, host_.port),
                        [self = shared_from_this()](error_code e) {
                          if (e)
                            return self->refuse(e.message());
                          keep_alive(self->tcp().socket().native_handle());
                          self->handshake();
                        });
  }
  void handshake() {
    stream_.async_handshake(asio::ssl::stream_base::client,
                            [self = shared_from_this()](error_code e) {
                              if (e)
                                return self->refuse("TLS: " + e.message());
                              self->send();
                            });
  }
  void send() {
    http::async_write(stream_, request_, [self = shared_from_this()](error_code e, std::size_t) {
      if (e)
        return self->refuse(e.message());
      self->receive_head();
    });
  }
  void receive_head() {
    parser_.body_limit(boost::none);
    http::async_read_header(stream_, buffer_, parser_,
                            [self = shared_from_this()](error_code e, std::size_t) {
                              if (e)
                                return self->refuse(e.message());
                              self->tcp().expires_never();
                              self->on_head();
                            });
  }

  void on_head() {
    const auto& head = parser_.get();
    if (head.result_int() != 101) {
      const auto type = head[http::field::content_type];
      x_->begin(static_cast<int>(head.result_int()), {type.data(), type.size()});
      x_->be_patient();  // the host that runs it says how long it waits
      // What follows the head may take its time.
      return x_->write("", [self = shared_from_this()](bool ok) {
        if (ok && self->x_)
          self->copy_body();
        else
          self->close();
      });
    }
    const auto protocol = head[http::field::upgrade];
    std::exchange(x_, nullptr)
        ->upgrade({protocol.data(), protocol.size()},
                  [self = shared_from_this()](RawStreamPtr raw) { self->join(std::move(raw)); });
  }

  // ---- an answer
  void copy_body() {
    if (parser_.is_done())
      return std::exchange(x_, nullptr)->end();
    parser_.get().body().data = piece_.data();
    parser_.get().body().size = piece_.size();
    http::async_read_some(
        stream_, buffer_, parser_, [self = shared_from_this()](error_code e, std::size_t) {
          // Cut off: the client sees that the end is missing.
          if ((e && e != http::error::need_buffer) || !self->x_)
            return self->close();
          const std::size_t bytes = self->piece_.size() - self->parser_.get().body().size;
          self->x_->write(std::string(self->piece_.data(), bytes), [self](bool ok) {
            if (ok && self->x_)
              self->copy_body();
            else
              self->close();
          });
        });
  }

  // ---- an upgraded connection
  void join(RawStreamPtr raw) {
    raw_ = std::move(raw);
    raw_->on_gone([weak = weak_from_this()] {
      if (const auto self = weak.lock())
        self->client_ended();
    });
    to_host();
    if (buffer_.size() == 0)
      return to_client();
    std::string early(static_cast<const char*>(buffer_.data().data()), buffer_.size());
    buffer_.consume(buffer_.size());
    raw_->write(std::move(early), [self = shared_from_this()](Result<> sent) {
      sent ? self->to_client() : self->close();
    });
  }
  void to_host() {
    if (!raw_)
      return;
    raw_->read([self = shared_from_this()](Result<std::string_view> bytes) {
      if (!bytes || bytes->empty() || !self->raw_)
        return self->client_ended();
      asio::async_write(self->stream_, asio::buffer(bytes->data(), bytes->size()),
                        // It may have said all that it has to say, and that is still to be read.
                        [self](error_code e, std::size_t) {
                          if (!e)
                            self->to_host();
                        });
    });
  }
  void to_client() {
    stream_.async_read_some(
        asio::buffer(piece_), [self = shared_from_this()](error_code e, std::size_t bytes) {
          if (e || !self->raw_)
            return self->end();
          self->raw_->write(std::string(self->piece_.data(), bytes),
                            [self](Result<> sent) { sent ? self->to_client() : self->close(); });
        });
  }

  void refuse(const std::string& why) {
    tcp().close();
    if (const ExchangePtr x = std::exchange(x_, nullptr))
      x->reply_error(Error(Errc::kUnavailable,
                           fmt::format("host {} ({}:{}), which runs it, cannot be asked: {}",
                                       host_.name, host_.address, host_.port, why)));
  }
  // The host has.
  void end() {
    if (const RawStreamPtr raw = std::exchange(raw_, nullptr))
      raw->end();
    close();
  }
  void close() {
    error_code ignored;
    if (abort_)
      tcp().socket().set_option(asio::socket_base::linger(true, 0), ignored);
    tcp().close();
    x_.reset();
    if (const RawStreamPtr raw = std::exchange(raw_, nullptr))
      raw->close();
  }
  // The host gets to see what was sent and that it ended, if it reads. If it does not, an end would
  // stand behind the rest for good: after a while it is told by a reset.
  void client_ended() {
    error_code ignored;
    tcp().socket().shutdown(asio::socket_base::shutdown_send, ignored);
    abort_ = true;
    linger_.expires_after(kLingerTime);
    linger_.async_wait([weak = weak_from_this()](error_code e) {
      if (const auto self = weak.lock(); self && !e)
        self->close();
    });
  }
  beast::tcp_stream& tcp() { return beast::get_lowest_layer(stream_); }

  std::shared_ptr<asio::ssl::context> tls_;
  beast::ssl_stream<beast::tcp_stream> stream_;
  asio::steady_timer linger_;
  const PeerHost host_;
  const std::chrono::milliseconds timeout_;
  ExchangePtr x_;  // until it is answered, or has become raw_
  http::request<http::string_body> request_;
  http::response_parser<http::buffer_body> parser_;
  beast::flat_buffer buffer_;
  std::array<char, kPieceBytes> piece_;
  RawStreamPtr raw_;
  bool abort_ = false;
};

}  // namespace

std::string target_of(const Request& request) {
  std::string target;
  for (const std::string& segment : request.segments)
    target.append("/").append(percent_encode(segment));
  char separator = '?';
  for (const auto& [name, value] : request.query) {
    target += fmt::format("{}{}={}", separator, percent_encode(name), percent_encode(value));
    separator = '&';
  }
  return target;
}

void relay(asio::io_context& loop, const RelayOptions& options, PeerHost host, ExchangePtr x) {
  // Read anew for each: certificates are renewed while the agent runs.
  auto tls = make_tls_context(options.certificate, options.key, options.ca, false);
  if (!tls)
    return x->reply_error(tls.error());
  std::make_shared<Run>(loop, std::move(*tls), std::move(host), options.timeout_ms, std::move(x))
      ->start();
}

}  // namespace shoal::api
