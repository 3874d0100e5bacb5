// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/cluster_files.h"

#include "agent/daemon/cluster_admin.h"
#include "netplane/base/fs.h"
#include "tests/fakes/fake_clock.h"

#include <functional>
#include <sys/stat.h>

namespace shoal::daemon {
namespace {

class ClusterFilesTest : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/shoal-cluster-files.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
    files_.cluster_id = "c1";
    files_.node_name = "h1";
    files_.store_host = true;
    files_.store_api = *SocketAddress::parse("198.18.0.11:6443");
    files_.seeds = {*SocketAddress::parse("198.18.0.12:7946")};
    files_.settings.pod_cidrs = {*IpPrefix::parse("10.244.0.0/16"),
                                 *IpPrefix::parse("fd10:244::/48")};
    files_.settings.node_prefix_length_v6 = 72;
    files_.settings.service_cidrs = {*IpPrefix::parse("10.96.0.0/16"),
                                     *IpPrefix::parse("fd10:96::/112")};
    files_.settings.lb_pools = {*IpPrefix::parse("198.18.0.192/27"),
                                *IpPrefix::parse("198.18.9.0/24")};
    files_.settings.node_port_range = {31000, 31999};
    files_.ca_cert = files_.ca_key = files_.node_cert = files_.node_key = "PEM\n";
    files_.gossip_key = std::string(32, '\x07');
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::filesystem::path dir_;
  ClusterFiles files_;
};

TEST_F(ClusterFilesTest, AHostThatIsNoMemberHasNone) {
  const auto none = ClusterFiles::load(dir_);
  ASSERT_TRUE(none);
  EXPECT_FALSE(none->has_value());
}

TEST_F(ClusterFilesTest, RoundTripsAndKeepsKeysPrivate) {
  ASSERT_TRUE(files_.save(dir_));
  const auto loaded = ClusterFiles::load(dir_);
  ASSERT_TRUE(loaded) << loaded.error().message();
  ASSERT_TRUE(loaded->has_value());
  const ClusterFiles& back = **loaded;
  EXPECT_EQ(back.node_name, "h1");
  EXPECT_TRUE(back.store_host);
  EXPECT_EQ(back.store_api, files_.store_api);
  EXPECT_EQ(back.seeds, files_.seeds);
  EXPECT_EQ(back.settings, files_.settings);
  EXPECT_EQ(back.gossip_key, files_.gossip_key);
  for (const char* name : {"pki/ca.key", "pki/node.key", "pki/gossip.key", "cluster.json"}) {
    struct stat st{};
    ASSERT_EQ(::stat((dir_ / name).c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600U) << name;
  }
}

TEST_F(ClusterFilesTest, WhatIsDamagedIsNamedWithItsMend) {
  ASSERT_TRUE(files_.save(dir_));
  std::filesystem::remove(dir_ / "pki/node.key");
  const auto missing = ClusterFiles::load(dir_);
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message(), testing::HasSubstr("pki/node.key"));
  EXPECT_THAT(missing.error().message(), testing::HasSubstr("join again"));
  for (const char* text : {"", "{", "[]", "{\"format\":2}", "{\"format\":1}"}) {
    ASSERT_TRUE(write_file_atomic(dir_ / "cluster.json", text));
    EXPECT_FALSE(ClusterFiles::load(dir_)) << text;
  }
}

TEST_F(ClusterFilesTest, AFolderHalfFromElsewhereIsTold) {
  FakeClock clock;
  SystemRandom random;
  const auto make = [&](const std::string& host) {
    return *make_cluster(host, *IpAddress::parse("198.18.0.11"), 6443, files_.settings, clock,
                         random);
  };
  const ClusterFiles whole = make("h1");
  EXPECT_TRUE(whole.check(dir_));
  clock.advance(std::chrono::hours(24 * 3650));
  EXPECT_TRUE(whole.check(dir_)) << "what the time is, is not asked";

  const ClusterFiles other = make("h1");
  const std::pair<const char*, std::function<void(ClusterFiles&)>> cases[] = {
      {"cluster.json is of cluster", [&](auto& f) { f.ca_cert = other.ca_cert; }},
      {"pki/node.crt: certificate is not valid", [&](auto& f) { f.node_cert = other.node_cert; }},
      {"pki/node.crt is of host h2", [&](auto& f) { f.node_cert = make("h2").node_cert; }},
      {"cluster.json is of cluster", [&](auto& f) { f.cluster_id = other.cluster_id; }},
      {"cluster.json of h9", [&](auto& f) { f.node_name = "h9"; }},
      {"pki/node.key: the private key is not", [&](auto& f) { f.node_key = other.node_key; }},
      {"pki/node.key: read a private key", [&](auto& f) { f.node_key = "PEM"; }},
      {"read a certificate", [&](auto& f) { f.ca_cert = "PEM"; }},
      {"read a certificate", [&](auto& f) { f.node_cert = ""; }},
  };
  for (const auto& [words, change] : cases) {
    ClusterFiles mixed = whole;
    change(mixed);
    const auto checked = mixed.check("/var/lib/shoal");
    ASSERT_FALSE(checked) << words;
    EXPECT_THAT(checked.error().message(),
                testing::AllOf(testing::StartsWith("/var/lib/shoal: "), testing::HasSubstr(words),
                               testing::HasSubstr("join again")));
  }
}

TEST_F(ClusterFilesTest, SettingsTravelAsJson) {
  EXPECT_EQ(*settings_from_json(settings_to_json(files_.settings)), files_.settings);
  EXPECT_FALSE(settings_from_json("{\"podCIDR\":\"10.0.0.1/8\"}"));
  // A cluster that was made when there was one family.
  const auto early = settings_from_json(
      R"({"podCIDR":"10.244.0.0/16","nodePrefixLength":24,"serviceCIDR":"10.96.0.0/16",)"
      R"("loadBalancerPool":"198.18.0.192/27","vxlanPort":4789})");
  ASSERT_TRUE(early) << early.error().message();
  EXPECT_THAT(early->pod_cidrs, testing::ElementsAre(*IpPrefix::parse("10.244.0.0/16")));
  EXPECT_THAT(early->service_cidrs, testing::ElementsAre(*IpPrefix::parse("10.96.0.0/16")));
  EXPECT_THAT(early->lb_pools, testing::ElementsAre(*IpPrefix::parse("198.18.0.192/27")));
}

}  // namespace
}  // namespace shoal::daemon
