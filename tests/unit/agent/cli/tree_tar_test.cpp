// SPDX-License-Identifier: Apache-2.0
// What `shoal cp` packs and unpacks; archives as a hostile container would send them.
#include "agent/cli/tree_tar.h"

#include "netplane/base/fs.h"
#include "netplane/base/unique_fd.h"

#include <archive.h>
#include <archive_entry.h>
#include <array>
#include <csignal>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace shoal::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class TreeTar : public ::testing::Test {
protected:
  TreeTar() {
    std::string name = (fs::temp_directory_path() / "shoal-tar.XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    top = name;
    for (const char* folder : {"from", "to", "outside"})
      fs::create_directory(top / folder);
    put(top / "outside/kept", "kept");
  }
  ~TreeTar() override { fs::remove_all(top); }

  static void put(const fs::path& path, const std::string& text, mode_t mode = 0644) {
    ASSERT_TRUE(write_file_atomic(path, text, mode));
  }
  static std::string text(const fs::path& path) { return read_file(path, 1 << 20).value_or("!"); }

  struct Entry {
    std::string name;
    mode_t mode;  // S_IFREG | 0644
    std::string content;
    std::string hard_link = {};
  };
  // An archive as somebody else makes it.
  static UniqueFd archive_of(const std::vector<Entry>& entries) {
    UniqueFd file(::memfd_create("tar", MFD_CLOEXEC));
    archive* out = archive_write_new();
    archive_write_set_format_gnutar(out);
    archive_write_open_fd(out, file.get());
    for (const Entry& one : entries) {
      archive_entry* entry = archive_entry_new();
      archive_entry_set_pathname(entry, one.name.c_str());
      archive_entry_set_mode(entry, one.mode);
      archive_entry_set_mtime(entry, 1'000'000'000, 0);
      const bool plain = S_ISREG(one.mode) && one.hard_link.empty();
      archive_entry_set_size(entry, plain ? static_cast<std::int64_t>(one.content.size()) : 0);
      if (!one.hard_link.empty())
        archive_entry_set_hardlink(entry, one.hard_link.c_str());
      if (S_ISLNK(one.mode))
        archive_entry_set_symlink(entry, one.content.c_str());
      archive_write_header(out, entry);
      if (plain)
        archive_write_data(out, one.content.data(), one.content.size());
      archive_entry_free(entry);
    }
    archive_write_free(out);
    ::lseek(file.get(), 0, SEEK_SET);
    return file;
  }
  // "": unpacked; else the error. Base and name are "a".
  std::string unpack(const std::vector<Entry>& entries) {
    const UniqueFd file = archive_of(entries);
    const auto done = unpack_tree(file.get(), "a", top / "to", "a", warn);
    EXPECT_EQ(text(top / "outside/kept"), "kept");
    EXPECT_EQ(std::distance(fs::directory_iterator(top / "outside"), {}), 1);
    return done ? "" : done.error().message();
  }

  fs::path top;
  std::string warnings;
  Warn warn = [this](std::string_view text) { warnings += std::string(text) + "\n"; };
};

constexpr mode_t kFile = S_IFREG | 0644;
constexpr mode_t kFolder = S_IFDIR | 0755;
constexpr mode_t kLink = S_IFLNK | 0777;

TEST_F(TreeTar, ATreeThereAndBack) {
  const fs::path from = top / "from";
  fs::create_directories(from / "deep/er");
  fs::create_directory(from / "empty");
  put(from / "deep/er/file", "text");
  put(from / "run", "#!/bin/sh\n", 0750);
  put(from / std::string(150, 'n'), "a long name");
  put(from / "large", std::string(3'000'000, 'x'));
  fs::create_symlink("deep/er/file", from / "inner");
  fs::create_symlink("/etc/passwd", from / "outer");
  ::chmod((from / "deep").c_str(), 0500);
  const UniqueFd file(::memfd_create("tar", MFD_CLOEXEC));
  ASSERT_TRUE(pack_tree(file.get(), from, "x", warn));
  EXPECT_EQ(warnings, "");
  ::lseek(file.get(), 0, SEEK_SET);
  const auto done = unpack_tree(file.get(), "x", top / "to", "y", warn);
  ASSERT_TRUE(done) << done.error().message();
  const fs::path to = top / "to/y";
  EXPECT_EQ(text(to / "deep/er/file"), "text");
  EXPECT_EQ(text(to / "run"), "#!/bin/sh\n");
  EXPECT_EQ(text(to / std::string(150, 'n')), "a long name");
  EXPECT_EQ(fs::file_size(to / "large"), 3'000'000U);
  EXPECT_TRUE(fs::is_empty(to / "empty"));
  EXPECT_EQ(fs::read_symlink(to / "inner"), "deep/er/file");
  EXPECT_FALSE(fs::exists(fs::symlink_status(to / "outer")));
  EXPECT_THAT(warnings, HasSubstr("y/outer is a link to /etc/passwd"));
  struct stat info{};
  ASSERT_EQ(::stat((to / "run").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0750U);
  ASSERT_EQ(::stat((to / "deep").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0500U);
  ::chmod((from / "deep").c_str(), 0700);
  ::chmod((to / "deep").c_str(), 0700);
}

TEST_F(TreeTar, NamesThatLeadOutAreRefused) {
  for (const char* name : {"a/../../outside/x", "../outside/x", "/etc/x", "b", "a/../b", ".."})
    EXPECT_THAT(unpack({{name, kFile, "x"}}), HasSubstr("refused")) << name;
  EXPECT_THAT(unpack({{"a/own", kFile, "x"}, {"a/more", kFile, "", "/etc/passwd"}}),
              HasSubstr("refused"));
  EXPECT_THAT(unpack({{"a/more", kFile, "", "a/../../outside/kept"}}), HasSubstr("refused"));
}

// CVE-2019-11246 and its kin: a link first, then a file by way of it.
TEST_F(TreeTar, NoLinkIsGoneThrough) {
  EXPECT_EQ(
      unpack({{"a", kFolder, ""}, {"a/out", kLink, "../../outside"}, {"a/out/x", kFile, "x"}}),
      "");  // the link was left out, and its name is a folder
  EXPECT_TRUE(fs::is_directory(fs::symlink_status(top / "to/a/out")));
  EXPECT_EQ(text(top / "to/a/out/x"), "x");
  EXPECT_THAT(warnings, HasSubstr("left out"));
  EXPECT_THAT(unpack({{"a/in", kFolder, ""}, {"a/l", kLink, "in"}, {"a/l/x", kFile, "x"}}),
              HasSubstr("is not gone through"));
  // One that was there before: of another copy, say.
  fs::create_symlink(top / "outside", top / "to/a/before");
  EXPECT_THAT(unpack({{"a/before/kept", kFile, "x"}}), HasSubstr("is not gone through"));
  fs::create_symlink(top / "outside/kept", top / "to/a/file");
  EXPECT_EQ(unpack({{"a/file", kFile, "new"}}), "");
  EXPECT_FALSE(fs::is_symlink(top / "to/a/file"));
  EXPECT_EQ(text(top / "to/a/file"), "new");
  fs::create_symlink(top / "outside/kept", top / "to/a/again");
  EXPECT_THAT(unpack({{"a/hard", kFile, "", "a/again"}}), HasSubstr("cannot make"));
  // Climbing and coming back is still a way by the outside.
  warnings.clear();
  EXPECT_EQ(unpack({{"a/round", kLink, "../../to/a/file"}}), "");
  EXPECT_THAT(warnings, HasSubstr("left out"));
  // So is going up after a name: that may be a link.
  EXPECT_EQ(unpack({{"a/x/y", kFolder, ""},
                    {"a/x/y/up", kLink, "../.."},
                    {"a/chain", kLink, "x/y/up/../../../outside/kept"}}),
            "");
  EXPECT_EQ(fs::read_symlink(top / "to/a/x/y/up"), "../..");
  EXPECT_FALSE(fs::exists(fs::symlink_status(top / "to/a/chain")));
}

TEST_F(TreeTar, ModesLinksAndWhatIsNoFile) {
  EXPECT_EQ(unpack({{"a/suid", S_IFREG | 04755, "x"},
                    {"a/same", kFile, "", "a/suid"},
                    {"a/pipe", S_IFIFO | 0644, ""},
                    {"a/null", S_IFCHR | 0666, ""}}),
            "");
  struct stat info{};
  ASSERT_EQ(::stat((top / "to/a/suid").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0755U);
  EXPECT_EQ(info.st_nlink, 2U);
  EXPECT_EQ(info.st_mtime, 1'000'000'000);
  EXPECT_FALSE(fs::exists(top / "to/a/pipe"));
  EXPECT_THAT(warnings, HasSubstr("a/null is neither file, folder nor link"));
  EXPECT_EQ(unpack({}), "the pod sent nothing");
  const UniqueFd torn = archive_of({{"a/file", kFile, std::string(5000, 'x')}});
  ASSERT_EQ(::ftruncate(torn.get(), 3000), 0);
  EXPECT_FALSE(unpack_tree(torn.get(), "a", top / "to", "a", warn));
}

TEST_F(TreeTar, WhatWasAskedForIsNoFileItself) {
  EXPECT_THAT(unpack({{"a", kLink, "elsewhere"}}), HasSubstr("names is a link to elsewhere"));
  EXPECT_THAT(unpack({{"a", S_IFIFO | 0644, ""}}), HasSubstr("neither file, folder nor link"));
}

TEST_F(TreeTar, AFileIsReplacedWholeOrNotAtAll) {
  put(top / "to/a", "old");
  const UniqueFd torn = archive_of({{"a", kFile, std::string(5000, 'x')}});
  ASSERT_EQ(::ftruncate(torn.get(), 3000), 0);
  EXPECT_FALSE(unpack_tree(torn.get(), "a", top / "to", "a", warn));
  EXPECT_EQ(text(top / "to/a"), "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(top / "to"), {}), 1);
  EXPECT_EQ(unpack({{"a", kFile, "new"}}), "");
  EXPECT_EQ(text(top / "to/a"), "new");
}

// GNU tar pads what it writes to 10 KiB, and says so when nobody takes that.
TEST_F(TreeTar, TheWholeStreamIsTaken) {
  const UniqueFd file = archive_of({{"a", kFile, "x"}});
  const off_t end = ::lseek(file.get(), 0, SEEK_END);
  ASSERT_EQ(::ftruncate(file.get(), end + (1 << 20)), 0);
  ::lseek(file.get(), 0, SEEK_SET);
  ASSERT_TRUE(unpack_tree(file.get(), "a", top / "to", "a", warn));
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_CUR), end + (1 << 20));
}

TEST_F(TreeTar, WhatCannotBePackedIsTorn) {
  fs::create_directory(top / "from/x");
  put(top / "from/x/one", "1");
  const UniqueFd file(::memfd_create("tar", MFD_CLOEXEC));
  EXPECT_FALSE(pack_tree(file.get(), top / "from/none", "x", warn));
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_END), 0);
}

TEST_F(TreeTar, NobodyWhoReadsIsAnErrorThatSaysSo) {
  put(top / "from/large", std::string(300'000, 'x'));
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd write(ends[1]);
  ::close(ends[0]);
  auto* const before = ::signal(SIGPIPE, SIG_IGN);
  const auto packed = pack_tree(write.get(), top / "from", "x", warn);
  ::signal(SIGPIPE, before);
  ASSERT_FALSE(packed);
  EXPECT_EQ(packed.error().sys_errno(), EPIPE);
}

TEST_F(TreeTar, AFileBecomesWhatIsNamed) {
  const UniqueFd file = archive_of({{"a", kFile, "x"}});
  ASSERT_TRUE(unpack_tree(file.get(), "a", top / "to", "b", warn));
  EXPECT_EQ(text(top / "to/b"), "x");
  const UniqueFd all = archive_of({{"./", kFolder, ""}, {"./one", kFile, "1"}});
  ASSERT_TRUE(unpack_tree(all.get(), "", top / "to", "", warn));
  EXPECT_EQ(text(top / "to/one"), "1");
}

}  // namespace
}  // namespace shoal::cli
