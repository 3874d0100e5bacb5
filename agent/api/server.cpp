// SPDX-License-Identifier: Apache-2.0
#include "agent/api/server.h"

#include "agent/api/connection.h"
#include "agent/api/rest.h"
#include "agent/api/session.h"
#include "netplane/base/strings.h"

#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <fmt/format.h>
#include <set>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace shoal::api {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {

// After the process ran out of descriptors.
constexpr std::chrono::milliseconds kAcceptPause{100};

struct Route {
  std::string method;
  std::vector<std::string> segments;  // "{x}" binds, a last "*" takes the rest
  Handler handler;
  BodyMode mode;
  Access access;
};

std::vector<std::string> segments_of(std::string_view path) {
  std::vector<std::string> segments;
  for (const std::string_view part : split(path, '/'))
    if (!part.empty())
      segments.emplace_back(part);
  return segments;
}

bool match(const Route& route, const std::vector<std::string>& path,
           std::map<std::string, std::string, std::less<>>& params) {
  params.clear();
  for (std::size_t i = 0; i < route.segments.size(); ++i) {
    const std::string& want = route.segments[i];
    if (want == "*" && i + 1 == route.segments.size()) {
      std::string rest;
      for (std::size_t k = i; k < path.size(); ++k)
        rest += (rest.empty() ? "" : "/") + path[k];
      params["*"] = std::move(rest);
      return true;
    }
    if (i >= path.size())
      return false;
    if (want.starts_with('{') && want.ends_with('}'))
      params[want.substr(1, want.size() - 2)] = path[i];
    else if (want != path[i])
      return false;
  }
  return path.size() == route.segments.size();
}

// What Kubernetes answers without asking who one is, too.
bool is_public(const Request& request) {
  return request.method == "GET" && (request.path == "/healthz" || request.path == "/livez" ||
                                     request.path == "/readyz" || request.path == "/version");
}

void unauthorized(const ExchangePtr& exchange) {
  exchange->reply_error(
      ApiError{401,
               "Unauthorized",
               "Unauthorized: show a client certificate that this cluster's CA has "
               "signed, or use the unix socket as root",
               {}});
}

// True when somebody answers there.
bool is_live(const std::filesystem::path& path) {
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.string().copy(address.sun_path, sizeof(address.sun_path) - 1);
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ||
         errno == EAGAIN;
}

}  // namespace

struct Server::Impl : std::enable_shared_from_this<Impl> {
  asio::io_context& loop;
  ServerOptions options;
  Rest rest;
  std::vector<Route> routes;
  asio::local::stream_protocol::acceptor unix_acceptor;
  asio::ip::tcp::acceptor tcp_acceptor;
  asio::steady_timer pause;
  std::shared_ptr<asio::ssl::context> tls;
  std::set<std::shared_ptr<Session>> sessions;
  bool stopped = false;

  Impl(asio::io_context& l, store::Replica& replica, Writer& writer, const Clock& clock,
       ServerOptions o)
      : loop(l), options(std::move(o)), rest(l, replica, writer, clock, options), unix_acceptor(l),
        tcp_acceptor(l), pause(l) {}

  Result<> listen_unix() {
    const std::string path = options.unix_path.string();
    if (path.size() >= sizeof(sockaddr_un::sun_path))
      return fail(Errc::kInvalid, fmt::format("unix socket {}: at most {} bytes; choose a shorter "
                                              "run_dir",
                                              path, sizeof(sockaddr_un::sun_path) - 1));
    if (is_live(options.unix_path))
      return fail(Errc::kExists,
                  fmt::format("unix socket {}: another shoald answers there; stop it "
                              "first, or give this one a run_dir of its own",
                              path));
    ::unlink(path.c_str());
    error_code error;
    unix_acceptor.open(asio::local::stream_protocol(), error);
    const mode_t before = ::umask(0177);  // root only, from the first moment
    if (!error)
      unix_acceptor.bind(asio::local::stream_protocol::endpoint(path), error);
    ::umask(before);
    if (!error)
      unix_acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error)
      return fail(Error::from_errno(error.value(), fmt::format("listen on unix socket {}", path)));
    return {};
  }

  Result<> listen_tls() {
    const TlsOptions& wanted = *options.tls;
    const std::string where =
        fmt::format("listen for the API on {} port {}", wanted.address, wanted.port);
    tls = SHOAL_TRY_WRAP(make_tls_context(wanted.certificate, wanted.key, wanted.ca, true), where);
    error_code error;
    const auto address = asio::ip::make_address(wanted.address, error);
    if (error)
      return fail(Errc::kInvalid, fmt::format("{}: not an IP address", where));
    const asio::ip::tcp::endpoint endpoint(address, wanted.port);
    tcp_acceptor.open(endpoint.protocol(), error);
    if (!error)
      tcp_acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error)
      tcp_acceptor.bind(endpoint, error);
    if (!error)
      tcp_acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error)
      return fail_errno(error.value(), where);
    return {};
  }

  template <class Acceptor, class Wrap>
  void accept(Acceptor& acceptor, Wrap wrap) {
    acceptor.async_accept(
        [self = shared_from_this(), &acceptor, wrap](error_code error, auto socket) {
          if (self->stopped)
            return;
          if (error) {
            // Out of descriptors, or a connection that died in the queue: neither ends the server.
            self->pause.expires_after(kAcceptPause);
            self->pause.async_wait([self, &acceptor, wrap](error_code) {
              if (!self->stopped)
                self->accept(acceptor, wrap);
            });
            return;
          }
          if (self->sessions.size() < self->options.limits.connections_max)
            self->serve(wrap(std::move(socket)));
          self->accept(acceptor, wrap);
        });
  }

  void serve(std::shared_ptr<Connection> connection) {
    const auto session = std::make_shared<Session>(
        loop, std::move(connection), options.limits,
        [weak = weak_from_this()](const Request& request) {
          const auto self = weak.lock();
          return self ? self->dispatch(request) : Dispatch{};
        },
        [weak = weak_from_this()](Session* ended) {
          if (const auto self = weak.lock())
            self->sessions.erase(ended->shared_from_this());
        });
    sessions.insert(session);
    session->start();
  }

  Dispatch dispatch(const Request& request) {
    const bool known = request.peer.local || request.peer.verified;
    Dispatch found;
    for (const Route& route : routes)
      if (route.method == request.method && match(route, request.segments, found.params)) {
        found.handler =
            known || route.access == Access::kAnonymous ? route.handler : Handler(unauthorized);
        found.mode = route.mode;
        return found;
      }
    found.params.clear();
    found.handler = unauthorized;
    if (!known && !is_public(request))
      return found;
    found.handler = [weak = weak_from_this()](const ExchangePtr& exchange) {
      if (const auto self = weak.lock())
        self->rest.handle(exchange);
    };
    return found;
  }
};

Server::Server(asio::io_context& loop, store::Replica& replica, Writer& writer, const Clock& clock,
               ServerOptions options)
    : impl_(std::make_shared<Impl>(loop, replica, writer, clock, std::move(options))) {}

Server::~Server() { stop(); }

void Server::route(std::string_view method, std::string_view pattern, Handler handler,
                   BodyMode mode, Access access) {
  impl_->routes.push_back(
      {std::string(method), segments_of(pattern), std::move(handler), mode, access});
}

Result<> Server::start() {
  SHOAL_TRY(impl_->listen_unix());
  if (impl_->options.tls)
    SHOAL_TRY(impl_->listen_tls());
  impl_->accept(impl_->unix_acceptor, [](asio::local::stream_protocol::socket socket) {
    return make_connection(std::move(socket));
  });
  if (impl_->options.tls)
    impl_->accept(impl_->tcp_acceptor, [raw = impl_.get()](asio::ip::tcp::socket socket) {
      return make_connection(std::move(socket), raw->tls);
    });
  return {};
}

void Server::stop() {
  if (std::exchange(impl_->stopped, true))
    return;
  error_code ignored;
  const bool listening = impl_->unix_acceptor.is_open();
  impl_->unix_acceptor.close(ignored);
  impl_->tcp_acceptor.close(ignored);
  impl_->pause.cancel();
  if (listening)
    ::unlink(impl_->options.unix_path.c_str());
  impl_->rest.stop();
  while (!impl_->sessions.empty())
    (*impl_->sessions.begin())->close();
}

Result<> Server::reload_tls() {
  if (!impl_->options.tls)
    return {};
  const TlsOptions& wanted = *impl_->options.tls;
  impl_->tls = SHOAL_TRY_WRAP(make_tls_context(wanted.certificate, wanted.key, wanted.ca, true),
                              "reload the API's certificates");
  return {};
}

std::uint16_t Server::tls_port() const {
  error_code error;
  const auto endpoint = impl_->tcp_acceptor.local_endpoint(error);
  return error ? 0 : endpoint.port();
}

}  // namespace shoal::api
