// SPDX-License-Identifier: Apache-2.0
// The writer over a fake store: what is committed, what a lost race does, what is refused.
#include "tests/unit/agent/api/writer_fixture.h"

#include <gmock/gmock.h>

namespace shoal::api {
namespace {

TEST_F(WriterTest, CreateFillsInWhatTheServerOwns) {
  const auto made = create(pod("web"));
  ASSERT_TRUE(made) << text(made);
  const json::object& body = made->object->body;
  EXPECT_EQ(find_string(body, "metadata.creationTimestamp"), "2026-01-01T00:00:00Z");
  EXPECT_THAT(
      std::string(find_string(body, "metadata.uid")),
      testing::MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  EXPECT_EQ(find_int(body, "metadata.generation", 0), 1);
  EXPECT_EQ(find_string(body, "metadata.resourceVersion"), "2");
  EXPECT_EQ(find_string(body, "status.phase"), "Pending");
  EXPECT_EQ(find_string(body, "spec.restartPolicy"), "Always");
  EXPECT_EQ(replica_.get("pods", "default", "web")->revision, 2U) << "visible when done runs";
  const std::string& stored = *store_.values().at("/pods/default/web").value;
  EXPECT_EQ(stored.find("resourceVersion"), std::string::npos) << stored;
}

TEST_F(WriterTest, CreateRefusals) {
  EXPECT_TRUE(create(pod("web")));
  EXPECT_EQ(text(create(pod("web"))), "409 AlreadyExists: pods \"web\" already exists");
  json::object elsewhere = pod("web");
  elsewhere["metadata"].get_object()["namespace"] = "nowhere";
  EXPECT_EQ(text(create(elsewhere)), "404 NotFound: namespaces \"nowhere\" not found");
  json::object versioned = pod("other");
  versioned["metadata"].get_object()["resourceVersion"] = "5";
  EXPECT_EQ(create(versioned).error().code, 400);
  EXPECT_EQ(
      create(parse(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"x":1}})"))
          .error()
          .code,
      400);
}

TEST_F(WriterTest, GeneratedNames) {
  json::object body = pod("x");
  body["metadata"].get_object().erase("name");
  body["metadata"].get_object()["generateName"] = "web-";
  const auto a = create(body), b = create(body);
  ASSERT_TRUE(a && b);
  EXPECT_THAT(a->object->name, testing::MatchesRegex("web-[a-z0-9]{5}"));
  EXPECT_NE(a->object->name, b->object->name);
}

TEST_F(WriterTest, UpdateKeepsTheServersOwnAndBumpsTheGeneration) {
  const auto made = create(service("web"));
  ASSERT_TRUE(made);
  json::object changed = made->object->body;
  changed["spec"].get_object()["selector"] = json::object{{"app", "api"}};
  changed["status"] = json::object{{"made", "up"}};
  const auto updated = update(changed);
  ASSERT_TRUE(updated) << text(updated);
  EXPECT_EQ(find_int(updated->object->body, "metadata.generation", 0), 2);
  EXPECT_EQ(find_string(updated->object->body, "metadata.uid"), made->object->uid);
  EXPECT_EQ(find_path(updated->object->body, "status.made"), nullptr);
  // Labels alone are no change of desire.
  const auto labelled = patch("services", "web", R"({"metadata":{"labels":{"a":"b"}}})");
  ASSERT_TRUE(labelled);
  EXPECT_EQ(find_int(labelled->object->body, "metadata.generation", 0), 2);
  // The same again writes nothing.
  const std::size_t commits = store_.commits;
  const auto same = patch("services", "web", R"({"metadata":{"labels":{"a":"b"}}})");
  ASSERT_TRUE(same);
  EXPECT_EQ(store_.commits, commits);
  EXPECT_EQ(same->object->revision, labelled->object->revision);
}

TEST_F(WriterTest, StaleRevisionsAndOtherLivesConflict) {
  const auto made = create(service("web"));
  ASSERT_TRUE(patch("services", "web", R"({"metadata":{"labels":{"a":"b"}}})"));
  EXPECT_THAT(
      text(update(made->object->body)),
      testing::StartsWith("409 Conflict: Operation cannot be fulfilled on services \"web\": "
                          "the object has been modified"));
  json::object other = service("web");
  other["metadata"].get_object()["uid"] = "11111111-2222-4333-8444-555555555555";
  EXPECT_EQ(update(other).error().reason, "Conflict");
  EXPECT_EQ(text(patch("services", "none", "{}")), "404 NotFound: services \"none\" not found");
  EXPECT_EQ(patch("services", "web", R"({"metadata":{"name":"else"}})").error().code, 400);
}

TEST_F(WriterTest, APatchIsValidatedLikeAnUpdate) {
  ASSERT_TRUE(create(service("web")));
  EXPECT_THAT(text(patch("services", "web", R"({"spec":{"portss":[]}})")),
              testing::HasSubstr("unknown field \"spec.portss\""));
  EXPECT_EQ(patch("services", "web", R"({"spec":{"ports":[{"port":0}]}})").error().code, 422);
  const auto kept = patch("services", "web", R"({"spec":{"clusterIP":null}})");
  ASSERT_TRUE(kept);
  EXPECT_FALSE(find_string(kept->object->body, "spec.clusterIP").empty());
}

TEST_F(WriterTest, ALostRaceIsDecidedAgain) {
  ASSERT_TRUE(create(service("web")));
  // A rival labels the service just before; this replica has not heard of it.
  store_.rivals.push_back([this] {
    store::Event event = store_.values().at("/services/default/web");
    json::value body = json::parse(*event.value);
    body.get_object()["metadata"].get_object()["labels"] = json::object{{"rival", "was-here"}};
    store_.commit({{}, {{event.key, json::serialize(body)}}});
  });
  const auto patched = patch("services", "web", R"({"spec":{"ports":[{"port":81}]}})");
  ASSERT_TRUE(patched) << text(patched);
  EXPECT_EQ(find_string(patched->object->body, "metadata.labels.rival"), "was-here");
  EXPECT_EQ(find_array(patched->object->body, "spec.ports")->front().at("port"), 81);
}

TEST_F(WriterTest, LostRacesAreBounded) {
  ASSERT_TRUE(create(service("web")));
  for (int i = 0; i < kLostRacesMax + 3; ++i)
    store_.rivals.push_back([this, i] {
      store::Event event = store_.values().at("/services/default/web");
      json::value body = json::parse(*event.value);
      body.get_object()["metadata"].get_object()["labels"] = json::object{{"n", std::to_string(i)}};
      store_.commit({{}, {{event.key, json::serialize(body)}}});
    });
  EXPECT_EQ(patch("services", "web", R"({"spec":{"ports":[{"port":81}]}})").error().reason,
            "Conflict");
  EXPECT_EQ(store_.rivals.size(), 3U);
}

TEST_F(WriterTest, StoreErrorsReachTheClient) {
  store_.failures.push_back(Error(Errc::kUnavailable, "no quorum"));
  EXPECT_EQ(text(create(pod("web"))), "503 ServiceUnavailable: no quorum");
  store_.failures.push_back(Error(Errc::kExhausted, "the disk is full"));
  EXPECT_EQ(text(create(pod("web"))), "507 InsufficientStorage: the disk is full");
  EXPECT_TRUE(create(pod("web")));
}

// ---- warnings

TEST_F(WriterTest, WeightsThatSelectNothingAreAcceptedWithAWarning) {
  ASSERT_TRUE(create(pod("web")));
  const auto made = create(service("web", "", "version=blue:90,version=green:10"));
  ASSERT_TRUE(made) << text(made);
  ASSERT_EQ(made->warnings.size(), 1U);
  EXPECT_THAT(made->warnings[0],
              testing::StartsWith("metadata.annotations[shoal.dev/weights]: group "
                                  "\"version=green\" selects nothing"));
  ASSERT_TRUE(create(parse(R"({"apiVersion":"apps/v1","kind":"Deployment",
      "metadata":{"name":"green","namespace":"default"},
      "spec":{"selector":{"matchLabels":{"version":"green"}},"template":{
        "metadata":{"labels":{"app":"web","version":"green"}},
        "spec":{"containers":[{"name":"c","image":"web:2"}]}}}})")));
  const auto again = patch("services", "web", R"({"metadata":{"labels":{"x":"y"}}})");
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->warnings.empty()) << "a template counts";
}

// ---- deletion

TEST_F(WriterTest, APodThatRunsIsMarkedFirst) {
  ASSERT_TRUE(create(pod("web")));
  ASSERT_TRUE(patch("pods", "web", R"({"spec":{"nodeName":"h1"}})"));
  const auto marked = remove("pods", "default", "web");
  ASSERT_TRUE(marked) << text(marked);
  EXPECT_EQ(find_string(marked->object->body, "metadata.deletionTimestamp"),
            "2026-01-01T00:00:30Z");
  EXPECT_EQ(find_int(marked->object->body, "metadata.deletionGracePeriodSeconds", 0), 30);
  const std::size_t commits = store_.commits;
  ASSERT_TRUE(remove("pods", "default", "web"));
  EXPECT_EQ(store_.commits, commits) << "marked already";
  ASSERT_TRUE(remove("pods", "default", "web", {}, 5));
  EXPECT_EQ(find_int(replica_.get("pods", "default", "web")->body,
                     "metadata.deletionGracePeriodSeconds", 0),
            5)
      << "a shorter grace counts";
  ASSERT_TRUE(remove("pods", "default", "web", {}, 0));
  EXPECT_EQ(replica_.get("pods", "default", "web"), nullptr);
}

TEST_F(WriterTest, APodThatRunsNowhereGoesAtOnce) {
  ASSERT_TRUE(create(pod("web")));
  ASSERT_TRUE(remove("pods", "default", "web"));
  EXPECT_EQ(replica_.get("pods", "default", "web"), nullptr);
  // One that has ended needs no grace.
  ASSERT_TRUE(create(pod("job")));
  const auto bound = patch("pods", "job", R"({"spec":{"nodeName":"h1"}})");
  replica_.apply_status("h1", "pods", "default", "job", json::object{{"phase", "Succeeded"}},
                        bound->object->uid);
  ASSERT_TRUE(remove("pods", "default", "job"));
  EXPECT_EQ(replica_.get("pods", "default", "job"), nullptr);
}

TEST_F(WriterTest, PreconditionsHold) {
  const auto made = create(service("web"));
  EXPECT_EQ(remove("services", "default", "web", {"another-uid", {}}).error().reason, "Conflict");
  EXPECT_EQ(remove("services", "default", "web", {{}, 99}).error().reason, "Conflict");
  EXPECT_TRUE(remove("services", "default", "web", {made->object->uid, made->object->revision}));
  EXPECT_EQ(text(remove("services", "default", "web")), "404 NotFound: services \"web\" not found");
}

TEST_F(WriterTest, NamespacesGoWhenTheyAreEmpty) {
  ASSERT_TRUE(
      create(parse(R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"team"}})")));
  json::object inside = pod("web");
  inside["metadata"].get_object()["namespace"] = "team";
  ASSERT_TRUE(create(inside));
  const auto marked = remove("namespaces", "", "team");
  ASSERT_TRUE(marked) << text(marked);
  EXPECT_EQ(find_string(replica_.get("namespaces", "", "team")->body, "status.phase"),
            "Terminating");
  json::object late = pod("late");
  late["metadata"].get_object()["namespace"] = "team";
  EXPECT_EQ(create(late).error().code, 403);
  ASSERT_TRUE(remove("pods", "team", "web"));
  ASSERT_TRUE(remove("namespaces", "", "team"));
  EXPECT_EQ(replica_.get("namespaces", "", "team"), nullptr);
  ASSERT_TRUE(
      create(parse(R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"empty"}})")));
  ASSERT_TRUE(remove("namespaces", "", "empty"));
  EXPECT_EQ(replica_.get("namespaces", "", "empty"), nullptr) << "an empty one goes at once";
  EXPECT_EQ(remove("namespaces", "", "default").error().code, 403);
}

TEST_F(WriterTest, StatusOfBoundPodsBelongsToTheirHost) {
  const auto made = create(pod("web"));
  json::object report = made->object->body;
  report["status"] = json::object{{"phase", "Pending"}, {"reason", "Unschedulable"}};
  ASSERT_TRUE(status(report)) << "nobody reports an unbound pod";
  ASSERT_TRUE(patch("pods", "web", R"({"spec":{"nodeName":"h1"}})"));
  report["metadata"].get_object().erase("resourceVersion");
  EXPECT_EQ(status(report).error().code, 405);
}

TEST_F(WriterTest, ReportedStatusIsNotStored) {
  const auto made = create(pod("web", R"(,"nodeName":"h1")"));
  ASSERT_TRUE(made);
  replica_.apply_status("h1", "pods", "default", "web", json::object{{"phase", "Running"}},
                        made->object->uid);
  const auto patched = patch("pods", "web", R"({"metadata":{"labels":{"a":"b"}}})");
  ASSERT_TRUE(patched);
  EXPECT_EQ(find_string(patched->object->body, "status.phase"), "Running");
  EXPECT_EQ(store_.values().at("/pods/default/web").value->find("Running"), std::string::npos);
}

// ---- dry run, events

TEST_F(WriterTest, ADryRunWritesNothing) {
  options_.dry_run = true;
  const auto dry = make(options_);
  const std::size_t commits = store_.commits;
  const auto would = wait([&](WriteDone d) { dry->create(service("web"), std::move(d)); });
  ASSERT_TRUE(would) << text(would);
  EXPECT_FALSE(find_string(would->object->body, "spec.clusterIP").empty());
  EXPECT_EQ(store_.commits, commits);
  EXPECT_EQ(replica_.get("services", "default", "web"), nullptr);
  EXPECT_EQ(wait([&](WriteDone d) { dry->create(service("Bad"), std::move(d)); }).error().code,
            422);
}

TEST_F(WriterTest, TheSameHappeningIsCounted) {
  const auto made = create(pod("web"));
  const auto events = [&] { return replica_.list("events", "default"); };
  writer_->event(*made->object, "Normal", "Started", "container main", "agent");
  writer_->event(*made->object, "Normal", "Started", "container main", "agent");  // still under way
  ASSERT_TRUE(loop_.run_until([&] { return events().size() == 1; }));
  clock_.advance(std::chrono::seconds(5));
  writer_->event(*made->object, "Normal", "Started", "container main", "agent");
  ASSERT_TRUE(loop_.run_until([&] { return find_int(events()[0]->body, "count", 0) == 2; }));
  EXPECT_EQ(find_string(events()[0]->body, "lastTimestamp"), "2026-01-01T00:00:05Z");
  EXPECT_EQ(find_string(events()[0]->body, "involvedObject.kind"), "Pod");
  writer_->event(*made->object, "Warning", "BackOff", "again", "agent");
  ASSERT_TRUE(loop_.run_until([&] { return events().size() == 2; }));
  clock_.advance(std::chrono::hours(2));
  writer_->event(*made->object, "Normal", "Late", "much later", "agent");
  ASSERT_TRUE(loop_.run_until([&] { return events().size() == 1; })) << "old ones go";
  EXPECT_EQ(find_string(events()[0]->body, "reason"), "Late");
}

TEST_F(WriterTest, NoAnswerAfterTheWriterIsGone) {
  bool called = false;
  writer_->create(pod("web"), [&](WriteResult) { called = true; });
  writer_.reset();
  loop_.drain();
  EXPECT_FALSE(called);
}

}  // namespace
}  // namespace shoal::api
