// SPDX-License-Identifier: Apache-2.0
#include "agent/api/txn_forward.h"

#include "agent/api/connection.h"
#include "agent/api/rest.h"
#include "agent/api/selector.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <deque>
#include <fmt/format.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

namespace shoal::api {
namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace json = boost::json;
using boost::system::error_code;

namespace {

constexpr std::string_view kTxnPath = "/shoal/v1/txn";
constexpr std::string_view kSnapshotPath = "/shoal/v1/snapshot";
constexpr std::size_t kChannelsMax = 4;
constexpr std::uint64_t kAnswerBytesMax = 256ULL << 20;
// A channel that was idle for longer is not used again: well below the server's own idle time, so
// that a request never meets a connection that is just being closed.
constexpr std::chrono::seconds kIdleMax{30};

bool same_host(const StoreHost& a, const StoreHost& b) {
  return a.name == b.name && a.address == b.address && a.port == b.port;
}

Error error_of_status(unsigned code, const std::string& body) {
  error_code ignored;
  const json::value parsed = json::parse(body, ignored);
  std::string message = fmt::format("the store's host answered {}", code);
  if (const json::object* status = parsed.if_object())
    if (const std::string_view text = find_string(*status, "message"); !text.empty())
      message = text;
  const Errc errc = code == 400   ? Errc::kInvalid
                    : code == 403 ? Errc::kPermission
                    : code == 503 ? Errc::kUnavailable
                    : code == 504 ? Errc::kTimeout
                    : code == 507 ? Errc::kExhausted
                                  : Errc::kInternal;
  return Error(errc, std::move(message));
}

// One connection to the store's host; one request at a time.
class Channel : public std::enable_shared_from_this<Channel> {
public:
  using Done = std::function<void(Result<std::string>)>;

  Channel(asio::io_context& loop, std::shared_ptr<asio::ssl::context> tls, StoreHost host,
          std::chrono::milliseconds timeout)
      : tls_(std::move(tls)), stream_(loop, *tls_), host_(std::move(host)), timeout_(timeout) {}

  const StoreHost& host() const { return host_; }
  // Nothing is to come on an idle connection: what can be read is its end, of a host whose agent
  // was started anew, say. A request sent there would have no answer.
  bool usable(std::chrono::steady_clock::time_point now) {
    if (!open_ || now - used_ >= kIdleMax)
      return false;
    char byte = 0;
    const ssize_t n = ::recv(beast::get_lowest_layer(stream_).socket().native_handle(), &byte, 1,
                             MSG_PEEK | MSG_DONTWAIT);
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  }
  void close() {
    open_ = false;
    beast::get_lowest_layer(stream_).close();
  }

  void post(const std::string& body, Done done) {
    done_ = std::move(done);
    request_ = {};
    request_.version(11);
    request_.method(http::verb::post);
    request_.target({kTxnPath.data(), kTxnPath.size()});
    request_.set(http::field::host, host_.name);
    request_.set(http::field::content_type, "application/json");
    request_.body() = body;
    request_.prepare_payload();
    beast::get_lowest_layer(stream_).expires_after(timeout_);
    if (open_)
      return send();
    connect();
  }

private:
  void connect() {
    error_code error;
    const auto address = asio::ip::make_address(host_.address, error);
    if (error)
      return finish(fail(Errc::kInvalid, fmt::format("address \"{}\"", host_.address)));
    SSL_set1_host(stream_.native_handle(), host_.name.c_str());
    beast::get_lowest_layer(stream_).async_connect(
        asio::ip::tcp::endpoint(address, host_.port), [self = shared_from_this()](error_code e) {
          if (e)
            return self->finish(fail(Errc::kUnavailable, "connect: " + e.message()));
          self->handshake();
        });
  }
  void handshake() {
    error_code ignored;
    beast::get_lowest_layer(stream_).socket().set_option(asio::ip::tcp::no_delay(true), ignored);
    stream_.async_handshake(
        asio::ssl::stream_base::client, [self = shared_from_this()](error_code e) {
          if (e)
            return self->finish(fail(
                Errc::kUnavailable,
                fmt::format("TLS: {}: it must show a certificate of this cluster's CA for the name "
                            "{}; if it was begun anew, this host has to join it anew",
                            e.message(), self->host_.name)));
          self->open_ = true;
          self->send();
        });
  }
  void send() {
    http::async_write(stream_, request_, [self = shared_from_this()](error_code e, std::size_t) {
      if (e)
        return self->unknown(e);
      self->receive();
    });
  }
  void receive() {
    parser_.emplace();
    parser_->body_limit(kAnswerBytesMax);
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](error_code e, std::size_t) {
                       if (e)
                         return self->unknown(e);
                       self->answered();
                     });
  }
  void answered() {
    used_ = std::chrono::steady_clock::now();
    beast::get_lowest_layer(stream_).expires_never();
    if (!parser_->keep_alive())
      close();
    const unsigned code = parser_->get().result_int();
    if (code == 200)
      return finish(std::move(parser_->get().body()));
    finish(fail(error_of_status(code, parser_->get().body())));
  }
  void unknown(error_code error) {
    close();
    finish(fail(Errc::kTimeout, fmt::format("no answer ({}): whether it was written is not known; "
                                            "look before trying again",
                                            error.message())));
  }
  void finish(Result<std::string> result) {
    if (!result)
      close();
    if (auto done = std::exchange(done_, nullptr))
      done(std::move(result));
  }

  std::shared_ptr<asio::ssl::context> tls_;
  beast::ssl_stream<beast::tcp_stream> stream_;
  StoreHost host_;
  std::chrono::milliseconds timeout_;
  bool open_ = false;
  std::chrono::steady_clock::time_point used_;
  http::request<http::string_body> request_;
  std::optional<http::response_parser<http::string_body>> parser_;
  beast::flat_buffer buffer_;
  Done done_;
};

struct Pending {
  std::string body;
  TxnDone done;
};

struct ForwarderCore : std::enable_shared_from_this<ForwarderCore> {
  asio::io_context& loop;
  ForwarderOptions options;
  std::function<std::optional<StoreHost>()> where;
  std::deque<Pending> waiting;
  std::vector<std::shared_ptr<Channel>> idle;
  std::vector<std::shared_ptr<Channel>> busy;
  bool alive = true;

  ForwarderCore(asio::io_context& l, ForwarderOptions o,
                std::function<std::optional<StoreHost>()> w)
      : loop(l), options(std::move(o)), where(std::move(w)) {}

  void refuse(TxnDone done, Error error) {
    asio::post(loop, [self = shared_from_this(), run = std::move(done), e = std::move(error)] {
      if (self->alive)
        run(fail(e));
    });
  }

  void pump() {
    while (!waiting.empty() && busy.size() < kChannelsMax) {
      Pending next = std::move(waiting.front());
      waiting.pop_front();
      const std::optional<StoreHost> host = where();
      if (!host) {
        refuse(std::move(next.done),
               Error(Errc::kUnavailable, "no host of this cluster that is reachable has the "
                                         "store: nothing can be written now"));
        continue;
      }
      Result<std::shared_ptr<Channel>> channel = take_channel(*host);
      if (!channel) {
        refuse(std::move(next.done), std::move(channel.error()));
        continue;
      }
      send(*channel, std::move(next));
    }
  }

  Result<std::shared_ptr<Channel>> take_channel(const StoreHost& host) {
    const auto now = std::chrono::steady_clock::now();
    std::erase_if(idle,
                  [&](const auto& c) { return !c->usable(now) || !same_host(c->host(), host); });
    if (!idle.empty()) {
      auto channel = std::move(idle.back());
      idle.pop_back();
      return channel;
    }
    // Read anew for each connection: certificates are renewed while the agent runs.
    auto tls = SHOAL_TRY_WRAP(make_tls_context(options.certificate, options.key, options.ca, false),
                              "reach the store's host");
    return std::make_shared<Channel>(loop, std::move(tls), host, options.timeout_ms);
  }

  void send(const std::shared_ptr<Channel>& channel, Pending pending) {
    busy.push_back(channel);
    channel->post(pending.body, [self = shared_from_this(), channel,
                                 done = std::move(pending.done)](Result<std::string> answer) {
      std::erase(self->busy, channel);
      if (!self->alive)
        return;
      self->idle.push_back(channel);
      done(self->decode(channel->host(), std::move(answer)));
      self->pump();
    });
  }

  Result<store::TxnResult> decode(const StoreHost& host, Result<std::string> answer) {
    const std::string what =
        fmt::format("write through the store's host {} ({})", host.name, host.address);
    const std::string body = SHOAL_TRY_WRAP(std::move(answer), what);
    error_code error;
    const json::value parsed = json::parse(body, error);
    if (error)
      return fail(Errc::kCorrupt, fmt::format("{}: its answer is not JSON", what));
    return SHOAL_TRY_WRAP(txn_result_from_json(parsed), what);
  }
};

class HttpsForwarder final : public TxnForwarder {
public:
  explicit HttpsForwarder(std::shared_ptr<ForwarderCore> core) : core_(std::move(core)) {}
  ~HttpsForwarder() override {
    core_->alive = false;
    for (const auto& channel : core_->busy)
      channel->close();
    core_->idle.clear();
    core_->waiting.clear();
  }
  void txn(store::Txn txn, TxnDone done) override {
    if (core_->waiting.size() >= core_->options.pending_max)
      return core_->refuse(std::move(done),
                           Error(Errc::kExhausted, "too many writes wait for the store's host; try "
                                                   "again later"));
    core_->waiting.push_back({json::serialize(to_json(txn)), std::move(done)});
    // Not from within this call: answers never come before it returns.
    asio::post(core_->loop, [core = core_] {
      if (core->alive)
        core->pump();
    });
  }

private:
  std::shared_ptr<ForwarderCore> core_;
};

ApiError not_a_member(const Peer& peer) {
  return {403,
          "Forbidden",
          fmt::format("\"{}\" ({}) is not a member of this cluster that may write to its store",
                      peer.common_name, peer.address),
          {}};
}

}  // namespace

std::unique_ptr<TxnForwarder>
make_https_forwarder(asio::io_context& loop, ForwarderOptions options,
                     std::function<std::optional<StoreHost>()> where) {
  return std::make_unique<HttpsForwarder>(
      std::make_shared<ForwarderCore>(loop, std::move(options), std::move(where)));
}

void serve_store(Server& server, store::Store& store, std::function<bool(const Peer&)> may_write) {
  server.route("POST", kTxnPath, [&store, may_write](const ExchangePtr& exchange) {
    const Peer& peer = exchange->request().peer;
    if (!peer.local && !may_write(peer))
      return exchange->reply_error(not_a_member(peer));
    auto body = parse_body(exchange->request());
    if (!body)
      return exchange->reply_error(body.error());
    Result<store::Txn> txn = txn_from_json(*body);
    if (!txn)
      return exchange->reply_error(bad_request(txn.error().message()));
    store.txn(std::move(*txn), [exchange](const Result<store::TxnResult>& result) {
      if (result)
        exchange->reply(200, to_json(*result));
      else
        exchange->reply_error(result.error());
    });
  });
  server.route("GET", kSnapshotPath, [&store, may_write](const ExchangePtr& exchange) {
    const Peer& peer = exchange->request().peer;
    if (!peer.local && !may_write(peer))
      return exchange->reply_error(not_a_member(peer));
    store.snapshot([exchange](const Result<store::Snapshot>& snapshot) {
      if (snapshot)
        exchange->reply(200, to_json(*snapshot));
      else
        exchange->reply_error(snapshot.error());
    });
  });
}

}  // namespace shoal::api
