// SPDX-License-Identifier: Apache-2.0
#include "runtime/rootfs/remove_tree.h"

#include "netplane/base/fs.h"
#include "netplane/base/unique_fd.h"
#include "tests/unit/runtime/image/temp_dir.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class RemoveTree : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    fs::create_directories(top);
    ASSERT_TRUE(write_file_atomic(kept, "kept"));
  }
  testing_images::TempDir dir_;
  const fs::path top = dir_.path() / "top";
  const fs::path kept = dir_.path() / "kept";
};

TEST_F(RemoveTree, AllOfItAndNothingElse) {
  for (const char* folder : {"a/b/c", "a/d", "e", "f/g/h/i"}) {
    fs::create_directories(top / folder);
    for (int i = 0; i < 50; ++i)
      ASSERT_TRUE(write_file_atomic(top / folder / std::to_string(i), "x"));
  }
  fs::create_symlink(kept, top / "a/file");
  fs::create_symlink(dir_.path(), top / "e/folder");
  ASSERT_EQ(::mkfifo((top / "e/pipe").c_str(), 0600), 0);
  ASSERT_EQ(::chmod((top / "a").c_str(), 0), 0);
  ASSERT_TRUE(remove_tree(top));
  EXPECT_FALSE(fs::exists(fs::symlink_status(top)));
  EXPECT_EQ(*read_file(kept, 10), "kept");
  EXPECT_TRUE(remove_tree(top));
  EXPECT_TRUE(remove_tree(top / "below/nothing"));
  ASSERT_TRUE(remove_tree(kept));
  EXPECT_FALSE(fs::exists(kept));
}

TEST_F(RemoveTree, ALinkIsRemovedAndNotFollowed) {
  fs::create_directory(dir_.path() / "folder");
  fs::create_symlink(dir_.path() / "folder", dir_.path() / "link");
  ASSERT_TRUE(remove_tree(dir_.path() / "link"));
  EXPECT_FALSE(fs::exists(fs::symlink_status(dir_.path() / "link")));
  EXPECT_TRUE(fs::exists(dir_.path() / "folder"));
}

// What a container can make by going down as it makes them: no path reaches its end.
TEST_F(RemoveTree, DeeperThanPathsAndFilesAllow) {
  UniqueFd at(::open(top.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::string name(20, 'd');
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(::mkdirat(at.get(), name.c_str(), 0755), 0);
    at = UniqueFd(::openat(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(at);
  }
  at.reset();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{static_cast<rlim_t>(::dup(0)) + 8, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const auto removed = remove_tree(top);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(removed) << removed.error().message();
  EXPECT_FALSE(fs::exists(top));
}

TEST_F(RemoveTree, NoMountIsEntered) {
  const fs::path other = dir_.path() / "other";
  fs::create_directory(other);
  ASSERT_TRUE(write_file_atomic(other / "theirs", "x"));
  fs::create_directories(top / "in/mounted");
  ASSERT_TRUE(write_file_atomic(top / "bound", ""));
  const auto refused = [&] {
    const auto removed = remove_tree(top);
    EXPECT_FALSE(removed);
    return removed ? Errc::kInternal : removed.error().code();
  };
  // A bind mount: of the same file system.
  ASSERT_EQ(::mount(other.c_str(), (top / "in/mounted").c_str(), nullptr, MS_BIND, nullptr), 0);
  const auto removed = remove_tree(top);
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code(), Errc::kUnavailable);
  EXPECT_THAT(removed.error().message(), HasSubstr("top/in/mounted is still mounted"));
  EXPECT_TRUE(fs::exists(other / "theirs"));
  ASSERT_EQ(::umount2((top / "in/mounted").c_str(), 0), 0);
  ASSERT_TRUE(write_file_atomic(top / "bound", ""));
  ASSERT_EQ(::mount((other / "theirs").c_str(), (top / "bound").c_str(), nullptr, MS_BIND, nullptr),
            0);
  EXPECT_EQ(refused(), Errc::kUnavailable);
  EXPECT_TRUE(fs::exists(other / "theirs"));
  ASSERT_EQ(::umount2((top / "bound").c_str(), 0), 0);
  ASSERT_EQ(::mount(other.c_str(), top.c_str(), nullptr, MS_BIND, nullptr), 0);
  EXPECT_EQ(refused(), Errc::kUnavailable);
  EXPECT_TRUE(fs::exists(other / "theirs"));
  ASSERT_EQ(::umount2(top.c_str(), 0), 0);
  EXPECT_TRUE(remove_tree(top));
}

}  // namespace
}  // namespace shoal::runtime
