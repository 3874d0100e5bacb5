// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_volumes.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "runtime/rootfs/mountinfo.h"
#include "runtime/rootfs/remove_tree.h"
#include "runtime/sandbox/mounts.h"
#include "runtime/volume/folder.h"
#include "runtime/volume/host_path.h"
#include "runtime/volume/memory.h"
#include "runtime/volume/sub_path.h"

#include <algorithm>
#include <fmt/format.h>
#include <unistd.h>

namespace shoal::node {
namespace {

namespace fs = std::filesystem;
using Kind = VolumeSpec::Kind;
using runtime::Propagation;
using runtime::shim::ContainerRef;

constexpr std::size_t kUidBytes = 36;

fs::path volume_path(const runtime::SandboxEnv& env, const std::string& uid,
                     const VolumeSpec& volume) {
  return volume.kind == Kind::kHostPath ? fs::path(volume.host_path)
                                        : env.volumes_dir(uid) / volume.name;
}

fs::path parts_dir(const runtime::SandboxEnv& env, const std::string& uid,
                   const ContainerRef& ref) {
  return env.pod_run_dir(uid) / "parts" / runtime::shim::container_id(ref);
}

// ---- set up
Result<> set_up_folder(const PodSpec& pod, const VolumeWork& work, const fs::path& path) {
  const bool fresh = work.volume.memory
                         ? SHOAL_TRY(runtime::mount_memory(path, {work.memory_bytes, false}))
                         : SHOAL_TRY(runtime::make_open_folder(path));
  // One that is there may have been made by a call that was cut short. What a container has in it
  // by now is the container's.
  std::error_code error;
  if (!pod.fs_group || (!fresh && !fs::is_empty(path, error)))
    return {};
  return runtime::give_to_group(path, *pod.fs_group, runtime::OwnershipPolicy::kOnRootMismatch);
}

Result<> set_up_files(const PodSpec& pod, const VolumeWork& work, const fs::path& path) {
  if (work.volume.secret())
    SHOAL_TRY(runtime::mount_memory(path, {std::nullopt, true}));
  else
    SHOAL_TRY(runtime::make_open_folder(path));
  SHOAL_TRY(runtime::write_volume_files(path, work.files, pod.fs_group));
  return {};
}

Result<bool> others_use(const runtime::SandboxEnv& env, const std::string& pod_uid,
                        const std::string& claim_uid) {
  const LinkedClaims linked = SHOAL_TRY(linked_claims(env));
  const auto users = linked.find(claim_uid);
  return users != linked.end() &&
         std::ranges::any_of(users->second, [&](const std::string& uid) { return uid != pod_uid; });
}

// The link first: from then on the folder has a user that everybody sees. Of two pods that come at
// once for a folder that one alone may have, neither gets it, and both come again.
Result<> set_up_claim(const runtime::SandboxEnv& env, const PodSpec& pod, const VolumeWork& work,
                      const fs::path& path) {
  const auto taken = [] {
    return fail(Errc::kConflict, "volume uses the ReadWriteOncePod access mode and is already in "
                                 "use by another pod");
  };
  const fs::path target = runtime::claim_path(env.claims_dir(), work.claim);
  const bool shared = SHOAL_TRY(others_use(env, pod.uid, work.claim.uid));
  if (work.exclusive && shared)
    return taken();
  std::error_code ignored;
  if (fs::read_symlink(path, ignored) != target) {
    SHOAL_TRY(make_dirs(path.parent_path(), 0711));
    ::unlink(path.c_str());
    if (::symlink(target.c_str(), path.c_str()) != 0)
      return fail_errno(fmt::format("link {}", path.string()));
    if (work.exclusive && SHOAL_TRY(others_use(env, pod.uid, work.claim.uid))) {
      ::unlink(path.c_str());
      return taken();
    }
  }
  SHOAL_TRY(runtime::make_claim_folder(env.claims_dir(), work.claim));
  // Files that somebody works with keep their owners, and who only reads changes none.
  if (pod.fs_group && !shared && !work.volume.read_only)
    SHOAL_TRY(runtime::give_to_group(target, *pod.fs_group,
                                     pod.fs_group_on_root_mismatch
                                         ? runtime::OwnershipPolicy::kOnRootMismatch
                                         : runtime::OwnershipPolicy::kAlways));
  return {};
}

Result<> set_up_one(const runtime::SandboxEnv& env, const PodSpec& pod, const VolumeWork& work) {
  const fs::path path = volume_path(env, pod.uid, work.volume);
  switch (work.volume.kind) {
  case Kind::kEmptyDir:
    return set_up_folder(pod, work, path);
  case Kind::kFiles:
    return set_up_files(pod, work, path);
  case Kind::kHostPath:
    return runtime::check_host_path(path, work.volume.host_type);
  case Kind::kClaim:
    return set_up_claim(env, pod, work, path);
  }
  return {};
}

// ---- mounts
// The OCI runtime takes a mount that is not shared for what it is and says nothing.
Result<> check_propagation(const fs::path& source, Propagation propagation) {
  if (propagation == Propagation::kNone)
    return {};
  const std::string text =
      SHOAL_TRY(read_file("/proc/thread-self/mountinfo", runtime::kMountinfoBytesMax));
  std::error_code error;
  const std::string real = fs::canonical(source, error).string();
  if (error)
    return fail_errno(error.value(), fmt::format("resolve {}", source.string()));
  runtime::MountEntry best;
  for (runtime::MountEntry& entry : runtime::parse_mountinfo(text)) {
    const std::string& point = entry.mount_point;
    const bool holds =
        point == "/" || real == point || (real.starts_with(point) && real[point.size()] == '/');
    if (holds && point.size() >= best.mount_point.size())
      best = std::move(entry);
  }
  const bool fine = best.shared || (best.slave && propagation == Propagation::kFromHost);
  if (fine)
    return {};
  return fail(Errc::kInvalid,
              fmt::format("path \"{}\" is mounted on \"{}\" but it is not a shared{} mount", real,
                          best.mount_point, propagation == Propagation::kBoth ? "" : " or slave"));
}

// Without what names nothing: "//", "/./", a slash at the end.
std::string plain_path(const std::string& path) {
  std::string out = fs::path(path).lexically_normal().string();
  if (out.size() > 1 && out.ends_with('/'))
    out.pop_back();
  return out;
}

Result<std::string> sub_path_of(const VolumeMount& mount, const FindVariable& variable) {
  if (!mount.sub_path_expanded)
    return mount.sub_path;
  std::string missing;
  std::string path = expand(mount.sub_path, [&](const std::string& name) {
    const std::string* value = variable(name);
    if (!value && missing.empty())
      missing = name;
    return value;
  });
  if (!missing.empty())
    return fail(Errc::kInvalid, fmt::format("missing value for \"{}\"", missing));
  const auto parts = split(path, '/');
  if (path.starts_with('/') || std::ranges::find(parts, "..") != parts.end())
    return fail(Errc::kInvalid,
                fmt::format("subPathExpr gives {}, which must be a relative path without '..'",
                            printable(path)));
  return path;
}

Result<runtime::BindMount> bind_mount(const runtime::SandboxEnv& env, const PodSpec& pod,
                                      const VolumeSpec& volume, const VolumeMount& mount,
                                      const fs::path& part, const FindVariable& variable) {
  fs::path source = volume_path(env, pod.uid, volume);
  if (volume.kind == Kind::kClaim) {
    std::error_code error;
    source = fs::read_symlink(source, error);
    if (error)
      return fail_errno(error.value(), fmt::format("find the folder of claim {}", volume.claim));
  }
  SHOAL_TRY(check_propagation(source, mount.propagation));
  const std::string sub_path = SHOAL_TRY(sub_path_of(mount, variable));
  if (!sub_path.empty()) {
    const UniqueFd found = SHOAL_TRY(runtime::open_sub_path(source, sub_path));
    SHOAL_TRY(runtime::bind_found(found, part, mount.propagation == Propagation::kBoth));
    source = part;
  }
  runtime::BindMount out;
  out.source = source.string();
  out.destination = plain_path(mount.path);
  out.read_only = mount.read_only || volume.read_only || volume.kind == Kind::kFiles;
  out.recursive_read_only = mount.recursive_read_only;
  out.propagation = mount.propagation;
  return out;
}

}  // namespace

Result<> set_up_volumes(const runtime::SandboxEnv& env, const PodSpec& pod,
                        const std::vector<VolumeWork>& work) {
  Result<> first;
  for (const VolumeWork& one : work) {
    Result<> done;
    if (!one.problem.empty())
      done = fail(Errc::kNotFound, one.problem);
    else if (done = set_up_one(env, pod, one); !done)
      done = fail(done.error().code(), setup_failed(one.volume.name, done.error().message()));
    if (!done && first)
      first = std::move(done);
  }
  return first;
}

Result<std::vector<runtime::BindMount>>
container_mounts(const runtime::SandboxEnv& env, const PodSpec& pod, const ContainerSpec& container,
                 const ContainerRef& ref, const FindVariable& variable) {
  std::vector<runtime::BindMount> out;
  for (std::size_t i = 0; i < container.mounts.size(); ++i) {
    const VolumeMount& mount = container.mounts[i];
    const auto volume = std::ranges::find(pod.volumes, mount.volume, &VolumeSpec::name);
    if (volume == pod.volumes.end())
      return fail(Errc::kInvalid, fmt::format("no volume is named {}", printable(mount.volume)));
    auto bound = bind_mount(env, pod, *volume, mount,
                            parts_dir(env, pod.uid, ref) / std::to_string(i), variable);
    if (!bound && !mount.sub_path.empty())
      return fail(std::move(bound).error().wrap(
          fmt::format("failed to prepare subPath for volumeMount \"{}\" of container \"{}\"",
                      mount.volume, container.name)));
    if (!bound)
      return fail(std::move(bound).error().wrap(fmt::format("volumeMount \"{}\"", mount.volume)));
    out.push_back(std::move(*bound));
  }
  return out;
}

Result<> release_mounts(const runtime::SandboxEnv& env, const std::string& uid,
                        const ContainerRef& ref) {
  const fs::path dir = parts_dir(env, uid, ref);
  std::error_code error;
  if (!fs::exists(dir, error))
    return {};
  SHOAL_TRY(runtime::leave_peers_below(dir));
  SHOAL_TRY(runtime::unmount_below(dir));
  return runtime::remove_tree(dir);
}

Result<LinkedClaims> linked_claims(const runtime::SandboxEnv& env) {
  LinkedClaims out;
  for (const std::string& uid : SHOAL_TRY(runtime::list_sandboxes(env))) {
    std::error_code error;
    fs::directory_iterator at(env.volumes_dir(uid), error);
    for (const fs::directory_iterator end; !error && at != end; at.increment(error)) {
      if (!at->is_symlink(error))
        continue;
      const std::string target = fs::read_symlink(at->path(), error).filename().string();
      if (target.size() > kUidBytes)
        out[target.substr(target.size() - kUidBytes)].insert(uid);
    }
    if (error && error != std::errc::no_such_file_or_directory)
      return fail_errno(error.value(), fmt::format("list {}", env.volumes_dir(uid).string()));
  }
  return out;
}

}  // namespace shoal::node
