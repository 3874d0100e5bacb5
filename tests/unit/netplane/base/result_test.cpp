// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/result.h"

#include <cerrno>
#include <memory>

namespace shoal {
namespace {

Result<std::unique_ptr<int>> source(bool good) {
  if (!good)
    return fail_errno(ENOENT, "open /x");
  return std::make_unique<int>(5);
}

Result<int> middle(bool good) {
  auto value = SHOAL_TRY_WRAP(source(good), "load config");
  return *value;
}

Result<> bottom(bool good) {
  SHOAL_TRY(middle(good));
  return {};
}

TEST(Result, TryMovesValuesAndWrapsErrors) {
  EXPECT_EQ(*middle(true), 5);
  const auto failed = bottom(false);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), Errc::kNotFound);
  EXPECT_EQ(failed.error().sys_errno(), ENOENT);
  EXPECT_EQ(failed.error().message(), "load config: open /x: No such file or directory");
}

TEST(ResultDeathTest, AssertionsHoldInEveryBuild) {
  EXPECT_DEATH(SHOAL_ASSERT(1 == 2), "assertion failed: 1 == 2");
}

}  // namespace
}  // namespace shoal
