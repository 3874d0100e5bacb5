// SPDX-License-Identifier: Apache-2.0
#include "agent/api/exchange.h"

#include "netplane/base/fs.h"

#include <boost/asio/post.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

// RFC 7234: warn-code 299, no agent, the text quoted. Kubernetes' clients print it.
std::string warning_header(std::string_view text) {
  std::string quoted;
  for (const char c : text) {
    if (c == '"' || c == '\\')
      quoted += '\\';
    if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f)
      quoted += c;
  }
  return fmt::format("Warning: 299 - \"{}\"\r\n", quoted);
}

}  // namespace

// ---- raw streams

class SessionStream final : public RawStream {
public:
  explicit SessionStream(std::shared_ptr<Session> session) : session_(std::move(session)) {}
  ~SessionStream() override {
    if (!ended_)
      session_->close();
  }

  void read(std::function<void(Result<std::string_view>)> done) override {
    SHOAL_ASSERT(!session_->raw_waiting_);
    if (session_->phase_ == Session::Phase::kClosed || session_->buffer_.size() > 0) {
      boost::asio::post(
          session_->deadline_.get_executor(), [session = session_, run = std::move(done)] {
            if (session->phase_ == Session::Phase::kClosed)
              return run(fail(Errc::kCancelled, "the connection is closed"));
            const auto data = session->buffer_.data();
            session->raw_read_.assign(static_cast<const char*>(data.data()), data.size());
            session->buffer_.consume(data.size());
            run(std::string_view(session->raw_read_));
          });
      return;
    }
    session_->raw_waiting_ = std::move(done);
    session_->want_bytes();
  }
  void write(std::string bytes, std::function<void(Result<>)> done) override {
    session_->write(std::move(bytes), [run = std::move(done)](bool ok) {
      if (ok)
        run({});
      else
        run(fail(Errc::kCancelled, "the peer has gone"));
    });
  }
  void shutdown_write() override { session_->connection_->shutdown_write(); }
  void on_gone(std::function<void()> run) override { session_->watch(std::move(run)); }
  void end() override {
    ended_ = true;
    session_->drain();
  }
  void close() override { session_->close(); }

private:
  bool ended_ = false;
  std::shared_ptr<Session> session_;
};

// ---- Request and Exchange

std::string_view Request::query_or(std::string_view name, std::string_view otherwise) const {
  const auto found = query.find(name);
  return found == query.end() ? otherwise : std::string_view(found->second);
}

bool Request::query_flag(std::string_view name) const {
  const std::string_view value = query_or(name);
  return value == "true" || value == "1";
}

std::string_view Request::header(std::string_view lower_case_name) const {
  const auto found = headers.find(lower_case_name);
  return found == headers.end() ? std::string_view{} : std::string_view(found->second);
}

void Exchange::reply(int status, const json::value& body) {
  reply_bytes(status, "application/json", json::serialize(body));
}
void Exchange::reply_text(int status, std::string text) {
  reply_bytes(status, "text/plain; charset=utf-8", std::move(text));
}
void Exchange::reply_error(const ApiError& error) { reply(error.code, status_object(error)); }

ExchangeImpl::ExchangeImpl(std::shared_ptr<Session> session)
    : session_(std::move(session)), request_(std::move(session_->request_)) {
  const auto& message = session_->parser_->get();
  chunked_ = message.version() >= 11;
  head_only_ = request_.method == "HEAD";
}

ExchangeImpl::~ExchangeImpl() {
  if (state_ == State::kStreaming)
    session_->close();  // cut off: the peer sees that the end is missing
  else if (state_ == State::kOpen)
    reply_error(ApiError{500, "InternalError", "this request was not answered", {}});
}

std::string ExchangeImpl::head(int status, std::string_view content_type,
                               const std::vector<std::string>& warnings) const {
  const auto reason = http::obsolete_reason(static_cast<http::status>(status));
  std::string text =
      fmt::format("HTTP/1.1 {} {}\r\nContent-Type: {}\r\nCache-Control: no-cache, "
                  "private\r\n",
                  status, std::string_view(reason.data(), reason.size()), content_type);
  for (const std::string& warning : warnings)
    text += warning_header(warning);
  return text;
}

void ExchangeImpl::reply_bytes(int status, std::string_view content_type, std::string body,
                               const std::vector<std::string>& warnings) {
  SHOAL_ASSERT(state_ == State::kOpen);
  state_ = State::kDone;
  on_gone_ = nullptr;
  const bool keep = keep_alive_ && session_->parser_->is_done() && session_->parser_->keep_alive();
  std::string bytes = head(status, content_type, warnings);
  bytes +=
      fmt::format("Content-Length: {}\r\n{}\r\n", body.size(), keep ? "" : "Connection: close\r\n");
  if (!head_only_)
    bytes += body;
  session_->write(std::move(bytes), [session = session_, keep](bool ok) {
    if (ok)
      session->finish(keep);
  });
}

void ExchangeImpl::begin(int status, std::string_view content_type) {
  SHOAL_ASSERT(state_ == State::kOpen);
  state_ = State::kStreaming;
  keep_alive_ = keep_alive_ && chunked_;
  pending_head_ = head(status, content_type, {});
  pending_head_ += chunked_ ? "Transfer-Encoding: chunked\r\n" : "Connection: close\r\n";
  pending_head_ += "\r\n";
}

void ExchangeImpl::write(std::string bytes, std::function<void(bool)> done) {
  SHOAL_ASSERT(state_ == State::kStreaming);
  std::string out = std::exchange(pending_head_, {});
  // An empty chunk would be the end; an empty write sends the head.
  if (chunked_ && !bytes.empty())
    out += fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes);
  else
    out += bytes;
  // The exchange lives as long as its write, whatever its owner keeps.
  session_->write(std::move(out),
                  [self = shared_from_this(), run = std::move(done)](bool ok) { run(ok); });
}

void ExchangeImpl::end() {
  SHOAL_ASSERT(state_ == State::kStreaming);
  state_ = State::kDone;
  on_gone_ = nullptr;
  std::string out = std::exchange(pending_head_, {});
  if (chunked_)
    out += "0\r\n\r\n";
  session_->write(std::move(out), [session = session_, keep = keep_alive_](bool ok) {
    if (ok)
      session->finish(keep);
  });
}

void ExchangeImpl::upgrade(std::string_view protocol, std::function<void(RawStreamPtr)> on_stream) {
  SHOAL_ASSERT(state_ == State::kOpen);
  state_ = State::kDone;
  on_gone_ = nullptr;
  session_->write(
      fmt::format("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {}\r\n\r\n",
                  protocol),
      [session = session_, run = std::move(on_stream)](bool ok) {
        if (!ok)
          return;
        session->phase_ = Session::Phase::kRaw;
        run(std::make_shared<SessionStream>(session));
      });
}

void ExchangeImpl::body_to_file(int fd, std::uint64_t bytes_max,
                                std::function<void(Result<std::uint64_t>)> done) {
  SHOAL_ASSERT(state_ == State::kOpen && session_->dispatch_.mode == BodyMode::kStreamed);
  Session* session = session_.get();
  session->body_fd_ = fd;
  // The exchange must outlive its body.
  session->body_done_ = [self = shared_from_this(),
                         run = std::move(done)](Result<std::uint64_t> r) { run(std::move(r)); };
  session->parser_->get().body().sink = [session, bytes_max](std::string_view bytes,
                                                             error_code& error) {
    if (session->body_bytes_ + bytes.size() > bytes_max) {
      session->body_error_ = Error(Errc::kExhausted, fmt::format("the body is larger than the {} "
                                                                 "bytes allowed here",
                                                                 bytes_max));
    } else if (Result<> written = write_all(session->body_fd_, bytes); !written) {
      session->body_error_ = std::move(written.error()).wrap("write the received body");
    } else {
      session->body_bytes_ += bytes.size();
      return;
    }
    error = make_error_code(boost::system::errc::io_error);
  };
  if (session->phase_ == Session::Phase::kClosed)
    return session->peer_gone();
  // Not from within this call: `done` may come at once.
  boost::asio::post(session->deadline_.get_executor(), [keep = session_] {
    if (keep->phase_ == Session::Phase::kClosed)
      return;
    keep->begin_body();
    keep->advance();
  });
}

void ExchangeImpl::on_gone(std::function<void()> run) {
  if (session_->phase_ == Session::Phase::kClosed)
    boost::asio::post(session_->deadline_.get_executor(), std::move(run));
  else
    on_gone_ = std::move(run);
}

void ExchangeImpl::gone() {
  if (auto run = std::exchange(on_gone_, nullptr))
    run();
}

}  // namespace shoal::api
