// SPDX-License-Identifier: Apache-2.0
#include "runtime/volume/files.h"

#include "netplane/base/fs.h"

#include <algorithm>
#include <atomic>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <thread>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

class VolumeFilesTest : public ::testing::Test {
protected:
  VolumeFilesTest() {
    std::string name = "/tmp/shoal-files.XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    dir = name;
  }
  ~VolumeFilesTest() override {
    std::error_code error;
    fs::remove_all(dir, error);
  }
  bool put(const VolumeFiles& files) {
    const auto written = write_volume_files(dir, files, std::nullopt);
    EXPECT_TRUE(written) << written.error().message();
    return written.value_or(false);
  }
  std::string at(const std::string& path) const {
    return read_file(dir / path, 1 << 20).value_or("-");
  }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(dir)) {
      const std::string name = entry.path().filename().string();
      out.push_back(name.starts_with("..2") ? "..TIME" : name);
    }
    std::ranges::sort(out);
    return out;
  }
  mode_t mode(const std::string& path) const {
    struct stat is{};
    EXPECT_EQ(::stat((dir / path).c_str(), &is), 0);
    return is.st_mode & 07777;
  }

  fs::path dir;
};

using Names = std::vector<std::string>;

TEST_F(VolumeFilesTest, AreShownInTheKubeletsLayout) {
  EXPECT_TRUE(put({{"a", {"1", 0644}}, {"x/y/z", {"2", 0400}}, {"x/w", {"3", 0777}}}));
  EXPECT_EQ(names(), (Names{"..TIME", "..data", "a", "x"}));
  EXPECT_EQ(fs::read_symlink(dir / "a"), "..data/a");
  EXPECT_EQ(fs::read_symlink(dir / "x"), "..data/x");
  EXPECT_TRUE(fs::read_symlink(dir / "..data").string().starts_with("..2"));
  EXPECT_EQ(at("a") + at("x/y/z") + at("x/w"), "123");
  EXPECT_EQ(mode("a"), 0644U);
  EXPECT_EQ(mode("x/y/z"), 0400U);
  EXPECT_EQ(mode("x/w"), 0777U) << "whatever the umask is";
  EXPECT_EQ(mode("x"), 0755U);
}

TEST_F(VolumeFilesTest, AreWrittenOnlyWhenTheyDiffer) {
  const VolumeFiles files{{"a", {"1", 0644}}, {"b/c", {"2", 0644}}};
  EXPECT_TRUE(put(files));
  const fs::path before = fs::read_symlink(dir / "..data");
  EXPECT_FALSE(put(files));
  EXPECT_EQ(fs::read_symlink(dir / "..data"), before);
  EXPECT_TRUE(put({{"a", {"1", 0600}}, {"b/c", {"2", 0644}}})) << "another mode";
  EXPECT_TRUE(put({{"a", {"1", 0600}}})) << "one less";
  EXPECT_EQ(names(), (Names{"..TIME", "..data", "a"}));
  EXPECT_TRUE(put({}));
  EXPECT_EQ(names(), (Names{"..TIME", "..data"}));
  EXPECT_FALSE(put({}));
}

TEST_F(VolumeFilesTest, WhatIsLeftOfACrashIsClearedAway) {
  put({{"a", {"1", 0644}}});
  fs::create_directories(dir / "..2001_01_01_00_00_00.1/a");
  fs::create_symlink("..2001_01_01_00_00_00.1", dir / "..data_tmp");
  fs::create_symlink("..data/gone", dir / "gone");
  fs::create_directory(dir / "made-by-a-sub-path");
  put({{"a", {"1", 0644}}});
  EXPECT_EQ(names(), (Names{"..TIME", "..data", "a", "made-by-a-sub-path"}));
}

TEST_F(VolumeFilesTest, ChangeAllAtOnce) {
  put({{"a", {"0", 0644}}, {"b", {"0", 0644}}});
  std::atomic<bool> done = false;
  std::atomic<int> mixed = 0, reads = 0;
  std::thread reader([&] {
    while (!done) {
      // Both of one state: through the folder that ..data led to.
      std::error_code error;
      const fs::path state = dir / fs::read_symlink(dir / "..data", error);
      const auto a = read_file(state / "a", 64), b = read_file(state / "b", 64);
      if (error || !a || !b)
        continue;  // the state was replaced in between
      ++reads;
      if (*a != *b)
        ++mixed;
    }
  });
  for (int i = 1; i <= 200; ++i)
    put({{"a", {std::to_string(i), 0644}}, {"b", {std::to_string(i), 0644}}});
  done = true;
  reader.join();
  EXPECT_EQ(mixed, 0);
  EXPECT_GT(reads, 0);
  EXPECT_EQ(at("a"), "200");
}

TEST_F(VolumeFilesTest, ConflictingPathsAreAnError) {
  const auto written =
      write_volume_files(dir, {{"a", {"1", 0644}}, {"a/b", {"2", 0644}}}, std::nullopt);
  ASSERT_FALSE(written);
  EXPECT_NE(written.error().message().find("write the files of " + dir.string()),
            std::string::npos);
  EXPECT_TRUE(put({{"a", {"1", 0644}}}));
  EXPECT_EQ(names(), (Names{"..TIME", "..data", "a"}));
}

// As a subPath makes one of a name that has no file yet.
TEST_F(VolumeFilesTest, AnEmptyFolderGivesWayToAFile) {
  fs::create_directory(dir / "late");
  const auto written = write_volume_files(dir, {{"late", {"1", 0644}}}, std::nullopt);
  ASSERT_TRUE(written) << written.error().message();
  EXPECT_EQ(read_file(dir / "late", 64).value_or("-"), "1");
}

TEST_F(VolumeFilesTest, TriesThatFailDoNotPileUp) {
  fs::create_directories(dir / "taken/by");
  for (int i = 0; i < 5; i++)
    EXPECT_FALSE(write_volume_files(dir, {{"taken", {"1", 0644}}}, std::nullopt));
  const auto own = std::ranges::count_if(fs::directory_iterator(dir), [](const auto& entry) {
    return entry.path().filename().string().starts_with("..");
  });
  EXPECT_LE(own, 4);  // ..data, what it names and named before, a link on its way
}

}  // namespace
}  // namespace shoal::runtime
