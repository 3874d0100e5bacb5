// SPDX-License-Identifier: Apache-2.0
// What this kernel has of what the data plane can use: asked of the kernel itself, never taken from
// a version.
#pragma once

#include <string>
#include <vector>

namespace shoal::kernel {

struct Features {
  bool tcx = true;            // tc programs as links (6.6); without: clsact filters
  bool redirect_peer = true;  // straight into the pod's namespace (5.10); without: through its veth
  bool redirect_neigh =
      true;  // resolves the next hop by itself (5.10); without: unresolved ones go by the stack
  bool set_retval = true;  // a refused connect says ECONNREFUSED (5.18); without: EPERM
  bool sk_storage = true;  // translations live in the socket; without: in a table that can overflow
  bool coarse_clock = true;  // a cheap clock (5.11)
  bool xdp =
      true;  // XDP programs as links (5.9); whether a device's driver takes one is another matter
  bool operator==(const Features&) const = default;
};

// What is both in this kernel and allowed. Attaches and removes, within the call, a program that
// does nothing to the loopback device of the calling thread's network namespace. Needs CAP_BPF and
// CAP_NET_ADMIN; without them everything seems missing, so the loader checks that first.
Features probe_features(const Features& allowed);

// One sentence for each that is missing: what it is and what its absence costs.
std::vector<std::string> limitations(const Features& features);

}  // namespace shoal::kernel
