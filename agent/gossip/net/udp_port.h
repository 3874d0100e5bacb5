// SPDX-License-Identifier: Apache-2.0
// UdpPort: datagrams in and out of one socket, and what ICMP says about them.
//
// Threading: the io_context's thread. Sending never blocks: what the kernel has no room for is
// dropped.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

namespace shoal::gossip {

class UdpPort {
public:
  using OnDatagram = std::function<void(const SocketAddress& from, std::string_view bytes)>;
  using OnRefused = std::function<void(const SocketAddress& to)>;

  UdpPort(boost::asio::io_context& io, OnDatagram on_datagram, OnRefused on_refused);
  ~UdpPort();
  UdpPort(const UdpPort&) = delete;
  UdpPort& operator=(const UdpPort&) = delete;

  Result<> bind(const SocketAddress& address);
  SocketAddress local_address() const;
  bool send(const SocketAddress& to, std::string_view bytes);  // false: dropped
  // Hands on what waits in the socket, a bounded batch of it.
  void drain();
  void close();  // no callback runs afterwards

private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace shoal::gossip
