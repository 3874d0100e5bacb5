// SPDX-License-Identifier: Apache-2.0
// What a pod has on the host's disk: its containers' writable layers and logs, and its emptyDirs.
// Measured by walking, a bounded step at a time, each on a worker thread.
#pragma once

#include "agent/node/pod_spec.h"
#include "netplane/base/clock.h"
#include "runtime/sandbox/sandbox.h"
#include "runtime/shim/protocol.h"
#include "runtime/volume/folder.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace shoal::node {

struct PodDiskUse {
  std::map<std::string, runtime::DiskUsage> writable;  // by container
  std::map<std::string, runtime::DiskUsage> logs;      // by container
  std::map<std::string, runtime::DiskUsage> volumes;   // emptyDirs on disk
  // What could not be measured, and why; the rest of it is what was found until there.
  std::map<std::string, std::string> unmeasured;  // volumes
  runtime::DiskUsage total() const;
  bool operator==(const PodDiskUse&) const = default;
};

class PodDiskWalk {
public:
  // containers: the attempts whose writable layers are there.
  PodDiskWalk(const runtime::SandboxEnv& env, const PodSpec& pod,
              const std::vector<runtime::shim::ContainerRef>& containers);

  // False: that was all. What goes away meanwhile counts for nothing.
  bool step(std::size_t entries);
  const PodDiskUse& found() const { return found_; }  // so far

private:
  struct Part {
    std::filesystem::path dir;
    std::map<std::string, runtime::DiskUsage> PodDiskUse::* of;
    std::string name;
  };
  void end_part(const Error* error);

  std::vector<Part> parts_;
  std::size_t next_ = 0;
  std::optional<runtime::DiskWalk> walk_;  // of parts_[next_]
  PodDiskUse found_;
};

// The first limit that the pod is over, as its message in the kubelet's words; empty: none: the
// sizeLimit of an emptyDir, the limits of ephemeral-storage of all containers for all of it, and
// each container's own for its writable layer and log. Pure.
std::string over_disk_limit(const PodSpec& pod, const PodDiskUse& use);
// There is a limit at all.
bool disk_limited(const PodSpec& pod);

}  // namespace shoal::node
