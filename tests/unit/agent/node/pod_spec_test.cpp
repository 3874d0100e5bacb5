// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_spec.h"

#include <boost/json.hpp>
#include <gtest/gtest.h>
#include <map>

namespace shoal::node {
namespace {

namespace json = boost::json;
using Texts = std::vector<std::string>;

Result<PodSpec> read(std::string_view spec, std::string_view metadata = "{}") {
  store::Object pod;
  pod.resource = "pods";
  pod.ns = "default";
  pod.name = "web-1";
  pod.uid = "u1";
  pod.body["metadata"] = json::parse(metadata);
  pod.body["spec"] = json::parse(spec);
  return read_pod(pod);
}

// A container with these members beside name and image.
Result<ContainerSpec> container(std::string_view members, std::string_view pod_members = "") {
  auto spec = read("{" + std::string(pod_members) + R"("containers":[{"name":"c","image":"i:1")" +
                   std::string(members) + "}]}");
  if (!spec)
    return fail(std::move(spec).error());
  return spec->containers.at(0);
}

TEST(ReadPod, FillsDefaults) {
  const auto spec = read(R"({"containers":[{"name":"c","image":"i:1"}]})");
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_EQ(spec->full_name(), "default/web-1");
  EXPECT_EQ(spec->hostname, "web-1");
  EXPECT_EQ(spec->restart, RestartPolicy::kAlways);
  EXPECT_EQ(spec->grace, std::chrono::seconds(30));
  EXPECT_FALSE(spec->deleting);
  EXPECT_FALSE(spec->share_pids || spec->host_pids || spec->host_ipc || spec->host_network ||
               spec->shares_pids());
  EXPECT_EQ(spec->containers[0].pull, PullPolicy::kIfNotPresent);
  EXPECT_FALSE(spec->containers[0].readiness);
}

TEST(ReadPod, TakesWhatIsGiven) {
  const auto spec = read(
      R"({"hostname":"h","restartPolicy":"OnFailure","shareProcessNamespace":true,"terminationGracePeriodSeconds":5,
    "containers":[{"name":"c","image":"i:1","imagePullPolicy":"Never","command":["/x"],"args":["a","b"],
    "workingDir":"/srv","stdin":true,"stdinOnce":true,"tty":true,"env":[{"name":"A","value":"1"},{"name":"B"}],
    "resources":{"limits":{"cpu":"250m","memory":"64Mi","ephemeral-storage":"1Gi"},
    "requests":{"cpu":"0.1","ephemeral-storage":4096}}}]})");
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_EQ(spec->hostname, "h");
  EXPECT_TRUE(spec->share_pids && spec->shares_pids());
  const auto of_host = read(
      R"({"hostPID":true,"hostIPC":true,"hostNetwork":true,"containers":[{"name":"c","image":"i:1"}]})");
  ASSERT_TRUE(of_host);
  EXPECT_TRUE(of_host->host_pids && of_host->host_ipc && of_host->host_network &&
              of_host->shares_pids());
  EXPECT_EQ(spec->restart, RestartPolicy::kOnFailure);
  EXPECT_EQ(spec->grace, std::chrono::seconds(5));
  const ContainerSpec& c = spec->containers[0];
  EXPECT_EQ(c.pull, PullPolicy::kNever);
  EXPECT_TRUE(c.open_stdin && c.stdin_once && c.tty);
  EXPECT_EQ(c.command, Texts{"/x"});
  EXPECT_EQ(c.args, (Texts{"a", "b"}));
  EXPECT_EQ(c.env, (std::vector<EnvVar>{{"A", "1", {}}, {"B", "", {}}}));
  EXPECT_EQ(c.working_dir, "/srv");
  EXPECT_EQ(c.limits.cpu_milli, 250);
  EXPECT_EQ(c.limits.memory_bytes, 64 << 20);
  EXPECT_EQ(c.limits.cpu_request_milli, 100);
  EXPECT_EQ(c.storage_limit, 1 << 30);
  EXPECT_EQ(c.storage_limit_text, "1Gi");
  EXPECT_EQ(c.storage_request, 4096);
}

TEST(ReadPod, ADeletionBringsItsOwnGrace) {
  const std::string_view spec =
      R"({"terminationGracePeriodSeconds":60,"containers":[{"name":"c","image":"i"}]})";
  const auto pod =
      read(spec, R"({"deletionTimestamp":"2026-01-02T03:04:05Z","deletionGracePeriodSeconds":3})");
  EXPECT_TRUE(pod->deleting);
  EXPECT_EQ(pod->grace, std::chrono::seconds(3));
  EXPECT_EQ(read(spec, R"({"deletionTimestamp":"2026-01-02T03:04:05Z"})")->grace,
            std::chrono::seconds(60));
}

TEST(ReadPod, ExpandsVariables) {
  const std::map<std::string, std::string> env{{"A", "3"}, {"B", "2"}};
  const auto find = [&](const std::string& name) {
    const auto at = env.find(name);
    return at == env.end() ? nullptr : &at->second;
  };
  for (const auto& [text, wanted] :
       std::vector<std::pair<std::string, std::string>>{{"", ""},
                                                        {"plain", "plain"},
                                                        {"$(A)", "3"},
                                                        {"x$(A)$(B)y", "x32y"},
                                                        {"$(NO)", "$(NO)"},
                                                        {"$$(A)", "$(A)"},
                                                        {"$$$(A)", "$3"},
                                                        {"$(A", "$(A"},
                                                        {"$A $", "$A $"},
                                                        {"$()", "$()"}})
    EXPECT_EQ(expand(text, find), wanted) << text;
}

TEST(ReadPod, TakesEveryProbeAndHandler) {
  const auto c = container(
      R"(,"startupProbe":{"exec":{"command":["a","b"]},"terminationGracePeriodSeconds":7},
      "livenessProbe":{"httpGet":{"port":1,"host":"other","scheme":"HTTPS"}})");
  ASSERT_TRUE(c) << c.error().message();
  EXPECT_EQ(c->startup->action.kind, Action::Kind::kExec);
  EXPECT_EQ(c->startup->action.command, (Texts{"a", "b"}));
  EXPECT_EQ(c->startup->grace, std::chrono::seconds(7));
  EXPECT_EQ(c->liveness->action.host, "other");
  EXPECT_TRUE(c->liveness->action.tls);
  EXPECT_FALSE(c->liveness->grace);
  EXPECT_FALSE(c->readiness);
}

TEST(ReadPod, TakesHooksAndWhatEndsAPod) {
  const auto spec = read(R"({"activeDeadlineSeconds":60,"containers":[{"name":"c","image":"i:1",
      "lifecycle":{"postStart":{"exec":{"command":["a"]}},"preStop":{"sleep":{"seconds":3}}},
      "terminationMessagePath":"/m","terminationMessagePolicy":"FallbackToLogsOnError"}]})",
                         R"({"annotations":{"shoal.dev/restart-backoff-base":"500ms"}})");
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_EQ(spec->active_deadline, std::chrono::seconds(60));
  EXPECT_EQ(spec->backoff_first, std::chrono::milliseconds(500));
  EXPECT_EQ(spec->backoff_max, kBackoffMax);
  const ContainerSpec& c = spec->containers[0];
  EXPECT_EQ(c.post_start->command, Texts{"a"});
  EXPECT_EQ(c.pre_stop->kind, Action::Kind::kSleep);
  EXPECT_EQ(c.pre_stop->sleep, std::chrono::seconds(3));
  EXPECT_EQ(c.termination_log, "/m");
  EXPECT_TRUE(c.termination_from_log);
  const auto cap = [](std::string_view annotations) {
    return read(R"({"containers":[{"name":"c","image":"i:1"}]})",
                R"({"annotations":)" + std::string(annotations) + "}");
  };
  EXPECT_EQ(cap(R"({"shoal.dev/restart-backoff-cap":"5s"})")->backoff_first,
            std::chrono::seconds(5));
  EXPECT_EQ(cap(R"({"shoal.dev/restart-backoff-base":"10m"})")->backoff_max,
            std::chrono::minutes(10));
  EXPECT_FALSE(cap(R"({"shoal.dev/restart-backoff-base":"1ms"})"));
  EXPECT_FALSE(
      cap(R"({"shoal.dev/restart-backoff-base":"2s","shoal.dev/restart-backoff-cap":"1s"})"));
}

TEST(ReadPod, InitContainersComeFirst) {
  const auto spec = read(R"({"restartPolicy":"Never","containers":[{"name":"m","image":"i:1"}],
      "initContainers":[{"name":"a","image":"i:1"},{"name":"s","image":"i:1","restartPolicy":"Always"}]})");
  ASSERT_TRUE(spec) << spec.error().message();
  ASSERT_EQ(spec->containers.size(), 3U);
  EXPECT_EQ(spec->containers[0].role, Role::kInit);
  EXPECT_EQ(spec->containers[1].role, Role::kSidecar);
  EXPECT_EQ(spec->containers[2].role, Role::kMain);
  EXPECT_EQ(spec->restart_of(0), RestartPolicy::kNever);
  EXPECT_EQ(spec->restart_of(1), RestartPolicy::kAlways);
  EXPECT_EQ(spec->restart_of(2), RestartPolicy::kNever);
}

TEST(ReadPod, ProbesResolveNamedPorts) {
  const auto http = container(
      R"(,"ports":[{"name":"web","containerPort":8080,"protocol":"TCP"}],"readinessProbe":{
    "httpGet":{"path":"/ok","port":"web","httpHeaders":[{"name":"X","value":"y"}]},"periodSeconds":2,
    "initialDelaySeconds":1,"timeoutSeconds":3,"successThreshold":2,"failureThreshold":4})");
  ASSERT_TRUE(http) << http.error().message();
  const ProbeSpec& probe = *http->readiness;
  EXPECT_EQ(probe.action.kind, Action::Kind::kHttp);
  EXPECT_EQ(probe.action.port, 8080);
  EXPECT_EQ(probe.action.path, "/ok");
  EXPECT_EQ(probe.action.headers, (std::vector<runtime::HttpHeader>{{"X", "y"}}));
  EXPECT_EQ(probe.timing, (runtime::ProbeTiming{1000, 2000, 3000, 2, 4}));
  const auto tcp = container(R"(,"readinessProbe":{"tcpSocket":{"port":53}})");
  EXPECT_EQ(tcp->readiness->action.kind, Action::Kind::kTcp);
  EXPECT_EQ(tcp->readiness->timing, runtime::ProbeTiming{});
  EXPECT_FALSE(container(R"(,"readinessProbe":{"tcpSocket":{"port":"nope"}})"));
}

TEST(ReadPod, TheContainersSecurityGoesOverThePods) {
  const auto c =
      container(R"(,"securityContext":{"runAsUser":7,"readOnlyRootFilesystem":true,
    "capabilities":{"add":["NET_ADMIN"],"drop":["ALL"]}})",
                R"("securityContext":{"runAsUser":5,"runAsGroup":6,"runAsNonRoot":true},)");
  ASSERT_TRUE(c) << c.error().message();
  EXPECT_EQ(c->run_as_user, 7U);
  EXPECT_EQ(c->run_as_group, 6U);
  EXPECT_TRUE(c->run_as_non_root);
  EXPECT_TRUE(c->read_only_rootfs);
  EXPECT_EQ(c->capabilities_add, Texts{"NET_ADMIN"});
  EXPECT_EQ(c->capabilities_drop, Texts{"ALL"});
}

TEST(ReadPod, RefusesWhatCannotRun) {
  for (const char* bad :
       {R"({})", R"({"containers":[]})", R"({"containers":[1]})",
        R"({"containers":[{"name":"c"}]})", R"({"containers":[{"name":"../x","image":"i"}]})",
        R"({"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"lots"}}}]})"}) {
    const auto spec = read(bad);
    ASSERT_FALSE(spec) << bad;
    EXPECT_NE(spec.error().message().find("default/web-1"), std::string::npos)
        << spec.error().message();
  }
}

}  // namespace
}  // namespace shoal::node
