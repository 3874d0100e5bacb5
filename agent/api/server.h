// SPDX-License-Identifier: Apache-2.0
// The REST server of a host: Kubernetes' paths from the replica and the writer, plus handlers that
// main registers (images, logs, exec, cluster administration). HTTP/1.1 with keep-alive, on a
// root-only unix socket and, when configured, on TCP under TLS 1.3. There a client shows a
// certificate of the cluster's CA; without one it gets 401 from everything but health checks,
// /version and routes made for Access::kAnonymous.
//
// Errors are Kubernetes Status objects. Limits are named below; a peer that passes one is answered
// or cut off. Threading: the agent's one loop thread. Handlers are called on it and must not block.
//
// A handler gets an Exchange and answers it exactly once, at once or later:
//   server.route("GET", "/shoal/v1/members", [](ExchangePtr x) { x->reply(200, members()); });
//   server.route("GET", "/api/v1/namespaces/{namespace}/pods/{name}/log", [](ExchangePtr x) {
//     x->begin(200, "text/plain");  x->write("line\n", [x](bool ok) { if (ok) x->end(); }); });
#pragma once

#include "agent/api/schema.h"
#include "agent/api/writer.h"
#include "netplane/base/clock.h"
#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <boost/asio/io_context.hpp>
#include <boost/json/value.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::api {

struct ServerLimits {
  std::size_t connections_max = 1024;
  std::size_t header_bytes_max = 64 << 10;
  std::size_t body_bytes_max = 4 << 20;  // buffered bodies; streamed ones have their own
  std::size_t watches_max = 512;
  std::size_t watch_queue_events_max = 4096;    // per watcher; a slower one is told 410 and cut off
  std::size_t watch_history_events_max = 8192;  // how far back a watch can begin
  std::chrono::milliseconds header_timeout_ms{10'000};
  std::chrono::milliseconds body_timeout_ms{30'000};  // without progress
  std::chrono::milliseconds idle_timeout_ms{120'000};
  std::chrono::milliseconds write_timeout_ms{30'000};  // without progress
};

struct TlsOptions {
  std::string address;  // "0.0.0.0"
  std::uint16_t port = 6443;
  std::filesystem::path certificate;  // PEM, with chain
  std::filesystem::path key;
  std::filesystem::path ca;  // who signs clients
};

struct ServerOptions {
  std::filesystem::path
      unix_path;  // its folder exists; a stale socket is replaced, a live one is an error
  std::optional<TlsOptions> tls;
  // Answers ?dryRun=All (WriterOptions::dry_run); without one such requests are refused.
  Writer* dry_run_writer = nullptr;
  ServerLimits limits;
};

// Who asks.
struct Peer {
  bool local = false;       // over the unix socket: root
  bool verified = false;    // over TLS, with a certificate of the cluster's CA
  std::string common_name;  // of the client certificate, over TLS
  std::string organization;
  std::string address;
};

struct Request {
  std::string method;                                       // "GET"
  std::string path;                                         // percent-decoded
  std::vector<std::string> segments;                        // its parts, decoded one by one
  std::map<std::string, std::string, std::less<>> query;    // the last of a name wins
  std::map<std::string, std::string, std::less<>> headers;  // names in lower case
  std::map<std::string, std::string, std::less<>> params;   // {name} of the route; "*" for the rest
  std::string body;                                         // of buffered routes
  Peer peer;

  std::string_view query_or(std::string_view name, std::string_view otherwise = {}) const;
  bool query_flag(std::string_view name) const;  // "true" or "1"
  std::string_view header(std::string_view lower_case_name) const;
};

// A connection that has left HTTP: bytes both ways. One read and one write may be pending at a
// time.
class RawStream {
public:
  virtual ~RawStream() = default;
  // The span is good until the next read; an empty one is the end of the peer's data.
  virtual void read(std::function<void(Result<std::string_view>)> done) = 0;
  virtual void write(std::string bytes, std::function<void(Result<>)> done) = 0;
  virtual void shutdown_write() = 0;
  // Runs once when the peer sends no more, while nobody reads: looked at every second, since what
  // it had sent before may stay unread for as long as who should take it does not. Empty: stop.
  virtual void on_gone(std::function<void()> run) = 0;
  // After everything was written: the peer gets to see it, whatever it still sends. A pending read
  // fails, and nothing else of this is to be called any more.
  virtual void end() = 0;
  virtual void close() = 0;  // at once
};
using RawStreamPtr = std::shared_ptr<RawStream>;

class Exchange {
public:
  virtual ~Exchange() = default;
  virtual const Request& request() const = 0;

  // ---- one answer
  void reply(int status, const boost::json::value& body);
  void reply_text(int status, std::string text);  // text/plain
  void reply_error(const ApiError& error);
  void reply_error(const Error& error) { reply_error(api_error(error)); }
  virtual void reply_bytes(int status, std::string_view content_type, std::string body,
                           const std::vector<std::string>& warnings = {}) = 0;

  // ---- or a streamed one (chunked): begin, write..., end. At most one write pending: wait for its
  // `done`; done(false): the peer is gone, stop.
  virtual void begin(int status, std::string_view content_type) = 0;
  virtual void write(std::string bytes, std::function<void(bool ok)> done) = 0;
  virtual void end() = 0;
  // The reader may take its time, as somebody does who reads a page at a time: it is not given up
  // after write_timeout_ms. Upgraded connections never are. A host that is gone is found by TCP.
  virtual void be_patient() = 0;

  // ---- or the connection itself: answers 101 with this Upgrade protocol.
  virtual void upgrade(std::string_view protocol, std::function<void(RawStreamPtr)> on_stream) = 0;

  // Streamed routes only: reads the body into fd (written on the loop thread in small pieces); done
  // gives its size. kExhausted when it is larger than bytes_max or the disk is full.
  virtual void body_to_file(int fd, std::uint64_t bytes_max,
                            std::function<void(Result<std::uint64_t>)> done) = 0;

  // Runs once when the peer goes away before the answer is complete.
  virtual void on_gone(std::function<void()> run) = 0;
};
using ExchangePtr = std::shared_ptr<Exchange>;
using Handler = std::function<void(ExchangePtr)>;

enum class BodyMode : std::uint8_t { kBuffered, kStreamed };
// Who may call a route: the unix socket and holders of a certificate, or anybody at all (a host
// that joins by its token has no certificate yet).
enum class Access : std::uint8_t { kAuthenticated, kAnonymous };

class Server {
public:
  Server(boost::asio::io_context& loop, store::Replica& replica, Writer& writer, const Clock& clock,
         ServerOptions options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // pattern: "/a/{x}/b", or "/a/*" for all below. Registered routes come before Kubernetes' own;
  // the earlier registered wins. Before start().
  void route(std::string_view method, std::string_view pattern, Handler handler,
             BodyMode mode = BodyMode::kBuffered, Access access = Access::kAuthenticated);

  Result<> start();  // binds and accepts; says which address is in use
  void stop();       // closes listeners and connections
  // Certificates are read again for new connections (after a renewal).
  Result<> reload_tls();
  std::uint16_t tls_port() const;  // the bound one (port 0 in options: any)

private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace shoal::api
