// SPDX-License-Identifier: Apache-2.0
// Console: how a container's terminal comes from the OCI runtime (`--console-socket`: a stream
// socket that the master's descriptor is sent over, before the container's program runs). The
// folder is handed to the OCI runtime as a descriptor, since the socket's whole path may be longer
// than sun_path. One thread. Part of the static shim.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <string>

namespace shoal::runtime::shim {

class Console {
public:
  Console() = default;
  // In a folder that nobody else writes to; a socket that is there already goes.
  static Result<Console> listen(const std::string& folder);

  int folder() const { return folder_.get(); }  // to be inherited
  std::string path() const;                     // for whoever has inherited that
  // Once the OCI runtime has ended. Never blocks: what was sent is there.
  Result<UniqueFd> take();

private:
  UniqueFd folder_;
  UniqueFd listener_;
};

}  // namespace shoal::runtime::shim
