// SPDX-License-Identifier: Apache-2.0
// SocketAddress to and from Asio's endpoints.
#pragma once

#include "netplane/base/ip.h"

#include <boost/asio/ip/address.hpp>

namespace shoal::gossip {

template <class Endpoint>
Endpoint to_endpoint(const SocketAddress& address) {
  if (address.ip.is_v4())
    return {boost::asio::ip::address_v4(address.ip.v4_host_order()), address.port};
  return {boost::asio::ip::address_v6(address.ip.bytes()), address.port};
}

template <class Endpoint>
SocketAddress from_endpoint(const Endpoint& endpoint) {
  const auto& ip = endpoint.address();
  if (ip.is_v4())
    return {IpAddress::v4(ip.to_v4().to_uint()), endpoint.port()};
  return {IpAddress::from_bytes(ip.to_v6().to_bytes()), endpoint.port()};
}

}  // namespace shoal::gossip
