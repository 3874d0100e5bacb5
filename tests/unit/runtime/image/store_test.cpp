// SPDX-License-Identifier: Apache-2.0
// The image store: loads, references, leases, removal, and what a crash between any two steps
// leaves.
#include "runtime/image/store.h"

#include "netplane/base/fs.h"
#include "runtime/image/sha256.h"
#include "tests/unit/runtime/image/image_archive.h"
#include "tests/unit/runtime/image/temp_dir.h"

#include <condition_variable>
#include <fcntl.h>
#include <mutex>
#include <set>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing_images::archive_of;
using testing_images::blob_path;
using testing_images::entry_json;
using testing_images::ImageSpec;
using testing_images::Layer;
using testing_images::Layout;
using testing_images::layout_of;
using testing_images::packed_layer;
using testing_images::plain_layer;
using testing_images::Tar;

Layer layer_with(const std::string& file, const std::string& content) {
  Tar tar;
  tar.file(file, content);
  return packed_layer(tar.bytes(), Tar::Packing::kGzip);
}

class Store : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "needs root";
    reopen();
  }
  void reopen(std::function<Result<>(std::string_view)> on_step = {}) {
    store_.reset();
    StoreOptions options;
    options.platform = {"linux", "amd64", ""};
    options.on_step = std::move(on_step);
    auto opened = ImageStore::open(state(), options);
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(*opened);
  }
  fs::path state() const { return dir_.path() / "state"; }

  fs::path put(const Layout& layout, Tar::Packing packing = Tar::Packing::kPlain) {
    const fs::path path = dir_.path() / "image.tar";
    EXPECT_TRUE(write_file_atomic(path, archive_of(layout, packing)));
    return path;
  }
  ImageInfo load(const ImageSpec& spec) {
    auto loaded = store_->load(put(layout_of({spec})));
    EXPECT_TRUE(loaded) << (loaded ? "" : loaded.error().message());
    return loaded && !loaded->empty() ? loaded->front() : ImageInfo();
  }
  std::string refused(const Layout& layout, std::optional<std::string> name = {}) {
    auto loaded = store_->load(put(layout), name);
    EXPECT_FALSE(loaded);
    expect_empty();
    return loaded ? "" : loaded.error().message();
  }
  std::set<std::string> names(const fs::path& dir) const {
    std::set<std::string> out;
    for (const auto& entry : fs::directory_iterator(dir))
      out.insert(entry.path().filename());
    return out;
  }
  void expect_empty() const {
    EXPECT_THAT(names(state() / "images/blobs/sha256"), IsEmpty());
    EXPECT_THAT(names(state() / "images/refs"), IsEmpty());
    EXPECT_THAT(names(state() / "images/tmp"), IsEmpty());
    EXPECT_THAT(names(state() / "layers"), IsEmpty());
  }

  const ImageSpec two_{.name = "shoal.dev/test/app:1",
                       .layers = {layer_with("base", "b"), layer_with("top", "t")}};
  testing_images::TempDir dir_;
  std::unique_ptr<ImageStore> store_;
};

TEST_F(Store, LoadsAndDescribes) {
  const ImageInfo image = load(two_);
  EXPECT_THAT(image.refs, ElementsAre("shoal.dev/test/app:1"));
  EXPECT_EQ(image.architecture, "amd64");
  EXPECT_THAT(image.config.entrypoint, ElementsAre("/bin/app"));
  EXPECT_EQ(image.config.user, "1000:1000");
  EXPECT_EQ(image.config.working_dir, "/w");
  EXPECT_EQ(image.config.stop_signal, "SIGQUIT");
  EXPECT_EQ(image.diff_ids.size(), 2U);
  EXPECT_GT(image.size_bytes, 100U);
  EXPECT_EQ(*store_->resolve("shoal.dev/test/app:1"), image);
  EXPECT_EQ(*store_->resolve("shoal.dev/test/app@" + image.digest), image);
  EXPECT_EQ(*store_->resolve(image.digest), image);
  const auto missing = store_->resolve("shoal.dev/test/app:2");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), Errc::kNotFound);
  EXPECT_THAT(missing.error().message(), HasSubstr("there is shoal.dev/test/app:1"));
  reopen();
  EXPECT_EQ(store_->list(), std::vector<ImageInfo>{image});
}

TEST_F(Store, OuterCompressionFolderAndStream) {
  for (const auto packing : {Tar::Packing::kGzip, Tar::Packing::kZstd}) {
    auto loaded = store_->load(put(layout_of({two_}), packing));
    ASSERT_TRUE(loaded) << loaded.error().message();
    ASSERT_TRUE(store_->remove("shoal.dev/test/app:1"));
    expect_empty();
  }
  for (const auto& [path, content] : layout_of({two_})) {
    fs::create_directories((dir_.path() / "layout" / path).parent_path());
    ASSERT_TRUE(write_file_atomic(dir_.path() / "layout" / path, content));
  }
  ASSERT_TRUE(store_->load(dir_.path() / "layout"));
  ASSERT_TRUE(store_->remove("shoal.dev/test/app:1"));
  // A pipe: the writer gets rid of every byte, the padding too.
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  const UniqueFd read_end(fds[0]);
  Result<> written;
  std::thread writer([&, fd = fds[1]] {
    const UniqueFd write_end(fd);
    written =
        write_all(write_end.get(), archive_of(layout_of({two_})) + std::string(1 << 20, '\0'));
  });
  auto loaded = store_->load_fd(read_end.get());
  writer.join();
  ASSERT_TRUE(loaded) << loaded.error().message();
  EXPECT_TRUE(written) << written.error().message();
}

TEST_F(Store, ASecondLoadUnpacksNothing) {
  const ImageInfo first = load(two_);
  int unpacked = 0;
  reopen([&](std::string_view step) -> Result<> {
    unpacked += step == "layer unpacked";
    return {};
  });
  const fs::path layer = state() / "layers" / digest_hex(first.diff_ids[0]);
  struct stat before{};
  ASSERT_EQ(::stat(layer.c_str(), &before), 0);
  EXPECT_EQ(load(two_), first);
  EXPECT_EQ(unpacked, 0);
  struct stat after{};
  ASSERT_EQ(::stat(layer.c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  // A shared layer is unpacked once.
  load({.name = "shoal.dev/test/other:1", .layers = {two_.layers[0], layer_with("other", "o")}});
  EXPECT_EQ(unpacked, 1);
  EXPECT_EQ(names(state() / "layers").size(), 3U);
}

TEST_F(Store, RemoveKeepsWhatIsShared) {
  load(two_);
  const ImageInfo other = load(
      {.name = "shoal.dev/test/other:1", .layers = {two_.layers[0], layer_with("other", "o")}});
  const auto removed = store_->remove("shoal.dev/test/app:1");
  ASSERT_TRUE(removed) << removed.error().message();
  EXPECT_TRUE(removed->deleted);
  EXPECT_GT(removed->freed_bytes, 0U);
  EXPECT_EQ(names(state() / "layers").size(), 2U);
  EXPECT_EQ(names(state() / "images/blobs/sha256").size(), 4U);
  EXPECT_TRUE(store_->acquire("shoal.dev/test/other:1", "c1"));
  EXPECT_FALSE(store_->remove("shoal.dev/test/app:1"));
}

TEST_F(Store, LeasesKeepAnImageAndOutliveTheStore) {
  const ImageInfo image = load(two_);
  const auto prepared = store_->acquire("shoal.dev/test/app:1", "pod-1.main");
  ASSERT_TRUE(prepared) << prepared.error().message();
  ASSERT_EQ(prepared->layers.size(), 2U);
  EXPECT_EQ(*read_file(prepared->layers[0] / "base", 10), "b");
  EXPECT_TRUE(store_->acquire("shoal.dev/test/app:1", "pod-1.main"));
  reopen();
  const auto removed = store_->remove("shoal.dev/test/app:1");
  ASSERT_TRUE(removed);
  EXPECT_FALSE(removed->deleted);
  EXPECT_TRUE(fs::exists(prepared->layers[1] / "top"));
  EXPECT_THAT(store_->leases(), ElementsAre("pod-1.main"));
  EXPECT_FALSE(store_->resolve("shoal.dev/test/app:1"));
  // By digest the lease's image is still there.
  EXPECT_TRUE(store_->resolve(image.digest));
  ASSERT_TRUE(store_->release("pod-1.main"));
  ASSERT_TRUE(store_->release("pod-1.main"));
  expect_empty();
  EXPECT_THAT(names(state() / "images/leases"), IsEmpty());
}

TEST_F(Store, AMovedReferenceFreesTheOldImageAndConflictingLeasesAreTold) {
  load(two_);
  ASSERT_TRUE(store_->acquire("shoal.dev/test/app:1", "c1"));
  const ImageInfo moved =
      load({.name = "shoal.dev/test/app:1", .layers = {layer_with("new", "n")}});
  EXPECT_EQ(store_->resolve("shoal.dev/test/app:1")->digest, moved.digest);
  EXPECT_EQ(store_->list().size(), 2U);
  EXPECT_EQ(store_->acquire("shoal.dev/test/app:1", "c1").error().code(), Errc::kConflict);
  ASSERT_TRUE(store_->release("c1"));
  EXPECT_EQ(store_->list().size(), 1U);
  EXPECT_EQ(names(state() / "layers").size(), 1U);
  EXPECT_FALSE(store_->acquire("shoal.dev/test/app:1", "../x"));
}

TEST_F(Store, ALostLayerIsUnpackedAgain) {
  const ImageInfo image = load(two_);
  fs::remove_all(state() / "layers" / digest_hex(image.diff_ids[0]));
  const auto prepared = store_->acquire("shoal.dev/test/app:1", "c1");
  ASSERT_TRUE(prepared) << prepared.error().message();
  EXPECT_EQ(*read_file(prepared->layers[0] / "base", 10), "b");
}

TEST_F(Store, ADamagedStoreOpensAndSaysLoadAgain) {
  const ImageInfo image = load(two_);
  store_.reset();
  ASSERT_TRUE(write_file_atomic(state() / "images/blobs/sha256" / digest_hex(image.digest), "{}"));
  reopen();
  EXPECT_THAT(store_->list(), IsEmpty());
  EXPECT_EQ(load(two_), image);
}

TEST_F(Store, MultiPlatformIndexes) {
  // Flat: several entries of one name. Nested: an index in the index, beside an attestation.
  ImageSpec arm = two_;
  arm.architecture = "arm64";
  auto flat = store_->load(put(layout_of({arm, two_})));
  ASSERT_TRUE(flat) << flat.error().message();
  EXPECT_EQ(flat->at(0).architecture, "amd64");
  ASSERT_TRUE(store_->remove("shoal.dev/test/app:1"));

  Layout layout = layout_of({});
  const std::string attestation =
      entry_json("application/vnd.oci.image.manifest.v1+json", "{}",
                 R"(,"annotations":{"vnd.docker.reference.type":"attestation-manifest"})");
  const std::string nested =
      fmt::format(R"({{"manifests":[{},{},{}]}})", attestation,
                  testing_images::add_image(layout, arm), testing_images::add_image(layout, two_));
  layout[blob_path(nested)] = nested;
  layout["index.json"] = fmt::format(
      R"({{"manifests":[{}]}})",
      entry_json("application/vnd.oci.image.index.v1+json", nested,
                 R"(,"annotations":{"io.containerd.image.name":"docker.io/library/app:9"})"));
  auto loaded = store_->load(put(layout));
  ASSERT_TRUE(loaded) << loaded.error().message();
  EXPECT_THAT(loaded->at(0).refs, ElementsAre("docker.io/library/app:9"));
  // Users know it by the index's digest too.
  EXPECT_TRUE(store_->resolve("app@" + sha256_digest(nested)));
  ASSERT_TRUE(store_->remove("app:9"));
  expect_empty();
  EXPECT_THAT(refused(layout_of({arm})), HasSubstr("not made for linux/amd64; it has linux/arm64"));
}

TEST_F(Store, DockerSaveArchives) {
  Tar base, top;
  base.file("base", "b");
  top.file("top", "t");
  const std::string a = base.bytes();
  const std::string b = top.bytes();
  const std::string config = fmt::format(
      R"({{"architecture":"amd64","os":"linux","config":{{"Cmd":["x"]}},"rootfs":{{"type":"layers","diff_ids":["{}","{}","{}"]}}}})",
      sha256_digest(a), sha256_digest(b), sha256_digest(a));
  Tar tar;
  tar.file("1/layer.tar", a)
      .file("2/layer.tar", b)
      .symlink("3/layer.tar", "../1/layer.tar")
      .file("cfg.json", config)
      .file("repositories", "{}")
      .file(
          "manifest.json",
          R"([{"Config":"cfg.json","RepoTags":["app:1","me/app:2"],"Layers":["1/layer.tar","2/layer.tar","3/layer.tar"]}])");
  const fs::path path = dir_.path() / "docker.tar";
  ASSERT_TRUE(write_file_atomic(path, tar.bytes()));
  auto loaded = store_->load(path);
  ASSERT_TRUE(loaded) << loaded.error().message();
  EXPECT_THAT(loaded->at(0).refs, ElementsAre("docker.io/library/app:1", "docker.io/me/app:2"));
  EXPECT_EQ(store_->acquire("app:1", "c")->layers.size(), 3U);
}

TEST_F(Store, Names) {
  ImageSpec bare = two_;
  bare.name = "blue";
  EXPECT_THAT(refused(layout_of({bare})), HasSubstr("only \"blue\": give a full name"));
  bare.name = "";
  EXPECT_THAT(refused(layout_of({bare})), HasSubstr("does not name its image"));
  ImageSpec other = two_;
  other.name = "x/y:1";
  EXPECT_THAT(refused(layout_of({two_, other}), "a:b"), HasSubstr("holds 2 images"));
  EXPECT_THAT(refused(layout_of({two_}), "a@sha256:" + std::string(64, '0')),
              HasSubstr("under a tag"));
  EXPECT_THAT(refused(layout_of({two_}), "A"), HasSubstr("not a name"));
  auto both = store_->load(put(layout_of({two_, other})));
  ASSERT_TRUE(both) << both.error().message();
  EXPECT_EQ(both->size(), 2U);
  auto named = store_->load(put(layout_of({bare})), "web");
  ASSERT_TRUE(named) << named.error().message();
  EXPECT_THAT(named->at(0).refs, testing::Contains("docker.io/library/web:latest"));
}

TEST_F(Store, BrokenArchivesLeaveNothing) {
  Layout layout = layout_of({two_});
  const std::string layer = blob_path(two_.layers[1].blob);
  Layout missing = layout;
  missing.erase(layer);
  EXPECT_THAT(refused(missing), HasSubstr("is missing: the archive is not whole"));
  Layout wrong = layout;
  wrong[layer] += "x";
  EXPECT_THAT(refused(wrong), HasSubstr("named by"));
  Layout no_index = layout;
  no_index.erase("index.json");
  EXPECT_THAT(refused(no_index), HasSubstr("neither an OCI image layout"));
  Layout version = layout;
  version["oci-layout"] = R"({"imageLayoutVersion":"2.0.0"})";
  EXPECT_THAT(refused(version), HasSubstr("only 1.0 is read"));
  Layout garbage = layout;
  garbage["index.json"] = "{";
  EXPECT_THAT(refused(garbage), HasSubstr("not JSON"));

  ImageSpec lying = two_;
  lying.layers[1].diff_id = "sha256:" + std::string(64, '1');
  EXPECT_THAT(refused(layout_of({lying})), HasSubstr("its image config says"));
  Tar hostile;
  hostile.file("../../escape", "x");
  EXPECT_THAT(refused(layout_of({{.name = "a/b:c", .layers = {plain_layer(hostile.bytes())}}})),
              HasSubstr("refused"));
  EXPECT_THAT(refused({}), HasSubstr("neither"));

  const std::string whole = archive_of(layout);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{100}, whole.size() / 3, whole.size() / 2}) {
    const fs::path path = dir_.path() / "cut.tar";
    ASSERT_TRUE(write_file_atomic(path, whole.substr(0, size)));
    EXPECT_FALSE(store_->load(path)) << size;
    expect_empty();
  }
  EXPECT_THAT(store_->load(dir_.path() / "absent").error().message(), HasSubstr("absent"));
}

TEST_F(Store, ASecondProcessIsRefusedByName) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto second = ImageStore::open(state());
    const bool told = !second && second.error().code() == Errc::kConflict &&
                      second.error().message().find("stop it first") != std::string::npos;
    ::_exit(told ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// A process that dies between any two steps of a load or a removal leaves a store that opens, knows
// the image wholly or not at all, holds nothing that no image needs, and takes the image again.
TEST_F(Store, CrashBetweenAnyTwoSteps) {
  const fs::path archive = put(layout_of({two_}));
  store_.reset();
  constexpr int kStepsMax = 64;
  for (const bool removing : {false, true}) {
    bool finished = false;
    for (int crash_at = 0; !finished && crash_at < kStepsMax; ++crash_at) {
      fs::remove_all(state());
      if (removing) {
        reopen();
        ASSERT_TRUE(store_->load(archive));
        store_.reset();
      }
      const pid_t child = ::fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        int step = -1;  // counted from the call on: opening has a step of its own
        bool counting = false;
        reopen([&](std::string_view) -> Result<> {
          if (counting && ++step == crash_at)
            ::_exit(9);
          return {};
        });
        counting = true;
        const bool done = removing ? store_->remove("shoal.dev/test/app:1").has_value()
                                   : store_->load(archive).has_value();
        ::_exit(done ? 0 : 1);
      }
      int status = -1;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      ASSERT_TRUE(WIFEXITED(status));
      ASSERT_NE(WEXITSTATUS(status), 1);
      finished = WEXITSTATUS(status) == 0;
      reopen();
      if (store_->list().empty()) {
        expect_empty();
      } else {
        EXPECT_EQ(names(state() / "layers").size(), 2U) << crash_at;
        EXPECT_TRUE(store_->acquire("shoal.dev/test/app:1", "c"));
      }
      EXPECT_TRUE(store_->load(archive)) << crash_at;
      store_.reset();
    }
    EXPECT_TRUE(finished) << "more than " << kStepsMax << " steps";
  }
}

TEST_F(Store, AFailingStepLeavesNothing) {
  const fs::path archive = put(layout_of({two_}));
  bool finished = false;
  constexpr int kStepsMax = 64;
  for (int fail_at = 0; !finished && fail_at < kStepsMax; ++fail_at) {
    store_.reset();
    fs::remove_all(state());
    int step = -1;
    bool counting = false;
    reopen([&](std::string_view name) -> Result<> {
      if (counting && ++step == fail_at)
        return fail(Errc::kExhausted, fmt::format("disk full at {}", name));
      return {};
    });
    counting = true;
    auto loaded = store_->load(archive);
    counting = false;
    finished = loaded.has_value();
    if (!finished) {
      EXPECT_THAT(loaded.error().message(), HasSubstr("disk full"));
    }
    // Trying again works in the same process.
    EXPECT_TRUE(store_->load(archive));
    EXPECT_EQ(names(state() / "layers").size(), 2U);
    EXPECT_THAT(names(state() / "images/tmp"), IsEmpty());
  }
  EXPECT_TRUE(finished);
}

// Unpacking holds up nobody, and a layer is unpacked once however many loads want it.
TEST_F(Store, ALayerIsUnpackedOnceAndHoldsUpNobody) {
  std::mutex mutex;
  std::condition_variable changed;
  int unpacked = 0;
  bool go_on = true;
  reopen([&](std::string_view step) -> Result<> {
    if (step != "layer unpacked")
      return {};
    std::unique_lock lock(mutex);
    ++unpacked;
    changed.notify_all();
    changed.wait(lock, [&] { return go_on; });
    return {};
  });
  load({.name = "shoal.dev/test/other:1", .layers = {layer_with("other", "o")}});
  const fs::path archive = put(layout_of({two_}));
  {
    const std::lock_guard lock(mutex);
    unpacked = 0;
    go_on = false;
  }
  std::vector<std::thread> loads;
  for (int i = 0; i < 3; ++i)
    loads.emplace_back([&] { EXPECT_TRUE(store_->load(archive)); });
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return unpacked > 0; });
  }
  EXPECT_TRUE(store_->acquire("shoal.dev/test/other:1", "c1"));
  EXPECT_TRUE(store_->release("c1"));
  EXPECT_TRUE(store_->remove("shoal.dev/test/other:1"));
  {
    const std::lock_guard lock(mutex);
    go_on = true;
  }
  changed.notify_all();
  for (std::thread& thread : loads)
    thread.join();
  EXPECT_EQ(unpacked, 2);
  EXPECT_EQ(names(state() / "layers").size(), 2U);
  EXPECT_TRUE(store_->acquire("shoal.dev/test/app:1", "c1"));
}

TEST_F(Store, OnlyWhatNobodyNeedsIsRemovedAsUnused) {
  const WallTime later = SystemClock().wall() + std::chrono::hours(1);
  const ImageInfo loaded = load(two_);
  EXPECT_TRUE(loaded.pinned);
  EXPECT_EQ(store_->remove_unused(loaded.digest, later).error().code(), Errc::kConflict);
  ASSERT_TRUE(store_->remove(loaded.digest));
  // The same as a pull brings it.
  for (const auto& [path, content] : layout_of({two_})) {
    fs::create_directories((dir_.path() / "layout" / path).parent_path());
    ASSERT_TRUE(write_file_atomic(dir_.path() / "layout" / path, content));
  }
  const auto pulled = store_->load(dir_.path() / "layout", {}, Origin::kPulled);
  ASSERT_TRUE(pulled) << pulled.error().message();
  EXPECT_FALSE(pulled->front().pinned);
  ASSERT_TRUE(store_->acquire("shoal.dev/test/app:1", "c1"));
  EXPECT_EQ(store_->remove_unused(loaded.digest, later).error().code(), Errc::kConflict);
  ASSERT_TRUE(store_->release("c1"));
  reopen();
  const WallTime used = store_->uses().at(0).last_used;
  EXPECT_LT(SystemClock().wall() - used, std::chrono::minutes(1));
  EXPECT_EQ(store_->remove_unused(loaded.digest, used).error().code(), Errc::kConflict);
  const auto removed = store_->remove_unused(loaded.digest, later);
  ASSERT_TRUE(removed) << removed.error().message();
  EXPECT_TRUE(removed->deleted);
  EXPECT_THAT(removed->untagged, ElementsAre("shoal.dev/test/app:1"));
  EXPECT_EQ(store_->remove_unused(loaded.digest, later).error().code(), Errc::kNotFound);
  expect_empty();
}

TEST_F(Store, WhatAContainerRanIsKnownByItsLease) {
  const ImageInfo image = load(two_);
  const auto prepared = store_->acquire("shoal.dev/test/app:1", "c1");
  ASSERT_TRUE(prepared);
  const std::string id = "shoal.dev/test/app@" + image.digest;
  EXPECT_EQ(prepared->image_id, id);
  load({.name = "shoal.dev/test/app:1", .layers = {layer_with("new", "n")}});
  reopen();
  EXPECT_EQ(store_->held_by("c1"), id);
  EXPECT_EQ(store_->held_by("c2"), std::nullopt);
}

TEST_F(Store, ManyThreads) {
  const fs::path archive = put(layout_of({two_}));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      const std::string holder = fmt::format("c{}", i);
      for (int round = 0; round < 5; ++round) {
        EXPECT_TRUE(store_->load(archive));
        (void)store_->list();
        auto prepared = store_->acquire("shoal.dev/test/app:1", holder);
        if (prepared) {
          EXPECT_TRUE(fs::exists(prepared->layers[0] / "base"));
        }
        (void)store_->remove("shoal.dev/test/app:1");
        if (prepared) {
          EXPECT_TRUE(fs::exists(prepared->layers[0] / "base"));
        }
        EXPECT_TRUE(store_->release(holder));
      }
    });
  for (std::thread& thread : threads)
    thread.join();
  expect_empty();
}

}  // namespace
}  // namespace shoal::runtime
