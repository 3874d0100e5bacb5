// SPDX-License-Identifier: Apache-2.0
#include "agent/api/pod_security.h"

#include "tests/unit/agent/api/writer_fixture.h"

#include <boost/json/parse.hpp>
#include <gmock/gmock.h>

namespace shoal::api {
namespace {

using Level = PodSecurityLevel;

json::object spec(std::string_view text) { return json::parse(text).get_object(); }
std::string with(std::string_view context, std::string_view rest = "") {
  return fmt::format(R"({{"containers":[{{"name":"a","securityContext":{}}}]{}}})", context, rest);
}

TEST(PodSecurity, LevelsAreTheNamespacesLabel) {
  EXPECT_EQ(pod_security_level({}), Level::kUnlabelled);
  const auto labelled = [](std::string_view value) {
    return pod_security_level(spec(fmt::format(
        R"({{"metadata":{{"labels":{{"pod-security.kubernetes.io/enforce":"{}"}}}}}})", value)));
  };
  EXPECT_EQ(labelled("privileged"), Level::kPrivileged);
  EXPECT_EQ(labelled("baseline"), Level::kBaseline);
  EXPECT_EQ(labelled("restricted"), Level::kRestricted);
  EXPECT_EQ(labelled("privilegd"), Level::kRestricted);
  EXPECT_EQ(labelled(""), Level::kRestricted);
}

TEST(PodSecurity, WhatEachLevelForbids) {
  struct Case {
    std::string spec;
    std::string_view violation;  // of the lowest level that has one
    Level from;
  };
  const std::string fine =
      R"("runAsNonRoot":true,"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},
         "seccompProfile":{"type":"RuntimeDefault"})";
  const Case cases[] = {
      {with(R"({"privileged":true})"),
       R"(privileged (container "a" must not set securityContext.privileged=true))",
       Level::kUnlabelled},
      {with(R"({"capabilities":{"add":["SYS_ADMIN"]}})"),
       R"(capabilities over the host (container "a" must not include those in securityContext.capabilities.add))",
       Level::kUnlabelled},
      {with("{}", R"(,"hostNetwork":true,"hostPID":true)"),
       "host namespaces (hostNetwork=true, hostPID=true)", Level::kUnlabelled},
      {with("{}", R"(,"hostNetwork":false,"hostIPC":true)"), "host namespaces (hostIPC=true)",
       Level::kUnlabelled},
      {with(R"({"capabilities":{"add":["CAP_CHOWN","NET_ADMIN"]}})"),
       R"(non-default capabilities (container "a" must not include other than the default ones in securityContext.capabilities.add))",
       Level::kBaseline},
      {with("{}", R"(,"volumes":[{"name":"v","hostPath":{"path":"/"}}])"),
       R"(hostPath volumes (volume "v"))", Level::kUnlabelled},
      {R"({"initContainers":[{"name":"i","ports":[{"hostPort":80}]}],"containers":[{"name":"b","ports":[{"hostPort":81}]}]})",
       R"(hostPort (containers "i", "b" uses hostPorts))", Level::kBaseline},
      {with(R"({"seccompProfile":{"type":"Unconfined"}})"),
       R"(seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined"))",
       Level::kBaseline},
      {with("{}", R"(,"securityContext":{"seccompProfile":{"type":"Unconfined"}})"),
       R"(seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined"))",
       Level::kBaseline},
      {with("{" + fine + R"(,"runAsUser":0})"),
       R"(runAsUser=0 (container "a" must not set runAsUser=0))", Level::kRestricted},
      {with("{" + fine + "}", R"(,"volumes":[{"name":"v","nfs":{}}])"),
       R"(restricted volume types (volume "v"))", Level::kRestricted},
      {with(R"({"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}})",
            R"(,"securityContext":{"seccompProfile":{"type":"RuntimeDefault"}})"),
       R"(runAsNonRoot != true (container "a" must set securityContext.runAsNonRoot=true))",
       Level::kRestricted},
  };
  for (const Case& c : cases) {
    const auto found = pod_security_violations(spec(c.spec), c.from);
    EXPECT_THAT(found, testing::ElementsAre(std::string(c.violation))) << c.spec;
    // Those below say nothing; those above say no less.
    for (const Level level :
         {Level::kUnlabelled, Level::kPrivileged, Level::kBaseline, Level::kRestricted}) {
      const auto there = pod_security_violations(spec(c.spec), level);
      if (level == Level::kPrivileged || level < c.from)
        EXPECT_TRUE(there.empty()) << c.spec;
      else
        EXPECT_FALSE(there.empty()) << c.spec;
    }
  }
  EXPECT_TRUE(pod_security_violations(spec(with("{" + fine + "}")), Level::kRestricted).empty());
  EXPECT_EQ(pod_security_violations(spec(with("{}")), Level::kRestricted).size(), 4U);
  // For the whole pod, and one container that says otherwise.
  const std::string of_pod =
      R"(,"securityContext":{"runAsNonRoot":true,"seccompProfile":{"type":"Localhost"}})";
  const std::string rest = R"("allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]})";
  EXPECT_TRUE(
      pod_security_violations(spec(with("{" + rest + "}", of_pod)), Level::kRestricted).empty());
  EXPECT_EQ(pod_security_violations(spec(with("{" + rest + R"(,"runAsNonRoot":false})", of_pod)),
                                    Level::kRestricted)
                .size(),
            1U);
}

TEST_F(WriterTest, PrivilegedPodsNeedANamespaceThatAllowsThem) {
  json::object privileged = pod("taker");
  privileged["spec"].get_object()["containers"].get_array()[0].get_object()["securityContext"] =
      json::object{{"privileged", true}};
  EXPECT_EQ(text(create(privileged)),
            "403 Forbidden: pods \"taker\" is forbidden: violates PodSecurity \"unlabelled\" of "
            "namespace default: privileged (container \"main\" must not set "
            "securityContext.privileged=true); to allow it, label the namespace: "
            "pod-security.kubernetes.io/enforce=privileged");
  ASSERT_TRUE(create(parse(
      R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"infra","labels":{"pod-security.kubernetes.io/enforce":"privileged"}}})")));
  privileged["metadata"].get_object()["namespace"] = "infra";
  EXPECT_EQ(text(create(privileged)).substr(0, 3), text(create(pod("plain"))).substr(0, 3));
}

}  // namespace
}  // namespace shoal::api
