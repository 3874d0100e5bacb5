// SPDX-License-Identifier: Apache-2.0
// What a host has to make of a pod's volumes, from its spec and what that refers to: other objects,
// the pod itself, its resources. Messages are the kubelet's. Pure.
#pragma once

#include "agent/node/env.h"
#include "agent/node/pod_spec.h"
#include "runtime/volume/claim_folders.h"
#include "runtime/volume/files.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace shoal::node {

struct VolumeWork {
  VolumeSpec volume;
  std::string problem;                       // an event's message; then there is nothing to be done
  runtime::VolumeFiles files;                // kFiles
  std::optional<std::int64_t> memory_bytes;  // of an emptyDir in memory
  runtime::ClaimFolder claim;                // kClaim
  bool exclusive = false;                    // kClaim: of one pod at a time (ReadWriteOncePod)
};

// In the spec's order. files_only: of volumes that are set up already.
std::vector<VolumeWork> plan_volumes(const PodSpec& pod, const EnvFacts& facts,
                                     bool files_only = false);

// `MountVolume.SetUp failed for volume "x" : why`
std::string setup_failed(std::string_view volume, std::string_view why);

}  // namespace shoal::node
