// SPDX-License-Identifier: Apache-2.0
// What kubectl prints of a pod, by its rules: the phase, unless the pod or one of its containers
// has more to say. Pure.
#pragma once

#include "agent/store/replica.h"

#include <cstdint>
#include <string>

namespace shoal::api {

struct PodSummary {
  std::size_t containers = 0;  // main ones and sidecars
  std::size_t ready = 0;
  std::int64_t restarts = 0;
  std::string last_restart;  // when the newest of them was
  std::string status;        // "Running", "Init:0/2", "PodInitializing", "CrashLoopBackOff", ...
};
PodSummary summarize_pod(const store::Object& pod);

}  // namespace shoal::api
