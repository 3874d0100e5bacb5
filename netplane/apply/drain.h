// SPDX-License-Identifier: Apache-2.0
// Closing the connections that are left of weight groups: one pass over all that this host knows of
// them. What a data plane gives is a job that reads what it needs by itself: it may take a second
// where there are many connections, and is for a thread that may wait; in the host's network
// namespace.
//
// Who closes what, so that over all hosts nothing is left out:
//   - a socket of this host that a hook pointed at the backend, in whichever namespace: closed here
//     (the flow is in no table);
//   - a flow that was balanced per packet, whose backend is here: the backend's socket is closed;
//   - one whose backend is elsewhere and only this host knows it (SNAT; nftables): the client's
//     socket, where that is here, else both ends are made to ask, and are told (raw_tcp.h);
//   - UDP flows have no end: they are forgotten, and their next datagram picks anew. Connected
//     sockets that a hook pointed there are closed.
// Each close sends the other side a reset, idle or not. Backends that end connections in user space
// themselves, without a TCP socket of the kernel, are not closed.
#pragma once

#include "netplane/base/result.h"
#include "netplane/kernel/bpf/connection_maps.h"
#include "netplane/plan/drain.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace shoal::apply {

struct DrainReport {
  std::vector<std::uint64_t> closed;  // connections, by the place of their group
  std::vector<Error> errors;          // what could not be done; the rest is
};
using DrainJob = std::function<DrainReport()>;
using OpenConnectionMaps = std::function<Result<std::unique_ptr<kernel::ConnectionMaps>>()>;

DrainJob drain_by_maps(plan::DrainTargets targets, OpenConnectionMaps open_maps);
// By the kernel's own connection table.
DrainJob drain_by_conntrack(plan::DrainTargets targets);

// What this kernel lacks for it, as a sentence; empty: nothing.
std::string drain_limitation();

}  // namespace shoal::apply
