// SPDX-License-Identifier: Apache-2.0
// Pulls through the real skopeo, from a registry that says what the test wants.
#include "agent/images/puller.h"

#include "agent/images/pull_secrets.h"
#include "netplane/base/strings.h"
#include "runtime/image/sha256.h"
#include "tests/unit/runtime/image/fake_registry.h"
#include "tests/unit/runtime/image/image_archive.h"
#include "tests/unit/runtime/image/temp_dir.h"

#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <fmt/format.h>
#include <unistd.h>

namespace shoal::images {
namespace {

using testing::HasSubstr;
using testing_images::FakeRegistry;
using testing_images::Tar;

constexpr std::string_view kManifestType = "application/vnd.oci.image.manifest.v1+json";

class Puller : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "needs root";
    std::signal(SIGPIPE, SIG_IGN);
    runtime::StoreOptions options;
    options.platform = {"linux", "amd64", ""};
    auto opened = runtime::ImageStore::open(dir_.path() / "state", options);
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(*opened);
    begin({});
  }
  void begin(std::vector<config::Registry> registries) {
    puller_ = std::make_unique<ImagePuller>(
        loop_, *store_, clock_,
        PullerOptions{2, std::chrono::seconds(5), std::move(registries), dir_.path() / "run"});
    ASSERT_TRUE(puller_->start());
  }

  // An image of one layer; returns the path of that.
  std::string publish(const std::string& name, const std::string& content,
                      FakeRegistry::Fault fault = FakeRegistry::Fault::kNone) {
    Tar tar;
    tar.file("a", content);
    const auto layer = testing_images::packed_layer(tar.bytes(), Tar::Packing::kGzip);
    testing_images::Layout layout;
    const std::string entry = testing_images::add_image(layout, {.layers = {layer}});
    for (const auto& [path, blob] : layout) {
      const std::string digest = sha256_digest_of(blob);
      registry_.serve(fmt::format("/v2/{}/blobs/{}", name, digest), blob,
                      "application/octet-stream",
                      blob == layer.blob ? fault : FakeRegistry::Fault::kNone);
      if (entry.find(digest) == std::string::npos)
        continue;
      for (const std::string& reference : {digest, std::string("1")})
        registry_.serve(fmt::format("/v2/{}/manifests/{}", name, reference), blob,
                        std::string(kManifestType));
    }
    return fmt::format("/v2/{}/blobs/{}", name, sha256_digest_of(layer.blob));
  }
  static std::string sha256_digest_of(const std::string& bytes) {
    return runtime::sha256_digest(bytes);
  }
  std::string name(const std::string& rest) const { return registry_.host() + "/" + rest; }

  ImagePuller::TicketPtr pull(const std::string& image, std::vector<std::string> configs = {}) {
    return puller_->pull({image, std::move(configs)}, [this](Result<PullResult> result) {
      results_.push_back(std::move(result));
    });
  }
  // Until the condition holds, or for at most 20 s.
  template <class Condition>
  bool until(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition() && std::chrono::steady_clock::now() < deadline) {
      loop_.restart();
      loop_.run_for(std::chrono::milliseconds(10));
    }
    return condition();
  }
  bool ended(std::size_t count) {
    return until([&] { return results_.size() >= count; });
  }

  testing_images::TempDir dir_;
  FakeRegistry registry_;
  SystemClock clock_;
  std::unique_ptr<runtime::ImageStore> store_;
  boost::asio::io_context loop_;
  std::unique_ptr<ImagePuller> puller_;
  std::vector<Result<PullResult>> results_;
};

TEST_F(Puller, RequestsForOneImageAreOnePull) {
  const std::string blob = publish("app", std::string(50'000, 'x'));
  const auto first = pull(name("app:1"));
  const auto second = pull(name("app:1"));
  ASSERT_TRUE(ended(2));
  for (const auto& result : results_)
    EXPECT_TRUE(result) << result.error().message();
  EXPECT_EQ(std::ranges::count(registry_.asked(), blob), 1);
  EXPECT_EQ(puller_->stats().pulled, 1U);
  EXPECT_GT(puller_->stats().bytes, 0U);
  const auto third = pull(name("app:1"));
  ASSERT_TRUE(ended(3));
  EXPECT_TRUE(results_.back()->pulled.was_here);
  EXPECT_EQ(puller_->stats().known, 1U);
}

TEST_F(Puller, EndsWhenNobodyWaitsAnyMore) {
  publish("slow", std::string(200'000, 'x'), FakeRegistry::Fault::kHang);
  auto first = pull(name("slow:1"));
  auto second = pull(name("slow:1"));
  ASSERT_TRUE(until([&] { return first->view().progress.bytes > 0; }));
  EXPECT_EQ(puller_->views().size(), 1U);
  first.reset();
  EXPECT_EQ(puller_->stats().running, 1U);
  second.reset();
  EXPECT_EQ(puller_->stats().running, 0U);
  ASSERT_TRUE(until([&] { return puller_->stats().cancelled == 1; }));
  EXPECT_TRUE(results_.empty());
  // One that comes right behind begins anew, and goes on from there.
  publish("slow", std::string(200'000, 'x'));
  const auto third = pull(name("slow:1"));
  ASSERT_TRUE(ended(1));
  EXPECT_TRUE(results_[0]) << results_[0].error().message();
}

TEST_F(Puller, AHangingRegistryHoldsUpNoOther) {
  publish("slow", std::string(200'000, 'x'), FakeRegistry::Fault::kHang);
  publish("app", "x");
  const auto slow = pull(name("slow:1"));
  const auto fast = pull(name("app:1"));
  ASSERT_TRUE(ended(1));
  EXPECT_TRUE(results_[0]) << results_[0].error().message();
}

TEST_F(Puller, TriesCredentialsUntilOneIsLetIn) {
  publish("app", "x");
  registry_.require(base64("me:right"));
  const auto login = [&](std::string_view pair) {
    return *docker_config_of_login(pair, registry_.host());
  };
  const auto nobody = pull(name("app:1"));
  const auto wrong = pull(name("app:1"), {login("me:wrong")});
  ASSERT_TRUE(ended(2));
  for (const auto& result : results_) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Errc::kPermission) << result.error().message();
  }
  const auto both = pull(name("app:1"), {login("me:wrong"), login("me:right")});
  ASSERT_TRUE(ended(3));
  EXPECT_TRUE(results_[2]) << results_[2].error().message();
  // What is here is still not for those who may not have it.
  const auto again = pull(name("app:1"), {login("me:wrong")});
  ASSERT_TRUE(ended(4));
  EXPECT_FALSE(results_[3]);
  EXPECT_EQ(puller_->stats().failed, 3U);
}

TEST_F(Puller, AsksMirrorsFirst) {
  begin({{"r.lan", {{registry_.host() + "/hub", true}}, false, ""}});
  publish("hub/team/app", "mirrored");
  const auto ticket = pull("r.lan/team/app:1");
  ASSERT_TRUE(ended(1));
  ASSERT_TRUE(results_[0]) << results_[0].error().message();
  EXPECT_THAT(results_[0]->pulled.info.refs, testing::ElementsAre("r.lan/team/app:1"));
}

TEST_F(Puller, WhatCannotBeAskedForSaysSo) {
  const auto ticket = pull("Not A Name");
  ASSERT_TRUE(ended(1));
  EXPECT_EQ(results_[0].error().code(), Errc::kInvalid);
  const auto secret = pull(name("app:1"), {"{"});
  ASSERT_TRUE(ended(2));
  EXPECT_THAT(results_[1].error().message(), HasSubstr("dockerconfigjson"));
}

TEST_F(Puller, PushesWhatItHas) {
  publish("app", "x");
  const auto ticket = pull(name("app:1"));
  ASSERT_TRUE(ended(1));
  // This registry takes nothing: that is told in its words, and nothing is left behind.
  Result<PullResult> pushed = PullResult{};
  bool done = false;
  const auto push =
      puller_->push({name("app:1"), {}}, name("copy:1"), [&](Result<PullResult> result) {
        pushed = std::move(result);
        done = true;
      });
  ASSERT_TRUE(until([&] { return done; }));
  ASSERT_FALSE(pushed);
  EXPECT_THAT(pushed.error().message(), HasSubstr("push image"));
  EXPECT_TRUE(std::filesystem::is_empty(store_->pull_dir()));
}

}  // namespace
}  // namespace shoal::images
