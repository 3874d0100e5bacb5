// SPDX-License-Identifier: Apache-2.0
// The volumes of a pod on this host: made before its first container starts, kept while its object
// is here and it has not ended, whatever becomes of shim and agent. Gone with the pod's folder
// (runtime/sandbox). Blocking: worker threads only.
//
//   <data>/<uid>/volumes/<volume>   the folder, a tmpfs, files, or a link to a claim's folder
//   <run>/<uid>/parts/<container>-<attempt>/<n>   mounts of one part of a volume (subPath)
#pragma once

#include "agent/node/volume_plan.h"
#include "runtime/sandbox/sandbox.h"
#include "runtime/shim/protocol.h"

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace shoal::node {

// Makes what is missing and brings files up to date. Goes on past a volume's problem and returns
// the first one, as an event's message.
Result<> set_up_volumes(const runtime::SandboxEnv& env, const PodSpec& pod,
                        const std::vector<VolumeWork>& work);

// The name of a variable's value in a container's environment; null: there is none.
using FindVariable = std::function<const std::string*(const std::string& name)>;
// What a container's volumeMounts are for the OCI runtime. Parts of volumes are mounted on the host
// for that, until release_mounts.
Result<std::vector<runtime::BindMount>>
container_mounts(const runtime::SandboxEnv& env, const PodSpec& pod, const ContainerSpec& container,
                 const runtime::shim::ContainerRef& ref, const FindVariable& variable);
Result<> release_mounts(const runtime::SandboxEnv& env, const std::string& uid,
                        const runtime::shim::ContainerRef& ref);

// The uids of the claims that pods have links to, each with those pods' uids, by pods' folders:
// also those of pods of which nothing else is known.
using LinkedClaims = std::map<std::string, std::set<std::string>>;
Result<LinkedClaims> linked_claims(const runtime::SandboxEnv& env);

}  // namespace shoal::node
