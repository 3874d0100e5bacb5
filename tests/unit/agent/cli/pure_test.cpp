// SPDX-License-Identifier: Apache-2.0
// Kinds, selections, manifests, patches, tables, durations.
#include "agent/cli/commands.h"
#include "agent/cli/manifest.h"
#include "agent/cli/output.h"
#include "agent/cli/patch.h"
#include "agent/cli/selection.h"

#include <boost/json.hpp>

namespace shoal::cli {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::HasSubstr;

json::object object(std::string_view text) {
  return json::parse(json::string_view(text.data(), text.size())).as_object();
}

TEST(Kinds, AliasesAndPaths) {
  for (const char* text : {"po", "pod", "pods", "Pod", "PODS"})
    EXPECT_EQ((*find_kind(text))->kind, "Pod");
  for (const char* text : {"deploy", "deployments.apps", "deployment.apps", "Deployment"})
    EXPECT_EQ((*find_kind(text))->kind, "Deployment");
  EXPECT_THAT(find_kind("netpol").error().message(), HasSubstr("there is namespaces, nodes, pods"));
  EXPECT_EQ((*find_kind("deploy"))->path("a b", "c/d"),
            "/apis/apps/v1/namespaces/a%20b/deployments/c%2Fd");
  EXPECT_EQ((*find_kind("po"))->path(""), "/api/v1/pods");
  EXPECT_EQ((*find_kind("no"))->path("x", "h1"), "/api/v1/nodes/h1");
  EXPECT_EQ((*find_kind("eps"))->full_name(), "endpointslice.discovery.k8s.io");
  EXPECT_EQ(find_kinds("po,svc")->size(), 2U);
  EXPECT_EQ(find_manifest_kind("networking.k8s.io/v1", "NetworkPolicy").error().code(),
            Errc::kUnsupported);
  EXPECT_THAT(find_manifest_kind("extensions/v1beta1", "Deployment").error().message(),
              HasSubstr("served as apps/v1"));
}

TEST(Selection, Forms) {
  EXPECT_EQ(parse_selection({"po,svc"})->kinds.size(), 2U);
  EXPECT_EQ(parse_selection({"po", "a", "b"})->names.size(), 2U);
  EXPECT_EQ(parse_selection({"po/a", "svc/b"})->names[1].first->kind, "Service");
  EXPECT_FALSE(parse_selection({}));
  EXPECT_FALSE(parse_selection({"po,svc", "a"}));
  EXPECT_FALSE(parse_selection({"po/a", "b"}));
  EXPECT_FALSE(parse_selection({"po", "svc/a"}));
  EXPECT_FALSE(parse_selection({"po/"}));
  EXPECT_EQ(query({{"a", ""}, {"b", "x=1,y"}, {"c", "2"}}), "?b=x%3D1%2Cy&c=2");
}

TEST(Manifest, ScalarsAsKubernetesToolsReadThem) {
  const std::map<std::string, std::string> cases = {{"1", "1"},
                                                    {"-7", "-7"},
                                                    {"0644", "420"},
                                                    {"0x1F", "31"},
                                                    {"0o17", "15"},
                                                    {"1.5", "1.5E0"},
                                                    {"1e3", "1E3"},
                                                    {"true", "true"},
                                                    {"False", "false"},
                                                    {"~", "null"},
                                                    {"", "null"},
                                                    {"null", "null"},
                                                    {"yes", "\"yes\""},
                                                    {"on", "\"on\""},
                                                    {"1.2.3", "\"1.2.3\""},
                                                    {"10m", "\"10m\""},
                                                    {"128Mi", "\"128Mi\""},
                                                    {"2024-01-01", "\"2024-01-01\""},
                                                    {"-", "\"-\""},
                                                    {"1:2", "\"1:2\""},
                                                    {"08", "8E0"},
                                                    {"nan", "\"nan\""},
                                                    {"99999999999999999999", "1E20"}};
  for (const auto& [text, expected] : cases)
    EXPECT_EQ(json::serialize(resolve_scalar(text)), expected) << text;
}

TEST(Manifest, DocumentsAndLines) {
  const auto documents = parse_manifests("# a comment\n"
                                         "---\n"
                                         "apiVersion: v1\n"
                                         "kind: Pod\n"
                                         "metadata:\n"
                                         "  name: a\n"
                                         "  annotations:\n"
                                         "    shoal.dev/weights: \"x\"\n"
                                         "spec:\n"
                                         "  containers:\n"
                                         "  - name: c\n"
                                         "    image: '1'\n"
                                         "  - {name: d, image: e}\n"
                                         "---\n"
                                         "---\n"
                                         "kind: List\n"
                                         "items:\n"
                                         "- kind: Service\n"
                                         "  metadata:\n"
                                         "    name: s\n"
                                         "- kind: Pod\n",
                                         "f.yaml");
  ASSERT_TRUE(documents) << documents.error().message();
  ASSERT_EQ(documents->size(), 3U);
  const Document& pod = documents->at(0);
  EXPECT_EQ(json::serialize(pod.object.at("spec")),
            R"({"containers":[{"name":"c","image":"1"},{"name":"d","image":"e"}]})");
  EXPECT_EQ(pod.where(""), "f.yaml:3");
  EXPECT_EQ(pod.where("spec.containers[0].image"), "f.yaml:12");
  EXPECT_EQ(pod.where("spec.containers[1].image"), "f.yaml:13");
  EXPECT_EQ(pod.where("spec.containers[0].ports[3].containerPort"), "f.yaml:11");
  EXPECT_EQ(pod.where("metadata.annotations[shoal.dev/weights]"), "f.yaml:8");
  EXPECT_EQ(pod.where("metadata.annotations.shoal.dev/weights"), "f.yaml:8");
  EXPECT_EQ(pod.where("spec[containers]"), pod.where("spec.containers")) << "or as a key of a map";
  EXPECT_EQ(pod.where("status"), "f.yaml:3");
  EXPECT_EQ(documents->at(1).where("metadata.name"), "f.yaml:20");
  EXPECT_EQ(documents->at(2).where("kind"), "f.yaml:21");
}

TEST(Manifest, JsonAnchorsAndMergeKeys) {
  const auto documents =
      parse_manifests(R"({"kind": "Pod", "spec": {"a": [1, 2.5, "3", null, true]}})", "f.json");
  ASSERT_TRUE(documents) << documents.error().message();
  EXPECT_EQ(json::serialize(documents->at(0).object),
            R"({"kind":"Pod","spec":{"a":[1,2.5E0,"3",null,true]}})");
  const auto merged = parse_manifests("base: &b {x: 1, y: 2}\nkind: {<<: *b, y: 3}\n", "f");
  ASSERT_TRUE(merged) << merged.error().message();
  EXPECT_EQ(json::serialize(merged->at(0).object.at("kind")), R"({"y":3,"x":1})");
}

TEST(Manifest, WrongOnesSayWhere) {
  EXPECT_THAT(parse_manifests("kind: Pod\n  bad: indent\n", "f").error().message(),
              HasSubstr("f:2:"));
  EXPECT_THAT(parse_manifests("kind: Pod\nkind: Service\n", "f").error().message(),
              HasSubstr("f:2:1: \"kind\" appears twice"));
  EXPECT_THAT(parse_manifests("- a\n", "f").error().message(), HasSubstr("must be an object"));
  EXPECT_FALSE(parse_manifests("{", "f"));
  EXPECT_THAT(parse_manifests("kind: Pod\nmetadata:\n\tname: a\n", "f").error().message(),
              HasSubstr("f:3:6: not YAML: a tab in the indentation"));
  // A thousand million laughs.
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 10; ++i) {
    bomb += fmt::format("a{}: &a{} [", i, i);
    for (int j = 0; j < 10; ++j)
      bomb += fmt::format("*a{}{}", i - 1, j < 9 ? "," : "]\n");
  }
  EXPECT_THAT(parse_manifests(bomb, "f").error().message(), HasSubstr("too large"));
  EXPECT_THAT(read_manifests({"/nonexistent.yaml"}).error().message(),
              HasSubstr("/nonexistent.yaml"));
}

TEST(Yaml, RoundTrips) {
  const json::value value = json::parse(
      R"({"a":"1","b":"true","c":"","d":"plain","e":["x",{"y":null}],"f":{},"g":[],"h":"two\nlines\n","i":1.5,"j":"yes","k":"- x: y","l":-3})");
  const auto back = parse_manifests(to_yaml(value), "f");
  ASSERT_TRUE(back) << back.error().message() << to_yaml(value);
  EXPECT_EQ(json::value(back->at(0).object), value) << to_yaml(value);
  EXPECT_EQ(json::parse(to_pretty_json(value)), value);
  EXPECT_EQ(to_pretty_json(json::parse(R"({"a":[1],"b":{}})")),
            "{\n    \"a\": [\n        1\n    ],\n    \"b\": {}\n}\n");
}

std::string patch(std::string_view last, std::string_view now, std::string_view live) {
  json::object out = three_way_patch(object(last), object(now), object(live));
  if (json::value* metadata = out.if_contains("metadata"); metadata && metadata->is_object())
    if (json::value* annotations = metadata->get_object().if_contains("annotations"))
      if (annotations->is_object() && annotations->get_object().erase(kLastApplied) > 0 &&
          annotations->get_object().empty()) {
        metadata->get_object().erase("annotations");
        if (metadata->get_object().empty())
          out.erase("metadata");
      }
  return json::serialize(out);
}

TEST(Patch, ThreeSides) {
  // Changed, added by others, dropped from the manifest, defaulted by the server.
  EXPECT_EQ(patch(R"({"spec":{"a":1,"gone":2}})", R"({"spec":{"a":5}})",
                  R"({"spec":{"a":1,"gone":2,"other":3}})"),
            R"({"spec":{"gone":null,"a":5}})");
  EXPECT_EQ(
      patch(R"({"spec":{"a":1}})", R"({"spec":{"a":1}})", R"({"spec":{"a":1,"default":true}})"),
      "{}");
  // Drifted: what somebody else changed is put back.
  EXPECT_EQ(patch(R"({"spec":{"a":1}})", R"({"spec":{"a":1}})", R"({"spec":{"a":9}})"),
            R"({"spec":{"a":1}})");
  // Dropped and gone already.
  EXPECT_EQ(patch(R"({"spec":{"x":1}})", R"({"spec":{}})", R"({"spec":{}})"), "{}");
}

TEST(Patch, ListsAreSentWholeAndOnlyWhenNeeded) {
  const std::string last = R"({"spec":{"c":[{"name":"a","image":"1"}]}})";
  // The server's defaults inside an element are no change.
  EXPECT_EQ(patch(last, last, R"({"spec":{"c":[{"name":"a","image":"1","policy":"Always"}]}})"),
            "{}");
  EXPECT_EQ(patch(last, R"({"spec":{"c":[{"name":"a","image":"2"}]}})",
                  R"({"spec":{"c":[{"name":"a","image":"1","policy":"Always"}]}})"),
            R"({"spec":{"c":[{"name":"a","image":"2"}]}})");
  // A field that left an element.
  EXPECT_EQ(patch(R"({"spec":{"c":[{"name":"a","tty":true}]}})", R"({"spec":{"c":[{"name":"a"}]}})",
                  R"({"spec":{"c":[{"name":"a","tty":true}]}})"),
            R"({"spec":{"c":[{"name":"a"}]}})");
}

TEST(Patch, AnnotationIsKubectls) {
  const json::object manifest =
      object(R"({"kind":"Pod","metadata":{"name":"a"},"status":{"x":1}})");
  const json::object created = with_last_applied(manifest);
  EXPECT_FALSE(created.contains("status"));
  EXPECT_EQ(json::serialize(*last_applied(created)), R"({"kind":"Pod","metadata":{"name":"a"}})");
  // Applying the same again is nothing, in another order of fields too.
  EXPECT_TRUE(three_way_patch(*last_applied(created),
                              object(R"({"metadata":{"name":"a"},"kind":"Pod"})"), created)
                  .empty());
  // An object that others made is taken over: it gets the annotation.
  EXPECT_TRUE(three_way_patch({}, manifest, object(R"({"kind":"Pod","metadata":{"name":"a"}})"))
                  .contains("metadata"));
  EXPECT_TRUE(last_applied(object("{}"))->empty());
  EXPECT_FALSE(last_applied(object(
      R"({"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{"}}})")));
}

TEST(Table, LayoutAndTaming) {
  TextTable table({"NAME", "AGE"});
  table.add({"ünï", "1d"});
  table.add({"long-name", "\x1b[31m"});
  EXPECT_EQ(table.str(), "NAME        AGE\nünï         1d\nlong-name   \\x1b[31m\n");
}

TEST(Table, FromTheServer) {
  const json::value value = json::parse(
      R"({"kind":"Table","columnDefinitions":[{"name":"Name","priority":0},{"name":"Node","priority":1},{"name":"Ready"}],
    "rows":[{"cells":["a",null,true],"object":{"metadata":{"namespace":"n1"}}}]})");
  EXPECT_EQ(from_server_table(value, false, false)->str(), "NAME   READY\na      true\n");
  EXPECT_EQ(from_server_table(value, true, true)->str(),
            "NAMESPACE   NAME   NODE     READY\nn1          a      <none>   true\n");
  EXPECT_FALSE(from_server_table(json::value(1), false, false));
  EXPECT_FALSE(
      from_server_table(json::parse(R"({"columnDefinitions":[],"rows":[1]})"), false, false));
}

TEST(Refusals, CausesAtTheirLines) {
  const auto documents =
      parse_manifests("kind: Pod\nspec:\n  containers:\n  - image: 5\n", "f.yaml");
  const Refusal refusal = read_refusal(
      {422,
       R"({"kind":"Status","reason":"Invalid","message":"Pod is invalid","details":{"causes":[
    {"field":"spec.containers[0].image","message":"must be a string"},{"field":"metadata.name","message":"metadata.name: required"}]}})",
       {}});
  EXPECT_THAT(at_lines(refusal, documents->at(0)),
              ElementsAre("f.yaml:4: spec.containers[0].image: must be a string",
                          "f.yaml:1: metadata.name: required"));
  EXPECT_EQ(to_error(refusal).code(), Errc::kInvalid);
  EXPECT_THAT(read_refusal({500, "<html>", {}}).message, HasSubstr("HTTP status 500"));
}

TEST(Durations, Units) {
  EXPECT_EQ(*parse_duration("24h"), 86'400U);
  EXPECT_EQ(*parse_duration("1d12h30m15s"), 131'415U);
  for (const char* text : {"", "h", "10", "5w", "-1h", "0s", "1hh"})
    EXPECT_FALSE(parse_duration(text)) << text;
}

TEST(Bytes, Units) {
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1'361'920), "1.4 MB");
}

}  // namespace
}  // namespace shoal::cli
