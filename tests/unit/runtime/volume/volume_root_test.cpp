// SPDX-License-Identifier: Apache-2.0
// Volumes on the kernel: owners, memory, parts of volumes, folders of claims.
#include "netplane/base/fs.h"
#include "runtime/sandbox/mounts.h"
#include "runtime/volume/claim_folders.h"
#include "runtime/volume/files.h"
#include "runtime/volume/folder.h"
#include "runtime/volume/host_path.h"
#include "runtime/volume/memory.h"
#include "runtime/volume/sub_path.h"

#include <fcntl.h>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr gid_t kGroup = 1001;
constexpr char kUid[] = "7d5cbb0e-2e4a-4a3c-9d60-0123456789ab";

class VolumeTest : public ::testing::Test {
protected:
  VolumeTest() {
    std::string name = "/tmp/shoal-volume.XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    dir = name;
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  }
  ~VolumeTest() override {
    (void)unmount_below(dir);
    std::error_code error;
    fs::remove_all(dir, error);
  }
  void write(const fs::path& path, std::string_view text) const {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  static std::string shown(const fs::path& path) {
    struct stat is{};
    if (::lstat(path.c_str(), &is) != 0)
      return "none";
    return fmt::format("{} {:o}", is.st_gid, is.st_mode & 07777);
  }

  fs::path dir;
};

TEST_F(VolumeTest, MemoryIsMountedOnceAndHoldsNoMoreThanItMay) {
  const fs::path at = dir / "v";
  ASSERT_TRUE(*mount_memory(at, {1 << 20, true}));
  struct statfs is{};
  ASSERT_EQ(::statfs(at.c_str(), &is), 0);
  EXPECT_EQ(is.f_type, 0x01021994);
  EXPECT_EQ(static_cast<std::int64_t>(is.f_blocks) * is.f_bsize, 1 << 20);
  EXPECT_EQ(shown(at), "0 777");
  write(at / "f", "kept");
  EXPECT_FALSE(*mount_memory(at, {1 << 20, false}));
  EXPECT_EQ(read_file(at / "f", 64).value_or(""), "kept");
  EXPECT_EQ(mounts_below(dir)->size(), 1U);
  EXPECT_FALSE(write_file_atomic(at / "big", std::string(2 << 20, 'x')));
}

// "should be consumable from pods in volume as non-root with FSGroup"
TEST_F(VolumeTest, FilesAreReadableForTheGroupAndNotWritable) {
  ASSERT_TRUE(write_volume_files(dir, {{"d/f", {"x", 0400}}, {"g", {"y", 0644}}}, kGroup));
  EXPECT_EQ(shown(dir / "..data/d/f"), "1001 440");
  EXPECT_EQ(shown(dir / "..data/g"), "1001 644");
  EXPECT_EQ(shown(dir / "..data/d"), "1001 2755");
  EXPECT_FALSE(*write_volume_files(dir, {{"d/f", {"x", 0400}}, {"g", {"y", 0644}}}, kGroup));
  EXPECT_TRUE(*write_volume_files(dir, {{"d/f", {"x", 0400}}, {"g", {"y", 0644}}}, kGroup + 1));
}

TEST_F(VolumeTest, FoldersAreGivenToAGroup) {
  write(dir / "a/f", "x");
  write(dir / "outside", "x");
  ::chmod((dir / "a/f").c_str(), 0600);
  fs::create_symlink(dir / "outside", dir / "a/link");
  ASSERT_TRUE(give_to_group(dir / "a", kGroup, OwnershipPolicy::kAlways));
  EXPECT_EQ(shown(dir / "a"), "1001 2775");
  EXPECT_EQ(shown(dir / "a/f"), "1001 660");
  EXPECT_EQ(shown(dir / "outside").substr(0, 2), "0 ");
  write(dir / "a/new", "x");
  EXPECT_EQ(shown(dir / "a/new").substr(0, 5), "1001 ");
  ASSERT_EQ(::chown((dir / "a/new").c_str(), 0, 0), 0);
  ASSERT_TRUE(give_to_group(dir / "a", kGroup, OwnershipPolicy::kOnRootMismatch));
  EXPECT_EQ(shown(dir / "a/new").substr(0, 2), "0 ") << "its root matches";
  ASSERT_TRUE(give_to_group(dir / "a", kGroup, OwnershipPolicy::kAlways));
  EXPECT_EQ(shown(dir / "a/new").substr(0, 5), "1001 ");
}

TEST_F(VolumeTest, DiskUsageCountsBlocksOfEachFileOnce) {
  write(dir / "v/a/b/f", std::string(100'000, 'x'));
  write(dir / "elsewhere", std::string(500'000, 'x'));
  // In steps of one entry or of many: the same.
  const auto measure = [&](std::size_t entries) {
    auto walk = DiskWalk::begin(dir / "v");
    while (walk && walk->step(entries).value_or(false)) {
    }
    return walk ? walk->found() : DiskUsage{-1, -1};
  };
  const auto usage = [&] {
    EXPECT_EQ(measure(1), measure(1000));
    return measure(1).bytes;
  };
  const std::int64_t one = usage();
  EXPECT_GE(one, 100'000);
  EXPECT_LT(one, 200'000);
  EXPECT_EQ(measure(1).inodes, 4);
  fs::create_hard_link(dir / "v/a/b/f", dir / "v/again");
  fs::create_symlink(dir / "elsewhere", dir / "v/link");
  fs::create_symlink("..", dir / "v/a/up");
  EXPECT_LT(usage(), one + 50'000);
  // Sparse: it takes no room.
  write(dir / "v/sparse", "");
  fs::resize_file(dir / "v/sparse", 1 << 30);
  EXPECT_LT(usage(), one + 50'000);
  // What is mounted below is another file system's.
  ASSERT_TRUE(mount_memory(dir / "v/m", {}));
  write(dir / "v/m/f", std::string(500'000, 'x'));
  EXPECT_LT(usage(), one + 50'000);
}

TEST_F(VolumeTest, SubPathsNeverLeaveTheVolume) {
  const fs::path volume = dir / "v";
  write(volume / "in/f", "inside");
  write(dir / "secret", "outside");
  fs::create_symlink(dir / "secret", volume / "absolute");
  fs::create_symlink("../secret", volume / "relative");
  fs::create_symlink("in/f", volume / "fine");
  fs::create_symlink("/proc/self/root", volume / "magic");
  fs::create_symlink("nowhere", volume / "dangling");
  const auto content = [&](const std::string& path) {
    auto found = open_sub_path(volume, path);
    return found ? read_file(fmt::format("/proc/self/fd/{}", found->get()), 64).value_or("?")
                 : "! " + std::string(to_string(found.error().code()));
  };
  EXPECT_EQ(content("in/f"), "inside");
  EXPECT_EQ(content("fine"), "inside");
  EXPECT_EQ(content("in/../in/f"), "inside");
  const std::string refused = "! " + std::string(to_string(Errc::kPermission));
  for (const char* path : {"absolute", "relative", "../secret", "/etc/passwd", "in/../../secret"})
    EXPECT_EQ(content(path), refused) << path;
  EXPECT_TRUE(content("magic/etc/passwd").starts_with("!"));
  EXPECT_TRUE(content("dangling").starts_with("!"));
  EXPECT_TRUE(content("in/f/below").starts_with("!"));
}

TEST_F(VolumeTest, MissingSubPathsAreMadeLikeTheVolume) {
  ASSERT_TRUE(*make_open_folder(dir / "v"));
  EXPECT_FALSE(*make_open_folder(dir / "v"));
  ASSERT_TRUE(give_to_group(dir / "v", kGroup, OwnershipPolicy::kAlways));
  ASSERT_TRUE(open_sub_path(dir / "v", "./a//b"));
  EXPECT_EQ(shown(dir / "v/a/b"), "1001 2777");
}

TEST_F(VolumeTest, PartsAreBoundFromWhatWasFound) {
  write(dir / "v/d/f", "first");
  write(dir / "v/file", "text");
  const auto found = open_sub_path(dir / "v", "d");
  ASSERT_TRUE(found);
  // Exchanged in between.
  fs::rename(dir / "v/d", dir / "v/was");
  fs::create_symlink("/etc", dir / "v/d");
  ASSERT_TRUE(bind_found(*found, dir / "parts/0", false));
  EXPECT_EQ(read_file(dir / "parts/0/f", 64).value_or("-"), "first");
  ASSERT_TRUE(bind_found(*open_sub_path(dir / "v", "file"), dir / "parts/1", false));
  EXPECT_EQ(read_file(dir / "parts/1", 64).value_or("-"), "text");
}

// A lazy unmount of a copy must not take the mounts of the host with it.
TEST_F(VolumeTest, UnmountingAPartLeavesTheHostsMountsAlone) {
  fs::create_directories(dir / "host");
  ASSERT_TRUE(mount_memory(dir / "host", {}));
  ASSERT_EQ(::mount(nullptr, (dir / "host").c_str(), nullptr, MS_SHARED, nullptr), 0);
  write(dir / "host/d/f", "x");
  ASSERT_TRUE(mount_memory(dir / "host/d/below", {}));
  for (const bool shared : {false, true}) {
    ASSERT_TRUE(bind_found(*open_sub_path(dir / "host", "d"), dir / "parts/0", shared));
    EXPECT_EQ(read_file(dir / "parts/0/f", 64).value_or("-"), "x");
    ASSERT_TRUE(unmount_below(dir / "parts"));
    EXPECT_EQ(mounts_below(dir / "host")->size(), 2U) << shared;
  }
}

TEST_F(VolumeTest, HostPathsAreWhatTheirTypeSays) {
  write(dir / "f", "");
  const auto check = [](const fs::path& path, std::string_view type) {
    const auto checked = check_host_path(path, type);
    return checked ? std::string("fine") : checked.error().message();
  };
  EXPECT_EQ(check(dir / "f", "File"), "fine");
  EXPECT_EQ(check(dir / "f", ""), "fine");
  EXPECT_EQ(check(dir / "f", "Directory"),
            fmt::format("hostPath type check failed: {}/f is not a directory", dir.string()));
  EXPECT_EQ(check(dir / "f", "DirectoryOrCreate"),
            fmt::format("hostPath type check failed: {}/f is not a directory", dir.string()));
  EXPECT_EQ(check(dir, "FileOrCreate"),
            fmt::format("hostPath type check failed: {} is not a file", dir.string()));
  EXPECT_EQ(check(dir / "none", "Directory"),
            fmt::format("hostPath type check failed: {}/none is not a directory", dir.string()));
  EXPECT_EQ(check(dir, "Socket"),
            fmt::format("hostPath type check failed: {} is not a socket file", dir.string()));
  EXPECT_EQ(check("/dev/null", "CharDevice"), "fine");
  EXPECT_EQ(check("/dev/null", "BlockDevice"),
            "hostPath type check failed: /dev/null is not a block device");
  EXPECT_EQ(check(dir / "d/e", "DirectoryOrCreate"), "fine");
  EXPECT_EQ(shown(dir / "d/e"), "0 755");
  EXPECT_EQ(check(dir / "d/g", "FileOrCreate"), "fine");
  EXPECT_EQ(shown(dir / "d/g"), "0 644");
  EXPECT_EQ(check(dir / "d/h", ""), "fine");
  EXPECT_TRUE(fs::is_directory(dir / "d/h"));
}

TEST_F(VolumeTest, ClaimsHaveFoldersUntilTheyAreRemoved) {
  const fs::path claims = dir / "claims";
  EXPECT_TRUE(list_claim_folders(claims)->empty());
  const ClaimFolder claim{"shop", "data-db-0", kUid, 42};
  const ClaimFolder twin{"shop", std::string(253, 'n'), "8d5cbb0e-2e4a-4a3c-9d60-0123456789ab", 43};
  const auto path = make_claim_folder(claims, claim);
  ASSERT_TRUE(path) << path.error().message();
  EXPECT_EQ(path->filename(), fmt::format("data-db-0-{}", kUid));
  EXPECT_EQ(shown(*path), "0 777");
  ASSERT_TRUE(make_claim_folder(claims, twin));
  write(*path / "d/f", "kept");
  ASSERT_TRUE(make_claim_folder(claims, {"shop", "data-db-0", kUid, 99}));
  EXPECT_EQ(read_file(*path / "d/f", 64).value_or("-"), "kept");
  const auto listed = list_claim_folders(claims);
  ASSERT_EQ(listed->size(), 2U);
  EXPECT_EQ(listed->at(0), claim) << "as it was first seen";
  EXPECT_EQ(listed->at(1).uid, twin.uid);
  // That it is being deleted is kept with it.
  ASSERT_TRUE(mark_claim_folder(claims, claim, true));
  EXPECT_TRUE(list_claim_folders(claims)->at(0).deleted);
  ASSERT_TRUE(mark_claim_folder(claims, claim, false));
  EXPECT_EQ(list_claim_folders(claims)->at(0), claim);
  ASSERT_TRUE(mark_claim_folder(claims, claim, true));
  // A mount below it is undone and not emptied.
  write(dir / "host/f", "the host's");
  fs::create_directories(*path / "m");
  ASSERT_EQ(::mount((dir / "host").c_str(), (*path / "m").c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_TRUE(remove_claim_folder(claims, claim));
  EXPECT_FALSE(fs::exists(*path));
  EXPECT_EQ(read_file(dir / "host/f", 64).value_or("-"), "the host's");
  ASSERT_TRUE(remove_claim_folder(claims, claim));
  EXPECT_EQ(list_claim_folders(claims)->size(), 1U);
  ASSERT_TRUE(remove_claim_folder(claims, listed->at(1)));
  EXPECT_FALSE(fs::exists(claims / "shop"));
  EXPECT_FALSE(make_claim_folder(claims, {"..", "x", kUid, 1}));
  EXPECT_FALSE(
      make_claim_folder(claims, {"shop", "x", "../../../../../../../../../../../../x", 1}));
}

}  // namespace
}  // namespace shoal::runtime
