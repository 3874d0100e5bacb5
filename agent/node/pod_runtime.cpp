// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_runtime.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "runtime/log/log_reader.h"
#include "runtime/rootfs/rootfs.h"
#include "runtime/spec/user.h"

#include <algorithm>
#include <csignal>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

namespace shoal::node {
namespace {

namespace fs = std::filesystem;
using runtime::shim::ContainerRef;

constexpr std::size_t kHostFileBytesMax = 64 * 1024;

std::unexpected<StartFailure> refuse(std::string_view reason, std::string message) {
  return std::unexpected(StartFailure{{std::string(reason), std::move(message)}});
}

std::uint64_t nofile_hard_limit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : 4096;
}

std::string hosts_file(const PodSpec& spec, const PodAddress& address) {
  return fmt::format(
      "# Managed by Shoal.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
      "fe00::0\tip6-localnet\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n{}\t{}\n",
      address.ip.to_string(), spec.hostname);
}

class RealPodRuntime final : public PodRuntime {
public:
  RealPodRuntime(runtime::SandboxEnv env, runtime::ImageStore& images)
      : env_(std::move(env)), images_(images), nofile_hard_(nofile_hard_limit()) {}

  Result<std::vector<std::string>> list() override { return list_sandboxes(env_); }

  Result<LiveSandbox> find(const std::string& uid) override {
    // Subscribed before the state is read, so that nothing falls between.
    auto events = SHOAL_TRY(runtime::ShimEvents::subscribe(env_.socket(uid)));
    runtime::Sandbox sandbox = SHOAL_TRY(find_sandbox(env_, uid));
    return LiveSandbox{std::move(sandbox.netns), std::move(events)};
  }

  bool left_anything(const std::string& uid) override {
    std::error_code error;
    return fs::exists(env_.pod_run_dir(uid), error) || fs::exists(env_.pod_data_dir(uid), error);
  }

  Result<LiveSandbox> start_sandbox(const PodSpec& spec) override {
    SHOAL_TRY(runtime::start_sandbox(env_, {spec.uid, spec.hostname}));
    return find(spec.uid);
  }

  StartResult start_container(const PodSpec& spec, std::size_t index,
                              const StartContext& context) override {
    const ContainerSpec& container = spec.containers[index];
    ContainerRef ref{container.name, next_attempt(spec.uid, container.name, context.attempt)};
    const auto image = find_image(container);
    if (!image)
      return std::unexpected(image.error());
    auto prepared = images_.acquire(container.image, holder(spec.uid, ref));
    if (!prepared)
      return refuse("CreateContainerError", prepared.error().message());
    auto started = start_prepared(spec, container, context, ref, *prepared);
    if (!started) {
      (void)drop_files(spec.uid, ref);  // the first error is the one to tell
      return started;
    }
    started->image_id = prepared->info.digest;
    return started;
  }

  Result<> stop_container(const std::string& uid, const ContainerRef& ref,
                          std::chrono::milliseconds grace) override {
    auto stopped = client(uid).stop(ref, SIGTERM, grace);
    if (!stopped &&
        (stopped.error().code() == Errc::kNotFound || stopped.error().code() == Errc::kConflict))
      return {};  // it has ended meanwhile; the event says so
    return stopped;
  }

  Result<> remove_container(const std::string& uid, const ContainerRef& ref) override {
    if (auto removed = client(uid).remove(ref);
        !removed && removed.error().code() != Errc::kNotFound)
      return removed;
    return drop_files(uid, ref);
  }

  Result<> teardown(const std::string& uid, runtime::Sweep what) override {
    // Politely first; whatever comes of that, the sweep is thorough.
    (void)client(uid).shutdown();
    SHOAL_TRY(sweep_sandbox(env_, uid, what));
    for (const std::string& lease : images_.leases())
      if (lease.starts_with(uid + "."))
        SHOAL_TRY(images_.release(lease));
    return {};
  }

private:
  runtime::ShimClient client(const std::string& uid) const {
    return runtime::ShimClient(env_.socket(uid));
  }

  static std::string holder(const std::string& uid, const ContainerRef& ref) {
    return fmt::format("{}.{}", uid, container_id(ref));
  }
  fs::path files(const std::string& uid, const ContainerRef& ref) const {
    return env_.pod_data_dir(uid) / "containers" / container_id(ref);
  }
  fs::path bundle(const std::string& uid, const ContainerRef& ref) const {
    return env_.pod_run_dir(uid) / "bundles" / container_id(ref);
  }

  // Logs tell of attempts that a sandbox which is gone has made: their files are not written to
  // again.
  std::uint32_t next_attempt(const std::string& uid, const std::string& container,
                             std::uint32_t at_least) const {
    const auto attempts = runtime::list_log_attempts(env_.log_dir(uid, container));
    return attempts && !attempts->empty() ? std::max(at_least, attempts->back() + 1) : at_least;
  }

  std::expected<void, StartFailure> find_image(const ContainerSpec& container) const {
    if (images_.resolve(container.image))
      return {};
    if (container.pull == PullPolicy::kNever)
      return refuse("ErrImageNeverPull",
                    fmt::format("Container image \"{}\" is not present with pull policy of Never",
                                container.image));
    return refuse(
        "ErrImagePull",
        fmt::format(
            "image \"{}\" is not on this host, and pulling from registries is not supported yet; "
            "load it here with: shoal image load FILE",
            container.image));
  }

  StartResult start_prepared(const PodSpec& spec, const ContainerSpec& container,
                             const StartContext& context, const ContainerRef& ref,
                             const runtime::PreparedImage& image) {
    auto rootfs = runtime::mount_rootfs(files(spec.uid, ref), image.layers);
    if (!rootfs)
      return refuse("CreateContainerError", rootfs.error().message());
    auto config = container_config(spec, container, ref, image.info.config, *rootfs);
    if (!config)
      return refuse("CreateContainerConfigError", config.error().message());
    runtime::shim::CreateRequest request;
    request.ref = ref;
    request.bundle = bundle(spec.uid, ref).string();
    request.log_dir = env_.log_dir(spec.uid, container.name).string();
    if (auto written = write_bundle(spec, context, *config, request.bundle); !written)
      return refuse("CreateContainerError", written.error().message());
    drop_old_logs(request.log_dir, ref.attempt);
    auto state = client(spec.uid).create(request);
    if (!state)
      return refuse("RunContainerError", state.error().message());
    return Started{std::move(*state), {}};
  }

  Result<runtime::ContainerConfig>
  container_config(const PodSpec& spec, const ContainerSpec& container, const ContainerRef& ref,
                   const runtime::ImageConfig& image, const fs::path& rootfs) const {
    runtime::ContainerConfig config;
    config.rootfs = rootfs.string();
    config.rootfs_read_only = container.read_only_rootfs;
    config.args = SHOAL_TRY(
        runtime::process_args(image.entrypoint, image.cmd, container.command, container.args));
    const std::string passwd = SHOAL_TRY(runtime::read_rootfs_file(rootfs, "/etc/passwd"));
    const std::string group = SHOAL_TRY(runtime::read_rootfs_file(rootfs, "/etc/group"));
    std::string user = container.run_as_user ? std::to_string(*container.run_as_user) : image.user;
    if (container.run_as_group)
      user = fmt::format("{}:{}", user.substr(0, user.find(':')), *container.run_as_group);
    config.user = SHOAL_TRY(runtime::resolve_user(user, passwd, group));
    if (container.run_as_non_root && config.user.uid == 0)
      return fail(Errc::kInvalid, "container has runAsNonRoot and image will run as root");
    std::vector<std::string> env = image.env;
    env.push_back("HOSTNAME=" + spec.hostname);
    if (std::ranges::none_of(image.env, [](const auto& e) { return e.starts_with("HOME="); }))
      env.push_back("HOME=" + runtime::home_of(config.user.uid, passwd));
    config.env = runtime::merge_env(env, container.env);
    config.cwd = !container.working_dir.empty() ? container.working_dir
                 : !image.working_dir.empty()   ? image.working_dir
                                                : "/";
    const std::string etc = (env_.pod_run_dir(spec.uid) / "etc").string();
    for (const char* name : {"hosts", "hostname", "resolv.conf"})
      config.mounts.push_back(
          {fmt::format("{}/{}", etc, name), fmt::format("/etc/{}", name), false});
    config.capabilities_add = container.capabilities_add;
    config.capabilities_drop = container.capabilities_drop;
    config.nofile_hard = nofile_hard_;
    config.cgroups_path =
        fmt::format("/{}/{}", runtime::pod_cgroup(env_.slice, spec.uid), container_id(ref));
    config.cgroup_v2 = env_.cgroups.layout == runtime::CgroupLayout::kV2;
    config.resources = container.resources;
    return config;
  }

  Result<> write_bundle(const PodSpec& spec, const StartContext& context,
                        const runtime::ContainerConfig& config, const fs::path& folder) const {
    const fs::path etc = env_.pod_run_dir(spec.uid) / "etc";
    std::error_code error;
    if (!fs::exists(etc / "hosts", error)) {
      SHOAL_TRY(make_dirs(etc));
      SHOAL_TRY(write_file_atomic(etc / "hostname", spec.hostname + "\n", 0644));
      SHOAL_TRY(write_file_atomic(etc / "resolv.conf",
                                  read_file("/etc/resolv.conf", kHostFileBytesMax).value_or(""),
                                  0644));
      SHOAL_TRY(write_file_atomic(etc / "hosts", hosts_file(spec, context.address), 0644));
    }
    SHOAL_TRY(make_dirs(folder, 0700));
    return write_file_atomic(folder / "config.json", SHOAL_TRY(oci_spec(config)));
  }

  // The present and the previous attempt's logs are kept.
  static void drop_old_logs(const fs::path& dir, std::uint32_t attempt) {
    const auto attempts = runtime::list_log_attempts(dir);
    for (std::size_t i = 0; attempts && i + 1 < attempts->size(); ++i) {
      const std::uint32_t old = (*attempts)[i];
      if (old + 1 >= attempt)
        continue;
      ::unlink((dir / fmt::format("{}.log", old)).c_str());
      for (std::uint32_t n = 1; n < runtime::kLogRotationsMax; ++n)
        if (::unlink((dir / fmt::format("{}.log.{}", old, n)).c_str()) != 0)
          break;
    }
  }

  Result<> drop_files(const std::string& uid, const ContainerRef& ref) {
    SHOAL_TRY(runtime::remove_rootfs(files(uid, ref)));
    ::rmdir(files(uid, ref).c_str());
    SHOAL_TRY(images_.release(holder(uid, ref)));
    std::error_code error;
    fs::remove_all(bundle(uid, ref), error);
    if (error)
      return fail_errno(error.value(), fmt::format("remove bundle {}", bundle(uid, ref).string()));
    return {};
  }

  const runtime::SandboxEnv env_;
  runtime::ImageStore& images_;
  const std::uint64_t nofile_hard_;
};

}  // namespace

std::unique_ptr<PodRuntime> make_pod_runtime(runtime::SandboxEnv env, runtime::ImageStore& images) {
  return std::make_unique<RealPodRuntime>(std::move(env), images);
}

}  // namespace shoal::node
