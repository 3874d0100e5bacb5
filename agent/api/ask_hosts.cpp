// SPDX-License-Identifier: Apache-2.0
#include "agent/api/ask_hosts.h"

#include "agent/api/connection.h"
#include "netplane/base/strings.h"

#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
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

using OnAnswer = std::function<void(Result<std::string>)>;

class Question : public std::enable_shared_from_this<Question> {
public:
  Question(asio::io_context& loop, std::shared_ptr<asio::ssl::context> tls, PeerHost host,
           OnAnswer done)
      : tls_(std::move(tls)), stream_(loop, *tls_), host_(std::move(host)), done_(std::move(done)) {
  }

  void ask(const std::string& target) {
    request_.version(11);
    request_.method(http::verb::get);
    request_.target(target);
    request_.set(http::field::host, host_.name);
    request_.set(http::field::accept, "application/json");
    request_.set(http::field::connection, "close");
    request_.set(kRelayedHeader, "1");
    parser_.body_limit(kHostAnswerBytesMax);
    tcp().expires_after(kHostAnswerTimeout);
    error_code error;
    const auto address = asio::ip::make_address(host_.address, error);
    if (error)
      return finish("its address cannot be read");
    SSL_set1_host(stream_.native_handle(), host_.name.c_str());
    tcp().async_connect(asio::ip::tcp::endpoint(address, host_.port),
                        [self = shared_from_this()](error_code e) {
                          e ? self->finish(e.message()) : self->handshake();
                        });
  }

private:
  void handshake() {
    stream_.async_handshake(asio::ssl::stream_base::client,
                            [self = shared_from_this()](error_code e) {
                              e ? self->finish("TLS: " + e.message()) : self->send();
                            });
  }
  void send() {
    http::async_write(stream_, request_, [self = shared_from_this()](error_code e, std::size_t) {
      e ? self->finish(e.message()) : self->receive();
    });
  }
  void receive() {
    http::async_read(stream_, buffer_, parser_,
                     [self = shared_from_this()](error_code e, std::size_t) {
                       e ? self->finish(e.message()) : self->answered();
                     });
  }
  void answered() {
    if (parser_.get().result_int() == 200)
      return finish(std::move(parser_.get().body()), true);
    finish(fmt::format("HTTP status {}: {}", parser_.get().result_int(),
                       printable(parser_.get().body(), 200)));
  }
  void finish(std::string text, bool answer = false) {
    tcp().close();
    if (answer)
      return std::exchange(done_, nullptr)(std::move(text));
    std::exchange(done_, nullptr)(fail(Errc::kUnavailable, std::move(text)));
  }
  beast::tcp_stream& tcp() { return beast::get_lowest_layer(stream_); }

  std::shared_ptr<asio::ssl::context> tls_;
  beast::ssl_stream<beast::tcp_stream> stream_;
  const PeerHost host_;
  OnAnswer done_;
  http::request<http::empty_body> request_;
  http::response_parser<http::string_body> parser_;
  beast::flat_buffer buffer_;
};

// Some at a time, until all have answered or have not.
struct Round : std::enable_shared_from_this<Round> {
  Round(asio::io_context& l, std::shared_ptr<asio::ssl::context> t, std::vector<PeerHost> h,
        std::string what, std::function<void(std::vector<Result<std::string>>)> d)
      : loop(l), tls(std::move(t)), hosts(std::move(h)), target(std::move(what)),
        done(std::move(d)), answers(hosts.size(), fail(Errc::kCancelled, "not asked")) {}

  void next() {
    if (asked == hosts.size()) {
      if (open == 0 && done)
        std::exchange(done, nullptr)(std::move(answers));
      return;
    }
    const std::size_t index = asked++;
    ++open;
    std::make_shared<Question>(loop, tls, hosts[index],
                               [self = shared_from_this(), index](Result<std::string> answer) {
                                 self->answers[index] = std::move(answer);
                                 --self->open;
                                 self->next();
                               })
        ->ask(target);
  }

  asio::io_context& loop;
  std::shared_ptr<asio::ssl::context> tls;
  const std::vector<PeerHost> hosts;
  const std::string target;
  std::function<void(std::vector<Result<std::string>>)> done;
  std::vector<Result<std::string>> answers;
  std::size_t asked = 0;
  std::size_t open = 0;
};

}  // namespace

void ask_hosts(asio::io_context& loop, const RelayOptions& options, std::vector<PeerHost> hosts,
               std::string target, std::function<void(std::vector<Result<std::string>>)> done) {
  asio::post(loop, [&loop, options, hosts = std::move(hosts), target = std::move(target),
                    done = std::move(done)]() mutable {
    if (hosts.empty())
      return done({});
    auto tls = make_tls_context(options.certificate, options.key, options.ca, false);
    if (!tls)
      return done(std::vector<Result<std::string>>(hosts.size(), fail(tls.error())));
    const std::size_t first = std::min(hosts.size(), kHostsAtOnce);
    const auto round = std::make_shared<Round>(loop, std::move(*tls), std::move(hosts),
                                               std::move(target), std::move(done));
    for (std::size_t i = 0; i < first; ++i)
      round->next();
  });
}

}  // namespace shoal::api
