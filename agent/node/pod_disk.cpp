// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_disk.h"

#include "agent/api/quantity.h"
#include "agent/node/container_start.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::node {
namespace {

using Kind = VolumeSpec::Kind;

std::int64_t bytes_in(const std::map<std::string, runtime::DiskUsage>& parts,
                      const std::string& name) {
  const auto it = parts.find(name);
  return it == parts.end() ? 0 : it->second.bytes;
}

bool storage_limited(const ContainerSpec& container) {
  return container.storage_limit.value_or(0) > 0;
}

// Of those containers that have one, together, as the kubelet counts; nothing: none has.
std::optional<std::int64_t> pod_storage_limit(const PodSpec& pod) {
  std::int64_t together = 0, most = 0;
  for (const ContainerSpec& container : pod.containers) {
    std::int64_t with = 0;
    if (__builtin_add_overflow(together, container.storage_limit.value_or(0), &with))
      with = INT64_MAX;
    (container.role == Role::kInit ? most : together) =
        container.role == Role::kInit ? std::max(most, with) : with;
  }
  const std::int64_t limit = std::max(most, together);
  return limit > 0 ? std::optional(limit) : std::nullopt;
}

std::string over_volume_limit(const PodSpec& pod, const PodDiskUse& use) {
  for (const VolumeSpec& volume : pod.volumes) {
    if (!volume.disk_limited())
      continue;
    // What cannot be measured is not let off.
    if (const auto it = use.unmeasured.find(volume.name); it != use.unmeasured.end())
      return fmt::format("Usage of EmptyDir volume \"{}\" cannot be held to the limit \"{}\": {}. ",
                         volume.name, volume.bytes_max_text, it->second);
    if (bytes_in(use.volumes, volume.name) > *volume.bytes_max)
      return fmt::format("Usage of EmptyDir volume \"{}\" exceeds the limit \"{}\". ", volume.name,
                         volume.bytes_max_text);
  }
  return {};
}

bool on_disk(const VolumeSpec& volume) { return volume.kind == Kind::kEmptyDir && !volume.memory; }

}  // namespace

runtime::DiskUsage PodDiskUse::total() const {
  runtime::DiskUsage out;
  for (const auto* parts : {&writable, &logs, &volumes})
    for (const auto& [name, used] : *parts) {
      out.bytes += used.bytes;
      out.inodes += used.inodes;
    }
  return out;
}

PodDiskWalk::PodDiskWalk(const runtime::SandboxEnv& env, const PodSpec& pod,
                         const std::vector<runtime::shim::ContainerRef>& containers) {
  for (const VolumeSpec& volume : pod.volumes)
    if (on_disk(volume))
      parts_.push_back({env.volumes_dir(pod.uid) / volume.name, &PodDiskUse::volumes, volume.name});
  for (const ContainerSpec& container : pod.containers)
    parts_.push_back({env.log_dir(pod.uid, container.name), &PodDiskUse::logs, container.name});
  for (const runtime::shim::ContainerRef& ref : containers)
    parts_.push_back({writable_dir(env, pod.uid, ref), &PodDiskUse::writable, ref.name});
}

bool PodDiskWalk::step(std::size_t entries) {
  if (next_ == parts_.size())
    return false;
  Part& part = parts_[next_];
  if (!walk_) {
    auto walk = runtime::DiskWalk::begin(part.dir);
    if (!walk) {
      end_part(&walk.error());
      return next_ < parts_.size();
    }
    walk_ = std::move(*walk);
  }
  const auto more = walk_->step(entries);
  (found_.*part.of)[part.name] = walk_->found();
  if (!more || !*more)
    end_part(more ? nullptr : &more.error());
  return next_ < parts_.size();
}

void PodDiskWalk::end_part(const Error* error) {
  const Part& part = parts_[next_];
  if (error && error->code() == Errc::kExhausted && part.of == &PodDiskUse::volumes)
    found_.unmeasured[part.name] = error->message();
  walk_.reset();
  ++next_;
}

bool disk_limited(const PodSpec& pod) {
  return std::ranges::any_of(pod.volumes, &VolumeSpec::disk_limited) ||
         std::ranges::any_of(pod.containers, storage_limited);
}

// In the kubelet's order.
std::string over_disk_limit(const PodSpec& pod, const PodDiskUse& use) {
  if (std::string over = over_volume_limit(pod, use); !over.empty())
    return over;
  if (const auto limit = pod_storage_limit(pod); limit && use.total().bytes > *limit)
    return fmt::format("Pod ephemeral local storage usage exceeds the total limit of containers "
                       "{}. ",
                       api::binary_quantity(*limit));
  for (const ContainerSpec& container : pod.containers)
    if (storage_limited(container) &&
        bytes_in(use.writable, container.name) + bytes_in(use.logs, container.name) >
            *container.storage_limit)
      return fmt::format("Container {} exceeded its local ephemeral storage limit \"{}\". ",
                         container.name, container.storage_limit_text);
  return {};
}

}  // namespace shoal::node
