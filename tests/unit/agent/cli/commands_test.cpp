// SPDX-License-Identifier: Apache-2.0
// Commands against a small API in memory: what they send, in which order, and what they print.
#include "agent/cli/commands.h"
#include "netplane/base/fs.h"

#include <boost/json.hpp>
#include <filesystem>
#include <optional>
#include <unistd.h>

namespace shoal::cli {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class StringStreams final : public Streams {
public:
  void out(std::string_view text) override { output += text; }
  void err(std::string_view text) override { errors += text; }
  std::string output;
  std::string errors;
};

Response status(int code, std::string_view reason, std::string_view message,
                std::string_view causes = "[]") {
  return {
      code,
      fmt::format(
          R"({{"kind":"Status","status":"Failure","reason":"{}","message":"{}","code":{},"details":{{"causes":{}}}}})",
          reason, message, code, causes),
      {}};
}

// Objects by path; merge patches; dry runs; a refusal for any body that holds `refuse_word`.
class FakeApi final : public Client {
public:
  FakeApi() : Client("/nonexistent") {}

  Result<Response> send(const Request& request) const override {
    const std::size_t question = request.target.find('?');
    const std::string path = request.target.substr(0, question);
    const bool dry = request.target.find("dryRun=All") != std::string::npos;
    log.push_back(fmt::format("{} {}", request.method, request.target));
    if (const auto it = canned.find(request.method + " " + path); it != canned.end())
      return it->second;
    if (!refuse_word.empty() && request.body.find(refuse_word) != std::string::npos &&
        (dry || refuse_writes))
      return status(422, "Invalid", "is invalid",
                    R"([{"field":"spec.replicas","message":"must not be negative"}])");
    if (request.method == "GET")
      return objects.contains(path) ? Response{200, json::serialize(objects.at(path)), {}}
                                    : status(404, "NotFound", path + " not found");
    json::value body = json::parse(request.body);
    const auto name = [&] { return std::string(body.at("metadata").at("name").as_string()); };
    if (request.method == "POST") {
      if (!dry)
        objects[path + "/" + name()] = body.as_object();
      return Response{201, json::serialize(body), {"spec.replicas: a warning"}};
    }
    if (request.method == "DELETE") {
      const json::object gone = objects.at(path);
      objects.erase(path);
      return Response{200, json::serialize(gone), {}};
    }
    json::object merged = objects.at(path);
    merge(merged, body.as_object());
    if (!dry)
      objects[path] = merged;
    return Response{200, json::serialize(merged), {}};
  }

  Result<Upgraded> upgrade(const Request& request, std::string_view protocol,
                           Response& refused) const override {
    log.push_back(fmt::format("{} {} {}", request.method, request.target, protocol));
    refused = status(503, "ServiceUnavailable", "container not running (main)");
    return Upgraded{};
  }

  static void merge(json::object& into, const json::object& patch) {
    for (const auto& field : patch) {
      if (field.value().is_null())
        into.erase(field.key());
      else if (field.value().is_object() && into.contains(field.key()) &&
               into.at(field.key()).is_object())
        merge(into.at(field.key()).as_object(), field.value().as_object());
      else
        into[field.key()] = field.value();
    }
  }

  mutable std::map<std::string, json::object> objects;
  mutable std::vector<std::string> log;
  std::map<std::string, Response> canned;
  std::string refuse_word;
  bool refuse_writes = false;
};

class Commands : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/shoal-cli-test.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::string file(const std::string& text) {
    const std::string path = dir_ / "m.yaml";
    EXPECT_TRUE(write_file_atomic(path, text));
    return path;
  }
  int apply(const std::string& text, std::optional<std::string> ns = {}, bool dry_run = false) {
    streams_ = StringStreams();
    api_.log.clear();
    const Exit exit = run_apply({api_, streams_}, {{file(text)}, std::move(ns), dry_run, ""});
    if (!exit)
      streams_.errors += exit.error().message();
    return exit ? *exit : exit_code_of(exit.error());
  }

  FakeApi api_;
  StringStreams streams_;
  std::filesystem::path dir_;
};

const std::string kDeployment = "apiVersion: apps/v1\n"
                                "kind: Deployment\n"
                                "metadata:\n"
                                "  name: web\n"
                                "spec:\n"
                                "  replicas: 2\n"
                                "  paused: true\n";
const std::string kNamespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: prod}\n";

TEST_F(Commands, ApplyCreatesThenMergesThenDoesNothing) {
  EXPECT_EQ(apply(kDeployment), 0) << streams_.errors;
  EXPECT_EQ(streams_.output, "deployment.apps/web created\n");
  EXPECT_THAT(streams_.errors, HasSubstr("m.yaml:6: spec.replicas: a warning\n"));
  EXPECT_EQ(streams_.errors.find("a warning"), streams_.errors.rfind("a warning"));
  EXPECT_THAT(api_.log, ElementsAre("GET /apis/apps/v1/namespaces/default/deployments/web",
                                    "POST /apis/apps/v1/namespaces/default/deployments?dryRun=All",
                                    "POST /apis/apps/v1/namespaces/default/deployments"));
  EXPECT_EQ(apply(kDeployment), 0);
  EXPECT_EQ(streams_.output, "deployment.apps/web unchanged\n");
  EXPECT_EQ(api_.log.size(), 1U);
  EXPECT_EQ(
      apply("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 3}\n"),
      0);
  EXPECT_EQ(streams_.output, "deployment.apps/web configured\n");
  const json::object& live = api_.objects.at("/apis/apps/v1/namespaces/default/deployments/web");
  EXPECT_EQ(json::serialize(live.at("spec")), R"({"replicas":3})");
}

TEST_F(Commands, ApplyValidatesAllBeforeTheFirstWrite) {
  api_.refuse_word = "-1";
  const std::string second =
      "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec:\n  replicas: -1\n";
  EXPECT_EQ(apply(kDeployment + second), kExitFailed);
  EXPECT_THAT(streams_.errors, HasSubstr("m.yaml:13: spec.replicas: must not be negative\n"));
  EXPECT_THAT(streams_.errors, HasSubstr("1 of 2 objects refused; nothing was written"));
  EXPECT_THAT(api_.objects, IsEmpty());
}

TEST_F(Commands, ALaterFailureTellsWhatWasWritten) {
  api_.canned["POST /apis/apps/v1/namespaces/default/deployments"] = Response{201, "{}", {}};
  EXPECT_EQ(apply(kDeployment + kNamespace), 0);
  api_.canned.clear();
  api_.objects.clear();
  // Passes the dry run, fails when it is written.
  class FailsLater final : public Client {
  public:
    explicit FailsLater(FakeApi& api) : Client("/nonexistent"), api_(api) {}
    Result<Response> send(const Request& request) const override {
      if (request.method == "POST" &&
          request.target == "/apis/apps/v1/namespaces/default/deployments")
        return status(503, "ServiceUnavailable", "the store's host is away");
      return api_.send(request);
    }

  private:
    FakeApi& api_;
  };
  const FailsLater client(api_);
  streams_ = StringStreams();
  const Exit exit =
      run_apply({client, streams_}, {{file(kDeployment + kNamespace)}, {}, false, ""});
  ASSERT_TRUE(exit);
  EXPECT_EQ(*exit, kExitFailed);
  EXPECT_THAT(streams_.errors,
              HasSubstr("written: namespace/prod\nnot written: deployment.apps/web\n"));
  EXPECT_THAT(streams_.errors, HasSubstr("the store's host is away"));
}

TEST_F(Commands, ApplyPutsNamespacesFirstAndKnowsTheyAreComing) {
  api_.canned["POST /apis/apps/v1/namespaces/prod/deployments"] =
      status(404, "NotFound", "namespace prod not found");
  EXPECT_EQ(apply(kDeployment + kNamespace, "prod"), kExitFailed);  // the write itself still fails
  EXPECT_THAT(streams_.errors, HasSubstr("written: namespace/prod"));
  api_.canned.clear();
  EXPECT_EQ(apply(kDeployment + kNamespace, "prod"), 0) << streams_.errors;
  EXPECT_TRUE(api_.objects.contains("/apis/apps/v1/namespaces/prod/deployments/web"));
}

TEST_F(Commands, ApplyRefusesWithoutAsking) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"kind: Pod\nmetadata: {name: a}\n", "m.yaml:1: apiVersion: is missing"},
      {"apiVersion: v1\nmetadata: {name: a}\n", "kind: is missing"},
      {"apiVersion: v1\nkind: Pod\n", "metadata: is missing"},
      {"apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n", "m.yaml:3: metadata.name"},
      {"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\n",
       "m.yaml:2: kind: Shoal does not act on"},
      {kDeployment + "---\n" + kDeployment, "m.yaml:9: deployment.apps/web appears twice"},
      {"# nothing\n", "no objects"},
  };
  for (const auto& [text, part] : cases) {
    EXPECT_EQ(apply(text), kExitFailed) << text;
    EXPECT_THAT(streams_.errors, HasSubstr(part));
    EXPECT_THAT(api_.log, IsEmpty());
  }
  EXPECT_EQ(apply("apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x}\n", "y"),
            kExitFailed);
  EXPECT_THAT(streams_.errors, HasSubstr("is x, but -n asks for y"));
}

TEST_F(Commands, DryRunWritesNothing) {
  EXPECT_EQ(apply(kDeployment, {}, true), 0);
  EXPECT_EQ(streams_.output, "deployment.apps/web created (dry run)\n");
  EXPECT_THAT(api_.objects, IsEmpty());
}

constexpr std::string_view kTable =
    R"({"kind":"Table","metadata":{"resourceVersion":"7"},"columnDefinitions":[{"name":"Name"}],"rows":[{"cells":["a"],"object":{"metadata":{"namespace":"n"}}}]})";

TEST_F(Commands, GetTables) {
  api_.canned["GET /api/v1/namespaces/default/pods"] = Response{200, std::string(kTable), {}};
  api_.canned["GET /api/v1/namespaces/default/services"] =
      Response{200, R"({"columnDefinitions":[{"name":"Name"}],"rows":[]})", {}};
  api_.canned["GET /api/v1/pods"] = Response{200, std::string(kTable), {}};
  EXPECT_EQ(*run_get({api_, streams_}, {.what = {"po,svc"}, .selector = "app=web"}), 0);
  EXPECT_EQ(streams_.output, "NAME\na\n");
  EXPECT_EQ(api_.log[0], "GET /api/v1/namespaces/default/pods?labelSelector=app%3Dweb");
  streams_ = StringStreams();
  EXPECT_EQ(*run_get({api_, streams_}, {.what = {"svc"}}), 0);
  EXPECT_EQ(streams_.errors, "No resources found in default namespace.\n");
  EXPECT_EQ(*run_get({api_, streams_}, {.what = {"po"}, .all_namespaces = true}), 0);
  EXPECT_EQ(streams_.output, "NAMESPACE   NAME\nn           a\n");
  const Exit missing = run_get({api_, streams_}, {.what = {"po", "zzz"}});
  ASSERT_FALSE(missing);
  EXPECT_EQ(exit_code_of(missing.error()), kExitNotFound);
}

TEST_F(Commands, GetDocuments) {
  api_.canned["GET /api/v1/namespaces/default/pods"] = Response{
      200,
      R"({"kind":"PodList","items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]})",
      {}};
  EXPECT_EQ(*run_get({api_, streams_}, {.what = {"po"}, .output = "json"}), 0);
  const json::value list = json::parse(streams_.output);
  EXPECT_EQ(list.at("items").as_array().size(), 2U);
  EXPECT_EQ(list.at("items").at(0).at("kind").as_string(), "Pod");
  streams_ = StringStreams();
  EXPECT_EQ(*run_get({api_, streams_}, {.what = {"po"}, .output = "name"}), 0);
  EXPECT_EQ(streams_.output, "pod/a\npod/b\n");
}

TEST_F(Commands, DeleteByNameAndFile) {
  api_.objects["/api/v1/namespaces/default/pods/a"] =
      json::parse(R"({"metadata":{"name":"a","uid":"1"}})").as_object();
  api_.canned["GET /api/v1/namespaces/default/pods"] = Response{200, R"({"items":[]})", {}};
  EXPECT_EQ(*run_delete({api_, streams_}, {.what = {"po", "a"}}), 0);
  EXPECT_EQ(streams_.output, "pod \"a\" deleted\n");
  EXPECT_THAT(api_.objects, IsEmpty());
  api_.canned["DELETE /api/v1/namespaces/default/pods/a"] =
      status(404, "NotFound", "pods a not found");
  EXPECT_EQ(*run_delete({api_, streams_}, {.what = {"po", "a"}}), kExitNotFound);
  EXPECT_EQ(*run_delete({api_, streams_}, {.what = {"po", "a"}, .ignore_not_found = true}), 0);
  EXPECT_EQ(*run_delete({api_, streams_},
                        {.files = {file("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n")}}),
            kExitNotFound);
  EXPECT_FALSE(run_delete({api_, streams_}, {.what = {"po"}}));
}

TEST_F(Commands, CordonAndUncordonSayWhatChanged) {
  api_.objects["/api/v1/nodes/h1"] =
      json::parse(R"({"metadata":{"name":"h1"},"spec":{}})").as_object();
  EXPECT_EQ(*run_cordon({api_, streams_}, "h1", true), 0);
  EXPECT_EQ(api_.objects["/api/v1/nodes/h1"]["spec"], json::parse(R"({"unschedulable":true})"));
  EXPECT_EQ(*run_cordon({api_, streams_}, "h1", true), 0);
  EXPECT_EQ(*run_cordon({api_, streams_}, "h1", false), 0);
  EXPECT_EQ(api_.objects["/api/v1/nodes/h1"]["spec"], json::object());
  EXPECT_EQ(streams_.output, "node/h1 cordoned\nnode/h1 already cordoned\nnode/h1 uncordoned\n");
  const Exit missing = run_cordon({api_, streams_}, "h9", true);
  ASSERT_FALSE(missing);
  EXPECT_EQ(exit_code_of(missing.error()), kExitNotFound);
}

TEST_F(Commands, DrainCordonsFirstAndKeepsPodsThatNobodyMakesAgain) {
  const auto pod = [&](const char* name, bool owned) {
    json::object body{{"metadata", json::object{{"name", name}, {"namespace", "default"}}}};
    if (owned)
      body["metadata"].as_object()["ownerReferences"] =
          json::array{json::object{{"name", "web"}, {"controller", true}}};
    api_.objects[fmt::format("/api/v1/namespaces/default/pods/{}", name)] = body;
    return body;
  };
  api_.objects["/api/v1/nodes/h1"] =
      json::parse(R"({"metadata":{"name":"h1"},"spec":{}})").as_object();
  json::array items{pod("a", true), pod("bare", false)};
  api_.canned["GET /api/v1/pods"] =
      Response{200, json::serialize(json::object{{"items", items}}), {}};
  api_.canned["GET /api/v1/namespaces/default/pods"] = Response{200, R"({"items":[]})", {}};
  const Exit refused = run_drain({api_, streams_}, {.node = "h1"});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("default/bare"));
  EXPECT_THAT(refused.error().message(), HasSubstr("--force"));
  EXPECT_EQ(api_.objects.size(), 3U);
  EXPECT_THAT(api_.log, testing::Contains("GET /api/v1/pods?fieldSelector=spec.nodeName%3Dh1"));
  streams_ = StringStreams();
  EXPECT_EQ(*run_drain({api_, streams_}, {.node = "h1", .force = true}), 0);
  EXPECT_EQ(streams_.output, "node/h1 already cordoned\npod \"a\" deleted\npod \"bare\" deleted\n"
                             "node/h1 drained\n");
  EXPECT_EQ(api_.objects.size(), 1U);
}

TEST_F(Commands, ServiceShow) {
  api_.canned["GET /shoal/v1/services/default/web"] = Response{
      200,
      R"({"namespace":"default","name":"web","ports":[{"port_name":"http","protocol":"TCP","family":"IPv4","frontends":[{"ip":"10.96.0.1","port":80,"kind":"ClusterIP"}],
        "groups":[{"name":"version=blue","weight":90,"asked":0.9,"effective":0.9,"slots":58,"ready":2}],
        "backends":[{"pod":"default/web-1","ip":"10.244.1.2","port":8080,"host":"h1","state":"ready","group":"version=blue","effective":0.45,"connects":7,"flows":0}],
        "counters":{"connects":7},"errors":["half"]}]})",
      {}};
  EXPECT_EQ(*run_service_show({api_, streams_}, "default", "web", false), 0);
  for (const char* part :
       {"Port http TCP IPv4: 10.96.0.1:80 (ClusterIP)", "version=blue   90       90.0%",
        "default/web-1   10.244.1.2:8080   h1", "error: half"})
    EXPECT_THAT(streams_.output, HasSubstr(part));
}

TEST_F(Commands, ServiceShowTellsRingsApart) {
  api_.canned["GET /shoal/v1/services/default/web"] =
      Response{200,
               R"({"namespace":"default","name":"web","ports":[
        {"port_name":"http","protocol":"TCP","family":"IPv4","clients":"inside","frontends":[{"ip":"10.96.0.1","port":80,"kind":"ClusterIP"}]},
        {"port_name":"http","protocol":"TCP","family":"IPv4","clients":"inside-external","frontends":[{"ip":"198.18.0.200","port":80,"kind":"LoadBalancer"}]},
        {"port_name":"http","protocol":"TCP","family":"IPv4","clients":"outside","frontends":[{"ip":"198.18.0.200","port":80,"kind":"LoadBalancer"}]},
        {"port_name":"http","protocol":"TCP","family":"IPv6","clients":"all","frontends":[{"ip":"fd00::1","port":80,"kind":"ClusterIP"}]}]})",
               {}};
  EXPECT_EQ(*run_service_show({api_, streams_}, "default", "web", false), 0);
  for (const char* part :
       {"Port http TCP IPv4, clients inside: 10.96.0.1:80 (ClusterIP)",
        "Port http TCP IPv4, clients inside of other addresses than the ClusterIP: 198.18.0.200:80",
        "Port http TCP IPv4, clients outside: 198.18.0.200:80 (LoadBalancer)",
        "Port http TCP IPv6: "})
    EXPECT_THAT(streams_.output, HasSubstr(part));
}

TEST_F(Commands, NotReachableHasItsOwnExitCode) {
  const Client nobody(dir_ / "no.sock");
  const Exit exit = run_status({nobody, streams_}, false);
  ASSERT_FALSE(exit);
  EXPECT_EQ(exit_code_of(exit.error()), kExitUnreachable);
  EXPECT_THAT(exit.error().message(), HasSubstr("systemctl start shoald"));
  // A daemon that is there and says 503 is something else.
  api_.canned["GET /shoal/v1/status"] = status(503, "ServiceUnavailable", "away");
  EXPECT_EQ(exit_code_of(run_status({api_, streams_}, false).error()), kExitFailed);
}

TEST_F(Commands, AttachAsksForWhatTheContainerHas) {
  const std::string path = "/api/v1/namespaces/default/pods/p";
  api_.objects[path] = json::parse(R"({"spec":{"containers":[{"name":"main","tty":true},
      {"name":"side"}]},"status":{"phase":"Running"}})")
                           .as_object();
  const auto attach = [&](const AttachOptions& options) {
    api_.log.clear();
    return run_attach({api_, streams_}, options).error().message();
  };
  EXPECT_THAT(attach({.pod = "p"}), HasSubstr("pod p has 2 containers: name one (-c)"));
  EXPECT_THAT(attach({.pod = "p", .container = "x"}), HasSubstr("container x is not in pod p"));
  EXPECT_THAT(attach({.pod = "p", .container = "main", .stdin_open = true}),
              HasSubstr("container not running (main)"));
  EXPECT_THAT(api_.log,
              ElementsAre("GET " + path, "POST " + path +
                                             "/attach?container=main&stdin=true&stdout=true&"
                                             "tty=true shoal-exec.v1"));
  attach({.pod = "pod/p", .container = "side", .tty = true});
  EXPECT_THAT(api_.log.back(), HasSubstr("?container=side&stdout=true&stderr=true shoal-exec"));
  EXPECT_THAT(streams_.errors,
              HasSubstr("Unable to use a TTY - container side did not allocate one"));
  api_.objects[path]["status"] = json::object{{"phase", "Succeeded"}};
  EXPECT_THAT(
      attach({.pod = "p", .container = "main"}),
      HasSubstr("cannot attach a container in a completed pod; current phase is Succeeded"));
}

constexpr std::string_view kUsage = "GET /apis/metrics.k8s.io/v1beta1";

TEST_F(Commands, TopNodesAreSharesOfWhatPodsMayHave) {
  api_.canned["GET /api/v1/nodes"] = Response{200,
                                              R"({"items":[{"metadata":{"name":"h3"}},
      {"metadata":{"name":"h1"},"status":{"allocatable":{"cpu":"2","memory":"1048576Ki"}}},
      {"metadata":{"name":"h2"},"status":{"allocatable":{"cpu":"1900m","memory":"1Gi"}}}]})",
                                              {}};
  api_.canned[fmt::format("{}/nodes", kUsage)] = Response{
      200,
      R"({"items":[{"metadata":{"name":"h1"},"usage":{"cpu":"500000001n","memory":"524288Ki"}},
      {"metadata":{"name":"h2"},"usage":{"cpu":"1900m","memory":"0"}}]})",
      {"host h3 is left out: it is not alive"}};
  EXPECT_EQ(*run_top_nodes({api_, streams_}, {}), 0);
  EXPECT_EQ(streams_.output, "NAME   CPU(cores)   CPU(%)      MEMORY(bytes)   MEMORY(%)\n"
                             "h1     501m         25%         512Mi           50%\n"
                             "h2     1900m        100%        0Mi             0%\n"
                             "h3     <unknown>    <unknown>   <unknown>       <unknown>\n");
  EXPECT_EQ(streams_.errors, "Warning: host h3 is left out: it is not alive\n");
  streams_.output.clear();
  EXPECT_EQ(*run_top_nodes({api_, streams_}, {.sort_by = "cpu", .no_headers = true}), 0);
  EXPECT_THAT(streams_.output, testing::StartsWith("h2 "));
}

TEST_F(Commands, TopPodsAddsUpContainersOrShowsThem) {
  api_.canned[fmt::format("{}/namespaces/default/pods", kUsage)] =
      api_.canned[fmt::format("{}/pods", kUsage)] =
          Response{200,
                   R"({"items":[{"metadata":{"namespace":"default","name":"b"},"containers":[
      {"name":"x","usage":{"cpu":"1n","memory":"1024Ki"}},
      {"name":"y","usage":{"cpu":"30000000n","memory":"3072Ki"}}]},
      {"metadata":{"namespace":"default","name":"a"},"containers":[
      {"name":"m","usage":{"cpu":"20000000n","memory":"102400Ki"}}]}]})",
                   {}};
  const auto top = [&](const TopOptions& options) {
    streams_.output.clear();
    EXPECT_EQ(*run_top_pods({api_, streams_}, options), 0);
    return streams_.output;
  };
  EXPECT_EQ(top({}), "NAME   CPU(cores)   MEMORY(bytes)\n"
                     "a      20m          100Mi\n"
                     "b      31m          4Mi\n");
  EXPECT_EQ(top({.sort_by = "memory", .no_headers = true}),
            "a      20m          100Mi\nb      31m          4Mi\n");
  EXPECT_EQ(top({.all_namespaces = true, .containers = true, .sort_by = "cpu"}),
            "NAMESPACE   POD   NAME   CPU(cores)   MEMORY(bytes)\n"
            "default     b     y      30m          3Mi\n"
            "default     b     x      1m           1Mi\n"
            "default     a     m      20m          100Mi\n");
  api_.canned[fmt::format("{}/namespaces/n/pods", kUsage)] = Response{200, R"({"items":[]})", {}};
  EXPECT_EQ(top({.ns = "n", .selector = "a=b"}), "");
  EXPECT_EQ(streams_.errors, "No resources found in n namespace.\n");
  EXPECT_EQ(api_.log.back(), fmt::format("{}/namespaces/n/pods?labelSelector=a%3Db", kUsage));
  EXPECT_THAT(run_top_pods({api_, streams_}, {.name = "gone"}).error().message(),
              HasSubstr("/namespaces/default/pods/gone not found"));
}

}  // namespace
}  // namespace shoal::cli
