// SPDX-License-Identifier: Apache-2.0
#include "agent/api/connection.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <sys/socket.h>

namespace shoal::api {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {

std::string name_entry(X509_NAME* name, int nid) {
  char text[256];
  const int size = X509_NAME_get_text_by_NID(name, nid, text, sizeof(text));
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : std::string();
}

class UnixConnection final : public Connection,
                             public std::enable_shared_from_this<UnixConnection> {
public:
  explicit UnixConnection(asio::local::stream_protocol::socket socket)
      : socket_(std::move(socket)) {
    peer_.local = true;
  }
  void open(std::function<void(error_code)> done) override {
    asio::post(socket_.get_executor(),
               [self = shared_from_this(), run = std::move(done)] { run({}); });
  }
  void read(std::span<char> into, Done done) override {
    socket_.async_read_some(asio::buffer(into.data(), into.size()),
                            [self = shared_from_this(),
                             run = std::move(done)](error_code e, std::size_t n) { run(e, n); });
  }
  void write(std::string_view bytes, Done done) override {
    asio::async_write(socket_, asio::buffer(bytes),
                      [self = shared_from_this(),
                       run = std::move(done)](error_code e, std::size_t n) { run(e, n); });
  }
  void shutdown_write() override {
    error_code ignored;
    socket_.shutdown(asio::socket_base::shutdown_send, ignored);
  }
  void close() override {
    error_code ignored;
    socket_.close(ignored);
  }
  bool peer_closed() override { return api::peer_closed(socket_.native_handle()); }
  const Peer& peer() const override { return peer_; }

private:
  asio::local::stream_protocol::socket socket_;
  Peer peer_;
};

class TlsConnection final : public Connection, public std::enable_shared_from_this<TlsConnection> {
public:
  TlsConnection(asio::ip::tcp::socket socket, std::shared_ptr<asio::ssl::context> tls)
      : tls_(std::move(tls)), stream_(std::move(socket), *tls_) {
    error_code e;
    keep_alive(stream_.lowest_layer().native_handle());
    const auto endpoint = stream_.lowest_layer().remote_endpoint(e);
    if (!e)
      peer_.address = endpoint.address().to_string();
  }
  void open(std::function<void(error_code)> done) override {
    stream_.async_handshake(asio::ssl::stream_base::server,
                            [self = shared_from_this(), run = std::move(done)](error_code e) {
                              if (!e)
                                self->read_peer();
                              run(e);
                            });
  }
  void read(std::span<char> into, Done done) override {
    stream_.async_read_some(asio::buffer(into.data(), into.size()),
                            [self = shared_from_this(),
                             run = std::move(done)](error_code e, std::size_t n) { run(e, n); });
  }
  void write(std::string_view bytes, Done done) override {
    asio::async_write(stream_, asio::buffer(bytes),
                      [self = shared_from_this(),
                       run = std::move(done)](error_code e, std::size_t n) { run(e, n); });
  }
  void shutdown_write() override {
    // Of TCP alone: TLS' own close would end reading too, as Asio does it. Lengths travel inside
    // TLS, so that a truncated answer is told from a whole one.
    error_code ignored;
    stream_.lowest_layer().shutdown(asio::socket_base::shutdown_send, ignored);
  }
  void close() override {
    error_code ignored;
    stream_.lowest_layer().close(ignored);
  }
  bool peer_closed() override { return api::peer_closed(stream_.lowest_layer().native_handle()); }
  const Peer& peer() const override { return peer_; }

private:
  void read_peer() {
    X509* certificate = SSL_get1_peer_certificate(stream_.native_handle());
    if (!certificate)
      return;
    peer_.verified = SSL_get_verify_result(stream_.native_handle()) == X509_V_OK;
    X509_NAME* subject = X509_get_subject_name(certificate);
    peer_.common_name = name_entry(subject, NID_commonName);
    peer_.organization = name_entry(subject, NID_organizationName);
    X509_free(certificate);
  }
  std::shared_ptr<asio::ssl::context> tls_;
  asio::ssl::stream<asio::ip::tcp::socket> stream_;
  Peer peer_;
};

}  // namespace

bool peer_closed(int socket) {
  pollfd look{socket, POLLRDHUP, 0};
  return socket < 0 || (::poll(&look, 1, 0) > 0 && look.revents != 0);
}

void keep_alive(int socket) {
  const auto set = [socket](int level, int option, int value) {
    ::setsockopt(socket, level, option, &value, sizeof(value));
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 15);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_NODELAY, 1);
}

std::shared_ptr<Connection> make_connection(asio::local::stream_protocol::socket socket) {
  return std::make_shared<UnixConnection>(std::move(socket));
}

std::shared_ptr<Connection> make_connection(asio::ip::tcp::socket socket,
                                            std::shared_ptr<asio::ssl::context> tls) {
  return std::make_shared<TlsConnection>(std::move(socket), std::move(tls));
}

Result<std::shared_ptr<asio::ssl::context>>
make_tls_context(const std::filesystem::path& certificate, const std::filesystem::path& key,
                 const std::filesystem::path& ca, bool server) {
  auto context = std::make_shared<asio::ssl::context>(server ? asio::ssl::context::tls_server
                                                             : asio::ssl::context::tls_client);
  SSL_CTX* raw = context->native_handle();
  if (SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION) != 1)
    return fail(Errc::kUnsupported, "this OpenSSL has no TLS 1.3");
  error_code e;
  const auto failed = [&](std::string_view what, const std::filesystem::path& path) {
    return fail(Errc::kInvalid, fmt::format("read {} {}: {}", what, path.string(), e.message()));
  };
  if (context->use_certificate_chain_file(certificate.string(), e); e)
    return failed("the certificate", certificate);
  if (context->use_private_key_file(key.string(), asio::ssl::context::pem, e); e)
    return failed("the private key", key);
  if (context->load_verify_file(ca.string(), e); e)
    return failed("the CA certificate", ca);
  // A server asks for a certificate, refuses a wrong one here, and decides by path what may be done
  // without one.
  context->set_verify_mode(asio::ssl::verify_peer, e);
  // Sessions are not resumed: a certificate that was taken back must not live on in a ticket.
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(raw, 0);
  return context;
}

}  // namespace shoal::api
