// SPDX-License-Identifier: Apache-2.0
// Garbage collection on a small file system of its own.
#include "agent/images/image_gc.h"

#include "netplane/base/fs.h"
#include "tests/unit/runtime/image/image_archive.h"
#include "tests/unit/runtime/image/temp_dir.h"

#include <fmt/format.h>
#include <random>
#include <sys/mount.h>
#include <unistd.h>

namespace shoal::images {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing_images::Tar;

constexpr std::size_t kLayerBytes = 2 << 20;

class Disk : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "needs root";
    std::filesystem::create_directories(state());
    ASSERT_EQ(::mount("tmpfs", state().c_str(), "tmpfs", 0, "size=64m"), 0);
    runtime::StoreOptions options;
    options.platform = {"linux", "amd64", ""};
    auto opened = runtime::ImageStore::open(state(), options);
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(*opened);
  }
  void TearDown() override {
    store_.reset();
    ::umount2(state().c_str(), MNT_DETACH);
  }
  std::filesystem::path state() const { return dir_.path() / "state"; }

  // As a pull brings it: one layer of bytes that cannot be packed, and perhaps one that others
  // share.
  void pulled(const std::string& name, bool shared = false) {
    std::string content;
    std::minstd_rand random(static_cast<unsigned>(std::hash<std::string>()(name)));
    while (content.size() < kLayerBytes)
      content += static_cast<char>(random());
    Tar own;
    own.file("own", content);
    Tar base;
    base.file("base", "base");
    testing_images::ImageSpec spec{.name = name,
                                   .layers = {testing_images::plain_layer(own.bytes())}};
    if (shared)
      spec.layers.push_back(testing_images::plain_layer(base.bytes()));
    const std::filesystem::path folder = state() / "layout";
    for (const auto& [path, blob] : testing_images::layout_of({spec})) {
      std::filesystem::create_directories((folder / path).parent_path());
      ASSERT_TRUE(write_file_atomic(folder / path, blob));
    }
    const auto loaded = store_->load(folder, {}, runtime::Origin::kPulled);
    ASSERT_TRUE(loaded) << loaded.error().message();
    std::filesystem::remove_all(folder);
  }
  GcReport collect(GcOptions options, const std::set<std::string>& named = {}) {
    auto report = collect_images(*store_, options, named, SystemClock().wall());
    EXPECT_TRUE(report) << report.error().message();
    return report ? *report : GcReport();
  }
  std::vector<std::string> here() const {
    std::vector<std::string> out;
    for (const runtime::ImageInfo& image : store_->list())
      out.insert(out.end(), image.refs.begin(), image.refs.end());
    return out;
  }

  const GcOptions now_{20, 15, std::chrono::seconds(0)};
  testing_images::TempDir dir_;
  std::unique_ptr<runtime::ImageStore> store_;
};

TEST_F(Disk, BelowTheHighMarkNothingGoes) {
  pulled("r.lan/a:1");
  const GcReport report = collect({85, 80, std::chrono::seconds(0)});
  EXPECT_FALSE(report.tried);
  EXPECT_THAT(here(), ElementsAre("r.lan/a:1"));
}

TEST_F(Disk, TheLongestUnusedGoUntilTheLowMarkIsReached) {
  for (const char* name : {"r.lan/a:1", "r.lan/b:1", "r.lan/c:1", "r.lan/d:1"})
    pulled(name, true);
  // The first is used once more.
  ASSERT_TRUE(store_->acquire("r.lan/a:1", "c1"));
  ASSERT_TRUE(store_->release("c1"));
  const GcReport report = collect(now_);
  EXPECT_TRUE(report.tried);
  EXPECT_EQ(report.missing_bytes, 0U);
  EXPECT_THAT(report.images, ElementsAre("r.lan/b:1", "r.lan/c:1"));
  EXPECT_THAT(here(), ElementsAre("r.lan/a:1", "r.lan/d:1"));
  EXPECT_LE(disk_use(state())->used_percent(), 15U);
  // The layer that they all have is still whole.
  const auto held = store_->acquire("r.lan/d:1", "c2");
  ASSERT_TRUE(held) << held.error().message();
  EXPECT_EQ(read_file(held->layers.at(1) / "base", 10), std::string("base"));
}

TEST_F(Disk, WhatIsNeededStaysAndIsMissedInTheReport) {
  pulled("r.lan/held:1");
  pulled("r.lan/named:1");
  pulled("r.lan/new:1");
  ASSERT_TRUE(store_->acquire("r.lan/held:1", "c1"));
  const GcReport report = collect({10, 5, std::chrono::hours(1)}, {"r.lan/named:1"});
  EXPECT_TRUE(report.tried);
  EXPECT_THAT(report.images, IsEmpty());
  EXPECT_GT(report.missing_bytes, 0U);
  EXPECT_EQ(here().size(), 3U);
  const GcReport later = collect({10, 5, std::chrono::seconds(0)}, {"r.lan/named"});
  EXPECT_THAT(later.images, ElementsAre("r.lan/named:1", "r.lan/new:1"));
}

TEST_F(Disk, InodesCountToo) {
  ASSERT_EQ(::mount("tmpfs", state().c_str(), "tmpfs", MS_REMOUNT, "size=64m,nr_inodes=64"), 0);
  pulled("r.lan/a:1");
  for (int i = 0; i < 30; ++i)
    if (!write_file_atomic(state() / fmt::format("file-{}", i), ""))
      break;
  const GcReport report = collect({60, 50, std::chrono::seconds(0)});
  EXPECT_TRUE(report.tried);
  EXPECT_THAT(report.images, ElementsAre("r.lan/a:1"));
}

}  // namespace
}  // namespace shoal::images
