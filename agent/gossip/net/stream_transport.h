// SPDX-License-Identifier: Apache-2.0
// StreamTransport: whole messages to peers over connections, in order, authentic and secret. What
// is too big for datagrams goes this way. An interface, so that mutual TLS can take the sealed
// transport's place once hosts have certificates.
//
// Threading: the io_context's thread. send() never blocks and never fails: a message that cannot be
// delivered is dropped and counted, and the protocol asks again.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"

#include <cstdint>
#include <functional>
#include <string>

namespace shoal::gossip {

struct StreamStats {
  std::uint64_t open = 0;  // connections, both ways
  std::uint64_t bytes_in = 0, bytes_out = 0;
  std::uint64_t wrong_key = 0;  // connections sealed under a key that this host does not hold
  std::uint64_t failed = 0;     // connections that could not be made, broke or were malformed
  std::uint64_t dropped = 0;    // messages
};

class StreamTransport {
public:
  // from: the connection's address, whose port is not one to answer to.
  using OnMessage = std::function<void(const SocketAddress& from, std::string bytes)>;
  using OnWrongKey = std::function<void(const SocketAddress& from)>;

  virtual ~StreamTransport() = default;
  virtual Result<> listen(const SocketAddress& address) = 0;
  virtual void send(const SocketAddress& to, std::string bytes) = 0;
  virtual void stop() = 0;  // no callback runs afterwards
  virtual const StreamStats& stats() const = 0;
};

}  // namespace shoal::gossip
