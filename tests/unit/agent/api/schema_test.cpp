// SPDX-License-Identifier: Apache-2.0
// Admission: what is refused, with which words; what is filled in; what an update may change.
#include "agent/api/schema.h"

#include "agent/api/selector.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>
#include <set>

namespace shoal::api {
namespace {

namespace json = boost::json;

constexpr std::string_view kPodText = R"({
  "apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"default"},
  "spec":{"containers":[{"name":"main","image":"web:1"}]}})";
constexpr std::string_view kDeploymentText = R"({
  "apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"default"},
  "spec":{"selector":{"matchLabels":{"app":"web"}},
    "template":{"metadata":{"labels":{"app":"web"}},
      "spec":{"containers":[{"name":"main","image":"web:1"}]}}}})";
constexpr std::string_view kServiceText = R"({
  "apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"default"},
  "spec":{"selector":{"app":"web"},"ports":[{"port":80}]}})";

// A good document with one thing changed: RFC 7386 without removal.
void merge(json::value& target, const json::value& patch) {
  if (!patch.is_object() || !target.is_object()) {
    target = patch;
    return;
  }
  for (const auto& [name, value] : patch.get_object())
    merge(target.get_object()[name], value);
}
json::object doc(std::string_view base, std::string_view change = "{}") {
  json::value value = json::parse(base);
  merge(value, json::parse(change));
  return value.get_object();
}
std::string refusal(const json::object& body) {
  const auto result = admit(body);
  return result ? "accepted"
                : fmt::format("{} {}: {}", result.error().code, result.error().reason,
                              result.error().message);
}
json::object completed(json::object body) {
  const Kind& kind = **kind_of(body);
  const auto checked = check_document(kind, body);
  EXPECT_TRUE(checked) << checked.error().message;
  fill_defaults(kind, body);
  return body;
}

struct Case {
  std::string_view base;
  std::string_view change;
  std::string_view expected;
};

TEST(SchemaTest, GoodDocumentsAreAccepted) {
  for (const std::string_view base : {kPodText, kDeploymentText, kServiceText})
    EXPECT_EQ(refusal(doc(base)), "accepted");
  // What kubectl writes by itself, and neutral values of what is not acted on.
  EXPECT_EQ(refusal(doc(kDeploymentText, R"({"metadata":{"creationTimestamp":null},"status":{},
      "spec":{"strategy":{},"template":{"metadata":{"creationTimestamp":null},
        "spec":{"hostNetwork":false,"volumes":[],"affinity":{},"dnsPolicy":"ClusterFirst",
          "schedulerName":"default-scheduler","securityContext":{}}}}})")),
            "accepted");
  EXPECT_EQ(
      refusal(doc(kPodText, R"({"spec":{"containers":[{"name":"main","image":"web","resources":{},
      "terminationMessagePath":"/dev/termination-log","securityContext":{"privileged":false,
      "seccompProfile":{"type":"RuntimeDefault"}}}]}})")),
      "accepted");
}

TEST(SchemaTest, RefusalsNameTheField) {
  const Case cases[] = {
      {kDeploymentText, R"({"spec":{"replicass":3}})",
       R"(400 BadRequest: Deployment in version "apps/v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.replicass" (did you mean "replicas"?))"},
      {kDeploymentText,
       R"({"spec":{"template":{"spec":{"containers":[{"name":"main","imagee":"web:1"}]}}}})",
       R"(400 BadRequest: Deployment in version "apps/v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.template.spec.containers[0].imagee" (did you mean "image"?))"},
      {kPodText, R"({"whatever":1})",
       R"(400 BadRequest: Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "whatever")"},
      {kDeploymentText, R"({"spec":{"replicas":"three"}})",
       R"(400 BadRequest: Deployment in version "apps/v1" cannot be handled as a Deployment: strict decoding error: spec.replicas: expected a whole number of 32 bits, got a string ("three"))"},
      {kDeploymentText, R"({"spec":{"replicas":2147483648}})",
       R"(400 BadRequest: Deployment in version "apps/v1" cannot be handled as a Deployment: strict decoding error: spec.replicas: expected a whole number of 32 bits, got a number (2147483648))"},
      {kPodText, R"({"metadata":{"labels":{"on":true}}})",
       R"(400 BadRequest: Pod in version "v1" cannot be handled as a Pod: strict decoding error: metadata.labels[on]: expected a string (quote it: "true", "8080"), got a boolean (true))"},
      {kPodText, R"({"spec":{"containers":{"name":"main"}}})",
       R"(400 BadRequest: Pod in version "v1" cannot be handled as a Pod: strict decoding error: spec.containers: expected a list, got an object ({"name":"main"}))"},
      {kPodText, R"({"spec":{"containers":[{"name":"main"}]}})",
       R"(422 Invalid: Pod "web" is invalid: spec.containers[0].image: Required value)"},
      {kPodText, R"({"spec":{"containers":[]}})",
       R"(422 Invalid: Pod "web" is invalid: spec.containers: Required value)"},
      {kPodText, R"({"metadata":{"name":"Web_1"}})",
       R"(422 Invalid: Pod "Web_1" is invalid: metadata.name: Invalid value: "Web_1": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character)"},
      {kServiceText, R"({"metadata":{"name":"1web"}})",
       R"(422 Invalid: Service "1web" is invalid: metadata.name: Invalid value: "1web": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, end with an alphanumeric character, and have at most 63 characters)"},
      {kPodText, R"({"metadata":{"labels":{"a b":"x"}}})",
       R"(422 Invalid: Pod "web" is invalid: metadata.labels: Invalid value: "a b": name part must consist of 1 to 63 alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character)"},
      {kDeploymentText, R"({"spec":{"selector":{"matchLabels":{"app":"api"}}}})",
       R"(422 Invalid: Deployment.apps "web" is invalid: spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`)"},
      {kDeploymentText, R"({"spec":{"replicas":-1}})",
       R"(422 Invalid: Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0)"},
      {kDeploymentText,
       R"({"spec":{"strategy":{"rollingUpdate":{"maxSurge":0,"maxUnavailable":"0%"}}}})",
       R"(422 Invalid: Deployment.apps "web" is invalid: spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0)"},
      {kDeploymentText, R"({"spec":{"strategy":{"rollingUpdate":{"maxSurge":"much"}}}})",
       R"(422 Invalid: Deployment.apps "web" is invalid: spec.strategy.rollingUpdate.maxSurge: Invalid value: "much": must be a whole number or a percentage (e.g. "25%"))"},
      {kDeploymentText, R"({"spec":{"template":{"spec":{"restartPolicy":"Never"}}}})",
       R"(422 Invalid: Deployment.apps "web" is invalid: spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always")"},
      {kPodText, R"({"spec":{"restartPolicy":"Sometimes"}})",
       R"(422 Invalid: Pod "web" is invalid: spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never")"},
      {kServiceText,
       R"({"spec":{"ports":[{"port":70000}]}})", R"(422 Invalid: Service "web" is invalid: [spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive, spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive])"},
      {kServiceText, R"({"spec":{"ports":[{"port":80},{"port":81}]}})",
       R"(422 Invalid: Service "web" is invalid: [spec.ports[0].name: Required value: a service with more than one port needs a name for each, spec.ports[1].name: Required value: a service with more than one port needs a name for each])"},
      {kServiceText, R"({"spec":{"ports":[{"name":"a","port":80},{"name":"b","port":80}]}})",
       R"(422 Invalid: Service "web" is invalid: spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"})"},
      {kServiceText, R"({"spec":{"loadBalancerIP":"198.18.0.5"}})",
       R"(422 Invalid: Service "web" is invalid: spec.loadBalancerIP: Forbidden: may only be used when `type` is 'LoadBalancer')"},
      {kPodText, R"({"spec":{"containers":[{"name":"a","image":"x"},{"name":"a","image":"x"}]}})",
       R"(422 Invalid: Pod "web" is invalid: spec.containers[1]: Duplicate value: "a")"},
      {kPodText,
       R"({"spec":{"containers":[{"name":"a","image":"x","ports":[{"containerPort":80,"hostPort":70000,"hostIP":"here"}]}]}})",
       R"(422 Invalid: Pod "web" is invalid: [spec.containers[0].ports[0].hostPort: Invalid value: 70000: must be between 1 and 65535, inclusive, spec.containers[0].ports[0].hostIP: Invalid value: "here": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)])"},
      {kPodText,
       R"({"spec":{"containers":[{"name":"a","image":"x","ports":[{"containerPort":80,"hostPort":8080},{"containerPort":80,"protocol":"UDP","hostPort":8080}]},{"name":"b","image":"x","ports":[{"containerPort":81,"hostPort":8080}]}]}})",
       R"(422 Invalid: Pod "web" is invalid: spec.containers[1].ports[0].hostPort: Duplicate value: "TCP//8080")"},
      {kPodText,
       R"({"spec":{"containers":[{"name":"a","image":"x","readinessProbe":{"periodSeconds":0}}]}})",
       R"(422 Invalid: Pod "web" is invalid: [spec.containers[0].readinessProbe.periodSeconds: Invalid value: 0: must be greater than 0, spec.containers[0].readinessProbe: Required value: must specify a handler type: exec, httpGet, tcpSocket or grpc])"},
      {kPodText,
       R"({"spec":{"containers":[{"name":"a","image":"x","resources":{"limits":{"cpu":"lots"}}}]}})",
       R"(400 BadRequest: Pod in version "v1" cannot be handled as a Pod: strict decoding error: spec.containers[0].resources.limits.cpu: "lots" is not a quantity: a number with a suffix such as m, k, M, G, Ki, Mi or Gi is expected)"},
      {kPodText,
       R"({"spec":{"containers":[{"name":"a","image":"x","resources":{"limits":{"cpu":"1"},"requests":{"cpu":"2"}}}]}})",
       R"(422 Invalid: Pod "web" is invalid: spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1)"},
  };
  for (const Case& c : cases)
    EXPECT_EQ(refusal(doc(c.base, c.change)), c.expected) << c.change;
}

TEST(SchemaTest, WhatShoalDoesNotActOnYetIsRefusedByName) {
  const Case cases[] = {
      {kPodText, R"({"spec":{"volumes":[{"name":"data","csi":{"driver":"x"}}]}})",
       R"(422 Invalid: Pod "web" is invalid: spec.volumes[0].csi: Unsupported value: Shoal does not act on "csi" yet)"},
      {kPodText, R"({"spec":{"overhead":{"cpu":"1"}}})",
       R"(422 Invalid: Pod "web" is invalid: spec.overhead: Unsupported value: Shoal does not act on "overhead" yet)"},
      {kPodText, R"({"spec":{"schedulerName":"other"}})",
       R"(422 Invalid: Pod "web" is invalid: spec.schedulerName: Unsupported value: Shoal does not act on other values of "schedulerName" than default-scheduler yet)"},
      {kPodText,
       R"({"spec":{"containers":[{"name":"a","image":"x","resizePolicy":[{}],"volumeDevices":[{}]}]}})",
       R"(422 Invalid: Pod "web" is invalid: [spec.containers[0].resizePolicy: Unsupported value: Shoal does not act on "resizePolicy" yet, spec.containers[0].volumeDevices: Unsupported value: Shoal does not act on "volumeDevices" yet])"},
      {kPodText,
       R"({"spec":{"containers":[{"name":"a","image":"x","env":[{"name":"K","valueFrom":{"fileKeyRef":{"key":"x"}}}]}]}})",
       R"(422 Invalid: Pod "web" is invalid: spec.containers[0].env[0].valueFrom.fileKeyRef: Unsupported value: Shoal does not act on "fileKeyRef" yet)"},
      {kPodText,
       R"({"spec":{"containers":[{"name":"a","image":"x","ports":[{"containerPort":80,"protocol":"SCTP"}]}]}})",
       R"(422 Invalid: Pod "web" is invalid: spec.containers[0].ports[0].protocol: Unsupported value: Shoal does not act on "SCTP" yet)"},
      {kDeploymentText, R"({"spec":{"strategy":{"type":"Recreate"}}})",
       R"(422 Invalid: Deployment.apps "web" is invalid: spec.strategy.type: Unsupported value: Shoal does not act on "Recreate" yet)"},
      {kDeploymentText, R"({"spec":{"template":{"spec":{"ephemeralContainers":[{"name":"i"}]}}}})",
       R"(422 Invalid: Deployment.apps "web" is invalid: spec.template.spec.ephemeralContainers: Unsupported value: Shoal does not act on "ephemeralContainers" yet)"},
      {kServiceText, R"({"spec":{"ports":[{"port":80,"protocol":"SCTP"}]}})",
       R"(422 Invalid: Service "web" is invalid: spec.ports[0].protocol: Unsupported value: Shoal does not act on "SCTP" yet)"},
      {kServiceText, R"({"metadata":{"finalizers":["x.dev/y"]}})",
       R"(422 Invalid: Service "web" is invalid: metadata.finalizers: Unsupported value: Shoal does not act on "finalizers" yet)"},
  };
  for (const Case& c : cases)
    EXPECT_EQ(refusal(doc(c.base, c.change)), c.expected) << c.change;
  const auto refused = admit(doc(kPodText, R"({"spec":{"priority":7}})"));
  ASSERT_EQ(refused.error().causes.size(), 1U);
  EXPECT_EQ(refused.error().causes[0].reason, "FieldValueNotSupported");
  EXPECT_EQ(refused.error().causes[0].field, "spec.priority");
}

TEST(SchemaTest, BadWeightsNameTheAnnotation) {
  const auto refused = admit(
      doc(kServiceText, R"({"metadata":{"annotations":{"shoal.dev/weights":"version=blue:-1"}}})"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, 422);
  EXPECT_EQ(refused.error().causes[0].field, "metadata.annotations[shoal.dev/weights]");
  EXPECT_THAT(refused.error().message, testing::HasSubstr("weight -1 is not in 0..1000000"));
  EXPECT_THAT(refusal(doc(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"s",
      "annotations":{"shoal.dev/weights":"a=b:1"}},"spec":{"ports":[{"port":80}]}})")),
              testing::HasSubstr("this service has no selector"));
}

TEST(SchemaTest, EndpointsMadeByHand) {
  constexpr std::string_view kEndpoints = R"({"apiVersion":"v1","kind":"Endpoints",
      "metadata":{"name":"db"},"subsets":[{"addresses":[{"ip":"192.0.2.1","nodeName":"h1"}],
      "ports":[{"port":5432}]}]})";
  EXPECT_EQ(refusal(doc(kEndpoints)), "accepted");
  EXPECT_EQ(refusal(doc(kEndpoints, R"({"subsets":[]})")), "accepted");
  EXPECT_EQ(refusal(doc(kEndpoints, R"({"subsets":[{"ports":[{"port":1}]}]})")),
            R"(422 Invalid: Endpoints "db" is invalid: subsets[0]: Required value: must specify )"
            R"(`addresses` or `notReadyAddresses`)");
  EXPECT_EQ(refusal(doc(kEndpoints, R"({"subsets":[{"addresses":[{"ip":"db.example"}]}]})")),
            R"(422 Invalid: Endpoints "db" is invalid: subsets[0].addresses[0].ip: Invalid value: )"
            R"("db.example": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff))");
}

TEST(SchemaTest, UnknownKindsSayWhatIsServed) {
  EXPECT_THAT(refusal(doc(R"({"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy"})")),
              testing::HasSubstr("404 NotFound: no matches for kind \"NetworkPolicy\" in version "
                                 "\"networking.k8s.io/v1\"; Shoal does not act on this kind yet"));
  EXPECT_THAT(refusal(doc(R"({"apiVersion":"extensions/v1beta1","kind":"Deployment"})")),
              testing::HasSubstr("it is served in version \"apps/v1\""));
  EXPECT_EQ(refusal(doc(R"({"apiVersion":"v1"})")), "400 BadRequest: Object 'Kind' is missing");
  EXPECT_EQ(refusal(doc(R"({"kind":"Pod"})")), "400 BadRequest: Object 'apiVersion' is missing");
  EXPECT_EQ(refusal(doc(R"({"apiVersion":"v1","kind":"Pod"})")),
            "422 Invalid: Pod \"\" is invalid: [metadata: Required value, spec: Required value]");
}

TEST(SchemaTest, DefaultsAreKubernetes) {
  const json::object deployment = completed(doc(kDeploymentText));
  EXPECT_EQ(
      json::serialize(*find_path(deployment, "spec.strategy")),
      R"({"type":"RollingUpdate","rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"}})");
  EXPECT_EQ(find_int(deployment, "spec.replicas", 0), 1);
  EXPECT_EQ(find_int(deployment, "spec.revisionHistoryLimit", 0), 10);
  EXPECT_EQ(find_string(deployment, "spec.template.spec.restartPolicy"), "Always");
  EXPECT_EQ(find_int(deployment, "spec.template.spec.terminationGracePeriodSeconds", 0), 30);

  const json::object service = completed(doc(kServiceText));
  EXPECT_EQ(json::serialize(*find_path(service, "spec.ports")),
            R"([{"port":80,"protocol":"TCP","targetPort":80}])");
  EXPECT_EQ(find_string(service, "spec.type"), "ClusterIP");

  const json::object pod = completed(doc(kPodText, R"({"spec":{"containers":[{"name":"a",
      "image":"reg:5000/web","readinessProbe":{"httpGet":{"port":"http"}},
      "resources":{"limits":{"cpu":1,"memory":"1Gi"},"requests":{"memory":"1Mi"}}}]}})"));
  const json::object& container = find_array(pod, "spec.containers")->front().get_object();
  EXPECT_EQ(
      json::serialize(container.at("readinessProbe")),
      R"({"httpGet":{"port":"http","path":"/","scheme":"HTTP"},"initialDelaySeconds":0,"periodSeconds":10,"timeoutSeconds":1,"successThreshold":1,"failureThreshold":3})");
  EXPECT_EQ(json::serialize(container.at("resources")),
            R"({"limits":{"cpu":"1","memory":"1Gi"},"requests":{"memory":"1Mi","cpu":"1"}})");
}

TEST(SchemaTest, PullPolicyFollowsTheTag) {
  const std::pair<const char*, const char*> cases[] = {{"web", "Always"},
                                                       {"web:latest", "Always"},
                                                       {"web:1", "IfNotPresent"},
                                                       {"reg:5000/web", "Always"},
                                                       {"reg:5000/web:2", "IfNotPresent"},
                                                       {"web@sha256:00", "IfNotPresent"}};
  for (const auto& [image, policy] : cases) {
    const json::object pod = completed(
        doc(kPodText,
            fmt::format(R"({{"spec":{{"containers":[{{"name":"a","image":"{}"}}]}}}})", image)));
    EXPECT_EQ(
        find_string(find_array(pod, "spec.containers")->front().get_object(), "imagePullPolicy"),
        policy)
        << image;
  }
}

TEST(SchemaTest, DefaultsAreStable) {
  for (const std::string_view base : {kPodText, kDeploymentText, kServiceText}) {
    const json::object once = completed(doc(base));
    EXPECT_EQ(completed(once), once);
    EXPECT_EQ(refusal(once), "accepted") << "what is stored can be written back";
  }
}

std::string update_refusal(std::string_view base, std::string_view before, std::string_view after) {
  const json::object old_body = completed(doc(base, before)),
                     new_body = completed(doc(base, after));
  const auto result = validate_update(**kind_of(old_body), old_body, new_body);
  return result ? "accepted" : result.error().message;
}

TEST(SchemaTest, ImmutableFieldsStay) {
  EXPECT_EQ(update_refusal(kDeploymentText, "{}", R"({"spec":{"replicas":5}})"), "accepted");
  EXPECT_EQ(
      update_refusal(kDeploymentText, "{}", R"({"spec":{"selector":{"matchLabels":{"x":"y"}}}})"),
      R"(Deployment.apps "web" is invalid: spec.selector: Invalid value: {"matchLabels":{"app":"web","x":"y"}}: field is immutable)");
  EXPECT_EQ(update_refusal(kPodText, "{}", R"({"spec":{"nodeName":"h1"}})"), "accepted")
      << "the scheduler binds";
  EXPECT_THAT(
      update_refusal(kPodText, R"({"spec":{"nodeName":"h1"}})", R"({"spec":{"nodeName":"h2"}})"),
      testing::HasSubstr("spec.nodeName: Invalid value: \"h2\": field is immutable"));
  EXPECT_THAT(update_refusal(kPodText, "{}",
                             R"({"spec":{"containers":[{"name":"main","image":"web:2"}]}})"),
              testing::HasSubstr("spec.containers: Forbidden: pod updates may not change"));
}

TEST(SchemaTest, TablesAreWellFormed) {
  const std::function<void(const Message&, std::set<const Message*>&)> walk =
      [&](const Message& message, std::set<const Message*>& seen) {
        if (!seen.insert(&message).second)
          return;
        std::set<std::string_view> names;
        for (const Field& field : message.fields) {
          EXPECT_TRUE(names.insert(field.name).second) << message.name << "." << field.name;
          EXPECT_EQ(field.message != nullptr, field.type == FieldType::kMessage)
              << message.name << "." << field.name;
          EXPECT_EQ(field.list == ListType::kMap, !field.list_keys.empty())
              << message.name << "." << field.name;
          if (!field.fallback.empty()) {
            EXPECT_NO_THROW(json::parse(field.fallback)) << message.name << "." << field.name;
          }
          if (field.message)
            walk(*field.message, seen);
        }
      };
  std::set<const Message*> seen;
  for (const Kind* kind : all_kinds()) {
    walk(*kind->message, seen);
    EXPECT_FALSE(kind->columns.empty()) << kind->kind;
    EXPECT_EQ(find_kind(kind->api_version(), kind->kind), kind);
    EXPECT_EQ(find_kind_by_resource(kind->resource()), kind);
    EXPECT_EQ(find_kind_by_word(kind->kind), kind);
    EXPECT_EQ(find_kind_by_word(kind->plural), kind);
  }
  EXPECT_EQ(find_kind_by_word("deploy")->kind, "Deployment");
  EXPECT_EQ(find_kind_by_word("svc")->kind, "Service");
  EXPECT_EQ(find_kind_by_word("deployments.apps")->kind, "Deployment");
  EXPECT_EQ(find_kind_by_word("networkpolicies"), nullptr);
}

TEST(SchemaTest, StatusObjectsHaveKubernetesShape) {
  const auto refused = admit(doc(kDeploymentText, R"({"spec":{"replicas":-1}})"));
  EXPECT_EQ(
      json::serialize(status_object(refused.error(), find_kind("apps/v1", "Deployment"), "web")),
      R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0","reason":"Invalid","details":{"name":"web","group":"apps","kind":"Deployment","causes":[{"reason":"FieldValueInvalid","message":"Invalid value: -1: must be greater than or equal to 0","field":"spec.replicas"}]},"code":422})");
}

}  // namespace
}  // namespace shoal::api
