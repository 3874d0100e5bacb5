// SPDX-License-Identifier: Apache-2.0
// Every file of tests/golden/plan is run and must give what it says. After a wanted change:
//   UPDATE_GOLDEN=1 plan_test --gtest_filter='*Golden*'
// and read the diff.
#include "plan_script.h"

#include "netplane/base/fs.h"

#include <cstdlib>
#include <filesystem>

namespace shoal::plan {
namespace {

std::vector<std::filesystem::path> golden_files() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(SHOAL_SOURCE_DIR "/tests/golden/plan"))
    if (entry.path().extension() == ".txt")
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

class GoldenPlan : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(GoldenPlan, GivesWhatItSays) {
  const Result<std::string> expected = read_file(GetParam(), 1 << 20);
  ASSERT_TRUE(expected.has_value()) << expected.error().message();
  const std::string actual = PlanScript::run(*expected);
  if (std::getenv("UPDATE_GOLDEN") != nullptr)
    ASSERT_TRUE(write_file_atomic(GetParam(), actual, 0644).has_value());
  else
    EXPECT_EQ(actual, *expected);
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenPlan, testing::ValuesIn(golden_files()),
                         [](const auto& file) {
                           std::string name = file.param.stem().string();
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace shoal::plan
