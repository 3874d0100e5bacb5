// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_disk.h"

#include "agent/node/container_start.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::node {
namespace {

using Kind = VolumeSpec::Kind;

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
  return std::ranges::any_of(pod.volumes, &VolumeSpec::disk_limited);
}

std::string over_disk_limit(const PodSpec& pod, const PodDiskUse& use) {
  for (const VolumeSpec& volume : pod.volumes) {
    if (!volume.disk_limited())
      continue;
    // What cannot be measured is not let off.
    if (const auto it = use.unmeasured.find(volume.name); it != use.unmeasured.end())
      return fmt::format("Usage of EmptyDir volume \"{}\" cannot be held to the limit \"{}\": {}. ",
                         volume.name, volume.bytes_max_text, it->second);
    if (const auto it = use.volumes.find(volume.name);
        it != use.volumes.end() && it->second.bytes > *volume.bytes_max)
      return fmt::format("Usage of EmptyDir volume \"{}\" exceeds the limit \"{}\". ", volume.name,
                         volume.bytes_max_text);
  }
  return {};
}

}  // namespace shoal::node
