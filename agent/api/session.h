// SPDX-License-Identifier: Apache-2.0
// Session: HTTP/1.1 on one connection: reads requests one after the other, hands each to a
// dispatcher as an Exchange, and writes what the Exchange is given. Parsing is Beast's, the rest is
// here. Internal to agent/api.
//
// While an Exchange is open a read stays pending, so that a peer that goes away is noticed at once;
// what it reads is the beginning of the next request. One deadline is armed at a time; a stale one
// is a no-op.
#pragma once

#include "agent/api/connection.h"
#include "agent/api/server.h"

#include <array>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <deque>
#include <memory>
#include <optional>

namespace shoal::api {

// A body that goes to a function, piece by piece.
struct SinkBody {
  struct value_type {
    std::function<void(std::string_view, boost::system::error_code&)> sink;
  };
  class reader {
  public:
    template <bool isRequest, class Fields>
    reader(boost::beast::http::header<isRequest, Fields>&, value_type& value) : value_(value) {}
    void init(const boost::optional<std::uint64_t>&, boost::system::error_code& error) {
      error = {};
    }
    template <class Buffers>
    std::size_t put(const Buffers& buffers, boost::system::error_code& error) {
      std::size_t taken = 0;
      error = {};
      for (const boost::asio::const_buffer part : boost::beast::buffers_range_ref(buffers)) {
        if (value_.sink)
          value_.sink({static_cast<const char*>(part.data()), part.size()}, error);
        if (error)
          break;
        taken += part.size();
      }
      return taken;
    }
    void finish(boost::system::error_code& error) { error = {}; }

  private:
    value_type& value_;
  };
};

// What is to be done with a request, decided when its header is there.
struct Dispatch {
  BodyMode mode = BodyMode::kBuffered;
  Handler handler;
  std::map<std::string, std::string, std::less<>> params;
};
using Dispatcher = std::function<Dispatch(const Request&)>;

class ExchangeImpl;

class Session : public std::enable_shared_from_this<Session> {
public:
  Session(boost::asio::io_context& loop, std::shared_ptr<Connection> connection,
          const ServerLimits& limits, Dispatcher dispatcher, std::function<void(Session*)> on_end);
  void start();
  void close();  // at once

private:
  friend class ExchangeImpl;
  friend class SessionStream;
  static constexpr std::size_t kReadBytes = 16 << 10;
  enum class Phase : std::uint8_t { kHandshake, kHeader, kBody, kExchange, kRaw, kDrain, kClosed };
  using Parser = boost::beast::http::request_parser<SinkBody>;

  // ---- reading requests
  void next_request();
  void want_bytes();
  void on_bytes(boost::system::error_code error, std::size_t count);
  void advance();
  bool parse();  // false: more bytes are needed, or the request is refused
  void on_header();
  bool fill_request();
  void begin_body();
  void on_body_done();
  void refuse(const ApiError& error);

  // ---- the exchange
  void write(std::string bytes, std::function<void(bool)> done);
  void write_next();
  void finish(bool keep_alive);
  void drain();
  void peer_gone();
  void watch(std::function<void()> run);  // RawStream::on_gone
  void arm(std::chrono::milliseconds after);
  void disarm() { ++deadline_token_; }

  boost::asio::steady_timer deadline_;
  std::uint64_t deadline_token_ = 0;
  std::shared_ptr<Connection> connection_;
  const ServerLimits& limits_;
  Dispatcher dispatcher_;
  std::function<void(Session*)> on_end_;
  Phase phase_ = Phase::kHandshake;
  bool reading_ = false;
  bool first_byte_seen_ = false;
  bool patient_ = false;              // Exchange::be_patient
  std::array<char, kReadBytes> in_;   // where a pending read writes
  boost::beast::flat_buffer buffer_;  // what was read and not parsed yet
  std::optional<Parser> parser_;
  Request request_;
  Dispatch dispatch_;
  std::weak_ptr<ExchangeImpl> exchange_;
  struct Outgoing {
    std::string bytes;
    std::function<void(bool)> done;
  };
  std::deque<Outgoing> out_;  // the first one is being written; more only behind a "100 Continue"
  // Streamed bodies: where they go.
  int body_fd_ = -1;
  std::uint64_t body_bytes_ = 0;
  std::optional<Error> body_error_;
  std::function<void(Result<std::uint64_t>)> body_done_;
  // Raw streams: who waits for bytes.
  std::string raw_read_;
  std::function<void(Result<std::string_view>)> raw_waiting_;
  std::function<void()> raw_gone_;
};

}  // namespace shoal::api
