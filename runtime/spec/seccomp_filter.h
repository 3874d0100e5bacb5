// SPDX-License-Identifier: Apache-2.0
// An OCI `seccomp` object (runtime specification 1.0.2, config-linux.md) as the classic BPF program
// that seccomp(2) takes: what the OCI runtime makes of it for a container's first process, for the
// further ones that the shim starts by itself. Made by libseccomp.
//
// As the OCI runtimes have it, names of calls that this architecture does not know are passed over,
// and several conditions on one argument are alternatives. kInvalid names what cannot be read;
// kUnsupported: an action that needs a supervisor (SCMP_ACT_NOTIFY).
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace shoal::runtime {

struct SeccompFilter {
  std::string program;      // struct sock_filter[]
  std::uint32_t flags = 0;  // of seccomp(2)
};

Result<SeccompFilter> seccomp_filter(std::string_view profile);

}  // namespace shoal::runtime
