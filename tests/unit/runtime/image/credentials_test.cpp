// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/credentials.h"

namespace shoal::runtime {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::vector<std::string> auths_of(const std::string& image,
                                  const std::vector<std::string>& configs) {
  auto found = credentials_for(*parse_reference(image), configs);
  EXPECT_TRUE(found);
  std::vector<std::string> out;
  for (const Credential& credential : *found)
    out.push_back(credential.auth);
  return out;
}

TEST(Credentials, AreThoseOfTheRegistryAndPathTheLongestFirst) {
  const std::string config = R"({"auths":{"r.example:5000":{"auth":"all"},
      "https://r.example:5000/team":{"auth":"team"},"r.example":{"auth":"port"},
      "r.example:5000/tea":{"auth":"prefix"}}})";
  EXPECT_THAT(auths_of("r.example:5000/team/app:1", {config}), ElementsAre("team", "all"));
  EXPECT_THAT(auths_of("other.example/team/app:1", {config}), IsEmpty());
}

TEST(Credentials, TakeStarsWithinALabel) {
  const std::string config = R"({"auths":{"*.example":{"auth":"star"},"r*.example":{"auth":"r"}}})";
  EXPECT_THAT(auths_of("r1.example/app", {config}), ElementsAre("star", "r"));
  EXPECT_THAT(auths_of("a.b.example/app", {config}), IsEmpty());
}

TEST(Credentials, KnowDockersOwnNames) {
  const std::string config = R"({"auths":{"https://index.docker.io/v1/":{"auth":"hub"}}})";
  EXPECT_THAT(auths_of("nginx", {config}), ElementsAre("hub"));
}

TEST(Credentials, AreMadeOfUserAndPasswordAndGivenOnce) {
  const std::string config = R"({"auths":{"r.example":{"username":"me","password":"pw"}}})";
  EXPECT_THAT(auths_of("r.example/app", {config, config}), ElementsAre("bWU6cHc="));
}

TEST(Credentials, SayNothingOfASecretThatCannotBeRead) {
  const std::vector<std::string> configs = {"{\"auths\": \"hunter2\"}"};
  const auto found = credentials_for(*parse_reference("r.example/app"), configs);
  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().message(), Not(HasSubstr("hunter2")));
}

TEST(Credentials, AreWrittenForTheirRegistryOnly) {
  EXPECT_EQ(registry_of(*parse_reference("r.example:5000/team/app")), "r.example:5000");
  EXPECT_EQ(registry_of(*parse_reference("nginx")), "docker.io");
  EXPECT_EQ(render_auth_file({{"r.example:5000", {"x"}}, {"docker.io", {"y"}}}),
            R"({"auths":{"r.example:5000":{"auth":"x"},"docker.io":{"auth":"y"}}})");
  EXPECT_EQ(render_auth_file({}), R"({"auths":{}})");
}

}  // namespace
}  // namespace shoal::runtime
