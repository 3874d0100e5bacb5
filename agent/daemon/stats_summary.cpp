// SPDX-License-Identifier: Apache-2.0
// The kubelet's stats/summary: GET /api/v1/nodes/NAME/proxy/stats/summary.
#include "agent/daemon/usage_views.h"

#include <algorithm>
#include <boost/json.hpp>

namespace shoal::daemon {
namespace {

namespace json = boost::json;

json::object cpu_view(WallTime at, const runtime::GroupStats& stats,
                      std::optional<std::uint64_t> rate) {
  json::object out{{"time", rfc3339(at)}};
  if (rate)
    out["usageNanoCores"] = *rate;
  if (stats.cpu_ns)
    out["usageCoreNanoSeconds"] = *stats.cpu_ns;
  return out;
}

json::object memory_view(WallTime at, const runtime::GroupStats& stats) {
  json::object out{{"time", rfc3339(at)}};
  if (!stats.memory)
    return out;
  const runtime::MemoryStats& memory = *stats.memory;
  out["usageBytes"] = memory.usage_bytes;
  out["workingSetBytes"] = memory.working_set_bytes;
  out["rssBytes"] = memory.rss_bytes;
  out["pageFaults"] = memory.page_faults;
  out["majorPageFaults"] = memory.major_page_faults;
  if (memory.limit_bytes)
    out["availableBytes"] =
        *memory.limit_bytes - std::min(*memory.limit_bytes, memory.working_set_bytes);
  return out;
}

json::object used_view(WallTime at, const runtime::DiskUsage& used) {
  return {{"time", rfc3339(at)}, {"usedBytes", used.bytes}, {"inodesUsed", used.inodes}};
}

json::object disk_view(WallTime at, const images::DiskUse& disk) {
  return {{"time", rfc3339(at)},
          {"availableBytes", disk.available_bytes},
          {"capacityBytes", disk.capacity_bytes},
          {"usedBytes", disk.capacity_bytes - std::min(disk.capacity_bytes, disk.available_bytes)},
          {"inodesFree", disk.inodes_free},
          {"inodes", disk.inodes},
          {"inodesUsed", disk.inodes - std::min(disk.inodes, disk.inodes_free)}};
}

json::object network_view(const node::PodSample& pod) {
  json::array interfaces;
  for (const runtime::LinkStats& link : pod.links)
    interfaces.push_back(json::object{{"name", link.name},
                                      {"rxBytes", link.rx_bytes},
                                      {"rxPackets", link.rx_packets},
                                      {"rxErrors", link.rx_errors},
                                      {"rxDropped", link.rx_dropped},
                                      {"txBytes", link.tx_bytes},
                                      {"txPackets", link.tx_packets},
                                      {"txErrors", link.tx_errors},
                                      {"txDropped", link.tx_dropped}});
  json::object out{{"time", rfc3339(pod.wall)}};
  // The first one stands for the pod, as the kubelet's default interface does.
  if (!interfaces.empty())
    for (const json::key_value_pair& entry : interfaces.front().get_object())
      out[entry.key()] = entry.value();
  out["interfaces"] = std::move(interfaces);
  return out;
}

class Summary {
public:
  explicit Summary(const SummaryFacts& facts)
      : facts_(facts), use_(node::use_between(*facts.base, *facts.last)) {}

  json::object node() const {
    const node::HostSample& last = *facts_.last;
    json::object out{
        {"nodeName", facts_.node},
        {"cpu", cpu_view(last.wall, last.host,
                         use_.host ? std::optional(use_.host->cpu_nanocores) : std::nullopt)},
        {"memory", memory_view(last.wall, last.host)},
        {"systemContainers",
         json::array{json::object{{"name", "pods"},
                                  {"cpu", cpu_view(last.wall, last.pods_together, std::nullopt)},
                                  {"memory", memory_view(last.wall, last.pods_together)}}}}};
    if (facts_.disk) {
      out["fs"] = disk_view(last.wall, *facts_.disk);
      out["runtime"] = json::object{{"imageFs", disk_view(last.wall, *facts_.disk)}};
    }
    return out;
  }

  json::object pod(const node::PodSample& pod) const {
    const auto found = facts_.disks.find(pod.uid);
    const node::PodWorker::DiskSeen* disk = found == facts_.disks.end() ? nullptr : &found->second;
    json::array containers;
    for (const node::ContainerSample& container : pod.containers)
      containers.push_back(container_view(pod, container, disk));
    json::object out{{"podRef", {{"name", pod.name}, {"namespace", pod.ns}, {"uid", pod.uid}}},
                     {"startTime", rfc3339(pod.started)},
                     {"containers", std::move(containers)},
                     {"cpu", cpu_view(pod.wall, pod.stats, std::nullopt)},
                     {"memory", memory_view(pod.wall, pod.stats)},
                     {"network", network_view(pod)}};
    if (pod.stats.pids)
      out["process_stats"] = json::object{{"process_count", *pod.stats.pids}};
    if (pod.stats.io)
      out["io"] = json::object{{"readBytes", pod.stats.io->read_bytes},
                               {"writeBytes", pod.stats.io->write_bytes},
                               {"reads", pod.stats.io->reads},
                               {"writes", pod.stats.io->writes}};
    if (disk) {
      json::array volumes;
      for (const auto& [name, used] : disk->use.volumes) {
        json::object volume = used_view(disk->wall, used);
        volume["name"] = name;
        volumes.push_back(std::move(volume));
      }
      out["volume"] = std::move(volumes);
      out["ephemeral-storage"] = used_view(disk->wall, disk->use.total());
    }
    return out;
  }

private:
  json::object container_view(const node::PodSample& pod, const node::ContainerSample& container,
                              const node::PodWorker::DiskSeen* disk) const {
    json::object out{{"name", container.name},
                     {"startTime", rfc3339(container.started)},
                     {"cpu", cpu_view(pod.wall, container.stats, rate_of(pod.uid, container.name))},
                     {"memory", memory_view(pod.wall, container.stats)}};
    if (!disk)
      return out;
    if (const auto it = disk->use.writable.find(container.name); it != disk->use.writable.end())
      out["rootfs"] = used_view(disk->wall, it->second);
    if (const auto it = disk->use.logs.find(container.name); it != disk->use.logs.end())
      out["logs"] = used_view(disk->wall, it->second);
    return out;
  }

  std::optional<std::uint64_t> rate_of(std::string_view uid, std::string_view container) const {
    for (const node::PodUse& pod : use_.pods)
      if (pod.uid == uid)
        for (const node::ContainerUse& one : pod.containers)
          if (one.name == container)
            return one.use.cpu_nanocores;
    return std::nullopt;
  }

  const SummaryFacts& facts_;
  const node::HostUse use_;
};

}  // namespace

json::object stats_summary(const SummaryFacts& facts) {
  const Summary summary(facts);
  json::array pods;
  for (const node::PodSample& pod : facts.last->pods)
    pods.push_back(summary.pod(pod));
  return {{"node", summary.node()}, {"pods", std::move(pods)}};
}

}  // namespace shoal::daemon
