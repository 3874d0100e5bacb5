// SPDX-License-Identifier: Apache-2.0
#include "agent/images/pull_secrets.h"

#include "netplane/base/strings.h"
#include "runtime/image/credentials.h"

#include <boost/json.hpp>

namespace shoal::images {
namespace {

store::Object secret(std::string_view type, std::string_view key, std::string_view text) {
  store::Object out;
  out.body = {{"type", type}, {"data", boost::json::object{{key, base64(text)}}}};
  return out;
}

std::string login(const std::string& config) {
  const std::vector<std::string> configs = {config};
  const auto found =
      runtime::credentials_for(*runtime::parse_reference("r.lan:5000/team/app"), configs);
  return found && !found->empty() ? found->front().auth : "";
}

TEST(PullSecrets, BothFormsAreRead) {
  const auto now = docker_config(secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson",
                                        R"({"auths":{"r.lan:5000":{"auth":"eA=="}}})"));
  ASSERT_TRUE(now);
  EXPECT_EQ(login(*now), "eA==");
  const auto old = docker_config(secret("kubernetes.io/dockercfg", ".dockercfg",
                                        R"({"https://r.lan:5000/v1/":{"auth":"eA=="}})"));
  ASSERT_TRUE(old);
  EXPECT_EQ(login(*old), "eA==");
}

TEST(PullSecrets, OthersHoldNoLogin) {
  EXPECT_FALSE(docker_config(secret("Opaque", ".dockerconfigjson", "{}")));
  EXPECT_FALSE(docker_config(secret("kubernetes.io/dockerconfigjson", "other", "{}")));
  EXPECT_FALSE(docker_config({}));
}

TEST(PullSecrets, WhatPeopleHaveForOneLogin) {
  EXPECT_EQ(login(*docker_config_of_login("me:pass:word\n", "r.lan:5000")), base64("me:pass:word"));
  EXPECT_EQ(login(*docker_config_of_login(R"({"auths":{"r.lan:5000":{"auth":"eA=="}}})", "x")),
            "eA==");
  for (const char* text : {"", "secret", ":x", "a:b\nc:d", "{", R"({"a":1})"}) {
    const auto refused = docker_config_of_login(text, "r.lan");
    ASSERT_FALSE(refused) << text;
    EXPECT_THAT(refused.error().message(), testing::Not(testing::HasSubstr("secret\"")));
  }
}

}  // namespace
}  // namespace shoal::images
