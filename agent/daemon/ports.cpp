// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/ports.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <cerrno>
#include <fmt/format.h>

namespace shoal::daemon {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

Result<> outcome(const error_code& error, std::string_view proto, const SocketAddress& address) {
  if (!error)
    return {};
  return fail_errno(error.value(), fmt::format("listen on {} {}", proto, address.to_string()));
}

Result<> try_tcp(const SocketAddress& address) {
  asio::io_context io;
  asio::ip::tcp::acceptor acceptor(io);
  const asio::ip::tcp::endpoint endpoint(asio::ip::make_address(address.ip.to_string()),
                                         address.port);
  error_code error;
  acceptor.open(endpoint.protocol(), error);
  if (!error)
    acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error)
    acceptor.bind(endpoint, error);
  if (!error)
    acceptor.listen(1, error);  // with reuse_address, only this finds another listener
  return outcome(error, "TCP", address);
}

Result<> try_udp(const SocketAddress& address) {
  asio::io_context io;
  asio::ip::udp::socket socket(io);
  const asio::ip::udp::endpoint endpoint(asio::ip::make_address(address.ip.to_string()),
                                         address.port);
  error_code error;
  socket.open(endpoint.protocol(), error);
  if (!error)
    socket.bind(endpoint, error);
  return outcome(error, "UDP", address);
}

}  // namespace

Result<> explain_listen(Result<> listened, std::string_view section) {
  if (listened)
    return {};
  const Error& error = listened.error();
  std::string mend;
  if (error.sys_errno() == EADDRINUSE)
    mend = fmt::format("another program has the port (`ss -lnp` shows which): stop it, or change "
                       "{}.port in the config",
                       section);
  else if (error.sys_errno() == EADDRNOTAVAIL)
    mend = fmt::format("this host does not have that address: change {}.listen in the config",
                       section);
  else
    return listened;
  return fail(Error(error.code(), fmt::format("{}: {}", error.message(), mend), error.sys_errno()));
}

Result<> check_ports(const Options& options) {
  SHOAL_TRY(explain_listen(try_tcp(options.api), "api"));
  SHOAL_TRY(explain_listen(try_udp(options.gossip), "gossip"));
  SHOAL_TRY(explain_listen(try_tcp(options.gossip), "gossip"));
  return explain_listen(try_tcp(options.metrics), "metrics");
}

}  // namespace shoal::daemon
