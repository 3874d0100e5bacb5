// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/unique_fd.h"

#include <cerrno>
#include <unistd.h>

namespace shoal {

void UniqueFd::reset(int fd) {
  if (fd_ >= 0) {
    const int kept = errno;
    ::close(fd_);
    errno = kept;
  }
  fd_ = fd;
}

}  // namespace shoal
