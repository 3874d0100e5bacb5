// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/client.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <fmt/format.h>
#include <unistd.h>

namespace shoal::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Local = asio::local::stream_protocol;

constexpr std::size_t kPieceBytes = 64 << 10;
constexpr std::size_t kUploadPieceBytes = 256 << 10;

// One connection. Each step is an asynchronous operation that is run to its end or its time.
class Connection {
public:
  Connection() : socket_(loop_) {}

  Result<> connect(const std::filesystem::path& path) {
    Local::endpoint endpoint;
    if (path.native().size() >= 108)
      return fail(Errc::kInvalid, fmt::format("socket path {} is too long", path.string()));
    endpoint.path(path.string());
    error_code error;
    socket_.connect(endpoint, error);
    if (!error)
      return {};
    if (error == asio::error::access_denied)
      return fail(
          Error(Errc::kPermission,
                fmt::format("{}: only root may talk to shoald: run this as root", path.string()),
                EACCES));
    if (error.value() == ENOENT || error.value() == ECONNREFUSED)
      return fail(Error(
          Errc::kUnavailable,
          fmt::format("shoald is not running on this host (nobody answers at {}); start it with "
                      "`systemctl start shoald` and see `journalctl -u shoald` for why it stopped",
                      path.string()),
          error.value()));
    return fail(Error(Errc::kUnavailable,
                      fmt::format("connect to shoald at {}: {}", path.string(), error.message()),
                      error.value()));
  }

  // start(handler) begins the operation; zero timeout: no bound.
  template <class Start>
  Result<std::size_t> run(std::string_view what, std::chrono::milliseconds timeout, Start start,
                          bool* ended = nullptr) {
    error_code error = asio::error::would_block;
    std::size_t count = 0;
    start([&](const error_code& e, std::size_t n) {
      error = e;
      count = n;
    });
    loop_.restart();
    if (timeout.count() == 0)
      loop_.run();
    else
      loop_.run_for(timeout);
    if (error == asio::error::would_block) {
      error_code ignored;
      socket_.close(ignored);
      loop_.restart();
      loop_.run();
      return fail(Errc::kTimeout,
                  fmt::format("{}: shoald did not answer within {} ms", what, timeout.count()));
    }
    if (ended && (error == http::error::end_of_stream || error == asio::error::eof)) {
      *ended = true;
      return count;
    }
    if (error && error != http::error::need_buffer)
      return fail(Errc::kUnavailable,
                  fmt::format("{}: {}", what,
                              error == http::error::end_of_stream
                                  ? "shoald closed the connection without an answer"
                                  : error.message()));
    return count;
  }

  asio::io_context loop_{1};
  Local::socket socket_;
  beast::flat_buffer buffer_;
};

http::request<http::string_body> make(const Request& request) {
  http::request<http::string_body> out;
  out.method_string(request.method);
  out.target(request.target);
  out.version(11);
  out.set(http::field::host, "shoald");
  out.set(http::field::accept, request.accept);
  out.set(http::field::user_agent, "shoal");
  if (!request.body.empty()) {
    out.set(http::field::content_type, request.content_type);
    out.body() = request.body;
  }
  out.prepare_payload();
  return out;
}

Result<> write_request(Connection& connection, const Request& request) {
  http::request<http::string_body> message = make(request);
  SHOAL_TRY(connection.run("send", kAnswerTimeout, [&](auto done) {
    http::async_write(connection.socket_, message, std::move(done));
  }));
  return {};
}

// Warning: 299 - "text" -> text
std::vector<std::string> warnings_of(const http::fields& fields) {
  std::vector<std::string> out;
  const auto range = fields.equal_range(http::field::warning);
  for (auto it = range.first; it != range.second; ++it) {
    const std::string_view value(it->value().data(), it->value().size());
    const std::size_t open = value.find('"');
    const std::size_t close = value.rfind('"');
    std::string text;
    for (std::size_t i = open + 1; open != std::string_view::npos && i < close; ++i) {
      if (value[i] == '\\' && i + 1 < close)
        ++i;
      text += value[i];
    }
    out.push_back(text.empty() ? std::string(value) : text);
  }
  return out;
}

Result<Response> read_whole(Connection& connection, std::chrono::milliseconds timeout) {
  http::response_parser<http::string_body> parser;
  parser.body_limit(kBodyBytesMax);
  SHOAL_TRY(connection.run("read the answer", timeout, [&](auto done) {
    http::async_read(connection.socket_, connection.buffer_, parser, std::move(done));
  }));
  Response response;
  response.status = static_cast<int>(parser.get().result_int());
  response.warnings = warnings_of(parser.get().base());
  response.body = std::move(parser.get().body());
  return response;
}

}  // namespace

Result<Response> Client::send(const Request& request) const {
  Connection connection;
  SHOAL_TRY(connection.connect(socket_));
  SHOAL_TRY(write_request(connection, request));
  return read_whole(connection, kAnswerTimeout);
}

Result<Response> Client::stream(const Request& request,
                                const std::function<bool(std::string_view)>& on_bytes) const {
  Connection connection;
  SHOAL_TRY(connection.connect(socket_));
  SHOAL_TRY(write_request(connection, request));
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  SHOAL_TRY(connection.run("read the answer", kAnswerTimeout, [&](auto done) {
    http::async_read_header(connection.socket_, connection.buffer_, parser, std::move(done));
  }));
  Response response;
  response.status = static_cast<int>(parser.get().result_int());
  response.warnings = warnings_of(parser.get().base());
  std::vector<char> piece(kPieceBytes);
  while (!parser.is_done()) {
    parser.get().body().data = piece.data();
    parser.get().body().size = piece.size();
    bool ended = false;
    SHOAL_TRY(connection.run(
        "read", std::chrono::milliseconds(0),
        [&](auto done) {
          http::async_read_some(connection.socket_, connection.buffer_, parser, std::move(done));
        },
        &ended));
    const std::string_view bytes(piece.data(), piece.size() - parser.get().body().size);
    if (!response.ok())
      response.body.append(
          bytes.substr(0, kBodyBytesMax - std::min(kBodyBytesMax, response.body.size())));
    else if (!bytes.empty() && !on_bytes(bytes))
      return response;
    if (ended && !parser.is_done())
      return fail(Errc::kUnavailable, "shoald ended the connection before its answer was complete");
  }
  return response;
}

Result<Response> Client::upload(const Request& request, int fd, std::uint64_t bytes,
                                const std::function<void(std::uint64_t)>& on_progress) const {
  Connection connection;
  SHOAL_TRY(connection.connect(socket_));
  http::request<http::empty_body> header;
  header.method_string(request.method);
  header.target(request.target);
  header.version(11);
  header.set(http::field::host, "shoald");
  header.set(http::field::accept, request.accept);
  header.set(http::field::content_type, request.content_type);
  header.content_length(bytes);
  http::request_serializer<http::empty_body> serializer(header);
  SHOAL_TRY(connection.run("send", kAnswerTimeout, [&](auto done) {
    http::async_write_header(connection.socket_, serializer, std::move(done));
  }));
  std::vector<char> piece(kUploadPieceBytes);
  std::uint64_t sent = 0;
  while (sent < bytes) {
    const ssize_t n = ::read(fd, piece.data(), std::min<std::uint64_t>(piece.size(), bytes - sent));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail_errno("read the file");
    if (n == 0)
      return fail(Errc::kIo, "the file became shorter while it was sent");
    auto written = connection.run("send", kUploadProgressTimeout, [&](auto done) {
      asio::async_write(connection.socket_, asio::buffer(piece.data(), static_cast<std::size_t>(n)),
                        std::move(done));
    });
    // A daemon that refuses answers before it has read everything: that answer is what the user
    // needs.
    if (!written)
      break;
    sent += static_cast<std::uint64_t>(n);
    on_progress(sent);
  }
  // Unpacking comes after the last byte and takes as long as it takes.
  return read_whole(connection, std::chrono::milliseconds(sent < bytes ? 5000 : 0));
}

Result<Upgraded> Client::upgrade(const Request& request, std::string_view protocol,
                                 Response& refused) const {
  Connection connection;
  SHOAL_TRY(connection.connect(socket_));
  http::request<http::string_body> message = make(request);
  message.set(http::field::connection, "Upgrade");
  message.set(http::field::upgrade, std::string(protocol));
  SHOAL_TRY(connection.run("send", kAnswerTimeout, [&](auto done) {
    http::async_write(connection.socket_, message, std::move(done));
  }));
  http::response_parser<http::string_body> parser;
  SHOAL_TRY(connection.run("read the answer", kAnswerTimeout, [&](auto done) {
    http::async_read_header(connection.socket_, connection.buffer_, parser, std::move(done));
  }));
  if (parser.get().result() != http::status::switching_protocols) {
    SHOAL_TRY(connection.run("read the answer", kAnswerTimeout, [&](auto done) {
      http::async_read(connection.socket_, connection.buffer_, parser, std::move(done));
    }));
    refused.status = static_cast<int>(parser.get().result_int());
    refused.body = parser.get().body();
    return Upgraded{};
  }
  Upgraded out;
  refused.status = 101;
  const auto rest = connection.buffer_.data();
  out.early.assign(static_cast<const char*>(rest.data()), rest.size());
  error_code error;
  connection.socket_.native_non_blocking(false, error);
  out.fd = UniqueFd(connection.socket_.release(error));
  if (error)
    return fail(Errc::kIo, fmt::format("take over the connection: {}", error.message()));
  return out;
}

}  // namespace shoal::cli
