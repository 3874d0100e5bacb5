// SPDX-License-Identifier: Apache-2.0
// Connection: bytes over a unix socket or over TLS, one interface for both, so that HTTP is written
// once. At most one read and one write are pending at a time. Callbacks come on the loop, never
// from within the call. After close() pending operations fail. Internal to agent/api.
#pragma once

#include "agent/api/server.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/system/error_code.hpp>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace shoal::api {

class Connection {
public:
  using Done = std::function<void(boost::system::error_code, std::size_t)>;
  virtual ~Connection() = default;
  // TLS: shakes hands; fills in who the peer is.
  virtual void open(std::function<void(boost::system::error_code)> done) = 0;
  virtual void read(std::span<char> into, Done done) = 0;
  virtual void write(std::string_view bytes,
                     Done done) = 0;  // all of them; they stay valid until done
  virtual void shutdown_write() = 0;
  virtual void close() = 0;
  // Whether the peer sends no more, whatever is still to be read.
  virtual bool peer_closed() = 0;
  virtual const Peer& peer() const = 0;
};

std::shared_ptr<Connection> make_connection(boost::asio::local::stream_protocol::socket socket);
std::shared_ptr<Connection> make_connection(boost::asio::ip::tcp::socket socket,
                                            std::shared_ptr<boost::asio::ssl::context> tls);

// A host that dies in the middle says nothing: a connection that may be silent for hours is looked
// after by the kernel. There is no TCP_USER_TIMEOUT: a peer that lives and does not read would be
// taken for a dead one.
void keep_alive(int socket);
bool peer_closed(int socket);  // as Connection::peer_closed

// TLS 1.3; certificates are those of the cluster's CA.
Result<std::shared_ptr<boost::asio::ssl::context>>
make_tls_context(const std::filesystem::path& certificate, const std::filesystem::path& key,
                 const std::filesystem::path& ca, bool server);

}  // namespace shoal::api
