// SPDX-License-Identifier: Apache-2.0
// The writer over a fake store: what is committed, what a lost race does, what is refused.
#include "agent/api/store_writer.h"

#include "agent/api/selector.h"
#include "netplane/base/random.h"
#include "tests/fakes/asio_loop.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_store.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

namespace shoal::api {
namespace {

namespace json = boost::json;
using store::ObjectPtr;

json::object parse(std::string_view text) { return json::parse(text).get_object(); }
json::object service(std::string_view name, std::string_view spec = "",
                     std::string_view weights = "") {
  json::object body = parse(fmt::format(
      R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}","namespace":"default"}},
          "spec":{{"selector":{{"app":"web"}},"ports":[{{"port":80}}]{}}}}})",
      name, spec));
  if (!weights.empty())
    body["metadata"].get_object()["annotations"] = json::object{{"shoal.dev/weights", weights}};
  return body;
}
json::object pod(std::string_view name, std::string_view more = "") {
  return parse(fmt::format(
      R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"default",
          "labels":{{"app":"web","version":"blue"}}}},
          "spec":{{"containers":[{{"name":"main","image":"web:1"}}]{}}}}})",
      name, more));
}

class WriterTest : public testing::Test {
protected:
  WriterTest() {
    store_.watch([this](store::Revision revision, std::span<const store::Event> events) {
      replica_.apply(events, revision);
    });
    store_.commit(bootstrap_txn(clock_, random_));
    replica_.reset(store_.now());
    writer_ = make(options_);
  }
  std::unique_ptr<Writer> make(WriterOptions options) {
    return make_writer(
        replica_, [this](store::Txn t, TxnDone d) { store_.txn(std::move(t), std::move(d)); },
        loop_.poster(), clock_, random_, std::move(options));
  }
  template <class Call>
  WriteResult wait(Call call) {
    std::optional<WriteResult> answer;
    call([&](WriteResult result) { answer = std::move(result); });
    EXPECT_FALSE(answer) << "done before the call returned";
    EXPECT_TRUE(loop_.run_until([&] { return answer.has_value(); }));
    return std::move(*answer);
  }
  WriteResult create(json::object body) {
    return wait([&](WriteDone d) { writer_->create(std::move(body), std::move(d)); });
  }
  WriteResult update(json::object body) {
    return wait([&](WriteDone d) { writer_->update(std::move(body), std::move(d)); });
  }
  WriteResult status(json::object body) {
    return wait([&](WriteDone d) { writer_->update_status(std::move(body), std::move(d)); });
  }
  WriteResult patch(std::string_view resource, std::string_view name, std::string_view text) {
    return wait([&](WriteDone d) {
      writer_->merge_patch(resource, "default", name, parse(text), std::move(d));
    });
  }
  WriteResult remove(std::string_view resource, std::string_view ns, std::string_view name,
                     Preconditions preconditions = {}, std::optional<std::int64_t> grace = {}) {
    return wait([&](WriteDone d) {
      writer_->remove(resource, ns, name, std::move(preconditions), grace, std::move(d));
    });
  }
  static std::string text(const WriteResult& result) {
    return result ? "done"
                  : fmt::format("{} {}: {}", result.error().code, result.error().reason,
                                result.error().message);
  }

  fakes::AsioLoop loop_;
  FakeClock clock_;
  SeededRandom random_{7};
  store::Replica replica_;
  fakes::FakeStore store_{loop_.poster()};
  WriterOptions options_{.service_cidrs = {*IpPrefix::parse("10.96.0.0/28")},
                         .load_balancer_pools = {*IpPrefix::parse("198.18.0.200/30")}};
  std::unique_ptr<Writer> writer_;
};

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

// ---- addresses

TEST_F(WriterTest, ClusterIpsAreUniqueAndGivenBack) {
  std::set<std::string> ips;
  for (int i = 0; i < 14; ++i) {  // a /28 without its network and broadcast address
    const auto made = create(service(fmt::format("s{}", i)));
    ASSERT_TRUE(made) << text(made);
    const std::string ip(find_string(made->object->body, "spec.clusterIP"));
    EXPECT_TRUE(ips.insert(ip).second) << ip;
    EXPECT_TRUE(store_.values().contains("/alloc/cluster-ips/" + ip));
    EXPECT_EQ(json::serialize(*find_path(made->object->body, "spec.clusterIPs")),
              "[\"" + ip + "\"]");
  }
  EXPECT_FALSE(ips.contains("10.96.0.0"));
  EXPECT_FALSE(ips.contains("10.96.0.15"));
  const auto full = create(service("more"));
  EXPECT_EQ(full.error().code, 507);
  EXPECT_THAT(full.error().message, testing::HasSubstr("no address is free in 10.96.0.0/28"));
  ASSERT_TRUE(remove("services", "default", "s3"));
  EXPECT_TRUE(create(service("more")));
}

TEST_F(WriterTest, RequestedAddressesAreHonouredOrRefused) {
  const auto made = create(service("a", R"(,"clusterIP":"10.96.0.5")"));
  ASSERT_TRUE(made) << text(made);
  EXPECT_THAT(text(create(service("b", R"(,"clusterIP":"10.96.0.5")"))),
              testing::HasSubstr("spec.clusterIP: Invalid value: \"10.96.0.5\": provided IP is "
                                 "already allocated"));
  EXPECT_THAT(text(create(service("b", R"(,"clusterIP":"10.97.0.5")"))),
              testing::HasSubstr("provided IP is not in the valid range (10.96.0.0/28"));
  EXPECT_THAT(
      text(patch("services", "a",
                 R"({"spec":{"clusterIP":"10.96.0.6","clusterIPs":["10.96.0.6"]}})")),
      testing::HasSubstr("spec.clusterIP: Invalid value: \"10.96.0.6\": field is immutable"));
}

TEST_F(WriterTest, AnAddressTakenMeanwhileIsReplacedByAnother) {
  store_.rivals.push_back([this] {
    // The rival takes every address but one.
    store::Txn txn;
    for (int i = 1; i < 14; ++i)
      txn.ops.push_back({fmt::format("/alloc/cluster-ips/10.96.0.{}", i), "{}"});
    store_.commit(txn);
  });
  const auto made = create(service("a"));
  if (!made)  // each lost race brings news of the keys it lost only
    EXPECT_EQ(made.error().reason, "Conflict") << text(made);
  else
    EXPECT_EQ(find_string(made->object->body, "spec.clusterIP"), "10.96.0.14");
}

TEST_F(WriterTest, LoadBalancerAddressesFollowTheType) {
  const auto made = create(service("a", R"(,"type":"LoadBalancer")"));
  ASSERT_TRUE(made) << text(made);
  EXPECT_EQ(json::serialize(*find_path(made->object->body, "status.loadBalancer")),
            R"({"ingress":[{"ip":"198.18.0.201","ipMode":"VIP"}]})");
  ASSERT_TRUE(store_.values().contains("/alloc/load-balancer-ips/198.18.0.201"));
  const auto moved = patch("services", "a", R"({"spec":{"loadBalancerIP":"198.18.0.202"}})");
  ASSERT_TRUE(moved) << text(moved);
  EXPECT_FALSE(store_.values().contains("/alloc/load-balancer-ips/198.18.0.201"));
  EXPECT_TRUE(store_.values().contains("/alloc/load-balancer-ips/198.18.0.202"));
  // A controller that writes the status cannot take the address away.
  json::object report = moved->object->body;
  report["status"] = json::object{{"conditions", json::array()}};
  ASSERT_TRUE(status(report));
  EXPECT_THAT(json::serialize(*find_path(replica_.get("services", "default", "a")->body, "status")),
              testing::HasSubstr("198.18.0.202"));
  ASSERT_TRUE(
      patch("services", "a",
            R"({"spec":{"type":"ClusterIP","loadBalancerIP":null,"externalTrafficPolicy":null}})"));
  EXPECT_FALSE(store_.values().contains("/alloc/load-balancer-ips/198.18.0.202"));
  ASSERT_TRUE(create(service("b", R"(,"type":"LoadBalancer")")));
  ASSERT_TRUE(remove("services", "default", "b"));
  for (const auto& [key, event] : store_.values())
    EXPECT_EQ(key.find("/alloc/load-balancer-ips/"), std::string::npos) << key;
  writer_ = make({.service_cidrs = options_.service_cidrs});
  EXPECT_THAT(text(create(service("c", R"(,"type":"LoadBalancer")"))),
              testing::HasSubstr("network.lb_pool was not set when it began"));
}

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
