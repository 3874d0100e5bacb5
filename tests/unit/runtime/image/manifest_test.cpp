// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/manifest.h"

namespace shoal::runtime {
namespace {

using testing::HasSubstr;

const std::string kDigest = "sha256:" + std::string(64, 'a');

std::string descriptor(std::string_view type, std::string_view more = "") {
  return fmt::format(R"({{"mediaType":"{}","digest":"{}","size":7{}}})", type, kDigest, more);
}
const std::string kConfig = descriptor("application/vnd.oci.image.config.v1+json");

TEST(Manifest, ReadsBothFamilies) {
  const std::string docker =
      fmt::format(R"({{"config":{},"layers":[{}]}})",
                  descriptor("application/vnd.docker.container.image.v1+json"),
                  descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip"));
  const auto manifest = parse_manifest(docker);
  ASSERT_TRUE(manifest) << manifest.error().message();
  EXPECT_EQ(manifest->layers.size(), 1U);
  EXPECT_EQ(manifest->layers[0].size, 7U);
  // What we write, we read.
  EXPECT_TRUE(parse_manifest(render_manifest(*manifest)));
}

TEST(Manifest, RefusesWhatIsNoImageByName) {
  const std::map<std::string, std::string> cases = {
      {fmt::format(R"({{"config":{},"layers":[]}})",
                   descriptor("application/vnd.cncf.helm.config.v1+json")),
       "helm"},
      {fmt::format(R"({{"config":{},"layers":[{}]}})", kConfig,
                   descriptor("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")),
       "encrypted"},
      {fmt::format(
           R"({{"config":{},"layers":[{{"mediaType":"x","digest":"sha512:00","size":1}}]}})",
           kConfig),
       "sha512"},
      {fmt::format(R"({{"config":{},"layers":[{{"mediaType":"x","digest":"{}","size":-1}}]}})",
                   kConfig, kDigest),
       "size"},
      {fmt::format(R"({{"config":{}}})", kConfig), "layers"},
      {R"({"layers":[]})", "config"},
      {"[]", "object"},
      {"{", "not JSON"},
      {"", "not JSON"},
  };
  for (const auto& [text, part] : cases) {
    const auto parsed = parse_manifest(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_THAT(parsed.error().message(), HasSubstr(part));
  }
}

TEST(Manifest, DeepJsonIsAnErrorNotACrash) {
  EXPECT_FALSE(parse_index(std::string(100'000, '[')));
  std::string deep;
  for (int i = 0; i < 50'000; ++i)
    deep += R"({"manifests":)";
  EXPECT_FALSE(parse_index(deep));
}

TEST(Manifest, ConfigFields) {
  const auto config = parse_config(fmt::format(
      R"({{"architecture":"arm64","os":"linux","variant":"v8","created":"2024-01-01T00:00:00Z",)"
      R"("config":{{"Entrypoint":["/a","b"],"Cmd":null,"Env":["X=1"],"User":"nobody","WorkingDir":"/w",)"
      R"("StopSignal":"SIGINT","ExposedPorts":{{"90/udp":{{}},"80/tcp":{{}}}},"Labels":{{"k":"v"}},"Volumes":{{"/d":{{}}}}}},)"
      R"("rootfs":{{"type":"layers","diff_ids":["{}"]}}}})",
      kDigest));
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->platform.str(), "linux/arm64/v8");
  EXPECT_EQ(config->config.entrypoint, (std::vector<std::string>{"/a", "b"}));
  EXPECT_TRUE(config->config.cmd.empty());
  EXPECT_EQ(config->config.exposed_ports, (std::vector<std::string>{"80/tcp", "90/udp"}));
  EXPECT_EQ(config->config.labels.at("k"), "v");
  EXPECT_EQ(config->diff_ids, std::vector<std::string>{kDigest});
  EXPECT_FALSE(parse_config(R"({"rootfs":{"diff_ids":["md5:0"]}})"));
  EXPECT_FALSE(parse_config(R"({"rootfs":{"diff_ids":[]},"config":{"Env":"X"}})"));
  EXPECT_FALSE(parse_config(R"({"config":{}})"));
}

TEST(Manifest, Platforms) {
  const PlatformName want{"linux", "arm64", ""};
  EXPECT_TRUE(platform_fits({"linux", "arm64", "v8"}, want));
  EXPECT_TRUE(platform_fits({"linux", "arm64", ""}, {"linux", "arm64", "v8"}));
  EXPECT_FALSE(platform_fits({"linux", "arm", "v7"}, {"linux", "arm", "v6"}));
  EXPECT_FALSE(platform_fits({"windows", "arm64", ""}, want));
  EXPECT_FALSE(platform_fits({"", "", ""}, want));
}

TEST(Records, RoundTrip) {
  const auto ref = parse_ref(render_ref({"a:b", kDigest, kDigest}));
  ASSERT_TRUE(ref);
  EXPECT_EQ(ref->ref, "a:b");
  EXPECT_TRUE(ref->pinned);
  EXPECT_FALSE(parse_ref(render_ref({"a:b", kDigest, kDigest, false}))->pinned);
  const auto lease = parse_lease(render_lease({"h", kDigest, {kDigest, kDigest}, "a@b"}));
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->layers.size(), 2U);
  EXPECT_EQ(lease->image_id, "a@b");
  // As earlier versions wrote them.
  EXPECT_TRUE(parse_ref(fmt::format(R"({{"ref":"a:b","manifest":"{0}","source":"{0}"}})", kDigest))
                  ->pinned);
  EXPECT_EQ(parse_lease(fmt::format(R"({{"holder":"h","manifest":"{}","layers":[]}})", kDigest))
                ->image_id,
            "");
  EXPECT_FALSE(parse_lease(R"({"holder":"h","manifest":"x"})"));
}

}  // namespace
}  // namespace shoal::runtime
