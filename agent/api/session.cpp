// SPDX-License-Identifier: Apache-2.0
#include "agent/api/session.h"

#include "agent/api/exchange.h"
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <boost/asio/post.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>
#include <fmt/format.h>

namespace shoal::api {
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

// How long a connection that is to be closed is read from, so that the peer gets to see the answer:
// closing it with unread bytes would take the answer back.
constexpr std::chrono::milliseconds kDrainTime{2'000};
constexpr std::chrono::milliseconds kWatchInterval{1'000};
constexpr std::uint64_t kStreamedBytesMax = 64ULL << 30;  // body_to_file has the real bound

}  // namespace

Session::Session(boost::asio::io_context& loop, std::shared_ptr<Connection> connection,
                 const ServerLimits& limits, Dispatcher dispatcher,
                 std::function<void(Session*)> on_end)
    : deadline_(loop), connection_(std::move(connection)), limits_(limits),
      dispatcher_(std::move(dispatcher)), on_end_(std::move(on_end)) {}

void Session::start() {
  arm(limits_.header_timeout_ms);
  connection_->open([self = shared_from_this()](error_code error) {
    if (error || self->phase_ == Phase::kClosed)
      return self->close();
    self->next_request();
  });
}

void Session::close() {
  if (phase_ == Phase::kClosed)
    return;
  phase_ = Phase::kClosed;
  raw_gone_ = nullptr;
  disarm();
  deadline_.cancel();
  connection_->close();
  const auto self = shared_from_this();  // on_end_ may drop the last other reference
  if (on_end_)
    on_end_(this);
  peer_gone();
}

void Session::arm(std::chrono::milliseconds after) {
  const std::uint64_t token = ++deadline_token_;
  deadline_.expires_after(after);
  deadline_.async_wait([weak = weak_from_this(), token](error_code error) {
    const auto self = weak.lock();
    if (!error && self && self->deadline_token_ == token)
      self->close();
  });
}

void Session::watch(std::function<void()> run) {
  const bool armed = raw_gone_ != nullptr;
  raw_gone_ = std::move(run);
  if (armed || !raw_gone_)
    return;
  // A raw stream has no other deadline.
  deadline_.expires_after(kWatchInterval);
  deadline_.async_wait([weak = weak_from_this()](error_code error) {
    const auto self = weak.lock();
    if (error || !self || self->phase_ != Phase::kRaw || !self->raw_gone_)
      return;
    // While somebody reads, he is told.
    auto gone = std::exchange(self->raw_gone_, nullptr);
    if (!self->raw_waiting_ && self->connection_->peer_closed())
      return gone();
    self->watch(std::move(gone));
  });
}

void Session::next_request() {
  phase_ = Phase::kHeader;
  request_ = {};
  dispatch_ = {};
  exchange_.reset();
  first_byte_seen_ = false;
  patient_ = false;
  body_fd_ = -1;
  body_bytes_ = 0;
  body_error_.reset();
  parser_.emplace();
  parser_->header_limit(static_cast<std::uint32_t>(limits_.header_bytes_max));
  parser_->body_limit(kStreamedBytesMax);
  parser_->eager(false);
  arm(limits_.idle_timeout_ms);
  advance();
}

void Session::want_bytes() {
  if (reading_ || phase_ == Phase::kClosed)
    return;
  // Bytes of the next request are taken in while an exchange is open, but not without bound.
  if (phase_ == Phase::kExchange && buffer_.size() >= kReadBytes)
    return;
  reading_ = true;
  connection_->read(in_, [self = shared_from_this()](error_code error, std::size_t count) {
    self->on_bytes(error, count);
  });
}

void Session::on_bytes(error_code error, std::size_t count) {
  reading_ = false;
  if (phase_ == Phase::kClosed)
    return;
  if (phase_ == Phase::kDrain)
    return error ? close() : want_bytes();
  const auto space = buffer_.prepare(count);
  std::copy_n(in_.data(), count, static_cast<char*>(space.data()));
  buffer_.commit(count);
  if (phase_ == Phase::kRaw) {
    if (auto waiting = std::exchange(raw_waiting_, nullptr)) {
      raw_read_.assign(static_cast<const char*>(buffer_.data().data()), buffer_.size());
      buffer_.consume(buffer_.size());
      waiting(std::string_view(raw_read_));  // empty: the end
    }
    return;
  }
  if (error)
    return close();
  advance();
}

void Session::advance() {
  switch (phase_) {
  case Phase::kHeader:
  case Phase::kBody:
    if (buffer_.size() > 0) {
      if (!first_byte_seen_) {
        first_byte_seen_ = true;
        arm(limits_.header_timeout_ms);
      }
      if (!parse())
        return;
    }
    if (phase_ == Phase::kHeader || phase_ == Phase::kBody)
      want_bytes();
    return;
  case Phase::kExchange:
    return want_bytes();  // keeps an eye on the peer
  default:
    return;
  }
}

// Runs the parser over what is in the buffer. True: go on reading.
bool Session::parse() {
  while (buffer_.size() > 0 && (phase_ == Phase::kHeader || phase_ == Phase::kBody)) {
    error_code error;
    const std::size_t used = parser_->put(buffer_.data(), error);
    buffer_.consume(used);
    if (body_error_) {  // the sink's: the disk, or too large
      phase_ = Phase::kExchange;
      if (auto done = std::exchange(body_done_, nullptr))
        done(fail(*body_error_));
      return false;
    }
    if (error == http::error::need_more)
      return true;
    if (error == http::error::header_limit)
      return refuse({431, "RequestHeaderFieldsTooLarge", "the request's header is too large", {}}),
             false;
    if (error == http::error::body_limit)
      return refuse(
                 {413,
                  "RequestEntityTooLarge",
                  fmt::format("the request's body is larger than {} bytes", limits_.body_bytes_max),
                  {}}),
             false;
    if (error)
      return refuse(bad_request(fmt::format("not an HTTP request: {}", error.message()))), false;
    if (phase_ == Phase::kHeader && parser_->is_header_done()) {
      on_header();
    } else if (phase_ == Phase::kBody) {
      arm(limits_.body_timeout_ms);
      if (parser_->is_done()) {
        on_body_done();
        return false;
      }
    }
    if (used == 0)
      return true;
  }
  return phase_ == Phase::kHeader || phase_ == Phase::kBody;
}

bool Session::fill_request() {
  const auto& message = parser_->get();
  request_.method =
      std::string_view(message.method_string().data(), message.method_string().size());
  const std::string_view target(message.target().data(), message.target().size());
  const auto url = boost::urls::parse_origin_form({target.data(), target.size()});
  if (!url)
    return false;
  request_.path = url->path();  // percent-decoded
  for (const auto& segment : url->segments())
    if (!segment.empty())
      request_.segments.emplace_back(segment);
  for (const auto& param : url->params())
    request_.query[std::string(param.key)] = std::string(param.value);
  for (const auto& field : message) {
    std::string name =
        to_lower(std::string_view(field.name_string().data(), field.name_string().size()));
    std::string& value = request_.headers[std::move(name)];
    if (!value.empty())
      value += ", ";
    value.append(field.value().data(), field.value().size());
  }
  request_.peer = connection_->peer();
  return request_.path.find('\0') == std::string::npos;
}

void Session::on_header() {
  if (!fill_request())
    return refuse(bad_request("the request's target is not a path"));
  dispatch_ = dispatcher_(request_);
  request_.params = std::move(dispatch_.params);
  if (parser_->content_length() && dispatch_.mode == BodyMode::kBuffered &&
      *parser_->content_length() > limits_.body_bytes_max)
    return refuse({413,
                   "RequestEntityTooLarge",
                   fmt::format("the request's body of {} bytes is larger than {}",
                               *parser_->content_length(), limits_.body_bytes_max),
                   {}});
  if (dispatch_.mode == BodyMode::kStreamed) {
    // The handler says where the body goes before it is read.
    phase_ = Phase::kExchange;
    disarm();
    const auto exchange = std::make_shared<ExchangeImpl>(shared_from_this());
    exchange_ = exchange;
    dispatch_.handler(exchange);
    return;
  }
  parser_->body_limit(limits_.body_bytes_max);
  parser_->get().body().sink = [this](std::string_view bytes, error_code&) {
    request_.body += bytes;
  };
  begin_body();
}

void Session::begin_body() {
  phase_ = Phase::kBody;
  arm(limits_.body_timeout_ms);
  parser_->eager(true);
  if (parser_->is_done())
    return on_body_done();
  if (to_lower(request_.header("expect")) == "100-continue")
    write("HTTP/1.1 100 Continue\r\n\r\n", [](bool) {});
}

void Session::on_body_done() {
  disarm();
  phase_ = Phase::kExchange;
  if (dispatch_.mode == BodyMode::kStreamed) {
    if (auto done = std::exchange(body_done_, nullptr))
      done(body_bytes_);
    return;
  }
  const auto exchange = std::make_shared<ExchangeImpl>(shared_from_this());
  exchange_ = exchange;
  dispatch_.handler(exchange);
  want_bytes();
}

// The request cannot be read to its end: answer and close.
void Session::refuse(const ApiError& error) {
  phase_ = Phase::kExchange;
  const auto exchange = std::make_shared<ExchangeImpl>(shared_from_this());
  exchange->close_after();
  exchange->reply_error(error);
}

void Session::write(std::string bytes, std::function<void(bool)> done) {
  if (phase_ == Phase::kClosed) {
    boost::asio::post(deadline_.get_executor(), [run = std::move(done)] { run(false); });
    return;
  }
  out_.push_back({std::move(bytes), std::move(done)});
  if (out_.size() == 1)
    write_next();
}

void Session::write_next() {
  if (phase_ == Phase::kRaw || patient_)
    disarm();
  else
    arm(limits_.write_timeout_ms);
  connection_->write(out_.front().bytes,
                     [self = shared_from_this()](error_code error, std::size_t) {
                       const Outgoing written = std::move(self->out_.front());
                       self->out_.pop_front();
                       // A body that is being read has its own deadline, armed with the next piece.
                       if (self->out_.empty() && self->phase_ != Phase::kBody)
                         self->disarm();
                       if (error && self->phase_ != Phase::kRaw)
                         self->close();
                       const bool ok = !error && self->phase_ != Phase::kClosed;
                       if (!self->out_.empty())
                         self->write_next();
                       written.done(ok);
                     });
}

void Session::finish(bool keep_alive) {
  if (phase_ == Phase::kClosed)
    return;
  // An unread rest of a body cannot be told from the next request.
  if (keep_alive && parser_->is_done() && parser_->keep_alive())
    return next_request();
  drain();
}

void Session::drain() {
  if (phase_ == Phase::kClosed)
    return;
  phase_ = Phase::kDrain;
  connection_->shutdown_write();
  arm(kDrainTime);
  want_bytes();
  if (auto waiting = std::exchange(raw_waiting_, nullptr))
    waiting(fail(Errc::kCancelled, "the connection has been ended"));
}

void Session::peer_gone() {
  if (auto done = std::exchange(body_done_, nullptr))
    done(fail(Errc::kCancelled, "the client went away before the end of its request"));
  if (auto waiting = std::exchange(raw_waiting_, nullptr))
    waiting(fail(Errc::kCancelled, "the connection is closed"));
  if (const auto exchange = exchange_.lock())
    exchange->gone();
}

}  // namespace shoal::api
