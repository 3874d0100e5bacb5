// SPDX-License-Identifier: Apache-2.0
// The number by which the tc programs pick a backend for a new flow, computed again in user space
// so that `shoal trace` can say which one a connection will get. The programs' own is flow_hash()
// of bpf/lib/lb.h; a test holds the two against each other by running the program on packets.
#pragma once

#include "netplane/base/ip.h"

#include <compare>
#include <cstdint>

namespace shoal::kernel {

// A packet's addresses, as the client sent it.
struct FlowTuple {
  L4Proto proto = L4Proto::kTcp;
  SocketAddress source;
  SocketAddress destination;
  auto operator<=>(const FlowTuple&) const = default;
};

// seed: the cluster's, see shoal_config.
std::uint32_t flow_hash(const FlowTuple& flow, std::uint64_t seed);

// The slot of a ring of `slots` at a number: slots > 0.
std::uint32_t ring_slot(std::uint32_t number, std::uint32_t slots);

}  // namespace shoal::kernel
