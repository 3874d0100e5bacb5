// SPDX-License-Identifier: Apache-2.0
// Taking up what an earlier agent, or an earlier boot, left of a pod. A sandbox that lives goes on
// as it is; of one that does not, everything goes but what is still shown: logs, what became of the
// containers, the status as it was last reported. Blocking: worker threads only.
#pragma once

#include "agent/node/pod_spec.h"
#include "runtime/image/store.h"
#include "runtime/sandbox/sandbox.h"

#include <boost/json/object.hpp>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace shoal::node {

struct TakenUp {
  std::optional<runtime::Sandbox> sandbox;
  std::optional<runtime::ShimEvents> events;  // with a sandbox
  // Each container's attempts as far as they are known, oldest first. One that ran and whose shim
  // is gone has ended with it: by SIGKILL, as far as anybody can tell.
  std::vector<runtime::shim::ContainerState> states;
  std::map<std::string, std::string> image_ids;  // by container
  std::optional<boost::json::object> status;
};

// kUnavailable: a container is being created, by a request whose outcome only the earlier agent was
// told. It is over soon.
Result<TakenUp> take_up(const runtime::SandboxEnv& env, runtime::ImageStore& images,
                        const PodSpec& pod, WallTime now);

// What take_up reads as status. Losing it costs times that a reader sees.
Result<> note_status(const runtime::SandboxEnv& env, const std::string& uid,
                     const boost::json::object& status);

}  // namespace shoal::node
