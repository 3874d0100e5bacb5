// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/shared_text.h"

#include <gtest/gtest.h>

namespace shoal {
namespace {

TEST(SharedText, CopiesShareWhatTheyHold) {
  const SharedText text(std::string(100, 'x'));
  const SharedText copy = text;
  EXPECT_EQ(&*copy, &*text);
  EXPECT_EQ(copy->size(), 100U);
  EXPECT_EQ(SharedText(text.held()).held(), text.held());
}

TEST(SharedText, IsATextOrNone) {
  const SharedText none;
  EXPECT_FALSE(none);
  EXPECT_FALSE(none.has_value());
  EXPECT_EQ(none.value_or("other"), "other");
  EXPECT_EQ(none, std::nullopt);
  EXPECT_EQ(none, SharedText(std::optional<std::string>()));
  EXPECT_NE(none, SharedText(""));
  EXPECT_FALSE(none == std::string());
  const SharedText text("web");
  EXPECT_TRUE(text);
  EXPECT_EQ(text, SharedText(std::optional<std::string>("web")));
  EXPECT_EQ(text, std::string("web"));
  EXPECT_EQ(text, "web");
  EXPECT_NE(text, SharedText("dns"));
  EXPECT_EQ(text.value_or("other"), "web");
}

}  // namespace
}  // namespace shoal
