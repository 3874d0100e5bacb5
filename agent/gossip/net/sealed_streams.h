// SPDX-License-Identifier: Apache-2.0
// SealedStreams: StreamTransport over TCP, sealed under the gossip key ring (see seal.h).
//
// A connection carries messages one way, from the host that dialled; a peer answers over one of its
// own.
//   preamble  "SHG1" | key id (4) | salt (12)
//   frame     length (4, of what follows) | ciphertext | tag (16)
// The sending key is derived from key ring, salt and cluster id; frames are numbered by the nonce,
// so none can be left out, doubled or moved. The first frame is empty: nothing large is read from a
// peer that has not shown the key. A recorded connection can be replayed as a whole; what it says
// is then old, and old versions and incarnations change nothing.
//
// Bounds: kIncomingMax and kOutgoingMax connections, kQueueBytesMax a peer; every wait has a
// timeout.
#pragma once

#include "agent/gossip/net/key_ring.h"
#include "agent/gossip/net/seal.h"
#include "agent/gossip/net/stream_transport.h"
#include "netplane/base/random.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

namespace shoal::gossip {

inline constexpr std::size_t kIncomingMax = 512;
inline constexpr std::size_t kOutgoingMax = 512;
inline constexpr std::size_t kQueueBytesMax = 16U << 20;   // waiting for one peer
inline constexpr std::size_t kQueuedBytesMax = 64U << 20;  // waiting for all peers

struct StreamTimeouts {
  std::chrono::milliseconds connect{3000};
  std::chrono::milliseconds handshake{5000};  // until the first frame has come
  std::chrono::milliseconds frame{15'000};    // for one frame, either way
  std::chrono::milliseconds idle{30'000};     // then the dialler hangs up
};

class SealedStreams final : public StreamTransport {
public:
  SealedStreams(boost::asio::io_context& io, const KeyRing& ring, std::string_view cluster_id,
                Random& random, OnMessage on_message, OnWrongKey on_wrong_key,
                StreamTimeouts timeouts = {});
  ~SealedStreams() override;

  Result<> listen(const SocketAddress& address) override;
  void send(const SocketAddress& to, std::string bytes) override;
  void stop() override;
  const StreamStats& stats() const override;
  void set_keys(const KeyRing& ring);  // for connections from now on

private:
  class Incoming;
  class Outgoing;
  struct Shared;  // outlives this object in the handlers that still hold it
  std::shared_ptr<Shared> shared_;
};

}  // namespace shoal::gossip
