// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/strings.h"

#include "netplane/base/random.h"

namespace shoal {
namespace {

TEST(Strings, SplitKeepsEmptyParts) {
  EXPECT_THAT(split("a,,b", ','), testing::ElementsAre("a", "", "b"));
  EXPECT_THAT(split("", ','), testing::ElementsAre(""));
}

TEST(Strings, ParsersTakeTheWholeTextOrNothing) {
  EXPECT_EQ(parse_uint("42"), 42U);
  for (const char* text : {"", " 1", "1 ", "-1", "+1", "0x10", "18446744073709551616"})
    EXPECT_FALSE(parse_uint(text)) << text;
  EXPECT_FALSE(parse_uint("256", 255));
  EXPECT_EQ(parse_int("-9"), -9);
  EXPECT_FALSE(parse_int("9a"));
}

TEST(Strings, Base64FollowsRfc4648) {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, coded] : vectors) {
    EXPECT_EQ(base64(plain), coded);
    EXPECT_EQ(parse_base64(coded), plain);
  }
  for (const char* text : {"Zg", "Zg=", "Zh==", "Z===", "Zm9v!A==", "=Zm9", "Zg==Zg=="})
    EXPECT_FALSE(parse_base64(text)) << text;
}

TEST(Strings, RoundTripsRandomBytes) {
  const std::uint64_t seed = 7;
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  for (int i = 0; i < 500; i++) {
    std::string bytes(random.below(100), '\0');
    random.fill({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
    ASSERT_EQ(parse_base64(base64(bytes)), bytes);
    ASSERT_EQ(parse_hex(hex(bytes)), bytes);
  }
}

TEST(Strings, PrintableEscapesAndCuts) {
  EXPECT_EQ(printable("a\nb"), "a\\x0ab");
  EXPECT_EQ(printable("abcdef", 3), "abc...");
}

TEST(Strings, DnsNames) {
  EXPECT_TRUE(is_dns_label("web-1"));
  for (const std::string& text : {std::string(), std::string("-a"), std::string("a-"),
                                  std::string("A"), std::string("a_b"), std::string(64, 'a')})
    EXPECT_FALSE(is_dns_label(text)) << text;
  EXPECT_TRUE(is_dns_subdomain("a.b-c.d"));
  EXPECT_FALSE(is_dns_subdomain("a..b"));
}

TEST(Strings, AStarStandsForAnyCharacters) {
  for (const auto& [pattern, text] : {std::pair("eth0", "eth0"),
                                      {"eth*", "eth0"},
                                      {"eth*", "eth"},
                                      {"*", ""},
                                      {"*", "anything"},
                                      {"e*0", "eth10"},
                                      {"*a*a", "banana"},
                                      {"e*.1*", "eth0.100"},
                                      {"**", "x"}})
    EXPECT_TRUE(matches_wildcard(pattern, text)) << pattern << " " << text;
  for (const auto& [pattern, text] : {std::pair("eth0", "eth01"),
                                      {"eth*", "beth0"},
                                      {"", "x"},
                                      {"e*1", "eth10"},
                                      {"*.1", "eth0.100"},
                                      {"a*b*c", "acb"}})
    EXPECT_FALSE(matches_wildcard(pattern, text)) << pattern << " " << text;
}

}  // namespace
}  // namespace shoal
