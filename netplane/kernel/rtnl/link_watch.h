// SPDX-License-Identifier: Apache-2.0
// LinkWatch: says that links, addresses or routes of a network namespace have changed, so that
// nobody has to read them all to find out. What concerns pods' links and Shoal's own routes is left
// out: those change with every pod.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

namespace shoal::kernel {

class LinkWatch {
public:
  // netns_fd -1: the calling thread's own namespace.
  static Result<LinkWatch> open(int netns_fd = -1);
  // Whether anything was said since the last call, or may have been: what did not fit into the
  // socket's buffer counts. Never blocks.
  bool stirred();

private:
  explicit LinkWatch(UniqueFd socket) : socket_(std::move(socket)) {}
  UniqueFd socket_;
};

}  // namespace shoal::kernel
