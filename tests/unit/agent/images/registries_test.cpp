// SPDX-License-Identifier: Apache-2.0
#include "agent/images/registries.h"

#include "netplane/base/fs.h"
#include "tests/unit/runtime/image/temp_dir.h"

namespace shoal::images {
namespace {

using config::Registry;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Registries, AreWrittenAsSkopeoReadsThem) {
  const std::vector<Registry> registries = {
      {"docker.io", {{"mirror.lan:5000/hub", false}, {"10.0.0.5:5000", true}}, false, ""},
      {"mirror.lan:5000", {}, true, ""}};
  EXPECT_EQ(render_registries_conf(registries),
            R"(# Made by shoald from images.registries at its start.
unqualified-search-registries = ["docker.io"]

[[registry]]
prefix = "docker.io"
location = "docker.io"
insecure = false
[[registry.mirror]]
location = "mirror.lan:5000/hub"
insecure = true
[[registry.mirror]]
location = "10.0.0.5:5000"
insecure = true

[[registry]]
prefix = "mirror.lan:5000"
location = "mirror.lan:5000"
insecure = true
)");
}

TEST(Registries, ThoseOfThisHostAreInsecure) {
  for (const char* host :
       {"localhost", "localhost:5000", "127.0.0.1:5000", "127.8.0.1", "[::1]:5000"})
    EXPECT_TRUE(is_loopback_registry(host)) << host;
  for (const char* host : {"docker.io", "localhost.lan:5000", "10.0.0.1:5000", "[fd00::1]:5000"})
    EXPECT_FALSE(is_loopback_registry(host)) << host;
}

TEST(Registries, CertificatesAreReadAtEachPull) {
  const testing_images::TempDir dir;
  const Registries registries({{"docker.io", {{"mirror.lan:5000", false}}, false, ""},
                               {"mirror.lan:5000", {}, false, dir.path() / "lan.pem"}},
                              dir.path() / "run");
  ASSERT_TRUE(registries.write());
  const auto reference = *runtime::parse_reference("busybox");
  EXPECT_THAT(registries.mirror_hosts(reference), ElementsAre("mirror.lan:5000"));
  const auto missing = registries.options_for(reference);
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message(),
              HasSubstr("the certificate authority of registry mirror.lan:5000"));
  EXPECT_THAT(missing.error().message(), HasSubstr("lan.pem"));
  ASSERT_TRUE(write_file_atomic(dir.path() / "lan.pem", "PEM"));
  const auto options = registries.options_for(reference);
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(read_file(options->cert_dir / "ca.crt", 100), std::string("PEM\n"));
  EXPECT_FALSE(options->insecure);
  const auto other = registries.options_for(*runtime::parse_reference("localhost:5000/x"));
  ASSERT_TRUE(other);
  EXPECT_TRUE(other->cert_dir.empty());
  EXPECT_TRUE(other->insecure);
}

TEST(Registries, WithoutAnyTheHostsOwnConfigurationCounts) {
  const testing_images::TempDir dir;
  const Registries registries({}, dir.path() / "run");
  ASSERT_TRUE(registries.write());
  EXPECT_TRUE(
      registries.options_for(*runtime::parse_reference("busybox"))->registries_conf.empty());
}

}  // namespace
}  // namespace shoal::images
