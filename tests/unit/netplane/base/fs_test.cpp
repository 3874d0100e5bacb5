// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/fs.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace shoal {
namespace {

class Fs : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/shoal-fs-test.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::filesystem::path dir_;
};

TEST_F(Fs, AtomicWriteReplacesAndLeavesNothingElse) {
  ASSERT_TRUE(write_file_atomic(dir_ / "state", "one", 0640));
  ASSERT_TRUE(write_file_atomic(dir_ / "state", "two", 0640));
  EXPECT_EQ(*read_file(dir_ / "state", 100), "two");
  struct stat st{};
  ASSERT_EQ(::stat((dir_ / "state").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0640U);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_), {}), 1);
}

TEST_F(Fs, FailedWriteKeepsTheOldFileAndNamesIt) {
  std::filesystem::create_directory(dir_ / "folder");
  const auto failed = write_file_atomic(dir_ / "folder", "x");
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().message().find((dir_ / "folder").string()), std::string::npos);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_), {}), 1);
}

TEST_F(Fs, ReadIsBounded) {
  ASSERT_TRUE(write_file_atomic(dir_ / "big", std::string(1000, 'x')));
  EXPECT_EQ(read_file(dir_ / "big", 999).error().code(), Errc::kExhausted);
  EXPECT_EQ(read_file(dir_ / "big", 1000)->size(), 1000U);
  EXPECT_EQ(read_file(dir_ / "none", 10).error().code(), Errc::kNotFound);
}

TEST_F(Fs, MakeDirsIsIdempotentAndSeesFiles) {
  ASSERT_TRUE(make_dirs(dir_ / "a/b/c"));
  ASSERT_TRUE(make_dirs(dir_ / "a/b/c"));
  ASSERT_TRUE(write_file_atomic(dir_ / "a/file", ""));
  EXPECT_FALSE(make_dirs(dir_ / "a/file"));
}

TEST_F(Fs, ALockNamesItsHolder) {
  auto held = lock_file(dir_ / "lock");
  ASSERT_TRUE(held);
  // flock belongs to the open file, so a second open in this process conflicts as another process
  // would.
  const auto second = lock_file(dir_ / "lock");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Errc::kConflict);
  EXPECT_NE(second.error().message().find(fmt::format("process {}", ::getpid())),
            std::string::npos);
  held->reset();
  EXPECT_TRUE(lock_file(dir_ / "lock"));
}

}  // namespace
}  // namespace shoal
