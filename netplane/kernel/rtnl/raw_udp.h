// SPDX-License-Identifier: Apache-2.0
// RawUdp: sends UDP datagrams over IPv4 from any source address, one that is not this host's own
// included: to find out whether the network takes such. Nothing is received, and nothing blocks.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <string>
#include <string_view>

namespace shoal::kernel {

// Pure: the IPv4 packet (RFC 791, RFC 768), with the UDP checksum; the IP header's is left to the
// kernel, as are its length and identification. Both addresses are IPv4.
std::string udp_packet(const SocketAddress& from, const SocketAddress& to,
                       std::string_view payload);

class RawUdp {
public:
  static Result<RawUdp> open();  // in the calling thread's network namespace
  // By the route to `to`, whatever `from` is. kUnavailable: there is none, or no room.
  Result<> send(const SocketAddress& from, const SocketAddress& to, std::string_view payload);

private:
  explicit RawUdp(UniqueFd socket) : socket_(std::move(socket)) {}
  UniqueFd socket_;
};

}  // namespace shoal::kernel
