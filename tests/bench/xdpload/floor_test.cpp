// SPDX-License-Identifier: Apache-2.0
#include <bpf/libbpf.h>
#include <floor.skel.h>
#include <gtest/gtest.h>

namespace {

// What others are measured by stays what it is: a longer floor would flatter whatever stands on it.
// Of both families, by Debian 12's clang-14.
constexpr std::size_t kInstructionsMax = 371;

TEST(Floor, IsNoLongerThanItWas) {
  floor_bpf* skeleton = floor_bpf__open();
  ASSERT_NE(skeleton, nullptr);
  EXPECT_LE(bpf_program__insn_cnt(skeleton->progs.shoal_floor), kInstructionsMax);
  floor_bpf__destroy(skeleton);
}

}  // namespace
