// SPDX-License-Identifier: Apache-2.0
// Which pods of this host may be evicted, and by what they are ranked.
#include "agent/node/node.h"
#include "agent/node/pod_resources.h"

#include <algorithm>
#include <spdlog/spdlog.h>

namespace shoal::node {
namespace {

std::int64_t working_set(const runtime::GroupStats& stats) {
  return stats.memory ? static_cast<std::int64_t>(stats.memory->working_set_bytes) : 0;
}

std::int64_t used_of(Signal signal, const PodSample* sample,
                     const std::optional<PodWorker::DiskSeen>& disk) {
  switch (signal) {
  case Signal::kMemory:
    return sample ? working_set(sample->stats) : 0;
  case Signal::kPids:
    return sample ? static_cast<std::int64_t>(sample->stats.pids.value_or(0)) : 0;
  case Signal::kDisk:
  case Signal::kImages:
    return disk ? disk->use.total().bytes : 0;
  case Signal::kInodes:
    return disk ? disk->use.total().inodes : 0;
  }
  return 0;
}

std::int64_t request_of(Signal signal, const PodSpec& pod) {
  const PodRequests requests = pod_requests(pod);
  switch (signal) {
  case Signal::kMemory:
    return requests.memory_bytes;
  case Signal::kDisk:
  case Signal::kImages:
    return requests.storage_bytes;
  case Signal::kInodes:
  case Signal::kPids:
    break;
  }
  return 0;
}

std::int64_t bytes_at(const std::map<std::string, runtime::DiskUsage>& parts,
                      const std::string& name) {
  const auto it = parts.find(name);
  return it == parts.end() ? 0 : it->second.bytes;
}

const PodSample* find_sample(const HostSample& sample, std::string_view uid) {
  const auto it = std::ranges::find(sample.pods, uid, &PodSample::uid);
  return it == sample.pods.end() ? nullptr : &*it;
}

}  // namespace

std::vector<Candidate> Node::candidates(Signal signal, const HostSample& sample) const {
  std::vector<Candidate> out;
  for (const auto& [uid, worker] : workers_)
    if (worker->evictable())
      out.push_back({uid, worker->spec().priority,
                     used_of(signal, find_sample(sample, uid), worker->disk()),
                     request_of(signal, worker->spec())});
  return out;
}

std::vector<Consumer> Node::consumers(const std::string& uid, Signal signal,
                                      const HostSample& sample) const {
  std::vector<Consumer> out;
  const auto it = workers_.find(uid);
  const PodSample* pod = find_sample(sample, uid);
  if (it == workers_.end() || !pod)
    return out;
  const PodWorker& worker = *it->second;
  for (const ContainerSpec& container : worker.spec().containers) {
    const auto seen = std::ranges::find(pod->containers, container.name, &ContainerSample::name);
    if (signal == Signal::kMemory && seen != pod->containers.end())
      out.push_back({container.name, working_set(seen->stats),
                     container.limits.memory_request_bytes.value_or(0)});
    else if (resource_of(signal) == "ephemeral-storage" && worker.disk())
      out.push_back({container.name,
                     bytes_at(worker.disk()->use.writable, container.name) +
                         bytes_at(worker.disk()->use.logs, container.name),
                     container.storage_request});
  }
  return out;
}

void Node::evict(const std::string& uid, const std::string& message) {
  const auto it = workers_.find(uid);
  if (it == workers_.end() || !it->second->evictable())
    return;
  spdlog::warn("pod {} is evicted: {}", it->second->spec().full_name(), message);
  it->second->evict(message);
}

bool Node::is_freed(const std::string& uid) const {
  const auto it = workers_.find(uid);
  return it == workers_.end() || it->second->seen().freed;
}

}  // namespace shoal::node
