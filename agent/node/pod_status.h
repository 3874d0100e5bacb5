// SPDX-License-Identifier: Apache-2.0
// The `status` of a pod as its host reports it, in Kubernetes' words. Pure: the same inputs give
// the same JSON, so that a comparison tells whether there is news.
#pragma once

#include "agent/node/pod_plan.h"

#include <boost/json/object.hpp>
#include <map>
#include <string>

namespace shoal::node {

struct StatusFacts {
  std::string host_ip;
  std::string start_time;      // RFC 3339: when this host took the pod
  std::string now;             // RFC 3339: of conditions that change
  bool stopping = false;       // deletion asked for: not ready any more
  boost::json::object before;  // the status reported last: times of conditions that did not change
};

boost::json::object pod_status(const PodSpec& spec, const PodObserved& observed,
                               const StatusFacts& facts);
std::string pod_phase(const PodSpec& spec, const PodObserved& observed);
bool container_ready(const ContainerSpec& spec, const ContainerObserved& observed);

// Restart counts and start time that an earlier agent reported, for a pod whose sandbox is gone.
void take_reported(PodObserved& observed, const PodSpec& spec, const boost::json::object& status);

}  // namespace shoal::node
