// SPDX-License-Identifier: Apache-2.0
// A pod's volumes with real containers: what they see, what outlives shim and restarts, and that
// nothing is left.
#include "agent/node/container_start.h"
#include "agent/node/pod_disk.h"
#include "agent/node/pod_volumes.h"
#include "runtime/spec/host_devices.h"
#include "runtime/volume/claim_folders.h"
#include "tests/fakes/pod_box.h"

#include <csignal>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/stat.h>

namespace shoal::node {
namespace {

namespace fs = std::filesystem;
using runtime::Propagation;
using runtime::Sweep;
using runtime::shim::ContainerRef;
using runtime::testing::PodBox;

constexpr char kUid[] = "pod-a";
constexpr char kClaimUid[] = "7d5cbb0e-2e4a-4a3c-9d60-0123456789ab";

VolumeSpec empty_dir(std::string name, bool memory = false) {
  VolumeSpec out;
  out.name = std::move(name);
  out.memory = memory;
  return out;
}
VolumeSpec files(std::string name, bool secret = false) {
  VolumeSpec out;
  out.name = std::move(name);
  out.kind = VolumeSpec::Kind::kFiles;
  out.sources.emplace_back().kind =
      secret ? FileSource::Kind::kSecret : FileSource::Kind::kConfigMap;
  return out;
}
VolumeSpec host_path(std::string name, const fs::path& path) {
  VolumeSpec out;
  out.name = std::move(name);
  out.kind = VolumeSpec::Kind::kHostPath;
  out.host_path = path.string();
  return out;
}

class PodVolumesTest : public ::testing::Test {
protected:
  PodVolumesTest() {
    pod.uid = kUid;
    pod.containers.resize(1);
    pod.containers[0].name = "main";
  }
  void start() {
    auto started = runtime::start_sandbox(box.env, {kUid, "web-1", {}});
    ASSERT_TRUE(started) << started.error().message();
    sandbox = std::move(*started);
  }
  void add(VolumeSpec volume, runtime::VolumeFiles shown = {}) {
    VolumeWork one;
    one.volume = volume;
    one.files = std::move(shown);
    work.push_back(std::move(one));
    pod.volumes.push_back(std::move(volume));
  }
  void mount(std::string volume, std::string path, std::string sub_path = {}) {
    VolumeMount out;
    out.volume = std::move(volume);
    out.path = std::move(path);
    out.sub_path = std::move(sub_path);
    pod.containers[0].mounts.push_back(std::move(out));
  }
  // The first volume: data, of the claim db.
  void add_claim() {
    VolumeSpec claim;
    claim.name = "data";
    claim.kind = VolumeSpec::Kind::kClaim;
    claim.claim = "db";
    add(claim);
    work[0].claim = {"shop", "db", kClaimUid, 5};
    pod.fs_group = 1001;
  }
  std::string set_up() {
    const auto done = set_up_volumes(box.env, pod, work);
    return done ? "" : done.error().message();
  }
  // Runs a script in the next attempt of the container; its output.
  std::string run(const std::string& script, bool stays = false, bool privileged = false) {
    const ContainerRef ref{"main", attempt++};
    auto config = box.config(kUid, ref, script + (stays ? "; sleep 1000" : ""));
    config.privileged = privileged;
    config.capability_bound = runtime::capability_bound().value_or(~0ULL);
    auto mounts = container_mounts(box.env, pod, pod.containers[0], ref,
                                   [](const std::string&) { return nullptr; });
    if (!mounts)
      return "! " + mounts.error().message();
    config.mounts = *mounts;
    const auto state = box.run(kUid, ref, config);
    if (!state)
      return "! " + state.error().message();
    if (stays)
      return {};
    EXPECT_TRUE(box.wait_exit(kUid, ref));
    (void)runtime::ShimClient(box.env.socket(kUid)).remove(ref);
    const auto released = release_mounts(box.env, kUid, ref);
    EXPECT_TRUE(released) << released.error().message();
    std::string out;
    const std::string text =
        read_file(box.env.log_dir(kUid, "main") / fmt::format("{}.log", ref.attempt), 65536)
            .value_or("");
    for (const std::string_view line : split(text, '\n'))
      if (const std::size_t at = line.find(" F "); at != std::string_view::npos)
        out += std::string(line.substr(at + 3)) + "\n";
    return out;
  }

  // Of one that stays.
  void end_last() {
    const ContainerRef ref{"main", attempt - 1};
    ASSERT_TRUE(runtime::ShimClient(box.env.socket(kUid)).stop(ref, SIGKILL, {}));
    ASSERT_TRUE(box.wait_exit(kUid, ref));
    ASSERT_TRUE(runtime::ShimClient(box.env.socket(kUid)).remove(ref));
  }

  PodBox box;
  runtime::Sandbox sandbox;
  PodSpec pod;
  std::vector<VolumeWork> work;
  std::uint32_t attempt = 0;
};

TEST_F(PodVolumesTest, OutliveContainersShimAndAgentAndGoWithThePod) {
  add(empty_dir("disk"));
  add(empty_dir("memory", true));
  add(files("secret", true), {{"k", {"s3cret", 0400}}});
  for (const char* name : {"disk", "memory", "secret"})
    mount(name, fmt::format("/{}", name));
  ASSERT_EQ(set_up(), "");
  start();
  EXPECT_EQ(run("echo 1 >/disk/f; echo 2 >/memory/f; cat /secret/k; echo; touch /secret/n "
                "2>/dev/null || echo ro"),
            "s3cret\nro\n");
  EXPECT_EQ(run("cat /disk/f /memory/f"), "1\n2\n");
  ASSERT_EQ(::kill(sandbox.state.shim_pid, SIGKILL), 0);
  const auto swept = runtime::sweep_sandbox(box.env, kUid, Sweep::kKeepVolumes);
  ASSERT_TRUE(swept) << swept.error().message();
  EXPECT_EQ(set_up(), "") << "of the next agent";
  start();
  EXPECT_EQ(run("cat /disk/f /memory/f /secret/k; echo"), "1\n2\ns3cret\n");
  // The secret is nowhere on disk.
  ASSERT_TRUE(runtime::unmount_below(box.env.volumes_dir(kUid) / "secret"));
  EXPECT_TRUE(fs::is_empty(box.env.volumes_dir(kUid) / "secret"));
  ASSERT_TRUE(runtime::sweep_sandbox(box.env, kUid, Sweep::kKeepLogs));
  EXPECT_FALSE(fs::exists(box.env.volumes_dir(kUid)));
  ASSERT_TRUE(runtime::sweep_sandbox(box.env, kUid));
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
}

TEST_F(PodVolumesTest, FilesChangeUnderARunningContainerButNotItsParts) {
  add(files("config"), {{"k", {"old", 0644}}});
  mount("config", "/config");
  mount("config", "/part", "k");
  ASSERT_EQ(set_up(), "");
  start();
  EXPECT_EQ(run("cat /config/k /part >/tmp/x", true), "");
  const auto shown = [&](std::string_view path) {
    return read_file(fmt::format("/proc/{}/root{}", box.state(kUid, {"main", 0})->pid, path), 64)
        .value_or("-");
  };
  work[0].files = {{"k", {"new", 0644}}};
  ASSERT_EQ(set_up(), "");
  EXPECT_EQ(shown("/config/k"), "new");
  EXPECT_EQ(shown("/part"), "old");
}

TEST_F(PodVolumesTest, PartsAreReleasedWithTheirContainer) {
  add(empty_dir("v"));
  mount("v", "/a", "x/y");
  mount("v", "/b");
  ASSERT_EQ(set_up(), "");
  start();
  EXPECT_EQ(run("echo 1 >/a/f; cat /b/x/y/f"), "1\n");
  EXPECT_FALSE(fs::exists(box.env.pod_run_dir(kUid) / "parts/main-0"));
  fs::create_symlink("/etc", box.env.volumes_dir(kUid) / "v/out");
  pod.containers[0].mounts[0].sub_path = "out";
  EXPECT_EQ(run("true").find("! failed to prepare subPath for volumeMount \"v\" of container "
                             "\"main\": subPath out leads out of the volume"),
            0U);
  pod.containers[0].mounts[0].sub_path = "$(NONE)";
  pod.containers[0].mounts[0].sub_path_expanded = true;
  EXPECT_NE(run("true").find("missing value for \"NONE\""), std::string::npos);
}

TEST_F(PodVolumesTest, ReadOnlyReachesWhatIsMountedBelowOnlyWhenItShall) {
  fs::create_directories(box.dir / "host/sub");
  ASSERT_EQ(::mount("x", (box.dir / "host/sub").c_str(), "tmpfs", 0, nullptr), 0);
  add(host_path("h", box.dir / "host"));
  mount("h", "/h");
  pod.containers[0].mounts[0].read_only = true;
  ASSERT_EQ(set_up(), "");
  start();
  const std::string script =
      "touch /h/f 2>/dev/null || echo ro; touch /h/sub/f 2>/dev/null || echo sub ro";
  EXPECT_EQ(run(script), "ro\n");
  pod.containers[0].mounts[0].recursive_read_only = true;
  EXPECT_EQ(run(script), "ro\nsub ro\n");
}

TEST_F(PodVolumesTest, MountsPropagateAsFarAsTheyShall) {
  const fs::path host = box.dir / "host";
  fs::create_directories(host);
  add(host_path("h", host));
  mount("h", "/h");
  VolumeMount& at = pod.containers[0].mounts[0];
  ASSERT_EQ(::mount(host.c_str(), host.c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, host.c_str(), nullptr, MS_PRIVATE, nullptr), 0);
  start();
  at.propagation = Propagation::kBoth;
  EXPECT_EQ(run("true"), fmt::format("! volumeMount \"h\": path \"{0}\" is mounted on \"{0}\" but "
                                     "it is not a shared mount",
                                     host.string()));
  ASSERT_EQ(::mount(nullptr, host.c_str(), nullptr, MS_SHARED, nullptr), 0);
  const auto on_host = [&] { return runtime::mounts_below(host)->size() - 1; };
  const auto in_container = [&] {
    const auto pid = box.state(kUid, {"main", attempt - 1})->pid;
    const auto text = read_file(fmt::format("/proc/{}/mountinfo", pid), 1 << 20);
    return text.value_or("").find(" /h/late ") != std::string::npos;
  };
  const auto mount_late = [&] {
    fs::create_directories(host / "late");
    ASSERT_EQ(::mount("x", (host / "late").c_str(), "tmpfs", 0, nullptr), 0);
  };
  EXPECT_EQ(run("mkdir -p /h/early; mount -t tmpfs x /h/early; touch /h/early/up", true, true), "");
  EXPECT_TRUE(runtime::testing::wait_until([&] { return fs::exists(host / "early/up"); }));
  mount_late();
  EXPECT_TRUE(in_container());
  ASSERT_TRUE(runtime::unmount_below(host / "early"));
  ASSERT_TRUE(runtime::unmount_below(host / "late"));
  end_last();

  at.propagation = Propagation::kFromHost;
  EXPECT_EQ(run("mkdir -p /h/mine; mount -t tmpfs x /h/mine; touch /h/mine/up /h/done", true, true),
            "");
  EXPECT_TRUE(runtime::testing::wait_until(
      [&] { return on_host() > 0 || fs::exists(host / "mine/up") || fs::exists(host / "done"); }));
  EXPECT_EQ(on_host(), 0U);
  mount_late();
  EXPECT_TRUE(in_container());
  ASSERT_TRUE(runtime::unmount_below(host / "late"));
  end_last();

  at.propagation = Propagation::kNone;
  EXPECT_EQ(run("true", true), "");
  mount_late();
  EXPECT_FALSE(in_container());
}

// As a database does, whose folder is nobody else's; the agent may start anew meanwhile.
TEST_F(PodVolumesTest, WhatAContainerMakesOfItsFolderStays) {
  add(empty_dir("disk"));
  pod.fs_group = 1001;
  ASSERT_EQ(set_up(), "");
  const fs::path folder = box.env.volumes_dir(kUid) / "disk";
  ASSERT_EQ(::chown(folder.c_str(), 70, 70), 0);
  ASSERT_EQ(set_up(), "");
  struct stat is{};
  ASSERT_EQ(::stat(folder.c_str(), &is), 0);
  EXPECT_EQ(is.st_gid, 1001U) << "nothing is in it: it may have been cut short";
  ASSERT_EQ(::chown(folder.c_str(), 70, 70), 0);
  ASSERT_TRUE(write_file_atomic(folder / "PG_VERSION", "15", 0600));
  ASSERT_EQ(set_up(), "");
  ASSERT_EQ(::stat(folder.c_str(), &is), 0);
  EXPECT_EQ(is.st_gid, 70U);
}

TEST_F(PodVolumesTest, ClaimsAreLinkedAsLongAsAPodIsThere) {
  add_claim();
  mount("data", "/data", "sub");
  ASSERT_EQ(set_up(), "");
  start();
  EXPECT_EQ(run("echo 1 >/data/f"), "");
  EXPECT_EQ(*linked_claims(box.env), (LinkedClaims{{kClaimUid, {kUid}}}));
  ASSERT_TRUE(runtime::sweep_sandbox(box.env, kUid));
  EXPECT_TRUE(linked_claims(box.env)->empty());
  const fs::path folder = runtime::claim_path(box.env.claims_dir(), work[0].claim);
  EXPECT_EQ(read_file(folder / "sub/f", 64).value_or("-"), "1\n");
  struct stat is{};
  ASSERT_EQ(::stat((folder / "sub/f").c_str(), &is), 0);
  EXPECT_EQ(is.st_gid, 1001U);
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
}

// A pod that names its host itself, or comes while an earlier one is still stopping, has not been
// held back by the scheduler.
TEST_F(PodVolumesTest, AClaimOfOnePodIsGivenToOnePod) {
  add_claim();
  work[0].exclusive = true;
  ASSERT_EQ(set_up(), "");
  ASSERT_EQ(set_up(), "") << "it is its own";
  PodSpec other = pod;
  other.uid = kClaimUid;  // any other
  other.fs_group = 1002;
  const auto refused = set_up_volumes(box.env, other, work);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), testing::HasSubstr("ReadWriteOncePod access mode"));
  EXPECT_EQ(linked_claims(box.env)->at(kClaimUid), std::set<std::string>{kUid});
  // One that several may have keeps the group that its first user gave it.
  work[0].exclusive = false;
  const auto shared = set_up_volumes(box.env, other, work);
  EXPECT_TRUE(shared) << shared.error().message();
  const fs::path folder = runtime::claim_path(box.env.claims_dir(), work[0].claim);
  struct stat is{};
  ASSERT_EQ(::stat(folder.c_str(), &is), 0);
  EXPECT_EQ(is.st_gid, 1001U);
  ASSERT_TRUE(runtime::sweep_sandbox(box.env, kUid));
  work[0].exclusive = true;
  EXPECT_TRUE(set_up_volumes(box.env, other, work));
  ASSERT_EQ(::stat(folder.c_str(), &is), 0);
  EXPECT_EQ(is.st_gid, 1002U);
  ASSERT_TRUE(runtime::sweep_sandbox(box.env, other.uid));
}

TEST_F(PodVolumesTest, WhatHoldsTooMuchIsFound) {
  VolumeSpec small = empty_dir("small");
  small.bytes_max = 1 << 20;
  small.bytes_max_text = "1Mi";
  add(empty_dir("any"));
  add(small);
  ASSERT_EQ(set_up(), "");
  const auto measure = [&] {
    PodDiskWalk walk(box.env, pod, {{"main", 0}});
    while (walk.step(1)) {
    }
    return walk.found();
  };
  EXPECT_EQ(over_disk_limit(pod, measure()), "");
  ASSERT_TRUE(write_file_atomic(box.env.volumes_dir(kUid) / "small/f", std::string(2 << 20, 'x')));
  ASSERT_TRUE(make_dirs(box.env.log_dir(kUid, "main")));
  ASSERT_TRUE(write_file_atomic(box.env.log_dir(kUid, "main") / "0.log", std::string(8192, 'x')));
  ASSERT_TRUE(make_dirs(writable_dir(box.env, kUid, {"main", 0})));
  ASSERT_TRUE(write_file_atomic(writable_dir(box.env, kUid, {"main", 0}) / "f", "x"));
  const PodDiskUse use = measure();
  EXPECT_EQ(over_disk_limit(pod, use),
            "Usage of EmptyDir volume \"small\" exceeds the limit \"1Mi\". ");
  EXPECT_GE(use.volumes.at("small").bytes, 2 << 20);
  EXPECT_EQ(use.volumes.at("any").inodes, 1);
  EXPECT_GE(use.logs.at("main").bytes, 8192);
  EXPECT_EQ(use.writable.at("main").inodes, 2);
  EXPECT_EQ(use.total().inodes, 1 + 2 + 2 + 2);
}

TEST_F(PodVolumesTest, AProblemOfOneHoldsUpNoOther) {
  add(files("gone"));
  work[0].problem = "MountVolume.SetUp failed for volume \"gone\" : configmap \"x\" not found";
  add(host_path("h", box.dir / "none"));
  pod.volumes[1].host_type = work[1].volume.host_type = "Directory";
  add(empty_dir("fine"));
  EXPECT_EQ(set_up(), work[0].problem);
  EXPECT_TRUE(fs::exists(box.env.volumes_dir(kUid) / "fine"));
  work.erase(work.begin());
  EXPECT_EQ(set_up(), fmt::format("MountVolume.SetUp failed for volume \"h\" : hostPath type check "
                                  "failed: {}/none is not a directory",
                                  box.dir.string()));
}

}  // namespace
}  // namespace shoal::node

int main(int argc, char** argv) { return shoal::runtime::testing::main_with_reaper(argc, argv); }
