// SPDX-License-Identifier: Apache-2.0
// The drain timeout of a Service's groups of weight 0, and since when they are.
#include "agent/api/drain_timeout.h"

#include "tests/unit/agent/api/writer_fixture.h"

#include <gmock/gmock.h>

namespace shoal::api {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::string_view kZero = "version=blue:0,version=green:100";

TEST(DrainTimeoutTest, TimesAreWrittenAsInGo) {
  const std::pair<const char*, Duration> cases[] = {
      {"1s", 1s},      {"30s", 30s},     {"5m", 5min},      {"1h30m", 90min}, {"1m30s", 90s},
      {"1.5h", 90min}, {"8760h", 8760h}, {"1.25s", 1250ms}, {"0h2s", 2s},     {"090s", 90s},
  };
  for (const auto& [text, expected] : cases) {
    const auto parsed = parse_drain_timeout(text);
    ASSERT_TRUE(parsed) << text << ": " << parsed.error().message();
    EXPECT_EQ(*parsed, expected) << text;
  }
}

TEST(DrainTimeoutTest, OtherTimesAreRefusedWithWhatIsMeant) {
  for (const char* text : {"",
                           "30",
                           "s",
                           "-30s",
                           "+30s",
                           "30 s",
                           " 30s",
                           "30S",
                           "30ms",
                           "1d",
                           "0s",
                           "0",
                           "0.5s",
                           ".5s",
                           "1.s",
                           "8760h1s",
                           "8761h",
                           "999999999999999999999h",
                           "99999999999s",
                           "1h-1m",
                           "30s,",
                           "\x01"}) {
    const auto parsed = parse_drain_timeout(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code(), Errc::kInvalid);
    EXPECT_THAT(parsed.error().message(), HasSubstr("must be a time from 1s to 8760h, like 30s"))
        << text;
  }
}

class DrainStampTest : public WriterTest {
protected:
  static json::object with(std::string_view weights, std::string_view timeout = "30s") {
    json::object body = service("web", "", weights);
    if (!timeout.empty())
      annotations(body)[kDrainTimeoutAnnotation] = timeout;
    return body;
  }
  static json::object& annotations(json::object& body) {
    json::value& found = body["metadata"].get_object()["annotations"];
    if (!found.is_object())
      found.emplace_object();
    return found.get_object();
  }
  std::vector<GroupDrain> drains() {
    return service_drains(replica_.get("services", "default", "web")->body);
  }
  std::string stamp() {
    const json::object* held = annotations_of(replica_.get("services", "default", "web")->body);
    const json::value* value = held ? held->if_contains(kZeroSinceAnnotation) : nullptr;
    return value ? std::string(value->get_string()) : "";
  }
  WriteResult weigh(std::string_view weights) {
    return patch("services", "web",
                 json::serialize(json::object{
                     {"metadata", json::object{{"annotations",
                                                json::object{{"shoal.dev/weights", weights}}}}}}));
  }
};

TEST_F(DrainStampTest, TheTimeoutRunsFromTheWriteThatSetTheWeightToZero) {
  ASSERT_TRUE(create(with("version=blue:100,version=green:0")));
  const WallTime created = clock_.wall();
  EXPECT_EQ(drains(), (std::vector<GroupDrain>{{"version=green", created + 30s}}));
  clock_.advance(1h);
  ASSERT_TRUE(weigh(kZero));
  const WallTime moved = clock_.wall();
  EXPECT_EQ(drains(), (std::vector<GroupDrain>{{"version=blue", moved + 30s}}));
  // Whatever else changes, and however often.
  clock_.advance(10s);
  ASSERT_TRUE(weigh("version=green:7,version=blue:0,version=red:0"));
  EXPECT_EQ(drains(), (std::vector<GroupDrain>{{"version=blue", moved + 30s},
                                               {"version=red", clock_.wall() + 30s}}));
  // Raised and set to 0 again, it begins anew.
  ASSERT_TRUE(weigh("version=blue:1,version=green:1"));
  EXPECT_THAT(drains(), IsEmpty());
  EXPECT_EQ(stamp(), "");
  clock_.advance(10s);
  ASSERT_TRUE(weigh(kZero));
  EXPECT_EQ(drains(), (std::vector<GroupDrain>{{"version=blue", clock_.wall() + 30s}}));
}

TEST_F(DrainStampTest, ATimeoutThatComesLaterCountsFromTheSameTime) {
  ASSERT_TRUE(create(with(kZero, "")));
  const WallTime zero = clock_.wall();
  EXPECT_THAT(drains(), IsEmpty());
  clock_.advance(1h);
  ASSERT_TRUE(
      patch("services", "web", R"({"metadata":{"annotations":{"shoal.dev/drain-timeout":"2h"}}})"));
  EXPECT_EQ(drains(), (std::vector<GroupDrain>{{"version=blue", zero + 2h}}));
}

TEST_F(DrainStampTest, WhatClientsWriteAsTheTimeCountsForNothing) {
  json::object body = with(kZero);
  annotations(body)[kZeroSinceAnnotation] = "version=blue:2001-01-01T00:00:00Z";
  ASSERT_TRUE(create(std::move(body)));
  const WallTime zero = clock_.wall();
  const std::string stamped = stamp();
  clock_.advance(10s);
  for (const char* forged : {R"("version=blue:2001-01-01T00:00:00Z")", "null", R"("")"}) {
    ASSERT_TRUE(patch("services", "web",
                      fmt::format(R"({{"metadata":{{"annotations":{{"{}":{}}}}}}})",
                                  kZeroSinceAnnotation, forged)));
    EXPECT_EQ(stamp(), stamped) << forged;
  }
  // Put as a file says it, without what the server added: nothing changes.
  const auto before = replica_.get("services", "default", "web");
  json::object again = with(kZero);
  again["spec"] = before->body.at("spec");
  ASSERT_TRUE(update(std::move(again)));
  EXPECT_EQ(replica_.get("services", "default", "web")->revision, before->revision);
  EXPECT_EQ(drains(), (std::vector<GroupDrain>{{"version=blue", zero + 30s}}));
}

TEST_F(DrainStampTest, ServicesWithoutGroupsAtZeroHaveNoTime) {
  ASSERT_TRUE(create(with("version=blue:1")));
  EXPECT_EQ(stamp(), "");
  ASSERT_TRUE(create(service("plain")));
  EXPECT_EQ(annotations_of(replica_.get("services", "default", "plain")->body), nullptr);
}

TEST_F(DrainStampTest, BadTimeoutsAreRefusedAndUselessOnesWarnedOf) {
  EXPECT_THAT(text(create(with(kZero, "soon"))),
              HasSubstr("metadata.annotations[shoal.dev/drain-timeout]: Invalid value: \"soon\": "
                        "\"soon\" must be a time from 1s to 8760h, like 30s, 5m or 1h30m"));
  json::object number = with(kZero, "");
  annotations(number)[kDrainTimeoutAnnotation] = 30;
  EXPECT_THAT(text(create(std::move(number))), HasSubstr("expected a string"));
  const auto made = create(with("", "30s"));
  ASSERT_TRUE(made) << text(made);
  EXPECT_THAT(made->warnings,
              testing::ElementsAre(HasSubstr("has no effect without shoal.dev/weights")));
}

}  // namespace
}  // namespace shoal::api
