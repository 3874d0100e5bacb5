// SPDX-License-Identifier: Apache-2.0
// Overlay root filesystems in a mount namespace of the test's own, by the mount API and by
// mount(2).
#include "runtime/rootfs/rootfs.h"

#include "netplane/base/fs.h"
#include "runtime/image/store.h"
#include "tests/unit/runtime/image/image_archive.h"
#include "tests/unit/runtime/image/temp_dir.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Rootfs : public testing::TestWithParam<bool> {
protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "needs root";
    // Whoever runs this test: mounts stay in here.
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    options_.mount_api = GetParam();
  }
  void TearDown() override { EXPECT_TRUE(sweep_rootfs(dir_.path(), {})); }

  fs::path layer(const std::string& name, const std::string& file, const std::string& content) {
    const fs::path path = dir_.path() / "layers" / name;
    fs::create_directories(path);
    if (!file.empty()) {
      EXPECT_TRUE(write_file_atomic(path / file, content, 0644));
    }
    return path;
  }
  fs::path container(const std::string& name = "c1") const { return dir_.path() / "pods" / name; }

  RootfsOptions options_;
  testing_images::TempDir dir_;
};

INSTANTIATE_TEST_SUITE_P(Mount, Rootfs, testing::Bool(),
                         [](const auto& test) { return test.param ? "ByApi" : "Classic"; });

TEST_P(Rootfs, UpperLayersHideLowerOnesAndWritesStayAbove) {
  const std::vector<fs::path> layers = {layer("base", "f", "base"), layer("top", "f", "top")};
  ASSERT_TRUE(write_file_atomic(layers[0] / "gone", "x"));
  ASSERT_EQ(::mknod((layers[1] / "gone").c_str(), S_IFCHR, makedev(0, 0)), 0);
  const auto root = mount_rootfs(container(), layers, options_);
  ASSERT_TRUE(root) << root.error().message();
  EXPECT_EQ(*root, fs::canonical(container()) / "rootfs");
  EXPECT_EQ(*read_file(*root / "f", 10), "top");
  EXPECT_FALSE(fs::exists(*root / "gone"));
  ASSERT_TRUE(write_file_atomic(*root / "f", "changed"));
  EXPECT_EQ(*read_file(layers[1] / "f", 10), "top");
  struct statvfs vfs{};
  ASSERT_EQ(::statvfs(root->c_str(), &vfs), 0);
  EXPECT_NE(vfs.f_flag & ST_NODEV, 0U);
  // Asked again, it is the same mount with the container's writes.
  ASSERT_TRUE(mount_rootfs(container(), layers, options_));
  EXPECT_EQ(*read_file(*root / "f", 10), "changed");
  EXPECT_EQ(list_rootfs(dir_.path())->size(), 1U);
  ASSERT_TRUE(remove_rootfs(container()));
  ASSERT_TRUE(remove_rootfs(container()));
  EXPECT_THAT(*list_rootfs(dir_.path()), IsEmpty());
  EXPECT_FALSE(fs::exists(container() / "upper"));
}

TEST_P(Rootfs, AFreshMountHasAnEmptyUpper) {
  const std::vector<fs::path> layers = {layer("base", "f", "base")};
  const auto root = mount_rootfs(container(), layers, options_);
  ASSERT_TRUE(root) << root.error().message();
  ASSERT_TRUE(write_file_atomic(*root / "left", "x"));
  // As a reboot does: the mount is gone, the folders stay, with the mark that `volatile` leaves.
  ASSERT_EQ(::umount2(root->c_str(), 0), 0);
  EXPECT_TRUE(fs::exists(container() / "upper" / "left"));
  ASSERT_TRUE(mount_rootfs(container(), layers, options_));
  EXPECT_FALSE(fs::exists(*root / "left"));
}

TEST_P(Rootfs, ManyLayersWithLongPaths) {
  std::vector<fs::path> layers;
  for (std::size_t i = 0; i < kLayersMax; ++i)
    layers.push_back(layer(fmt::format("{:0>100}", i), fmt::format("f{}", i), ""));
  const auto root = mount_rootfs(container(), layers, options_);
  ASSERT_TRUE(root) << root.error().message();
  for (std::size_t i = 0; i < kLayersMax; ++i)
    EXPECT_TRUE(fs::exists(*root / fmt::format("f{}", i)));
  layers.push_back(layer("one-too-many", "", ""));
  EXPECT_EQ(mount_rootfs(container("c2"), layers, options_).error().code(), Errc::kInvalid);
  EXPECT_EQ(mount_rootfs(container("c2"), {}, options_).error().code(), Errc::kInvalid);
}

TEST_P(Rootfs, OddPaths) {
  const std::vector<fs::path> layers = {layer("a:b,c\\d e", "f", "odd")};
  const auto root = mount_rootfs(container("x:y,z"), layers, options_);
  ASSERT_TRUE(root) << root.error().message();
  EXPECT_EQ(*read_file(*root / "f", 10), "odd");
}

TEST_P(Rootfs, AMissingLayerIsNamed) {
  const auto root = mount_rootfs(container(), std::vector{dir_.path() / "absent"}, options_);
  ASSERT_FALSE(root);
  EXPECT_THAT(root.error().message(), HasSubstr("absent"));
  EXPECT_THAT(*list_rootfs(dir_.path()), IsEmpty());
}

TEST_P(Rootfs, ABusyMountIsDetached) {
  const auto root = mount_rootfs(container(), std::vector{layer("base", "f", "base")}, options_);
  ASSERT_TRUE(root) << root.error().message();
  const UniqueFd held(::open((*root / "f").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(held);
  ASSERT_TRUE(remove_rootfs(container()));
  EXPECT_THAT(*list_rootfs(dir_.path()), IsEmpty());
}

TEST_P(Rootfs, SweepKeepsWhatIsNamed) {
  const std::vector<fs::path> layers = {layer("base", "f", "base")};
  for (const char* name : {"c1", "c2", "c3"})
    ASSERT_TRUE(mount_rootfs(container(name), layers, options_));
  const std::vector<fs::path> keep = {container("c2")};
  const auto removed = sweep_rootfs(dir_.path() / "pods", keep);
  ASSERT_TRUE(removed) << removed.error().message();
  EXPECT_THAT(*removed,
              ElementsAre(fs::canonical(container("c1")), fs::canonical(container("c3"))));
  EXPECT_THAT(*list_rootfs(dir_.path()), ElementsAre(fs::canonical(container("c2"))));
}

// The whole way: an archive's whiteouts hide what the layer below has.
TEST_P(Rootfs, ImageToRoot) {
  using testing_images::Tar;
  Tar base, top;
  base.folder("etc").file("etc/old", "1").file("etc/kept", "2").folder("opt").file("opt/x", "3");
  top.file("etc/.wh.old", "").file("opt/.wh..wh..opq", "").file("opt/y", "4");
  testing_images::ImageSpec spec{
      .layers = {testing_images::packed_layer(base.bytes(), Tar::Packing::kZstd),
                 testing_images::packed_layer(top.bytes(), Tar::Packing::kGzip)}};
  const fs::path archive = dir_.path() / "image.tar";
  ASSERT_TRUE(
      write_file_atomic(archive, testing_images::archive_of(testing_images::layout_of({spec}))));
  StoreOptions store_options;
  store_options.platform = {"linux", "amd64", ""};
  auto store = ImageStore::open(dir_.path() / "state", store_options);
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_TRUE((*store)->load(archive));
  const auto prepared = (*store)->acquire(spec.name, "c1");
  ASSERT_TRUE(prepared) << prepared.error().message();
  const auto root = mount_rootfs(container(), prepared->layers, options_);
  ASSERT_TRUE(root) << root.error().message();
  EXPECT_FALSE(fs::exists(*root / "etc/old"));
  EXPECT_EQ(*read_file(*root / "etc/kept", 10), "2");
  EXPECT_FALSE(fs::exists(*root / "opt/x"));
  EXPECT_EQ(*read_file(*root / "opt/y", 10), "4");
}

}  // namespace
}  // namespace shoal::runtime
