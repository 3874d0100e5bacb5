// SPDX-License-Identifier: Apache-2.0
// The end of all processes of a container whose first one has ended, where no pid namespace of its
// own takes them along: by its cgroup. Also those that fork meanwhile are met. Never blocks. Part
// of the static shim.
#pragma once

#include <string>

namespace shoal::runtime::shim {

struct ProcessGroup {
  std::string cgroup2;     // its folder in the cgroup2 tree; empty: there is none
  std::string freezer_v1;  // else that in the hierarchy of the v1 freezer
};

// SIGKILL to every process in there and below. True when none was left: until then, whoever wants
// them ended asks again, as a process takes a moment to die. No such cgroup: none left.
bool kill_group(const ProcessGroup& group);

}  // namespace shoal::runtime::shim
