// SPDX-License-Identifier: Apache-2.0
// Pulls through the real skopeo from a registry that says what the test wants.
#include "runtime/image/pull.h"

#include "netplane/base/fs.h"
#include "runtime/image/credentials.h"
#include "runtime/image/reference.h"
#include "runtime/image/sha256.h"
#include "tests/unit/runtime/image/fake_registry.h"
#include "tests/unit/runtime/image/image_archive.h"
#include "tests/unit/runtime/image/temp_dir.h"

#include <algorithm>
#include <csignal>
#include <fmt/format.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing_images::FakeRegistry;
using testing_images::ImageSpec;
using testing_images::Layer;
using testing_images::Layout;
using testing_images::packed_layer;
using testing_images::Tar;

constexpr std::string_view kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr std::string_view kIndexType = "application/vnd.oci.image.index.v1+json";

Layer layer_with(const std::string& name, const std::string& content,
                 Tar::Packing packing = Tar::Packing::kGzip) {
  Tar tar;
  tar.file(name, content);
  return packed_layer(tar.bytes(), packing);
}

class Pulling : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "needs root";
    std::signal(SIGPIPE, SIG_IGN);
    StoreOptions options;
    options.platform = {"linux", "amd64", ""};
    auto opened = ImageStore::open(dir_.path() / "state", options);
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(*opened);
    options_.insecure = true;
  }

  // Serves an image's blobs and its manifest by digest; returns its index entry.
  std::string publish(const ImageSpec& spec) {
    Layout layout;
    const std::string entry = testing_images::add_image(layout, spec);
    for (const auto& [path, content] : layout) {
      const std::string digest = sha256_digest(content);
      registry_.serve("/v2/test/app/blobs/" + digest, content, "application/octet-stream");
      if (entry.find(digest) != std::string::npos)
        registry_.serve("/v2/test/app/manifests/" + digest, content, std::string(kManifestType));
    }
    return entry;
  }
  // An index of them under a tag; returns its digest.
  std::string publish_index(const std::string& tag, const std::vector<std::string>& entries) {
    const std::string index =
        fmt::format(R"({{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}})", kIndexType,
                    fmt::join(entries, ","));
    registry_.serve("/v2/test/app/manifests/" + tag, index, std::string(kIndexType));
    registry_.serve("/v2/test/app/manifests/" + sha256_digest(index), index,
                    std::string(kIndexType));
    return sha256_digest(index);
  }
  std::string name(const std::string& rest) const { return registry_.host() + "/test/app" + rest; }
  std::string blob_of(const Layer& layer) const {
    return "/v2/test/app/blobs/" + sha256_digest(layer.blob);
  }
  Result<ImageInfo> pull(const std::string& rest, const PullHooks& hooks = {}) {
    last_ = SHOAL_TRY(pull_image(*store_, name(rest), options_, hooks));
    return last_.info;
  }
  fs::path pulls() const { return dir_.path() / "state" / "images" / "pulls"; }
  std::size_t folders() const {
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator(pulls()))
      count += entry.is_directory();
    return count;
  }

  testing_images::TempDir dir_;
  FakeRegistry registry_;
  std::unique_ptr<ImageStore> store_;
  PullOptions options_;
  Pulled last_;
};

TEST_F(Pulling, TakesThisPlatformOfAnIndexWithGzipAndZstdLayers) {
  const std::string arm =
      publish({.architecture = "arm64", .layers = {layer_with("a", "for arm64")}});
  const std::string amd = publish(
      {.layers = {layer_with("bin/x", "one"), layer_with("bin/y", "two", Tar::Packing::kZstd)}});
  const std::string index = publish_index("1", {arm, amd});
  PullProgress last;
  const PullHooks hooks{[&](const PullProgress& p) { last = p; }, nullptr};
  const auto pulled = pull(":1", hooks);
  ASSERT_TRUE(pulled) << pulled.error().message();
  EXPECT_EQ(pulled->architecture, "amd64");
  EXPECT_THAT(pulled->refs, ElementsAre(name(":1")));
  EXPECT_GT(last.total_bytes, 0U);
  EXPECT_EQ(last.bytes, last.total_bytes);
  EXPECT_EQ(last.layers, 2U);
  EXPECT_EQ(last.total_layers, 2U);
  EXPECT_EQ(last_.fetched_bytes, last.total_bytes);
  EXPECT_THAT(pulled->repo_digests, ElementsAre(name("@" + index)));
  EXPECT_FALSE(pulled->pinned);
  const auto held = store_->acquire(name("@" + index), "pod");
  ASSERT_TRUE(held) << held.error().message();
  EXPECT_EQ(held->image_id, name("@" + index));
  EXPECT_EQ(read_file(held->layers.at(0) / "bin/x", 10), std::string("one"));
  EXPECT_EQ(read_file(held->layers.at(1) / "bin/y", 10), std::string("two"));
  EXPECT_EQ(folders(), 0U);
}

TEST_F(Pulling, AsksForNothingButTheManifestWhenAllIsHere) {
  publish_index("1", {publish({.layers = {layer_with("a", "x")}})});
  ASSERT_TRUE(pull(":1"));
  (void)registry_.asked();
  ASSERT_TRUE(pull(":1"));
  EXPECT_THAT(registry_.asked(), ElementsAre("/v2/test/app/manifests/1"));
  EXPECT_TRUE(last_.was_here);
}

TEST_F(Pulling, FetchesOnlyLayersThatAreNotHere) {
  const Layer base = layer_with("base", "shared");
  const Layer top = layer_with("top", "new");
  publish_index("1", {publish({.layers = {base}})});
  publish_index("2", {publish({.layers = {base, top}})});
  ASSERT_TRUE(pull(":1"));
  (void)registry_.asked();
  const auto second = pull(":2");
  ASSERT_TRUE(second) << second.error().message();
  const auto asked = registry_.asked();
  EXPECT_THAT(asked, Contains(blob_of(top)));
  EXPECT_THAT(asked, Not(Contains(blob_of(base))));
}

TEST_F(Pulling, PullsByDigest) {
  const std::string index = publish_index("1", {publish({.layers = {layer_with("a", "x")}})});
  const auto pulled = pull("@" + index);
  ASSERT_TRUE(pulled) << pulled.error().message();
  EXPECT_TRUE(store_->resolve(name("@" + index)));
  EXPECT_FALSE(store_->resolve(name(":1")));
}

TEST_F(Pulling, RefusesARegistryThatLiesAboutADigest) {
  const std::string honest = publish_index("1", {publish({.layers = {layer_with("a", "x")}})});
  const std::string other =
      fmt::format(R"({{"schemaVersion":2,"mediaType":"{}","manifests":[]}})", kIndexType);
  registry_.serve("/v2/test/app/manifests/" + honest, other, std::string(kIndexType));
  const auto pulled = pull("@" + honest);
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code(), Errc::kCorrupt) << pulled.error().message();
  EXPECT_THAT(store_->list(), IsEmpty());
}

TEST_F(Pulling, RefusesALayerOfOtherContentAndKeepsNothingOfIt) {
  const Layer layer = layer_with("a", "x");
  publish_index("1", {publish({.layers = {layer}})});
  std::string changed = layer.blob;
  changed.back() = static_cast<char>(changed.back() ^ 1);
  registry_.serve(blob_of(layer), changed, "application/octet-stream");
  const auto pulled = pull(":1");
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code(), Errc::kCorrupt) << pulled.error().message();
  EXPECT_THAT(store_->list(), IsEmpty());
  EXPECT_EQ(folders(), 0U);
}

TEST_F(Pulling, SaysWhichPlatformsAnIndexHas) {
  publish_index("1", {publish({.architecture = "s390x", .layers = {layer_with("a", "x")}})});
  const auto pulled = pull(":1");
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code(), Errc::kUnsupported);
  EXPECT_THAT(pulled.error().message(), HasSubstr("no image for linux/amd64: the index has "
                                                  "linux/s390x"));
}

TEST_F(Pulling, SaysThatAnImageDoesNotExist) {
  const auto pulled = pull(":none");
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code(), Errc::kNotFound) << pulled.error().message();
  EXPECT_THAT(pulled.error().message(), HasSubstr("manifest unknown"));
}

TEST_F(Pulling, GivesUpOnARegistryThatHangsAndGoesOnFromThereLater) {
  const Layer first = layer_with("a", "whole");
  const Layer slow = layer_with("b", std::string(100'000, 'b'));
  publish_index("1", {publish({.layers = {first, slow}})});
  registry_.serve(blob_of(slow), slow.blob, "application/octet-stream", FakeRegistry::Fault::kHang);
  options_.stall = std::chrono::milliseconds(1500);
  const auto hung = pull(":1");
  ASSERT_FALSE(hung);
  EXPECT_EQ(hung.error().code(), Errc::kTimeout) << hung.error().message();
  EXPECT_EQ(folders(), 1U);
  registry_.serve(blob_of(slow), slow.blob, "application/octet-stream");
  (void)registry_.asked();
  const auto again = pull(":1");
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_THAT(registry_.asked(), Not(Contains(blob_of(first))));
  EXPECT_EQ(folders(), 0U);
}

TEST_F(Pulling, EndsALayerThatIsLargerThanItsManifestSays) {
  const Layer layer = layer_with("a", "x");
  publish_index("1", {publish({.layers = {layer}})});
  registry_.serve(blob_of(layer), layer.blob, "application/octet-stream",
                  FakeRegistry::Fault::kEndless);
  const auto pulled = pull(":1");
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code(), Errc::kExhausted);
  EXPECT_THAT(pulled.error().message(), HasSubstr("sends more than"));
  EXPECT_EQ(folders(), 0U);
}

TEST_F(Pulling, IsCancelled) {
  const Layer layer = layer_with("a", std::string(100'000, 'a'));
  publish_index("1", {publish({.layers = {layer}})});
  registry_.serve(blob_of(layer), layer.blob, "application/octet-stream",
                  FakeRegistry::Fault::kHang);
  std::atomic<bool> cancelled{false};
  const PullHooks hooks{[&](const PullProgress& p) { cancelled = p.bytes > 0; }, &cancelled};
  const auto pulled = pull(":1", hooks);
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code(), Errc::kCancelled);
}

TEST_F(Pulling, ShowsTheCredentialsOfItsFileAndNoOthers) {
  publish_index("1", {publish({.layers = {layer_with("a", "x")}})});
  const std::string pair = "dXNlcjpodW50ZXIy";
  registry_.require(pair);
  const auto refused = pull(":1");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kPermission) << refused.error().message();
  options_.auth = render_auth_file({{registry_.host(), {"d3Jvbmc6eA=="}}});
  const auto wrong = pull(":1");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code(), Errc::kPermission) << wrong.error().message();
  options_.auth = render_auth_file({{registry_.host(), {pair}}});
  const auto pulled = pull(":1");
  EXPECT_TRUE(pulled) << pulled.error().message();
}

// Two names of one image, and one name twice: the blobs come once.
TEST_F(Pulling, ThoseOfOneManifestTakeTurns) {
  const Layer layer = layer_with("a", std::string(100'000, 'a'));
  const std::string entry = publish({.layers = {layer}});
  publish_index("1", {entry});
  publish_index("2", {entry});
  std::vector<std::thread> threads;
  for (const char* tag : {":1", ":2", ":1"})
    threads.emplace_back([&, tag] {
      const auto pulled = pull_image(*store_, name(tag), options_);
      EXPECT_TRUE(pulled) << pulled.error().message();
    });
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(std::ranges::count(registry_.asked(), blob_of(layer)), 1);
  EXPECT_THAT(store_->resolve(name(":2"))->refs, ElementsAre(name(":1"), name(":2")));
}

// While one layer does not come, nobody else waits: another image is loaded, acquired and removed.
TEST_F(Pulling, HoldsUpNobody) {
  const Layer slow = layer_with("b", std::string(100'000, 'b'));
  publish_index("1", {publish({.layers = {slow}})});
  registry_.serve(blob_of(slow), slow.blob, "application/octet-stream", FakeRegistry::Fault::kHang);
  std::atomic<bool> cancelled{false};
  std::atomic<bool> hangs{false};
  const PullHooks hooks{[&](const PullProgress& p) { hangs = p.bytes > 0; }, &cancelled};
  std::thread puller([&] { EXPECT_FALSE(pull_image(*store_, name(":1"), options_, hooks)); });
  while (!hangs)
    std::this_thread::yield();
  const fs::path archive = dir_.path() / "other.tar";
  ASSERT_TRUE(write_file_atomic(
      archive,
      testing_images::archive_of(testing_images::layout_of({{.name = "shoal.dev/test/other:1",
                                                             .layers = {layer_with("o", "o")}}}),
                                 Tar::Packing::kPlain)));
  EXPECT_TRUE(store_->load(archive));
  EXPECT_TRUE(store_->acquire("shoal.dev/test/other:1", "c"));
  EXPECT_TRUE(store_->release("c"));
  EXPECT_TRUE(store_->remove("shoal.dev/test/other:1"));
  cancelled = true;
  puller.join();
}

TEST_F(Pulling, WhatWasBegunIsDroppedWhenItIsOld) {
  const Layer slow = layer_with("b", std::string(100'000, 'b'));
  publish_index("1", {publish({.layers = {slow}})});
  registry_.serve(blob_of(slow), slow.blob, "application/octet-stream", FakeRegistry::Fault::kHang);
  options_.stall = std::chrono::milliseconds(1000);
  ASSERT_FALSE(pull(":1"));
  ASSERT_EQ(folders(), 1U);
  ASSERT_TRUE(drop_pulls(*store_, std::chrono::hours(1)));
  EXPECT_EQ(folders(), 1U);
  {
    const auto claim =
        store_->pulls().try_claim(fs::directory_iterator(pulls())->path().filename());
    ASSERT_TRUE(claim);
    ASSERT_TRUE(drop_pulls(*store_, std::chrono::seconds(0)));
    EXPECT_EQ(folders(), 1U);
  }
  const auto freed = drop_pulls(*store_, std::chrono::seconds(0));
  ASSERT_TRUE(freed) << freed.error().message();
  EXPECT_EQ(folders(), 0U);
}

// The child goes with the process that started it, however that ends.
TEST_F(Pulling, SkopeoEndsWithItsParent) {
  const Layer slow = layer_with("b", std::string(100'000, 'b'));
  publish_index("1", {publish({.layers = {slow}})});
  registry_.serve(blob_of(slow), slow.blob, "application/octet-stream", FakeRegistry::Fault::kHang);
  store_.reset();
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto store = ImageStore::open(dir_.path() / "state", {.platform = {"linux", "amd64", ""}});
    const PullHooks hooks{[&](const PullProgress& p) {
                            if (p.bytes > 0)
                              ::kill(::getpid(), SIGKILL);
                          },
                          nullptr};
    (void)pull_image(**store, name(":1"), options_, hooks);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  const auto left = [this] {
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const auto line = read_file(entry.path() / "cmdline", 1 << 16);
      if (line && line->starts_with("skopeo") && line->find(registry_.host()) != std::string::npos)
        return true;
    }
    return false;
  };
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (left() && std::chrono::steady_clock::now() < deadline)
    std::this_thread::yield();
  EXPECT_FALSE(left());
  // What it brought before counts.
  auto opened = ImageStore::open(dir_.path() / "state", {.platform = {"linux", "amd64", ""}});
  ASSERT_TRUE(opened) << opened.error().message();
  store_ = std::move(*opened);
  EXPECT_THAT(store_->list(), IsEmpty());
  EXPECT_EQ(folders(), 1U);
  registry_.serve(blob_of(slow), slow.blob, "application/octet-stream");
  EXPECT_TRUE(pull(":1"));
}

TEST_F(Pulling, SaysThatSkopeoIsMissing) {
  options_.skopeo = "/nowhere/skopeo";
  const auto pulled = pull(":1");
  ASSERT_FALSE(pulled);
  EXPECT_THAT(pulled.error().message(), HasSubstr("apt-get install skopeo"));
}

TEST(SkopeoMessage, IsTheLastOneWithoutItsTime) {
  EXPECT_EQ(skopeo_message("time=\"t\" level=info msg=\"a\"\n"
                           "time=\"t\" level=fatal msg=\"no \\\"x\\\" here\" more=1\n"),
            "no \"x\" here");
  EXPECT_EQ(skopeo_message("plain words\n"), "plain words");
}

}  // namespace
}  // namespace shoal::runtime
