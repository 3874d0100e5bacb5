// SPDX-License-Identifier: Apache-2.0
// Services: which combinations of type and fields are refused, with which words; what each type is
// filled in with.
#include "agent/api/schema.h"
#include "agent/api/selector.h"
#include "agent/api/service_facts.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

namespace shoal::api {
namespace {

namespace json = boost::json;

json::object service(std::string_view spec, std::string_view annotations = "{}") {
  json::object body = json::parse(fmt::format(
                                      R"({{"apiVersion":"v1","kind":"Service",
          "metadata":{{"name":"web","annotations":{}}},
          "spec":{{"selector":{{"app":"web"}},"ports":[{{"port":80}}]}}}})",
                                      annotations))
                          .get_object();
  const json::value parsed = json::parse(spec);
  for (const auto& [name, value] : parsed.get_object()) {
    if (value.is_null())
      body["spec"].get_object().erase(name);
    else
      body["spec"].get_object()[name] = value;
  }
  return body;
}

// Without the common beginning.
std::string refusal(const json::object& body) {
  const auto result = admit(body);
  if (result)
    return "accepted";
  constexpr std::string_view kBegin = "Service \"web\" is invalid: ";
  const std::string& message = result.error().message;
  return message.starts_with(kBegin) ? message.substr(kBegin.size()) : message;
}

// Fields of the spec by name, "name=value".
std::string filled(std::string_view spec) {
  json::object body = service(spec);
  const Kind& kind = **kind_of(body);
  EXPECT_TRUE(check_document(kind, body));
  fill_defaults(kind, body);
  std::set<std::string> fields;
  for (const auto& [name, value] : body["spec"].get_object())
    if (name != "selector" && name != "ports")
      fields.insert(fmt::format("{}={}", std::string_view(name), json::serialize(value)));
  return fmt::format("{}", fmt::join(fields, " "));
}

TEST(SchemaServiceTest, EveryKindIsAccepted) {
  for (const std::string_view spec : {
           R"({})",
           R"({"type":"NodePort"})",
           R"({"type":"NodePort","ports":[{"port":80,"nodePort":30080,"targetPort":"http"}]})",
           R"({"type":"NodePort","externalTrafficPolicy":"Local"})",
           R"({"ports":[{"name":"a","port":53,"protocol":"UDP"},{"name":"b","port":53}]})",
           R"({"type":"LoadBalancer","loadBalancerClass":"other.dev/lb",
              "allocateLoadBalancerNodePorts":false,"loadBalancerIP":"198.18.0.200",
              "loadBalancerSourceRanges":["10.0.0.0/8","198.18.0.0/15"]})",
           R"({"type":"LoadBalancer","externalTrafficPolicy":"Local","healthCheckNodePort":31000})",
           R"({"externalIPs":["198.18.0.9"],"externalTrafficPolicy":"Local"})",
           R"({"clusterIP":"None"})",
           R"({"clusterIP":"None","clusterIPs":["None"],"ports":null,"selector":null})",
           R"({"type":"ExternalName","externalName":"db.example.org","ports":null})",
           R"({"type":"ExternalName","externalName":"db.example.org.","clusterIP":""})",
           R"({"sessionAffinity":"ClientIP"})",
           R"({"sessionAffinity":"ClientIP",
              "sessionAffinityConfig":{"clientIP":{"timeoutSeconds":86400}}})",
           R"({"internalTrafficPolicy":"Local","publishNotReadyAddresses":true,
              "trafficDistribution":"PreferClose"})",
       })
    EXPECT_EQ(refusal(service(spec)), "accepted") << spec;
}

TEST(SchemaServiceTest, RefusalsNameTheField) {
  struct Case {
    std::string_view spec, expected;
  };
  const Case cases[] = {
      {R"({"type":"Ingress"})",
       R"(spec.type: Unsupported value: "Ingress": supported values: "ClusterIP", "NodePort", "LoadBalancer", "ExternalName")"},
      {R"({"ports":[]})", "spec.ports: Required value"},
      {R"({"ports":null})", "spec.ports: Required value"},
      {R"({"ports":[{"port":80,"nodePort":30080}]})",
       "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"},
      {R"({"type":"NodePort","ports":[{"port":80,"nodePort":70000}]})",
       "spec.ports[0].nodePort: Invalid value: 70000: must be between 1 and 65535, inclusive"},
      {R"({"type":"NodePort","ports":[{"name":"a","port":80,"nodePort":30080},
          {"name":"b","port":81,"nodePort":30080}]})",
       "spec.ports[1].nodePort: Duplicate value: 30080"},
      {R"({"type":"NodePort","clusterIP":"None"})",
       "spec.clusterIP: Invalid value: \"None\": may not be set to 'None' for NodePort services"},
      {R"({"clusterIP":"None","clusterIPs":["10.96.0.1"]})",
       R"(spec.clusterIPs: Invalid value: ["10.96.0.1"]: first value must match `clusterIP`)"},
      {R"({"type":"ExternalName"})", "spec.externalName: Required value"},
      {R"({"type":"ExternalName","externalName":"-x"})",
       "spec.externalName: Invalid value: \"-x\": a lowercase RFC 1123 subdomain must consist of "
       "lower case alphanumeric characters, '-' or '.', and must start and end with an "
       "alphanumeric character"},
      {R"({"type":"ExternalName","externalName":"db","clusterIP":"10.96.0.1"})",
       "spec.clusterIP: Forbidden: may not be set when `type` is 'ExternalName'"},
      {R"({"externalTrafficPolicy":"Local"})",
       "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for "
       "externally-accessible services"},
      {R"({"type":"NodePort","healthCheckNodePort":31000})",
       "spec.healthCheckNodePort: Invalid value: 31000: may only be set when `type` is "
       "'LoadBalancer' and `externalTrafficPolicy` is 'Local'"},
      {R"({"type":"NodePort","loadBalancerSourceRanges":["10.0.0.0/8"]})",
       "spec.loadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"},
      {R"({"type":"NodePort","allocateLoadBalancerNodePorts":false})",
       "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is "
       "'LoadBalancer'"},
      {R"({"loadBalancerClass":"x.dev/y"})",
       "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"},
      {R"({"type":"LoadBalancer","loadBalancerSourceRanges":["10.0.0.0/8","here"]})",
       R"(spec.loadBalancerSourceRanges: Invalid value: ["10.0.0.0/8","here"]: "here" is not a CIDR: the "/length" is missing)"},
      {R"({"externalIPs":["fe80::9"]})",
       "spec.externalIPs[0]: Invalid value: \"fe80::9\": may not be in the link-local range "
       "(169.254.0.0/16, fe80::/10)"},
      {R"({"ipFamilies":["IPv5"]})",
       R"(spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6")"},
      {R"({"ipFamilyPolicy":"PreferDualStack","ipFamilies":["IPv6","IPv6"]})",
       R"(spec.ipFamilies[1]: Duplicate value: "IPv6")"},
      {R"({"ipFamilies":["IPv4","IPv6"]})",
       "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or "
       "'PreferDualStack' when multiple ipFamilies are specified"},
      {R"({"ipFamilyPolicy":"PreferDualStack","clusterIP":"10.96.0.5",
          "clusterIPs":["10.96.0.5","10.96.0.6"],"ipFamilies":["IPv4"]})",
       "spec.clusterIPs: Invalid value: [\"10.96.0.5\",\"10.96.0.6\"]: may specify no more than "
       "one "
       "IP for each IP family"},
      {R"({"clusterIP":"10.96.0.5","ipFamilies":["IPv6"],"clusterIPs":["10.96.0.5"]})",
       "spec.clusterIPs[0]: Invalid value: \"10.96.0.5\": expected an IPv6 value as indicated by "
       "`ipFamilies[0]`"},
      {R"({"type":"ExternalName","externalName":"db","ports":null,"ipFamilyPolicy":"SingleStack"})",
       "spec.ipFamilyPolicy: Forbidden: may not be set when `type` is 'ExternalName'"},
      {R"({"externalIPs":["127.0.0.1"]})",
       "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range "
       "(127.0.0.0/8, ::1/128)"},
      {R"({"externalIPs":["169.254.1.1"]})",
       "spec.externalIPs[0]: Invalid value: \"169.254.1.1\": may not be in the link-local range "
       "(169.254.0.0/16, fe80::/10)"},
      {R"({"externalIPs":["0.0.0.0"]})",
       "spec.externalIPs[0]: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0 or ::)"},
      {R"({"externalIPs":["198.18.0.9","198.18.0.9"]})",
       "spec.externalIPs[1]: Duplicate value: \"198.18.0.9\""},
      {R"({"sessionAffinity":"ClientIP",
          "sessionAffinityConfig":{"clientIP":{"timeoutSeconds":0}}})",
       "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than "
       "0 and less than or equal to 86400"},
      {R"({"sessionAffinity":"ClientIP",
          "sessionAffinityConfig":{"clientIP":{"timeoutSeconds":86401}}})",
       "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater "
       "than 0 and less than or equal to 86400"},
      {R"({"trafficDistribution":"Far"})",
       R"(spec.trafficDistribution: Unsupported value: "Far": supported values: "PreferClose", "PreferSameZone", "PreferSameNode")"},
  };
  for (const Case& c : cases)
    EXPECT_EQ(refusal(service(c.spec)), c.expected) << c.spec;
}

TEST(SchemaServiceTest, EachTypeGetsItsDefaults) {
  constexpr std::string_view kFamilies = R"(ipFamilies=["IPv4"] ipFamilyPolicy="SingleStack")";
  EXPECT_EQ(filled("{}"),
            fmt::format(R"(internalTrafficPolicy="Cluster" {} sessionAffinity="None" )"
                        R"(type="ClusterIP")",
                        kFamilies));
  EXPECT_EQ(filled(R"({"type":"NodePort"})"),
            fmt::format(R"(externalTrafficPolicy="Cluster" internalTrafficPolicy="Cluster" {} )"
                        R"(sessionAffinity="None" type="NodePort")",
                        kFamilies));
  EXPECT_EQ(filled(R"({"type":"LoadBalancer"})"),
            fmt::format(R"(allocateLoadBalancerNodePorts=true externalTrafficPolicy="Cluster" )"
                        R"(internalTrafficPolicy="Cluster" {} sessionAffinity="None" )"
                        R"(type="LoadBalancer")",
                        kFamilies));
  EXPECT_EQ(filled(R"({"type":"ExternalName","externalName":"db","clusterIP":"","ports":null})"),
            R"(externalName="db" sessionAffinity="None" type="ExternalName")");
  EXPECT_EQ(filled(R"({"clusterIP":"None","externalIPs":[],"loadBalancerIP":"",
                       "healthCheckNodePort":0,"sessionAffinityConfig":{"clientIP":{}}})"),
            fmt::format(R"(clusterIP="None" internalTrafficPolicy="Cluster" {} )"
                        R"(sessionAffinity="None" type="ClusterIP")",
                        kFamilies));
  // The families of the addresses that are asked for; both, where nobody's pods are meant.
  EXPECT_THAT(filled(R"({"clusterIP":"fd10:96::5"})"),
              testing::HasSubstr(R"(ipFamilies=["IPv6"] ipFamilyPolicy="SingleStack")"));
  EXPECT_THAT(filled(R"({"clusterIP":"fd10:96::5","clusterIPs":["fd10:96::5","10.96.0.5"],
                         "ipFamilyPolicy":"RequireDualStack"})"),
              testing::HasSubstr(R"(ipFamilies=["IPv6","IPv4"])"));
  EXPECT_THAT(
      filled(R"({"clusterIP":"None","selector":null})"),
      testing::HasSubstr(R"(ipFamilies=["IPv4","IPv6"] ipFamilyPolicy="RequireDualStack")"));
  constexpr std::string_view kTimeout =
      R"(sessionAffinityConfig={"clientIP":{"timeoutSeconds":10800}})";
  EXPECT_THAT(filled(R"({"sessionAffinity":"ClientIP"})"), testing::HasSubstr(kTimeout));
  EXPECT_THAT(filled(R"({"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{}}})"),
              testing::HasSubstr(kTimeout));
  EXPECT_THAT(filled(R"({"externalIPs":["198.18.0.9"]})"),
              testing::HasSubstr(R"(externalTrafficPolicy="Cluster")"));
}

TEST(SchemaServiceTest, APortsTargetIsItselfUnlessSaidOtherwise) {
  json::object body = service(R"({"ports":[{"port":80,"nodePort":0},
      {"name":"b","port":81,"targetPort":0},{"name":"c","port":82,"targetPort":""},
      {"name":"d","port":83,"targetPort":"http"}]})");
  fill_defaults(**kind_of(body), body);
  EXPECT_EQ(json::serialize(*find_array(body, "spec.ports")),
            R"([{"port":80,"protocol":"TCP","targetPort":80},)"
            R"({"name":"b","port":81,"targetPort":81,"protocol":"TCP"},)"
            R"({"name":"c","port":82,"targetPort":82,"protocol":"TCP"},)"
            R"({"name":"d","port":83,"targetPort":"http","protocol":"TCP"}])");
}

TEST(SchemaServiceTest, WeightsNeedARing) {
  constexpr std::string_view kWeights = R"({"shoal.dev/weights":"version=blue:1"})";
  EXPECT_EQ(refusal(service("{}", kWeights)), "accepted");
  EXPECT_THAT(refusal(service(R"({"clusterIP":"None"})", kWeights)),
              testing::AllOf(testing::StartsWith("metadata.annotations[shoal.dev/weights]: "),
                             testing::HasSubstr("a headless service is not balanced")));
  EXPECT_THAT(refusal(service(R"({"type":"ExternalName","externalName":"db"})", kWeights)),
              testing::HasSubstr("a service of type ExternalName is not balanced"));
  EXPECT_THAT(refusal(service(R"({"selector":null})", kWeights)),
              testing::HasSubstr("this service has no selector"));
  EXPECT_THAT(refusal(service("{}", R"({"shoal.dev/weights":"version=blue:1000001"})")),
              testing::HasSubstr("weight 1000001 is not in 0..1000000"));
  EXPECT_THAT(
      refusal(service("{}", R"({"shoal.dev/weights":"version=blue:99999999999999999999"})")),
      testing::HasSubstr("is not a whole number"));
}

TEST(SchemaServiceTest, SourceRangesComeFromTheSpecOrTheAnnotation) {
  const auto ranges = [](const json::object& body) {
    std::vector<std::string> out;
    const auto found = load_balancer_source_ranges(body);
    for (const IpPrefix& range : *found)
      out.push_back(range.to_string());
    return out;
  };
  constexpr std::string_view kAnnotation =
      R"({"service.beta.kubernetes.io/load-balancer-source-ranges":" 10.1.0.0/16 , 10.0.0.0/16"})";
  EXPECT_THAT(ranges(service("{}")), testing::IsEmpty());
  EXPECT_THAT(ranges(service(R"({"type":"LoadBalancer"})", kAnnotation)),
              testing::ElementsAre("10.0.0.0/16", "10.1.0.0/16"));
  EXPECT_THAT(ranges(service(R"({"type":"LoadBalancer",
                                 "loadBalancerSourceRanges":["10.2.0.0/16","10.2.0.0/16"]})",
                             kAnnotation)),
              testing::ElementsAre("10.2.0.0/16"));
  EXPECT_THAT(
      refusal(service(R"({"type":"LoadBalancer"})",
                      R"({"service.beta.kubernetes.io/load-balancer-source-ranges":"10.0.0.0"})")),
      testing::StartsWith("metadata.annotations[service.beta.kubernetes.io/"
                          "load-balancer-source-ranges]: Invalid value: \"10.0.0.0\""));
}

}  // namespace
}  // namespace shoal::api
