// SPDX-License-Identifier: Apache-2.0
// Which limit of the disk a pod is over, and in which words.
#include "agent/node/pod_disk.h"

#include <gtest/gtest.h>

namespace shoal::node {
namespace {

constexpr std::int64_t kMi = 1 << 20;

class DiskLimits : public ::testing::Test {
protected:
  DiskLimits() { pod.containers = {container("a"), container("b")}; }
  static ContainerSpec container(std::string name, std::int64_t limit = 0, std::string text = "") {
    ContainerSpec out;
    out.name = std::move(name);
    if (limit > 0)
      out.storage_limit = limit;
    out.storage_limit_text = std::move(text);
    return out;
  }
  void volume(std::string name, std::optional<std::int64_t> limit) {
    VolumeSpec out;
    out.name = std::move(name);
    out.bytes_max = limit;
    out.bytes_max_text = "1Mi";
    pod.volumes.push_back(std::move(out));
  }
  std::string over() const { return over_disk_limit(pod, use); }

  PodSpec pod;
  PodDiskUse use;
};

TEST_F(DiskLimits, WithoutALimitNothingIsTooMuch) {
  volume("v", std::nullopt);
  use.volumes["v"] = use.writable["a"] = use.logs["b"] = {INT64_C(1) << 40, 1};
  EXPECT_EQ(over(), "");
  EXPECT_FALSE(disk_limited(pod));
}

TEST_F(DiskLimits, AContainerCountsWhatItWritesAndItsLog) {
  pod.containers = {container("a", 10 * kMi, "10Mi"), container("b", 1'000'000, "1M")};
  EXPECT_TRUE(disk_limited(pod));
  use.writable["b"] = {600'000, 1};
  use.logs["b"] = {400'000, 1};
  use.volumes["v"] = {kMi, 1};  // is the pod's
  EXPECT_EQ(over(), "");
  use.logs["b"].bytes += 1;
  EXPECT_EQ(over(), "Container b exceeded its local ephemeral storage limit \"1M\". ");
}

TEST_F(DiskLimits, AllOfItIsHeldToTheLimitsTogether) {
  pod.containers = {container("a", kMi, "1Mi"), container("b", 2 * kMi, "2Mi")};
  use.writable["a"] = {kMi, 1};
  use.logs["b"] = {kMi, 1};
  use.volumes["v"] = {kMi, 1};
  EXPECT_EQ(over(), "");
  use.volumes["v"].bytes += 1;
  EXPECT_EQ(over(),
            "Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. ");
  // An init container's limit counts when it is more than those of the others together.
  pod.containers.insert(pod.containers.begin(), container("i", 4 * kMi, "4Mi"));
  pod.containers[0].role = Role::kInit;
  EXPECT_EQ(over(), "");
  // One without a limit adds nothing, as with the kubelet.
  pod.containers = {container("a", 1'000'000, "1M"), container("b")};
  use = {};
  use.writable["b"] = {1'000'001, 1};
  EXPECT_EQ(over(),
            "Pod ephemeral local storage usage exceeds the total limit of containers 1000000. ");
}

TEST_F(DiskLimits, AVolumesOwnLimitComesFirst) {
  volume("v", kMi);
  pod.containers[0] = container("a", kMi, "1Mi");
  use.volumes["v"] = {kMi + 1, 1};
  EXPECT_EQ(over(), "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ");
  use.volumes["v"] = {1, 1};
  use.unmeasured["v"] = "folders are nested deeper than 1000";
  EXPECT_EQ(over(), "Usage of EmptyDir volume \"v\" cannot be held to the limit \"1Mi\": folders "
                    "are nested deeper than 1000. ");
}

}  // namespace
}  // namespace shoal::node
