// SPDX-License-Identifier: Apache-2.0
// The holder: the first process of a pid namespace that all containers of a pod share (Kubernetes'
// shareProcessNamespace; pid_namespaces(7)). It is a child of the shim and does nothing: while it
// lives, so does the namespace, and what its containers orphan it reaps. With it, the kernel ends
// every process in there.
//
// Containers see it as process 1, and there is nothing to be had from it: it has no capability, no
// file, no folder but an empty one of its own, and is nobody's user; it cannot be traced, nor is it
// told by its command line what host it is on. A signal from within the namespace does not reach
// it. It ends with the shim. Part of the static shim.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <span>
#include <sys/types.h>

namespace shoal::runtime::shim {

inline constexpr std::uint32_t kHolderUser = 65534;  // and group: nobody's

struct Holder {
  pid_t pid = 0;  // 0: the pod has none
  std::uint64_t start_ticks = 0;
};

// Returns once it is what it shall be. command_line: the memory that this process' own one is in.
// Beneath mount_point, a folder, nothing changes that others see.
Result<Holder> start_holder(std::span<char> command_line, const char* mount_point);

}  // namespace shoal::runtime::shim
