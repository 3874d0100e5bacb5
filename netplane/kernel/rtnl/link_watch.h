// SPDX-License-Identifier: Apache-2.0
// LinkWatch: says that links, addresses or routes of a network namespace have changed, so that
// nobody has to read them all to find out. Left out is what concerns pods' links and routes, which
// change with every pod, and routes by a gateway but the default ones: a routing daemon may change
// thousands of those a second, and no uplink is chosen by them.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

namespace shoal::kernel {

struct Stir {
  bool uplinks = false;  // which uplinks there are, or what they carry
  bool routes = false;  // Shoal's own routes to other hosts may be gone: the kernel takes them with
                        // a link or an address, of IPv4 without a word
  explicit operator bool() const { return uplinks || routes; }
  Stir& operator|=(const Stir& other) {
    uplinks = uplinks || other.uplinks;
    routes = routes || other.routes;
    return *this;
  }
};

class LinkWatch {
public:
  // netns_fd -1: the calling thread's own namespace.
  static Result<LinkWatch> open(int netns_fd = -1);
  // What was said since the last call, or may have been: what did not fit into the socket's buffer
  // counts. Never blocks.
  Stir stirred();

private:
  explicit LinkWatch(UniqueFd socket) : socket_(std::move(socket)) {}
  UniqueFd socket_;
};

}  // namespace shoal::kernel
