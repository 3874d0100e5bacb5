// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/reference.h"

namespace shoal::runtime {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

TEST(Reference, NormalForms) {
  const std::map<std::string, std::string> cases = {
      {"busybox", "docker.io/library/busybox:latest"},
      {"busybox:1.36", "docker.io/library/busybox:1.36"},
      {"me/app", "docker.io/me/app:latest"},
      {"docker.io/busybox", "docker.io/library/busybox:latest"},
      {"index.docker.io/library/busybox", "docker.io/library/busybox:latest"},
      {"shoal.dev/demo/web:blue", "shoal.dev/demo/web:blue"},
      {"localhost/app", "localhost/app:latest"},
      {"localhost:5000/app:v1", "localhost:5000/app:v1"},
      {"registry:5000/app", "registry:5000/app:latest"},
      {"a__b/c-d.e", "docker.io/a__b/c-d.e:latest"},
      {"busybox@" + kDigest, "docker.io/library/busybox@" + kDigest},
      {"busybox:1@" + kDigest, "docker.io/library/busybox@" + kDigest},
      {kDigest, kDigest},
  };
  for (const auto& [text, normal] : cases) {
    const auto parsed = parse_reference(text);
    ASSERT_TRUE(parsed) << text << ": " << parsed.error().message();
    EXPECT_EQ(parsed->str(), normal);
    EXPECT_EQ(parse_reference(normal)->str(), normal);
  }
}

TEST(Reference, Refused) {
  for (const std::string& text :
       {std::string(), std::string("UPPER"), std::string("a//b"), std::string("a/../b"),
        std::string("a b"), std::string("app:"), std::string("app:-x"), std::string("app:a/b"),
        std::string("app@sha256:abc"), std::string("app@md5:00"), std::string("-a"),
        std::string("a_-b"), std::string("a..b"), std::string("a___b"), std::string("x.y:99999/a"),
        std::string(":tag"), std::string("a\nb"), "app:" + std::string(129, 'x'),
        std::string(300, 'x')})
    EXPECT_FALSE(parse_reference(text)) << text;
}

}  // namespace
}  // namespace shoal::runtime
