// SPDX-License-Identifier: Apache-2.0
// Kubernetes' paths: discovery, objects, lists, tables, errors.
#include "agent/api/selector.h"
#include "tests/unit/agent/api/server_fixture.h"

namespace shoal::api {
namespace {

namespace json = boost::json;

class RestTest : public ServerFixture {
protected:
  static std::string names(const Answer& answer) {
    std::string list;
    const json::object body = answer.json();
    for (const json::value& item : body.at("items").as_array())
      list +=
          (list.empty() ? "" : " ") + std::string(find_string(item.as_object(), "metadata.name"));
    return list;
  }
  static std::string message(const Answer& answer) {
    return fmt::format("{} {}: {}", answer.status,
                       std::string(answer.json().at("reason").as_string()),
                       std::string(answer.json().at("message").as_string()));
  }
};

constexpr std::string_view kPods = "/api/v1/namespaces/default/pods";
constexpr std::string_view kServices = "/api/v1/namespaces/default/services";
constexpr std::string_view kServiceBody =
    R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"selector":{"app":"web"},"ports":[{"port":80}]}})";

TEST_F(RestTest, Discovery) {
  start();
  EXPECT_EQ(json::serialize(get("/api").json().at("versions")), R"(["v1"])");
  EXPECT_EQ(get("/apis").json().at("groups").as_array().size(), 3U);
  const json::object core = get("/api/v1").json();
  EXPECT_EQ(core.at("groupVersion"), "v1");
  EXPECT_EQ(get("/apis/apps/v1").json().at("resources").at(0).at("name"), "deployments");
  EXPECT_EQ(get("/apis/apps").json().at("preferredVersion").at("version"), "v1");
  EXPECT_EQ(get("/apis/networking.k8s.io/v1").status, 404);
  EXPECT_EQ(get("/apis/metrics.k8s.io").json().at("preferredVersion").at("version"), "v1beta1");
  const json::object usage = get("/apis/metrics.k8s.io/v1beta1").json();
  EXPECT_EQ(usage.at("groupVersion"), "metrics.k8s.io/v1beta1");
  EXPECT_EQ(usage.at("resources").at(1).at("kind"), "PodMetrics");
  EXPECT_EQ(json::serialize(usage.at("resources").at(0).at("verbs")), R"(["get","list"])");
  EXPECT_EQ(get("/apis/metrics.k8s.io/v1").status, 404);
  const Answer aggregated = get(
      "/apis",
      "Accept: "
      "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json\r\n");
  EXPECT_THAT(aggregated.head, testing::HasSubstr("as=APIGroupDiscoveryList"));
  EXPECT_EQ(
      aggregated.json().at("items").at(0).at("versions").at(0).at("resources").at(0).at("resource"),
      "deployments");
}

TEST_F(RestTest, ObjectsComeAndGo) {
  start();
  const Answer made = post(kServices, kServiceBody);
  ASSERT_EQ(made.status, 201) << made.body;
  EXPECT_EQ(find_string(made.json(), "metadata.namespace"), "default");
  const Answer read = get("/api/v1/namespaces/default/services/web");
  EXPECT_EQ(read.status, 200);
  EXPECT_EQ(read.json(), made.json());

  json::object changed = read.json();
  changed["spec"].as_object()["selector"] = json::object{{"app", "api"}};
  const Answer replaced =
      request(http("PUT", "/api/v1/namespaces/default/services/web", json::serialize(changed)));
  EXPECT_EQ(replaced.status, 200) << replaced.body;
  EXPECT_EQ(message(request(
                http("PUT", "/api/v1/namespaces/default/services/web", json::serialize(changed)))),
            "409 Conflict: Operation cannot be fulfilled on services \"web\": the object has been "
            "modified; please apply your changes to the latest version and try again");

  const Answer patched = request(http("PATCH", "/api/v1/namespaces/default/services/web",
                                      R"({"metadata":{"labels":{"a":"b"}}})",
                                      "Content-Type: application/merge-patch+json\r\n"));
  EXPECT_EQ(patched.status, 200) << patched.body;
  EXPECT_EQ(find_string(patched.json(), "metadata.labels.a"), "b");

  json::object with_status = patched.json();
  with_status["status"] = json::object{{"conditions", json::array{}}};
  EXPECT_EQ(request(http("PUT", "/api/v1/namespaces/default/services/web/status",
                         json::serialize(with_status)))
                .status,
            200);

  const Answer removed = request(http("DELETE", "/api/v1/namespaces/default/services/web",
                                      R"({"propagationPolicy":"Background"})"));
  EXPECT_EQ(removed.status, 200);
  EXPECT_EQ(removed.json().at("status"), "Success");
  EXPECT_EQ(message(get("/api/v1/namespaces/default/services/web")),
            "404 NotFound: services \"web\" not found");
}

TEST_F(RestTest, RefusalsAreStatusObjects) {
  start();
  EXPECT_EQ(message(post(kServices, "{\"a\":\n  nope}")),
            "400 BadRequest: the body is not JSON: line 2, column 3 (byte 8): syntax error");
  EXPECT_EQ(message(post(kServices, "")),
            "400 BadRequest: the request has no body; a JSON object is expected");
  EXPECT_EQ(message(post(kServices, "[]")), "400 BadRequest: the body must be a JSON object");
  EXPECT_EQ(message(post(kServices, R"({"kind":"Pod","apiVersion":"v1"})")),
            "400 BadRequest: v1, Kind=Pod in the body, but this path takes v1, Kind=Service");
  EXPECT_THAT(message(post(kPods, R"({"metadata":{"name":"a","namespace":"b"}})")),
              testing::HasSubstr("does not match the namespace sent on the request"));
  EXPECT_EQ(
      request(http("PUT", "/api/v1/namespaces/default/pods/a", R"({"metadata":{"name":"b"}})"))
          .status,
      400);
  const Answer invalid =
      post(kServices, R"({"metadata":{"name":"web"},"spec":{"ports":[{"port":0}]}})");
  EXPECT_EQ(invalid.status, 422);
  EXPECT_EQ(invalid.json().at("details").at("causes").at(0).at("field"), "spec.ports[0].port");
  EXPECT_EQ(invalid.json().at("details").at("name"), "web");

  for (const char* type : {"application/strategic-merge-patch+json", "application/json-patch+json",
                           "application/apply-patch+yaml"}) {
    const Answer answer = request(http("PATCH", "/api/v1/namespaces/default/pods/a", "{}",
                                       fmt::format("Content-Type: {}\r\n", type)));
    EXPECT_EQ(answer.status, 415);
    EXPECT_THAT(message(answer),
                testing::HasSubstr("accepted media types are: application/merge-patch+json"));
  }
  EXPECT_EQ(
      request(http("POST", kServices, "x", "Content-Type: application/vnd.kubernetes.protobuf\r\n"))
          .status,
      415);
  EXPECT_EQ(request(http("POST", "/api/v1/namespaces/default/pods/a", "{}")).status, 405);
  EXPECT_EQ(get("/apis/networking.k8s.io/v1/networkpolicies").status, 404);
  EXPECT_EQ(get("/api/v1/namespaces/default/nodes").status, 404) << "nodes are in no namespace";
  EXPECT_EQ(get("/api/v1/namespaces/default/pods/a/exec").status, 404);
  EXPECT_THAT(message(request(http("DELETE", "/api/v1/namespaces/default/pods/a",
                                   R"({"propagationPolicy":"Foreground"})"))),
              testing::HasSubstr("422 Invalid: DeleteOptions is invalid: propagationPolicy"));
}

TEST_F(RestTest, Lists) {
  start();
  put_pod("a");
  put_pod("b", "api");
  const Answer all = get(kPods);
  EXPECT_EQ(all.json().at("kind"), "PodList");
  EXPECT_EQ(find_string(all.json(), "metadata.resourceVersion"), "3");
  EXPECT_EQ(names(all), "a b");
  EXPECT_EQ(names(get("/api/v1/pods?limit=1")), "a b") << "limit is a wish";
  EXPECT_EQ(names(get("/api/v1/namespaces/other/pods")), "");
  EXPECT_EQ(names(get("/api/v1/pods?labelSelector=app%3Dweb")), "a");
  EXPECT_EQ(names(get("/api/v1/pods?labelSelector=app+notin+(web),app")), "b");
  EXPECT_EQ(names(get("/api/v1/pods?fieldSelector=metadata.name%3Db")), "b");
  EXPECT_EQ(names(get("/api/v1/pods?fieldSelector=status.phase!=Pending")), "");
  EXPECT_EQ(names(get("/api/v1/pods?fieldSelector=spec.nodeName=")), "a b");
  EXPECT_EQ(message(get("/api/v1/pods?fieldSelector=spec.hostname=x")),
            "400 BadRequest: field label not supported: spec.hostname");
  EXPECT_EQ(get("/api/v1/pods?labelSelector=a+b").status, 400);
  EXPECT_EQ(names(get("/api/v1/namespaces")), "default kube-system");
  EXPECT_EQ(get("/api/v1/namespaces/default").json().at("kind"), "Namespace");
}

TEST_F(RestTest, ReadsWaitForARevisionSeenElsewhere) {
  start();
  const store::Revision ahead = replica_.revision() + 1;
  auto future = std::async(std::launch::async, [&] {
    Client client(options_.unix_path);
    client.send(http("GET", fmt::format("/api/v1/pods?resourceVersion={}", ahead)));
    return client.read_answer().status;
  });
  ASSERT_TRUE(loop_.run_until([&] { return server_ != nullptr; }));
  put_pod("a");  // raises the revision
  ASSERT_TRUE(loop_.run_until(
      [&] { return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }));
  EXPECT_EQ(future.get(), 200);
  EXPECT_EQ(get("/api/v1/pods?resourceVersion=x").status, 400);
}

TEST_F(RestTest, ARevisionThatNeverComesTimesOut) {
  start();
  auto future = std::async(std::launch::async, [&] {
    Client client(options_.unix_path);
    client.send(http("GET", "/api/v1/pods?resourceVersion=999"));
    return client.read_answer();
  });
  ASSERT_TRUE(loop_.run_until([&] {
    clock_.advance(std::chrono::milliseconds(200));
    return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }));
  const Answer answer = future.get();
  EXPECT_EQ(answer.status, 504);
  EXPECT_EQ(answer.json().at("details").at("causes").at(0).at("reason"), "ResourceVersionTooLarge");
}

TEST_F(RestTest, Tables) {
  start();
  put_pod("a");
  const Answer table =
      get(kPods, "Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json\r\n");
  ASSERT_EQ(table.status, 200);
  EXPECT_EQ(table.json().at("kind"), "Table");
  EXPECT_EQ(json::serialize(table.json().at("rows").at(0).at("cells")),
            R"(["a","0/1","Pending","0","0s","<none>","<none>","<none>","<none>"])");
  EXPECT_EQ(table.json().at("rows").at(0).at("object").at("kind"), "PartialObjectMetadata");
  const Answer one = get("/api/v1/namespaces/default/pods/a?includeObject=Object",
                         "Accept: application/json;as=Table;v=v1;g=meta.k8s.io\r\n");
  EXPECT_EQ(one.json().at("rows").at(0).at("object").at("kind"), "Pod");
}

TEST_F(RestTest, WarningsTravelInHeaders) {
  start();
  const Answer made = post(
      kServices, R"({"metadata":{"name":"web","annotations":{"shoal.dev/weights":"version=blue:1"}},
      "spec":{"selector":{"app":"web"},"ports":[{"port":80}]}})");
  EXPECT_EQ(made.status, 201) << made.body;
  EXPECT_THAT(made.head,
              testing::HasSubstr("Warning: 299 - \"metadata.annotations[shoal.dev/weights]: "
                                 "group \\\"version=blue\\\" selects nothing"));
}

TEST_F(RestTest, DryRuns) {
  start();
  const Answer would = post("/api/v1/namespaces/default/services?dryRun=All", kServiceBody);
  EXPECT_EQ(would.status, 201) << would.body;
  EXPECT_FALSE(find_string(would.json(), "spec.clusterIP").empty());
  EXPECT_EQ(get("/api/v1/namespaces/default/services/web").status, 404);
  EXPECT_EQ(post("/api/v1/namespaces/default/services?dryRun=Some", kServiceBody).status, 400);
}

TEST_F(RestTest, CollectionsAreDeletedOneByOne) {
  start();
  put_pod("a");
  put_pod("b", "api");
  put_pod("c");
  const Answer removed =
      request(http("DELETE", "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb"));
  EXPECT_EQ(removed.status, 200);
  EXPECT_EQ(names(get(kPods)), "b");
  EXPECT_EQ(request(http("DELETE", "/api/v1/pods")).status, 405) << "not everywhere at once";
  EXPECT_EQ(request(http("DELETE", "/api/v1/namespaces")).status, 405);
}

TEST_F(RestTest, BeforeTheFirstStateNothingIsServed) {
  server_ = std::make_unique<Server>(loop_.context(), replica_, *writer_, clock_, options_);
  ASSERT_TRUE(server_->start());
  EXPECT_EQ(get(kPods).status, 503);
  EXPECT_EQ(get("/readyz").status, 503);
  EXPECT_EQ(get("/livez").status, 200);
  replica_.reset(store_.now());
  EXPECT_EQ(get(kPods).status, 200);
  EXPECT_EQ(get("/readyz").status, 200);
}

TEST_F(RestTest, CurlIsServed) {
  start();
  const std::string printed = call([this] {
    const std::string command = fmt::format(
        "curl -s --max-time 10 --unix-socket {} -H 'Content-Type: application/json' -d '{}' "
        "http://shoal/api/v1/namespaces/default/services && curl -s --max-time 10 --unix-socket {} "
        "http://shoal/api/v1/services",
        options_.unix_path.string(), std::string(kServiceBody), options_.unix_path.string());
    FILE* pipe = ::popen(command.c_str(), "r");
    std::string text;
    char bytes[4096];
    while (const std::size_t count = std::fread(bytes, 1, sizeof(bytes), pipe))
      text.append(bytes, count);
    ::pclose(pipe);
    return text;
  });
  EXPECT_THAT(printed, testing::HasSubstr("\"kind\":\"ServiceList\""));
  EXPECT_THAT(printed, testing::HasSubstr("\"clusterIP\":\"10.96."));
}

}  // namespace
}  // namespace shoal::api
