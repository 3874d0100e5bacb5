// SPDX-License-Identifier: Apache-2.0
// Layers, good and hostile, unpacked into a folder and shown as sorted text. Outside the folder
// stands a canary.
#include "runtime/image/unpack.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "netplane/base/unique_fd.h"
#include "runtime/image/sha256.h"
#include "runtime/image/tree.h"
#include "tests/unit/runtime/image/image_archive.h"
#include "tests/unit/runtime/image/temp_dir.h"

#include <algorithm>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing_images::Layer;
using testing_images::packed_layer;
using testing_images::plain_layer;
using testing_images::Tar;

constexpr UnpackLimits kLimits{64 << 20, 10'000};

std::string show(const fs::path& root, const fs::path& path) {
  struct stat st{};
  if (::lstat(path.c_str(), &st) != 0)
    return "?";
  std::string kind;
  switch (st.st_mode & S_IFMT) {
  case S_IFDIR: {
    char value[8] = {};
    kind = ::lgetxattr(path.c_str(), "trusted.overlay.opaque", value, sizeof(value)) > 0
               ? "opaque folder"
               : "folder";
    break;
  }
  case S_IFREG:
    kind = fmt::format("file \"{}\"", read_file(path, 1000).value_or("(large)"));
    break;
  case S_IFLNK: {
    std::error_code ec;
    return fmt::format("{} -> {}", path.lexically_relative(root).string(),
                       fs::read_symlink(path, ec).string());
  }
  case S_IFCHR:
    kind = st.st_rdev == makedev(0, 0) ? "whiteout" : "DEVICE";
    return fmt::format("{} {}", path.lexically_relative(root).string(), kind);
  case S_IFIFO:
    kind = "fifo";
    break;
  default:
    kind = "UNKNOWN";
  }
  return fmt::format("{} {:o} {}:{} {}", path.lexically_relative(root).string(), st.st_mode & 07777,
                     st.st_uid, st.st_gid, kind);
}

class Unpack : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "needs root";
    fs::create_directories(dir_.path() / "outside");
    ASSERT_TRUE(write_file_atomic(dir_.path() / "outside" / "canary", "alive"));
    reset();
  }
  // Whatever a layer held, what is beside the folder is as it was.
  void TearDown() override {
    EXPECT_EQ(*read_file(dir_.path() / "outside" / "canary", 100), "alive");
    EXPECT_EQ(std::distance(fs::directory_iterator(dir_.path() / "outside"), {}), 1);
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_.path()))
      names.insert(entry.path().filename());
    EXPECT_THAT(names, testing::IsSubsetOf({"blob", "outside", "root"}));
  }

  void reset() {
    fs::remove_all(root());
    fs::create_directory(root());
  }
  fs::path root() const { return dir_.path() / "root"; }

  Result<UnpackStats> unpack(const Layer& layer, const UnpackLimits& limits = kLimits) {
    const fs::path blob = dir_.path() / "blob";
    EXPECT_TRUE(write_file_atomic(blob, layer.blob));
    const UniqueFd blob_fd(::open(blob.c_str(), O_RDONLY | O_CLOEXEC));
    const UniqueFd root_fd(::open(root().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return unpack_layer(blob_fd.get(), layer.diff_id, root_fd.get(), limits);
  }
  std::vector<std::string> good(Tar& tar) {
    const auto stats = unpack(plain_layer(tar.bytes()));
    EXPECT_TRUE(stats) << (stats ? "" : stats.error().message());
    return listing();
  }
  std::string refused(Tar& tar) {
    const auto stats = unpack(plain_layer(tar.bytes()));
    EXPECT_FALSE(stats);
    return stats ? "" : stats.error().message();
  }
  std::vector<std::string> listing() const {
    std::vector<std::string> out;
    for (const auto& entry : fs::recursive_directory_iterator(root()))
      out.push_back(show(root(), entry.path()));
    std::ranges::sort(out);
    return out;
  }

  testing_images::TempDir dir_;
};

TEST_F(Unpack, KeepsWhatAnImageMeans) {
  Tar tar;
  tar.folder("etc", {.mode = 0755, .xattrs = {}})
      .file("etc/passwd", "root", {.mode = 0640, .uid = 7, .gid = 8, .xattrs = {}})
      .file("bin/su", "x", {.mode = 04755, .uid = 0, .gid = 0, .xattrs = {}})
      .folder("tmp", {.mode = 01777, .xattrs = {}})
      .symlink("etc/abs", "/../../../outside/canary")
      .symlink("rel", "etc/passwd")
      .hard_link("etc/passwd2", "etc/passwd")
      .fifo("run/fifo")
      .file("/absolute/./name", "a")
      .file("ünï/cödé", "u");
  EXPECT_THAT(good(tar),
              ElementsAre("absolute 755 0:0 folder", "absolute/name 644 0:0 file \"a\"",
                          "bin 755 0:0 folder", "bin/su 4755 0:0 file \"x\"", "etc 755 0:0 folder",
                          "etc/abs -> /../../../outside/canary", "etc/passwd 640 7:8 file \"root\"",
                          "etc/passwd2 640 7:8 file \"root\"", "rel -> etc/passwd",
                          "run 755 0:0 folder", "run/fifo 644 0:0 fifo", "tmp 1777 0:0 folder",
                          "ünï 755 0:0 folder", "ünï/cödé 644 0:0 file \"u\""));
  struct stat a{};
  struct stat b{};
  ASSERT_EQ(::stat((root() / "etc/passwd").c_str(), &a), 0);
  ASSERT_EQ(::stat((root() / "etc/passwd2").c_str(), &b), 0);
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_EQ(a.st_mtime, 1'700'000'000);
  ASSERT_EQ(::stat((root() / "etc").c_str(), &a), 0);
  EXPECT_EQ(a.st_mtime, 1'700'000'000);
}

TEST_F(Unpack, GzipAndZstd) {
  for (const auto packing : {Tar::Packing::kGzip, Tar::Packing::kZstd}) {
    reset();
    Tar tar;
    tar.file("a", std::string(300'000, 'x')).file("b", "y");
    const auto stats = unpack(packed_layer(tar.bytes(), packing));
    ASSERT_TRUE(stats) << stats.error().message();
    EXPECT_EQ(stats->entries, 2U);
    EXPECT_EQ(fs::file_size(root() / "a"), 300'000U);
  }
}

TEST_F(Unpack, Xattrs) {
  // A version 2 capability set, as setcap writes it.
  const std::string capability(
      "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);
  Tar tar;
  tar.file("ping", "x",
           {.mode = 0755,
            .uid = 5,
            .gid = 5,
            .xattrs = {{"security.capability", capability},
                       {"user.note", "n"},
                       {"trusted.overlay.redirect", "/etc"},
                       {"trusted.other", "t"},
                       {"security.selinux", "s"}}});
  ASSERT_FALSE(good(tar).empty());
  const std::string path = (root() / "ping").string();
  char value[64];
  ASSERT_EQ(::getxattr(path.c_str(), "security.capability", value, sizeof(value)), 20);
  EXPECT_EQ(std::string(value, 20), capability);
  EXPECT_EQ(::getxattr(path.c_str(), "user.note", value, sizeof(value)), 1);
  for (const char* name : {"trusted.overlay.redirect", "trusted.other"})
    EXPECT_LT(::getxattr(path.c_str(), name, value, sizeof(value)), 0) << name;
}

TEST_F(Unpack, WhiteoutsBecomeOverlayfsOnes) {
  Tar tar;
  tar.folder("d")
      .file("d/.wh.gone", "")
      .file(".wh.top", "")
      .folder("o")
      .file("o/.wh..wh..opq", "")
      .file("o/new", "n")
      .file(".wh..wh.plnk", "");
  EXPECT_THAT(good(tar),
              ElementsAre("d 755 0:0 folder", "d/gone whiteout", "o 755 0:0 opaque folder",
                          "o/new 644 0:0 file \"n\"", "top whiteout"));
}

TEST_F(Unpack, AFolderDeletedAndMadeAnewIsOpaqueInAnyOrder) {
  Tar before, after, implicit;
  before.file(".wh.d", "").folder("d").file("d/x", "1");
  const std::vector<std::string> expected = {"d 755 0:0 opaque folder", "d/x 644 0:0 file \"1\""};
  EXPECT_EQ(good(before), expected);
  reset();
  after.folder("d").file("d/x", "1").file(".wh.d", "");
  EXPECT_EQ(good(after), expected);
  reset();
  implicit.file(".wh.d", "").file("d/x", "1");
  EXPECT_EQ(good(implicit), expected);
  reset();
  Tar file;
  file.file(".wh.f", "").file("f", "2");
  EXPECT_THAT(good(file), ElementsAre("f 644 0:0 file \"2\""));
}

TEST_F(Unpack, DevicesAreLeftOut) {
  Tar tar;
  tar.device("dev/sda", 8, 0).device("dev/hidden", 0, 0).file("a", "");
  const auto stats = unpack(plain_layer(tar.bytes()));
  ASSERT_TRUE(stats) << stats.error().message();
  EXPECT_EQ(stats->devices_left_out, 2U);
  EXPECT_THAT(listing(), ElementsAre("a 644 0:0 file \"\"", "dev 755 0:0 folder"));
}

TEST_F(Unpack, TheLastOfTwoEntriesStands) {
  Tar tar;
  tar.file("a", "one")
      .file("a", "two")
      .folder("b")
      .file("b/x", "")
      .file("b", "now a file")
      .symlink("c", "a")
      .folder("c")
      .file("c/y", "y");
  EXPECT_THAT(good(tar), ElementsAre("a 644 0:0 file \"two\"", "b 644 0:0 file \"now a file\"",
                                     "c 755 0:0 folder", "c/y 644 0:0 file \"y\""));
}

TEST_F(Unpack, NamesThatLeaveAreRefused) {
  for (const char* name : {"../outside/canary", "a/../../outside/canary", "..", "a/..", "/../x"}) {
    reset();
    Tar tar;
    tar.file(name, "dead");
    EXPECT_THAT(refused(tar), HasSubstr("..")) << name;
  }
  for (const char* name : {".wh...", ".wh..", ".wh.", "a/.wh..."}) {
    reset();
    Tar tar;
    tar.folder("a").file(name, "");
    EXPECT_THAT(refused(tar), HasSubstr("whiteout that names nothing")) << name;
  }
  reset();
  Tar deep;
  std::string name;
  for (std::size_t i = 0; i < kTreeDepthMax + 2; ++i)
    name += "d/";
  deep.file(name + "f", "");
  EXPECT_THAT(refused(deep), HasSubstr("deeper"));
}

TEST_F(Unpack, LinksOutwardAreFollowedInside) {
  // The absolute target is looked for under the root; there it does not exist.
  Tar dangling;
  dangling.symlink("escape", (dir_.path() / "outside").string()).file("escape/canary", "dead");
  EXPECT_THAT(refused(dangling), HasSubstr("dangling link"));
  reset();
  Tar dots;
  dots.folder("d").symlink("d/up", "../../../../outside").file("d/up/canary", "dead");
  EXPECT_THAT(refused(dots), HasSubstr("dangling link"));
  reset();
  // One whose target exists inside is followed there.
  Tar inside;
  inside.folder("usr/lib").symlink("lib", "/usr/lib").file("lib/x", "in");
  EXPECT_THAT(good(inside), ElementsAre("lib -> /usr/lib", "usr 755 0:0 folder",
                                        "usr/lib 755 0:0 folder", "usr/lib/x 644 0:0 file \"in\""));
  reset();
  // An entry replaces a link, it does not write through it.
  Tar through;
  through.symlink("f", (dir_.path() / "outside" / "canary").string()).file("f", "own");
  EXPECT_THAT(good(through), ElementsAre("f 644 0:0 file \"own\""));
  reset();
  Tar proc;
  proc.symlink("p", "/proc/self/root").file("p/tmp/x", "dead");
  EXPECT_THAT(refused(proc), HasSubstr("dangling link"));
}

TEST_F(Unpack, AFileIsNoFolder) {
  Tar tar;
  tar.file("a", "").file("a/b", "");
  EXPECT_THAT(refused(tar), HasSubstr("a file or a dangling link"));
}

TEST_F(Unpack, HardLinksOutwardAreRefused) {
  for (const std::string& target :
       {std::string("../outside/canary"), std::string("/etc/hostname"),
        (dir_.path() / "outside" / "canary").string(), std::string("absent"), std::string("d"),
        std::string("out/canary"), std::string("hidden")}) {
    reset();
    Tar tar;
    tar.folder("d")
        .symlink("out", (dir_.path() / "outside").string())
        .file(".wh.hidden", "")
        .hard_link("link", target);
    EXPECT_THAT(refused(tar), HasSubstr("entry \"link\"")) << target;
  }
  reset();
  // To a symlink: the link itself is linked, not what it names.
  Tar tar;
  tar.symlink("s", "/etc/shadow").hard_link("t", "s").file("u", "1").hard_link("u", "u");
  EXPECT_THAT(good(tar),
              ElementsAre("s -> /etc/shadow", "t -> /etc/shadow", "u 644 0:0 file \"1\""));
}

TEST_F(Unpack, BombsAreBounded) {
  Tar big;
  big.file("zeros", std::string(8 << 20, '\0'));
  const Layer bomb = packed_layer(big.bytes(), Tar::Packing::kGzip);
  EXPECT_LT(bomb.blob.size(), 100'000U);
  const auto bytes = unpack(bomb, {1 << 20, 100});
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code(), Errc::kExhausted);
  reset();
  Tar many;
  for (int i = 0; i < 200; ++i)
    many.file(fmt::format("f{}", i), "");
  const auto entries = unpack(plain_layer(many.bytes()), {1 << 20, 100});
  ASSERT_FALSE(entries);
  EXPECT_THAT(entries.error().message(), HasSubstr("more than 100 entries"));
}

TEST_F(Unpack, DamageIsFound) {
  Tar tar;
  tar.file("a", std::string(100'000, 'a')).file("b", "b");
  const std::string bytes = tar.bytes();
  Layer wrong = plain_layer(bytes);
  wrong.diff_id = "sha256:" + std::string(64, '0');
  EXPECT_EQ(unpack(wrong).error().code(), Errc::kCorrupt);
  for (const std::size_t size :
       {std::size_t{10}, std::size_t{512}, std::size_t{50'000}, bytes.size() - 1}) {
    for (const bool packed : {false, true}) {
      reset();
      Layer cut = packed ? packed_layer(bytes, Tar::Packing::kGzip) : plain_layer(bytes);
      cut.blob.resize(std::min(size, cut.blob.size() - 1));
      EXPECT_FALSE(unpack(cut)) << size << packed;
    }
  }
  reset();
  EXPECT_FALSE(unpack(plain_layer("this is no tar at all")));
}

TEST_F(Unpack, EmptyLayers) {
  Tar tar;
  EXPECT_TRUE(good(tar).empty());
  EXPECT_TRUE(unpack(plain_layer("")));
}

}  // namespace
}  // namespace shoal::runtime
