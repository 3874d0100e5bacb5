// SPDX-License-Identifier: Apache-2.0
// What a sandbox reads of its host: cgroup layouts, the shim's record.
#include "runtime/sandbox/cgroup.h"
#include "runtime/sandbox/sandbox.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace shoal::runtime {
namespace {

constexpr std::string_view kHybrid =
    "25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "26 25 0:23 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
    "26 25 0:29 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer\n"
    "27 25 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    "28 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";

TEST(Cgroups, LayoutsAreTold) {
  const auto hybrid = parse_cgroup_mounts(kHybrid);
  ASSERT_TRUE(hybrid);
  EXPECT_EQ(to_string(hybrid->layout), "hybrid");
  EXPECT_EQ(hybrid->v2, "/sys/fs/cgroup/unified");
  EXPECT_EQ(hybrid->memory_v1, "/sys/fs/cgroup/memory");
  EXPECT_EQ(hybrid->systemd_v1, "/sys/fs/cgroup/systemd");
  EXPECT_EQ(hybrid->freezer_v1, "/sys/fs/cgroup/freezer");
  EXPECT_EQ(hybrid->v1.size(), 3U);
  const auto v2 =
      parse_cgroup_mounts("30 1 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n");
  EXPECT_EQ(to_string(v2->layout), "v2");
  EXPECT_TRUE(v2->v1.empty() && v2->memory_v1.empty());
  const auto v1 = parse_cgroup_mounts(kHybrid.substr(0, kHybrid.find("28 25")));
  EXPECT_EQ(to_string(v1->layout), "v1");
  EXPECT_TRUE(v1->v2.empty());
  EXPECT_EQ(parse_cgroup_mounts("1 0 0:1 / / rw - ext4 /dev/vda rw\n").error().code(),
            Errc::kUnsupported);
}

// A lab host sees its subtree mounted over the whole tree: one mount point, twice in the table.
TEST(Cgroups, ASubtreeMountedOverTheTreeCountsOnce) {
  const std::string text = fmt::format(
      "{}{}{}", kHybrid, "29 28 0:25 /../lab/h1 /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
      "31 26 0:23 /lab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  const auto tree = parse_cgroup_mounts(text);
  EXPECT_EQ(tree->v2, "/sys/fs/cgroup/unified");
  EXPECT_EQ(tree->v1.size(), 3U);
}

TEST(Cgroups, WeightsAreKubernetes) {
  EXPECT_EQ(cpu_shares(0), 2);
  EXPECT_EQ(cpu_shares(100), 102);
  EXPECT_EQ(cpu_shares(1'000'000'000), 262'144);
  EXPECT_EQ(cpu_weight(0), 1);
  EXPECT_EQ(cpu_weight(1000), 39);
  EXPECT_EQ(cpu_weight(1'000'000'000), 10'000);
}

TEST(ShimRecord, IsReadStrictly) {
  const auto record = parse_shim_record("boot abc\nshim 12 34\ncontainer main-0 56 78\n");
  ASSERT_TRUE(record) << record.error().message();
  EXPECT_EQ(record->boot_id, "abc");
  EXPECT_EQ(record->shim, (ProcessId{12, 34}));
  EXPECT_EQ(record->containers, (std::vector<ProcessId>{{56, 78}}));
  // Process 0 would be our own group and 1 everybody: never to be killed.
  for (const char* bad : {"", "boot abc\n", "boot abc\nshim 1 2\n", "boot abc\nshim 0 2\n",
                          "boot abc\nshim -5 2\n", "boot abc\nshim 12 34\ncontainer x 1 2\n",
                          "boot abc\nshim 12\n", "boot abc\nshim 12 34\nrm -rf\n"})
    EXPECT_EQ(parse_shim_record(bad).error().code(), Errc::kCorrupt) << bad;
}

TEST(Sandbox, AUidIsAPathComponent) {
  SandboxEnv env;
  env.run_dir = env.data_dir = "/nonexistent-shoal-test";
  for (const char* bad : {"", "..", "a/b", "A", "../../etc"}) {
    EXPECT_EQ(sweep_sandbox(env, bad).error().code(), Errc::kInvalid) << bad;
    EXPECT_EQ(find_sandbox(env, bad).error().code(), Errc::kInvalid) << bad;
    EXPECT_EQ(start_sandbox(env, {bad, "h"}).error().code(), Errc::kInvalid) << bad;
  }
}

}  // namespace
}  // namespace shoal::runtime
