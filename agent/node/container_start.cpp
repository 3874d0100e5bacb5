// SPDX-License-Identifier: Apache-2.0
#include "agent/node/container_start.h"

#include "agent/node/pod_etc.h"
#include "agent/node/pod_volumes.h"
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "runtime/log/log_reader.h"
#include "runtime/rootfs/rootfs.h"
#include "runtime/spec/container_config.h"
#include "runtime/spec/exec_plan.h"
#include "runtime/spec/host_devices.h"
#include "runtime/spec/signal_name.h"
#include "runtime/spec/user.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <csignal>
#include <filesystem>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unordered_map>

namespace shoal::node {
namespace {

namespace fs = std::filesystem;
using runtime::shim::ContainerRef;

constexpr std::size_t kSeccompBytesMax = 1 << 20;
constexpr std::size_t kHostsBytesMax = 1 << 20;

fs::path rootfs_dir(const runtime::SandboxEnv& env, const std::string& uid, const std::string& id) {
  return env.pod_data_dir(uid) / "containers" / id;
}

constexpr std::string_view kStopSignalFile = "stop-signal";

fs::path message_file(const runtime::SandboxEnv& env, const std::string& uid,
                      const ContainerRef& ref) {
  return env.log_dir(uid, ref.name) / fmt::format("{}.message", ref.attempt);
}

StartFailure failure(std::string reason, Error error) {
  return {{std::move(reason), error.message()}, error.code()};
}

// It was here a moment ago: whoever asked has seen to that.
StartFailure image_failure(const Error& error) {
  return failure(error.code() == Errc::kNotFound ? "ErrImagePull" : "CreateContainerError", error);
}

std::string shown_hostname(const PodSpec& pod) {
  utsname host{};
  return pod.host_network && ::uname(&host) == 0 ? host.nodename : kernel_hostname(pod);
}

Result<std::vector<runtime::BindMount>> write_etc(const runtime::SandboxEnv& env,
                                                  const StartRequest& request) {
  const fs::path etc = env.pod_run_dir(request.pod.uid) / "etc";
  SHOAL_TRY(make_dirs(etc, 0755));
  std::vector<IpAddress> addresses;
  for (const model::PodAddress& address : request.pod_addresses)
    addresses.push_back(address.ip);
  const auto hosts = request.pod.host_network ? read_file("/etc/hosts", kHostsBytesMax)
                                              : Result<std::string>(std::string());
  SHOAL_TRY(write_file_atomic(etc / "hosts", hosts_file(request.pod, addresses, hosts.value_or("")),
                              0644));
  SHOAL_TRY(write_file_atomic(etc / "hostname", shown_hostname(request.pod) + "\n", 0644));
  const auto host = read_file("/etc/resolv.conf", 65536);
  SHOAL_TRY(
      write_file_atomic(etc / "resolv.conf", resolv_conf(request.pod, host.value_or("")), 0644));
  return std::vector<runtime::BindMount>{{(etc / "hosts").string(), "/etc/hosts"},
                                         {(etc / "hostname").string(), "/etc/hostname"},
                                         {(etc / "resolv.conf").string(), "/etc/resolv.conf"}};
}

// Anybody in the container may write into it.
Result<> make_message_file(const fs::path& path) {
  SHOAL_TRY(write_file_atomic(path, "", 0644));
  if (::chmod(path.c_str(), 0666) != 0)
    return fail_errno(fmt::format("open {} to all", path.string()));
  return {};
}

Result<runtime::ProcessUser> user_of(const PodSpec& pod, const ContainerSpec& container,
                                     const runtime::ImageConfig& image, const fs::path& rootfs) {
  const std::string passwd = SHOAL_TRY(runtime::read_rootfs_file(rootfs, "/etc/passwd"));
  const std::string group = SHOAL_TRY(runtime::read_rootfs_file(rootfs, "/etc/group"));
  std::string wanted = image.user;
  if (container.run_as_user)
    wanted = std::to_string(*container.run_as_user);
  runtime::ProcessUser user = SHOAL_TRY(runtime::resolve_user(wanted, passwd, group));
  if (container.run_as_group)
    user.gid = *container.run_as_group;
  if (!pod.image_groups)
    user.additional_gids.clear();
  for (const std::uint32_t gid : pod.supplemental_groups)
    if (std::ranges::find(user.additional_gids, gid) == user.additional_gids.end())
      user.additional_gids.push_back(gid);
  if (container.run_as_non_root && user.uid == 0)
    return fail(
        Errc::kPermission,
        "container has runAsNonRoot and image will run as root (set securityContext.runAsUser)");
  return user;
}

Result<> set_privileges(const runtime::SandboxEnv& env, const ContainerSpec& container,
                        runtime::ContainerConfig& config) {
  config.capabilities_add = container.capabilities_add;
  config.capabilities_drop = container.capabilities_drop;
  config.capability_bound = SHOAL_TRY(runtime::capability_bound());
  config.no_new_privileges = !container.privilege_escalation;
  config.privileged = container.privileged;
  if (container.privileged)
    config.devices = runtime::host_devices();
  config.seccomp = container.seccomp;
  if (container.seccomp_profile.empty())
    return {};
  // One file for all hosts to have, as kubelet has it; the OCI runtime reads what is in it.
  const fs::path file = env.seccomp_dir() / container.seccomp_profile;
  config.seccomp_profile =
      SHOAL_TRY_WRAP(read_file(file, kSeccompBytesMax),
                     "cannot load seccomp profile; put it there on this host, or change "
                     "securityContext.seccompProfile.localhostProfile");
  boost::system::error_code error;
  if (const auto parsed = boost::json::parse(config.seccomp_profile, error);
      error || !parsed.is_object())
    return fail(Errc::kInvalid, fmt::format("seccomp profile {} is not a JSON object: {}",
                                            file.string(), error.message()));
  return {};
}

// Its volumes, and the managed files where no volume takes their place; outer ones first, so that
// none hides another that lies below it.
Result<std::vector<runtime::BindMount>> all_mounts(const runtime::SandboxEnv& env,
                                                   const StartRequest& request,
                                                   const FindVariable& variable) {
  const ContainerSpec& container = request.pod.containers[request.container];
  const ContainerRef ref{container.name, request.attempt};
  auto mounts = container_mounts(env, request.pod, container, ref, variable);
  if (!mounts)  // reported as what it is: a matter of the pod's configuration
    return fail(std::move(mounts).error().with_code(Errc::kNotFound));
  auto managed = SHOAL_TRY(write_etc(env, request));
  managed.push_back({message_file(env, request.pod.uid, ref).string(), container.termination_log});
  for (runtime::BindMount& mount : managed)
    if (std::ranges::find(*mounts, fs::path(mount.destination).lexically_normal().string(),
                          &runtime::BindMount::destination) == mounts->end())
      mounts->push_back(std::move(mount));
  std::ranges::stable_sort(*mounts, {}, [](const runtime::BindMount& mount) {
    return std::ranges::count(mount.destination, '/');
  });
  return mounts;
}

// The container's spec, and what its further processes are.
struct Specs {
  std::string container;
  std::optional<runtime::shim::ExecPlan> exec;
};

Result<Specs> make_specs(const runtime::SandboxEnv& env, const StartRequest& request,
                         const runtime::ImageConfig& image, const fs::path& rootfs,
                         const std::string& id) {
  const ContainerSpec& container = request.pod.containers[request.container];
  runtime::ContainerConfig config;
  config.rootfs = rootfs.string();
  config.rootfs_read_only = container.read_only_rootfs;
  std::unordered_map<std::string, std::string> variables;
  for (const std::string& entry : request.env)
    variables.insert_or_assign(entry.substr(0, entry.find('=')), entry.substr(entry.find('=') + 1));
  const auto known = [&](const std::string& name) {
    const auto at = variables.find(name);
    return at == variables.end() ? nullptr : &at->second;
  };
  const auto expanded = [&](std::vector<std::string> texts) {
    for (std::string& text : texts)
      text = expand(text, known);
    return texts;
  };
  config.args = SHOAL_TRY(runtime::process_args(
      image.entrypoint, image.cmd, expanded(container.command), expanded(container.args)));
  std::vector<std::string> env_own = {"HOSTNAME=" + (request.pod.host_network
                                                         ? shown_hostname(request.pod)
                                                         : request.pod.hostname)};
  env_own.insert(env_own.end(), request.env.begin(), request.env.end());
  std::vector<std::string> env_image = image.env;
  if (container.tty)  // what a terminal is driven by; the image may know better
    env_image.insert(env_image.begin(), "TERM=xterm");
  config.env = runtime::merge_env(env_image, env_own);
  config.cwd = !container.working_dir.empty() ? container.working_dir
               : image.working_dir.empty()    ? "/"
                                              : image.working_dir;
  config.terminal = container.tty;
  config.user = SHOAL_TRY(user_of(request.pod, container, image, rootfs));
  config.mounts = SHOAL_TRY(all_mounts(env, request, known));
  SHOAL_TRY(set_privileges(env, container, config));
  config.nofile_hard = request.nofile_hard;
  if (request.pod.share_pids)
    config.pid_namespace = env.pid_namespace(request.pod.uid).string();
  config.host_pids = request.pod.host_pids;
  config.host_ipc = request.pod.host_ipc;
  config.cgroups_path = "/" + runtime::pod_cgroup(env.slice, request.pod.uid) + "/" + id;
  config.cgroup_v2 = env.cgroups.layout == runtime::CgroupLayout::kV2;
  config.resources = container.limits;
  config.oom_score_adj = request.oom_score_adj;
  Specs specs{SHOAL_TRY(runtime::oci_spec(config)), std::nullopt};
  const std::string passwd = SHOAL_TRY(runtime::read_rootfs_file(rootfs, "/etc/passwd"));
  // A seccomp profile may hold what the OCI runtime alone understands: it runs the commands then.
  if (auto plan = runtime::exec_plan(config, runtime::home_of(config.user.uid, passwd))) {
    runtime::name_cgroups(env.cgroups, config.cgroups_path, *plan);
    specs.exec = std::move(*plan);
  }
  return specs;
}

}  // namespace

fs::path bundle_dir(const runtime::SandboxEnv& env, const std::string& uid,
                    const ContainerRef& ref) {
  return env.pod_run_dir(uid) / "bundles" / runtime::shim::container_id(ref);
}

fs::path writable_dir(const runtime::SandboxEnv& env, const std::string& uid,
                      const ContainerRef& ref) {
  return rootfs_dir(env, uid, runtime::shim::container_id(ref)) / "upper";
}

int stop_signal(const runtime::SandboxEnv& env, const std::string& uid, const ContainerRef& ref) {
  const auto text = read_file(bundle_dir(env, uid, ref) / kStopSignalFile, 64);
  return text ? runtime::parse_signal(trim(*text)).value_or(SIGTERM) : SIGTERM;
}

std::string image_holder(const std::string& uid, const ContainerRef& ref) {
  return uid + "_" + runtime::shim::container_id(ref);
}

std::expected<Started, StartFailure> start_container(const runtime::SandboxEnv& env,
                                                     runtime::ImageStore& images,
                                                     const StartRequest& request) {
  const ContainerSpec& container = request.pod.containers[request.container];
  const std::string& uid = request.pod.uid;
  const ContainerRef ref{container.name, request.attempt};
  const std::string id = runtime::shim::container_id(ref);
  const auto fail_with = [&](StartFailure why) {
    (void)clean_container(env, images, uid, ref);  // the first error is the one to tell
    return std::unexpected(std::move(why));
  };
  auto image = images.acquire(container.image, image_holder(uid, ref));
  if (!image)
    return fail_with(image_failure(image.error()));
  auto rootfs = runtime::mount_rootfs(rootfs_dir(env, uid, id), image->layers);
  if (!rootfs)
    return fail_with(failure("CreateContainerError", rootfs.error()));
  auto spec = make_specs(env, request, image->info.config, *rootfs, id);
  if (!spec)
    return fail_with(
        failure(spec.error().code() == Errc::kPermission || spec.error().code() == Errc::kNotFound
                    ? "CreateContainerConfigError"
                    : "CreateContainerError",
                spec.error()));
  const fs::path bundle = bundle_dir(env, uid, ref);
  const fs::path logs = env.log_dir(uid, container.name);
  auto made = make_dirs(bundle, 0700);
  if (made)
    made = make_dirs(logs, 0755);
  if (made && ref.attempt > 0)  // this attempt's and `--previous`
    made = runtime::drop_old_logs(logs, ref.attempt - 1);
  if (made)
    made = write_file_atomic(bundle / "config.json", spec->container, 0600);
  if (made && spec->exec)
    made = write_file_atomic(bundle / runtime::shim::kExecPlanName, encode(*spec->exec), 0600);
  if (made && !image->info.config.stop_signal.empty())
    made = write_file_atomic(bundle / kStopSignalFile, image->info.config.stop_signal, 0600);
  if (made)
    made = make_message_file(message_file(env, uid, ref));
  if (!made)
    return fail_with(failure("CreateContainerError", made.error()));
  runtime::shim::CreateRequest create;
  create.ref = ref;
  create.bundle = bundle.string();
  create.log_dir = logs.string();
  create.termination_log = message_file(env, uid, ref).string();
  create.termination_from_log = container.termination_from_log;
  create.open_stdin = container.open_stdin;
  create.stdin_once = container.stdin_once;
  create.terminal = container.tty;
  create.shares_pids = request.pod.shares_pids();
  auto state = runtime::ShimClient(env.socket(uid)).create(create);
  if (!state)
    return fail_with(failure("RunContainerError", state.error()));
  return Started{std::move(*state), image->image_id};
}

Result<> clean_container(const runtime::SandboxEnv& env, runtime::ImageStore& images,
                         const std::string& uid, const ContainerRef& ref) {
  const std::string id = runtime::shim::container_id(ref);
  auto removed = runtime::ShimClient(env.socket(uid)).remove(ref);
  if (!removed && removed.error().code() != Errc::kNotFound)
    return removed;
  SHOAL_TRY(release_mounts(env, uid, ref));
  SHOAL_TRY(runtime::remove_rootfs(rootfs_dir(env, uid, id)));
  std::error_code ignored;
  fs::remove_all(bundle_dir(env, uid, ref), ignored);
  fs::remove(rootfs_dir(env, uid, id), ignored);
  return images.release(image_holder(uid, ref));
}

Result<> teardown_pod(const runtime::SandboxEnv& env, runtime::ImageStore& images,
                      const std::string& uid, runtime::Sweep what) {
  // In order when the shim can; by force in any case.
  (void)runtime::ShimClient(env.socket(uid)).shutdown();
  SHOAL_TRY(runtime::sweep_sandbox(env, uid, what));
  for (const std::string& lease : images.leases())
    if (lease.starts_with(uid + "_"))
      SHOAL_TRY(images.release(lease));
  return {};
}

}  // namespace shoal::node
