// SPDX-License-Identifier: Apache-2.0
// Weights, selectors, quantities and times: the small languages inside objects.
#include "agent/api/quantity.h"
#include "agent/api/selector.h"
#include "agent/api/time_text.h"
#include "agent/api/weights.h"

#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

namespace shoal::api {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

TEST(WeightsTest, ParsesGroupsInTheirOrder) {
  const auto weights = parse_weights("version=blue:90, version=green:10,canary.shoal.dev/track=:0");
  ASSERT_TRUE(weights) << weights.error().message();
  EXPECT_EQ(*weights, (std::vector<LabelWeight>{{"version", "blue", 90},
                                                {"version", "green", 10},
                                                {"canary.shoal.dev/track", "", 0}}));
  EXPECT_EQ((*weights)[0].group(), "version=blue");
  EXPECT_EQ(parse_weights("a=b:1000000")->front().weight, 1'000'000U);
}

TEST(WeightsTest, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "no group"},
      {"version=blue", "no weight"},
      {"version:5", "no \"=\""},
      {"version=blue:-5", "weight -5 is not in 0..1000000"},
      {"version=blue:1000001", "weight 1000001 is not in 0..1000000"},
      {"version=blue:ten", "weight \"ten\" is not a whole number"},
      {"version=blue:1.5", "weight \"1.5\" is not a whole number"},
      {"version=blue:", "weight \"\" is not a whole number"},
      {"version=blue:5,", "empty group"},
      {"version=blue:5,version=blue:6", "version=blue is listed twice"},
      {"=blue:5", "name part must consist of"},
      {"version=bl ue:5", "a valid label must be"},
      {"a=x:0,a=y:0", "every weight is 0"},
  };
  for (const auto& [text, expected] : cases) {
    const auto weights = parse_weights(text);
    ASSERT_FALSE(weights) << text;
    EXPECT_EQ(weights.error().code(), Errc::kInvalid);
    EXPECT_THAT(weights.error().message(), testing::HasSubstr(expected)) << text;
  }
}

TEST(WeightsTest, TheFirstListedGroupCounts) {
  const auto weights = parse_weights("version=blue:1,tier=web:2");
  const json::object both{{"tier", "web"}, {"version", "blue"}}, none{{"version", "red"}};
  EXPECT_EQ(weight_group_of(*weights, &both)->group(), "version=blue");
  EXPECT_EQ(weight_group_of(*weights, &none), nullptr);
  EXPECT_EQ(weight_group_of(*weights, nullptr), nullptr);
}

bool selects(std::string_view selector, std::string_view labels) {
  const auto parsed = LabelSelector::parse(selector);
  EXPECT_TRUE(parsed) << parsed.error().message();
  const json::value value = json::parse(labels);
  return parsed && parsed->matches(&value.get_object());
}

TEST(SelectorTest, EqualityAndSets) {
  constexpr std::string_view web = R"({"app":"web","tier":"front"})";
  EXPECT_TRUE(selects("", web));
  EXPECT_TRUE(selects("app=web", web));
  EXPECT_TRUE(selects("app==web,tier=front", web));
  EXPECT_FALSE(selects("app=web,tier=back", web));
  EXPECT_TRUE(selects("tier!=back", web));
  EXPECT_TRUE(selects("absent!=x", web)) << "an absent label is not that value";
  EXPECT_TRUE(selects("app in (web, api)", web));
  EXPECT_FALSE(selects("app notin (web,api)", web));
  EXPECT_TRUE(selects("absent notin (x)", web));
  EXPECT_TRUE(selects("app", web));
  EXPECT_FALSE(selects("!app", web));
  EXPECT_TRUE(selects("!absent , app in (web)", web));
}

TEST(SelectorTest, RefusesWhatIsNoSelector) {
  for (const char* text : {"app=", "a=b=c", "app in web", "app in (a", "=x", "app web", "a=b,,c=d",
                           "app=wrong!", "in (a)"}) {
    const auto parsed = LabelSelector::parse(text);
    if (std::string_view(text) == "app=")
      EXPECT_TRUE(parsed) << "an empty value is a value";
    else
      EXPECT_FALSE(parsed) << text;
  }
}

TEST(SelectorTest, AServiceWithoutSelectorSelectsNothing) {
  const json::object labels{{"app", "web"}};
  EXPECT_FALSE(LabelSelector::from_labels(nullptr).matches(&labels));
  EXPECT_TRUE(LabelSelector().matches(nullptr));
  const auto expressions = LabelSelector::from_json(
      json::parse(
          R"({"matchLabels":{"app":"web"},"matchExpressions":[{"key":"old","operator":"DoesNotExist"}]})")
          .get_object());
  ASSERT_TRUE(expressions);
  EXPECT_TRUE(expressions->matches(&labels));
  EXPECT_FALSE(LabelSelector::from_json(
      json::parse(R"({"matchExpressions":[{"key":"a","operator":"In"}]})").get_object()));
}

TEST(SelectorTest, FieldSelectors) {
  const auto fields =
      parse_field_selector("metadata.name=web,spec.nodeName!=h1,status.phase==Running");
  ASSERT_TRUE(fields);
  ASSERT_EQ(fields->size(), 3U);
  EXPECT_EQ((*fields)[1].field, "spec.nodeName");
  EXPECT_TRUE((*fields)[1].negate);
  EXPECT_EQ((*fields)[2].value, "Running");
  EXPECT_FALSE(parse_field_selector("metadata.name"));
  EXPECT_TRUE(parse_field_selector("")->empty());
}

TEST(QuantityTest, FollowsKubernetes) {
  EXPECT_EQ(binary_quantity(0), "0");
  EXPECT_EQ(binary_quantity(1000), "1000");
  EXPECT_EQ(binary_quantity(95'400 * 1024), "95400Ki");
  EXPECT_EQ(binary_quantity(INT64_C(3) << 30), "3Gi");
  EXPECT_EQ(*parse_quantity_milli("100m"), 100);
  EXPECT_EQ(*parse_quantity_milli("1.5"), 1500);
  EXPECT_EQ(*parse_quantity_milli("0.0001"), 1) << "rounded up";
  EXPECT_EQ(*parse_quantity_milli("1n"), 1);
  EXPECT_EQ(*parse_quantity("128Mi"), 128 << 20);
  EXPECT_EQ(*parse_quantity("1e3"), 1000);
  EXPECT_EQ(*parse_quantity("2E"), 2'000'000'000'000'000'000);
  EXPECT_EQ(*parse_quantity(".5Ki"), 512);
  EXPECT_EQ(*parse_quantity("+5"), 5);
  EXPECT_EQ(*parse_quantity("1m"), 1);
  EXPECT_EQ(*parse_quantity("0.00000000001"), 1);
  for (const char* bad : {"", "-1", "1.2.3", "5x", "Mi", "1e", "1e99", "100Ei",
                          "9223372036854775808", " 1", "123456789012345678901234567890"})
    EXPECT_FALSE(parse_quantity(bad)) << bad;
}

TEST(TimeTextTest, ReadsRfc3339) {
  EXPECT_EQ(rfc3339(*parse_time("2026-01-31T12:00:00Z")), "2026-01-31T12:00:00Z");
  EXPECT_EQ(rfc3339(*parse_time("2026-01-31T12:00:00.123456789+02:30")), "2026-01-31T09:30:00Z");
  EXPECT_EQ((*parse_time("2026-01-31T12:00:00.5Z")).time_since_epoch() % 1s, 500ms);
  for (const char* bad :
       {"", "2026-01-31", "2026-02-30T00:00:00Z", "2026-01-31T25:00:00Z", "2026-01-31T12:00:00",
        "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00Zx", "9999-01-01T00:00:00Z"})
    EXPECT_FALSE(parse_time(bad)) << bad;
}

TEST(TimeTextTest, AgesAsKubectlPrintsThem) {
  const std::pair<std::chrono::seconds, const char*> cases[] = {
      {-5s, "<invalid>"},  {-1s, "0s"},          {0s, "0s"},        {119s, "119s"},
      {120s, "2m"},        {185s, "3m5s"},       {10min, "10m"},    {179min, "179m"},
      {3h, "3h"},          {3h + 5min, "3h5m"},  {8h + 5min, "8h"}, {47h, "47h"},
      {48h, "2d"},         {49h, "2d1h"},        {24h * 8, "8d"},   {24h * 400, "400d"},
      {24h * 731, "2y1d"}, {24h * 365 * 9, "9y"}};
  for (const auto& [duration, expected] : cases)
    EXPECT_EQ(human_duration(duration), expected);
  EXPECT_EQ(age_of("nonsense", WallTime{}), "<unknown>");
}

}  // namespace
}  // namespace shoal::api
