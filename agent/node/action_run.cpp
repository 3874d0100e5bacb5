// SPDX-License-Identifier: Apache-2.0
#include "agent/node/action.h"
#include "agent/node/command.h"
#include "netplane/base/strings.h"
#include "runtime/probe/grpc_health.h"

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace shoal::node {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;

namespace {

constexpr std::size_t kHeadBytesMax = 4096;
constexpr int kReadsPerTurn = 64;

std::string seconds_text(std::chrono::milliseconds time) {
  return time.count() % 1000 == 0 ? fmt::format("{}s", time.count() / 1000)
                                  : fmt::format("{}ms", time.count());
}

// Whether the server is who it says it is does not matter to a probe.
asio::ssl::context& any_certificate() {
  static asio::ssl::context context = [] {
    asio::ssl::context out(asio::ssl::context::tls_client);
    out.set_verify_mode(asio::ssl::verify_none);
    return out;
  }();
  return context;
}

}  // namespace

struct ActionRun::Run : std::enable_shared_from_this<Run> {
  Run(asio::io_context& io, const Action& a, ActionTarget t, std::chrono::milliseconds limit,
      std::function<void(ActionResult)> then)
      : loop(io), action(a), target(std::move(t)), timeout(limit), done(std::move(then)),
        deadline(io), resolver(io), output(io), ended(io) {}

  void begin() {
    deadline.expires_after(action.kind == Action::Kind::kSleep
                               ? std::min<std::chrono::milliseconds>(action.sleep, timeout)
                               : timeout);
    deadline.async_wait([self = shared_from_this()](const ErrorCode& error) {
      if (!error)
        self->expired();
    });
    switch (action.kind) {
    case Action::Kind::kSleep:
      return;
    case Action::Kind::kExec:
      return begin_command();
    case Action::Kind::kHttp:
    case Action::Kind::kTcp:
    case Action::Kind::kGrpc:
      return resolve();
    }
  }

  void expired() {
    if (grpc) {
      grpc->expired();
      return grpc_verdict();
    }
    finish({action.kind == Action::Kind::kSleep, late()});
  }

  void finish(ActionResult result) {
    if (!done)
      return;
    auto then = std::move(done);
    stop();
    then(std::move(result));
  }

  void stop() {
    done = nullptr;
    ErrorCode ignored;
    deadline.cancel();
    resolver.cancel();
    if (socket)
      socket->close(ignored);
    output.close(ignored);
    ended.close(ignored);
    session.reset();
  }

  // ---- a request from the host

  std::string host() const { return action.host.empty() ? target.ip.to_string() : action.host; }
  std::string host_and_port() const {
    const std::string name = host();
    return name.find(':') == std::string::npos ? fmt::format("{}:{}", name, action.port)
                                               : fmt::format("[{}]:{}", name, action.port);
  }
  std::string url() const {
    return fmt::format("{}://{}{}{}", action.tls ? "https" : "http", host_and_port(),
                       action.path.starts_with('/') ? "" : "/", action.path);
  }
  std::string late() const {
    if (action.kind == Action::Kind::kHttp)
      return fmt::format("Get \"{}\": context deadline exceeded (Client.Timeout exceeded while "
                         "awaiting headers)",
                         url());
    if (action.kind == Action::Kind::kTcp)
      return fmt::format("dial tcp {}: i/o timeout", host_and_port());
    if (action.kind == Action::Kind::kGrpc)
      return runtime::grpc_connect_timeout(host_and_port(), timeout);
    std::string words;
    for (const std::string& word : action.command)
      words += (words.empty() ? "" : " ") + word;
    return fmt::format("command timed out: \"{}\" timed out after {}", printable(words),
                       seconds_text(timeout));
  }
  void failed(std::string why) {
    if (action.kind == Action::Kind::kHttp)
      why = fmt::format("Get \"{}\": {}", url(), why);
    if (action.kind == Action::Kind::kGrpc)
      why = runtime::grpc_connect_failure(host_and_port(), why);
    finish({false, std::move(why)});
  }

  void resolve() {
    ErrorCode error;
    const auto address = asio::ip::make_address(host(), error);
    if (!error) {
      socket = std::make_unique<tcp::socket>(loop);
      return socket->async_connect(
          tcp::endpoint(address, action.port),
          [self = shared_from_this()](const ErrorCode& e) { self->connected(e); });
    }
    resolver.async_resolve(
        action.host, std::to_string(action.port),
        [self = shared_from_this()](const ErrorCode& e, const tcp::resolver::results_type& found) {
          if (!self->done)
            return;
          if (e)
            return self->failed(
                fmt::format("dial tcp: lookup {}: {}", self->action.host, e.message()));
          self->socket = std::make_unique<tcp::socket>(self->loop);
          asio::async_connect(
              *self->socket, found,
              [self](const ErrorCode& c, const tcp::endpoint&) { self->connected(c); });
        });
  }

  void connected(const ErrorCode& error) {
    if (!done)
      return;
    if (error)
      return failed(
          fmt::format("dial tcp {}: connect: {}", host_and_port(), to_lower(error.message())));
    if (action.kind == Action::Kind::kTcp)
      return finish({true, ""});
    if (action.kind == Action::Kind::kGrpc)
      return begin_grpc();
    auto made = runtime::http_probe_request(host(), action.port, action.path, action.headers);
    if (!made)
      return failed(made.error().message());
    request = std::move(*made);
    if (!action.tls)
      return send(*socket);
    tls = std::make_unique<asio::ssl::stream<tcp::socket&>>(*socket, any_certificate());
    tls->async_handshake(asio::ssl::stream_base::client,
                         [self = shared_from_this()](const ErrorCode& e) {
                           if (e)
                             return self->failed(e.message());
                           self->send(*self->tls);
                         });
  }

  template <class Stream>
  void send(Stream& stream) {
    if (!done)
      return;
    asio::async_write(stream, asio::buffer(request),
                      [self = shared_from_this(), &stream](const ErrorCode& e, std::size_t) {
                        e ? self->failed(e.message()) : self->read(stream);
                      });
  }

  template <class Stream>
  void read(Stream& stream) {
    if (!done)
      return;
    stream.async_read_some(asio::buffer(buffer), [self = shared_from_this(),
                                                  &stream](const ErrorCode& e, std::size_t n) {
      if (!self->done)
        return;
      self->text.append(self->buffer, n);
      if (self->text.find('\n') != std::string::npos)
        return self->answered();
      if (e || self->text.size() > kHeadBytesMax)
        return self->failed(e == asio::error::eof ? "EOF" : e ? e.message() : "no HTTP");
      self->read(stream);
    });
  }

  void answered() {
    const auto status = runtime::parse_http_status(text);
    if (!status)
      return failed(status.error().message());
    finish(
        runtime::http_probe_passes(*status)
            ? ActionResult{true, ""}
            : ActionResult{false, fmt::format("HTTP probe failed with statuscode: {}", *status)});
  }

  void begin_grpc() {
    auto made = runtime::GrpcHealthCall::make(host_and_port(), action.service, timeout);
    if (!made)
      return failed(made.error().message());
    grpc.emplace(std::move(*made));
    write_grpc();
    read_grpc();
  }

  // One write at a time; what comes to be said meanwhile goes with the next.
  void write_grpc() {
    if (writing)
      return;
    request = grpc->take_output();
    if (grpc->verdict())
      return grpc_verdict();
    if (request.empty())
      return;
    writing = true;
    // What the server says of an end of its own comes by the reads.
    asio::async_write(*socket, asio::buffer(request),
                      [self = shared_from_this()](const ErrorCode& e, std::size_t) {
                        self->writing = false;
                        if (!e && self->done)
                          self->write_grpc();
                      });
  }

  void read_grpc() {
    socket->async_read_some(
        asio::buffer(buffer), [self = shared_from_this()](const ErrorCode& e, std::size_t n) {
          if (!self->done)
            return;
          self->grpc->receive({self->buffer, n});
          if (e)
            self->grpc->ended(e == asio::error::eof ? "EOF" : to_lower(e.message()));
          if (self->grpc->verdict())
            return self->grpc_verdict();
          self->write_grpc();
          if (self->done)
            self->read_grpc();
        });
  }

  void grpc_verdict() {
    const runtime::GrpcVerdict verdict = *grpc->verdict();
    finish({verdict.serving, verdict.message});
  }

  // ---- a command in the container

  void begin_command() {
    if (auto begun = start_command(); !begun)
      // Not from within the constructor.
      asio::post(loop, [self = shared_from_this(), why = begun.error().message()] {
        self->finish({false, why, true});
      });
  }

  Result<> start_command() {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0)
      return fail_errno("make a pipe");
    UniqueFd read_end(fds[0]);
    const UniqueFd write_end(fds[1]);
    const UniqueFd null_fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!null_fd)
      return fail_errno("open /dev/null");
    ::fcntl(read_end.get(), F_SETFL, O_NONBLOCK);
    session.emplace(SHOAL_TRY(
        node::start_command(target, {.args = action.command, .timeout = timeout},
                            std::array{null_fd.get(), write_end.get(), write_end.get()})));
    output.assign(read_end.release());
    ended.assign(::dup(session->fd()));
    read_output();
    ended.async_wait(asio::posix::stream_descriptor::wait_read,
                     [self = shared_from_this()](const ErrorCode& e) {
                       if (!e && self->done)
                         self->command_ended();
                     });
    return {};
  }

  // The first part is kept, the rest read and dropped: a full pipe would hold the command up. A
  // bounded part a turn, however fast the command writes. False at the end.
  bool take_output() {
    for (int i = 0; i < kReadsPerTurn; i++) {
      const ssize_t n = ::read(output.native_handle(), buffer, sizeof(buffer));
      if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
      text.append(buffer, std::min(static_cast<std::size_t>(n),
                                   kProbeOutputMax - std::min(kProbeOutputMax, text.size())));
    }
    return true;
  }

  void read_output() {
    output.async_wait(asio::posix::stream_descriptor::wait_read,
                      [self = shared_from_this()](const ErrorCode& e) {
                        if (!e && self->done && self->take_output())
                          self->read_output();
                      });
  }

  void command_ended() {
    auto result = session->poll();
    if (!result)
      return finish({false, result.error().message(), true});
    if (!*result)
      return finish({false, "the shim ended the session", true});
    take_output();
    if ((*result)->timed_out)
      return finish({false, late()});
    finish({(*result)->exit_code == 0, std::move(text)});
  }

  asio::io_context& loop;
  const Action action;
  const ActionTarget target;
  const std::chrono::milliseconds timeout;
  std::function<void(ActionResult)> done;  // null: over
  asio::steady_timer deadline;
  tcp::resolver resolver;
  std::unique_ptr<tcp::socket> socket;
  std::unique_ptr<asio::ssl::stream<tcp::socket&>> tls;
  std::optional<runtime::GrpcHealthCall> grpc;
  bool writing = false;  // of grpc's output
  std::optional<runtime::ExecSession> session;
  asio::posix::stream_descriptor output;
  asio::posix::stream_descriptor ended;
  std::string request;
  std::string text;
  char buffer[1024];
};

ActionRun::ActionRun(asio::io_context& loop, const Action& action, const ActionTarget& target,
                     std::chrono::milliseconds timeout, std::function<void(ActionResult)> done)
    : run_(std::make_shared<Run>(loop, action, target, timeout, std::move(done))) {
  run_->begin();
}

ActionRun::~ActionRun() { run_->stop(); }

}  // namespace shoal::node
