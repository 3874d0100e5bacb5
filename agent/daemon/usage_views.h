// SPDX-License-Identifier: Apache-2.0
// What a host and its pods use, in the shapes that clients know: Kubernetes' metrics.k8s.io/v1beta1
// (what `kubectl top` reads), the kubelet's stats/summary, and Prometheus families with cadvisor's
// names. All pure.
#pragma once

#include "agent/api/selector.h"
#include "agent/images/disk_use.h"
#include "agent/metrics/metrics.h"
#include "agent/node/pod_worker.h"
#include "agent/node/stats_sampler.h"
#include "agent/view/view.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <map>
#include <string>
#include <vector>

namespace shoal::daemon {

// ---- metrics.k8s.io
// Which objects of a list are asked for. Empty: all.
struct UsageFilter {
  std::string ns;
  api::LabelSelector labels;
  std::vector<api::FieldRequirement> fields;  // metadata.name, metadata.namespace
  bool takes(std::string_view ns, std::string_view name, const boost::json::object* labels) const;
};
// kInvalid: a selector that cannot be read, or of a field that there is none of.
Result<UsageFilter> read_usage_filter(std::string_view ns, std::string_view labels,
                                      std::string_view fields);

// Null: the host's own use is not known.
boost::json::value node_metrics(const store::Object& node, const node::HostUse& use);
boost::json::object pod_metrics(const node::PodUse& pod, const boost::json::object* labels,
                                const node::HostUse& use);
// The lists of several hosts as one, by namespace and name. answers: their bodies; one that is no
// list of that kind is told in `warnings`.
boost::json::object merge_usage(std::string_view kind, boost::json::array own,
                                const std::vector<std::pair<std::string, std::string>>& answers,
                                std::vector<std::string>& warnings);

// ---- stats/summary, v1alpha1 of the kubelet
struct SummaryFacts {
  std::string node;
  node::StatsSampler::Sample base;
  node::StatsSampler::Sample last;
  std::map<std::string, node::PodWorker::DiskSeen> disks;  // by pod's uid
  std::optional<images::DiskUse> disk;                     // of the state folder
};
boost::json::object stats_summary(const SummaryFacts& facts);

// ---- Prometheus
std::vector<metrics::Family> usage_families(const node::HostSample& sample);

}  // namespace shoal::daemon
