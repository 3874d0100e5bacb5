// SPDX-License-Identifier: Apache-2.0
#include "runtime/rootfs/mountinfo.h"

namespace shoal::runtime {
namespace {

TEST(Mountinfo, ReadsPointTypeAndSuperOptions) {
  const auto mounts = parse_mountinfo(
      "22 27 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
      "90 27 0:50 / /run/a\\040b\\134c rw,nodev shared:1 master:2 - overlay shoal rw,lowerdir=/x\n"
      "91 27 0:51 / /plain rw - overlay shoal rw\n"
      "not a line\n"
      "1 2 3 4 5 6 7\n"
      "91 27 0:51 / /cut rw -\n"
      "91 27 0:51 / /cut rw - overlay\n"
      "91 27 0:51 / /cut rw - overlay shoal\n");
  ASSERT_EQ(mounts.size(), 3U);
  EXPECT_EQ(mounts[0].type, "sysfs");
  EXPECT_TRUE(mounts[0].shared && !mounts[0].slave);
  EXPECT_TRUE(mounts[1].shared && mounts[1].slave);
  EXPECT_FALSE(mounts[2].shared || mounts[2].slave);
  EXPECT_EQ(mounts[1].mount_point, "/run/a b\\c");
  EXPECT_EQ(mounts[1].type, "overlay");
  EXPECT_EQ(mounts[1].super_options, "rw,lowerdir=/x");
  EXPECT_EQ(mounts[2].mount_point, "/plain");
  EXPECT_TRUE(parse_mountinfo("").empty());
}

}  // namespace
}  // namespace shoal::runtime
