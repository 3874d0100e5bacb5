// SPDX-License-Identifier: Apache-2.0
#include "agent/images/image_gc.h"

namespace shoal::images {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

WallTime at(int second) { return WallTime(std::chrono::seconds(second)); }

runtime::ImageUse image(const std::string& name, int used_at) {
  runtime::ImageUse out;
  out.info.digest = "sha256:" + name;
  out.info.refs = {"r.lan/" + name + ":1"};
  out.info.repo_digests = {"r.lan/" + name + "@sha256:index-" + name};
  out.last_used = at(used_at);
  return out;
}

TEST(GcOrder, TheLongestUnusedFirst) {
  EXPECT_THAT(gc_order({image("b", 20), image("a", 10), image("c", 30)}, {}, at(100)),
              ElementsAre("sha256:a", "sha256:b", "sha256:c"));
}

TEST(GcOrder, WhatIsNeededStays) {
  runtime::ImageUse held = image("held", 1);
  held.holders = {"uid_main-0"};
  runtime::ImageUse pinned = image("pinned", 1);
  pinned.info.pinned = true;
  EXPECT_THAT(gc_order({held, pinned, image("named", 1), image("ran", 1), image("new", 100)},
                       {"r.lan/named:1", "r.lan/ran@sha256:index-ran"}, at(100)),
              IsEmpty());
}

TEST(DiskUse, CountsBytesAndInodes) {
  const DiskUse half{1000, 500, 100, 90};
  EXPECT_EQ(half.used_percent(), 50U);
  EXPECT_EQ(half.bytes_above(40), 100U);
  EXPECT_EQ(half.bytes_above(50), 0U);
  EXPECT_EQ((DiskUse{1000, 999, 100, 5}).used_percent(), 95U);
  EXPECT_EQ((DiskUse{1000, 149, 0, 0}).used_percent(), 86U);
  EXPECT_EQ((DiskUse{}).used_percent(), 0U);
}

}  // namespace
}  // namespace shoal::images
