// SPDX-License-Identifier: Apache-2.0
// Conntrack: the kernel's connection table over ctnetlink, as far as a service proxy needs it: UDP
// flows have no end of their own, and one that leads to a backend that is gone would go on leading
// there for as long as its client sends; and where connections are translated, it is what says
// which. Only zone 0 is looked at. Threading: one thread at a time.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"

#include <cstddef>
#include <functional>
#include <memory>

namespace shoal::kernel {

// As the client sent it, and where it was led: the same as `destination` when it was not
// translated.
struct UdpFlow {
  SocketAddress source;
  SocketAddress destination;
  SocketAddress backend;
};

// A flow with both of its directions.
struct TrackedFlow {
  L4Proto proto = L4Proto::kTcp;
  SocketAddress source;  // as the client sent it
  SocketAddress destination;
  SocketAddress reply_source;  // who answers
  SocketAddress reply_destination;
  bool over = false;  // TCP: it is closed, but for what may be late
};

class Conntrack {
public:
  virtual ~Conntrack() = default;
  // Every TCP and UDP flow.
  virtual Result<> each(const std::function<void(const TrackedFlow&)>& visit) = 0;
  // Its next packet is a first one. What has ended by itself is fine.
  virtual Result<> forget(const TrackedFlow& flow) = 0;
  // Forgets the flows that `stale` picks; their next packet is a first one. How many there were.
  virtual Result<std::size_t> forget_udp(const std::function<bool(const UdpFlow&)>& stale) = 0;
};

// In that namespace; -1: the calling thread's own.
Result<std::unique_ptr<Conntrack>> open_conntrack(int netns_fd = -1);

}  // namespace shoal::kernel
