// SPDX-License-Identifier: Apache-2.0
// What a data plane must do whatever kernel is below. Built twice: apply_test on a kernel in
// memory, apply_kernel_test on the real one.
#include "netplane/apply/bpf_data_plane.h"
#include "netplane/kernel/bpf/data_maps.h"
#include "netplane/kernel/rtnl/pod_net.h"
#include "scenario_host.h"
#include "tests/fakes/fake_clock.h"

namespace shoal::apply {
namespace {

using namespace std::chrono_literals;

IpAddress ip(std::string_view text) { return *IpAddress::parse(text); }
IpPrefix cidr(std::string_view text) { return *IpPrefix::parse(text); }

const model::FrontendKey kWeb{ip("10.96.0.10"), 80, L4Proto::kTcp};
const model::FrontendKey kDns{ip("10.96.0.53"), 53, L4Proto::kUdp};
const IpAddress kVip = ip("203.0.113.10");
const model::FrontendKey kWeb6{ip("fd10:96::10"), 80, L4Proto::kTcp};
const IpAddress kVip6 = ip("2001:db8::10");

model::Backend backend(std::string_view address, std::string host, std::string group = "") {
  model::Backend b;
  b.ip = ip(address);
  b.port = 8080;
  b.generation = 1;
  b.host = std::move(host);
  b.group = std::move(group);
  return b;
}

model::ServicePort web(std::uint32_t blue, std::uint32_t green) {
  model::ServicePort s;
  s.ns = "default";
  s.name = "web";
  s.port_name = "http";
  s.frontends = {{kWeb.ip, 80, L4Proto::kTcp, model::FrontendKind::kClusterIp},
                 {kVip, 80, L4Proto::kTcp, model::FrontendKind::kLoadBalancer}};
  s.groups = {{"blue", blue}, {"green", green}};
  s.backends = {backend("10.244.1.5", "h1", "blue"), backend("10.244.2.5", "h2", "green"),
                backend("10.244.3.5", "h3", "green")};
  return s;
}

model::ServicePort dns() {
  model::ServicePort s;
  s.ns = "kube-system";
  s.name = "dns";
  s.proto = L4Proto::kUdp;
  s.frontends = {{kDns.ip, 53, L4Proto::kUdp, model::FrontendKind::kClusterIp}};
  s.backends = {backend("10.244.2.9", "h2")};
  return s;
}

model::Desired cluster() {
  model::Desired desired;
  desired.self = "h1";
  for (int i = 1; i <= 3; i++)
    desired.nodes.push_back({fmt::format("h{}", i),
                             ip(fmt::format("198.18.0.{}", 10 + i)),
                             {cidr(fmt::format("10.244.{}.0/24", i))},
                             true});
  desired.cluster_cidrs = {cidr("10.244.0.0/16"), cidr("10.96.0.0/16")};
  desired.services = {web(90, 10), dns()};
  desired.announced_vips = {kVip};
  return desired;
}

std::string errors(const ApplyReport& report) {
  std::string out;
  for (const ObjectError& error : report.errors)
    out += error.object + ": " + error.error.message() + "\n";
  return out;
}

// Share of new connections by backend address, read off the maps; empty: refused.
std::map<std::string, double> shares(const model::DataPlane& maps, const model::FrontendKey& key) {
  std::map<std::string, double> out;
  const auto frontend = maps.frontends.find(key);
  if (frontend == maps.frontends.end())
    return out;
  const auto ring = maps.rings.find(frontend->second.inside);
  if (ring == maps.rings.end() || ring->second.refuses())
    return out;
  for (const model::BackendId id : ring->second.backends) {
    const auto entry = maps.backends.find(id);
    const bool there = entry != maps.backends.end() && entry->second.valid;
    out[there ? entry->second.ip.to_string() : "nobody"] += 1.0 / ring->second.ref.slots;
  }
  return out;
}

class DataPlaneScenario : public testing::Test {
protected:
  void SetUp() override { open(); }
  void open(bool ipv6 = false) {
    plane_.reset();
    Config config = host_->config();
    config.ipv6 = ipv6;
    Result<KernelPorts> ports = host_->ports(config);
    ASSERT_TRUE(ports.has_value()) << ports.error().message();
    auto plane = BpfDataPlane::open_with(config, *std::move(ports), clock_);
    ASSERT_TRUE(plane.has_value()) << plane.error().message();
    plane_ = *std::move(plane);
  }
  void apply(const model::Desired& desired, bool prune = true) {
    const ApplyReport report = plane_->apply(desired, prune);
    EXPECT_TRUE(report.ok()) << errors(report);
  }
  void expect_shares(const model::FrontendKey& key, const std::map<std::string, double>& wanted) {
    const auto seen = shares(host_->maps(), key);
    ASSERT_EQ(seen.size(), wanted.size());
    for (const auto& [address, share] : wanted) {
      ASSERT_TRUE(seen.contains(address)) << address;
      EXPECT_NEAR(seen.at(address), share, 0.002) << address;
    }
  }
  void after_grace() {
    clock_.advance(host_->config().grace + 1ms);
    plane_->tick();
  }

  FakeClock clock_;
  std::unique_ptr<ScenarioHost> host_ = make_scenario_host();
  std::unique_ptr<BpfDataPlane> plane_;
};

TEST_F(DataPlaneScenario, ServicesComeChangeAndGo) {
  model::Desired desired = cluster();
  apply(desired);
  expect_shares(kWeb, {{"10.244.1.5", 0.9}, {"10.244.2.5", 0.05}, {"10.244.3.5", 0.05}});
  expect_shares(kDns, {{"10.244.2.9", 1}});
  EXPECT_TRUE(host_->maps().vips.at(kVip).announced);
  EXPECT_FALSE(host_->maps().vips.at(kWeb.ip).announced);

  desired.services[0] = web(50, 50);
  apply(desired);
  expect_shares(kWeb, {{"10.244.1.5", 0.5}, {"10.244.2.5", 0.25}, {"10.244.3.5", 0.25}});
  desired.services[0] = web(0, 100);
  apply(desired);
  expect_shares(kWeb, {{"10.244.2.5", 0.5}, {"10.244.3.5", 0.5}});

  desired.services[0].backends.clear();
  apply(desired);
  expect_shares(kWeb, {});
  EXPECT_TRUE(host_->maps().frontends.contains(kWeb));

  desired.services.clear();
  desired.announced_vips.clear();
  apply(desired);
  after_grace();
  const model::DataPlane left = host_->maps();
  EXPECT_TRUE(left.frontends.empty());
  EXPECT_TRUE(left.vips.empty());
  EXPECT_TRUE(left.rings.empty());
  for (const auto& [id, entry] : left.backends)
    EXPECT_FALSE(entry.valid) << id;
}

// The caller may say where its input differs. Where the data plane knows better, it looks at all.
TEST_F(DataPlaneScenario, AChangeOfBackendsCostsWhatItTouches) {
  model::Desired desired = cluster();
  apply(desired);
  const auto apply_at = [&](std::vector<std::size_t> changed) {
    const ApplyReport report = plane_->apply(desired, true, changed);
    EXPECT_TRUE(report.ok()) << errors(report);
    return report.operations;
  };
  EXPECT_EQ(apply_at({}), 0U);
  desired.services[0] = web(50, 50);
  EXPECT_EQ(apply_at({0}), 2U);  // a ring, and the switch to it
  expect_shares(kWeb, {{"10.244.1.5", 0.5}, {"10.244.2.5", 0.25}, {"10.244.3.5", 0.25}});
  desired.services[1].backends.push_back(backend("10.244.1.9", "h1"));
  apply_at({1});
  expect_shares(kDns, {{"10.244.1.9", 0.5}, {"10.244.2.9", 0.5}});
  EXPECT_EQ(plane_->apply(desired, true).operations, 0U);

  // Another frontend is more than backends.
  desired.services[1].frontends[0].port = 54;
  apply_at({1});
  EXPECT_TRUE(host_->maps().frontends.contains({kDns.ip, 54, L4Proto::kUdp}));
  EXPECT_FALSE(host_->maps().frontends.contains(kDns));

  // After a failure all is looked at: what failed is nobody's change any more.
  host_->faults->fail_from = host_->faults->writes + 1;
  desired.services[0].backends.pop_back();
  EXPECT_FALSE(plane_->apply(desired, true, std::vector<std::size_t>{0}).ok());
  host_->faults->fail_from.reset();
  apply_at({});
  expect_shares(kWeb, {{"10.244.1.5", 0.5}, {"10.244.2.5", 0.5}});
}

// New ones stand at the end, and the last one takes the place of one that goes.
TEST_F(DataPlaneScenario, AServiceComesAndGoesAtTheCostOfItself) {
  model::Desired desired = cluster();
  apply(desired);
  const auto names = plane_->service_names();
  const auto apply_at = [&](std::vector<std::size_t> changed) {
    const ApplyReport report = plane_->apply(desired, true, changed);
    EXPECT_TRUE(report.ok()) << errors(report);
    return report.operations;
  };
  model::ServicePort extra = dns();
  extra.name = "extra";
  for (model::Frontend& frontend : extra.frontends)
    frontend.ip = frontend.ip.plus(77);
  const model::FrontendKey key{extra.frontends[0].ip, extra.frontends[0].port,
                               extra.frontends[0].proto};
  desired.services.push_back(extra);
  EXPECT_GT(apply_at({}), 0U);
  EXPECT_TRUE(host_->maps().frontends.contains(key));
  EXPECT_TRUE(host_->maps().vips.contains(key.ip));
  expect_shares(key, {{"10.244.2.9", 1}});
  ASSERT_TRUE(plane_->service_view(extra.id()));
  EXPECT_EQ(plane_->apply(desired, true).operations, 0U);

  // The first one goes, and the new one stands where it was.
  const std::string gone = desired.services[0].id();
  std::set<model::FrontendKey> theirs;
  for (const model::Frontend& frontend : desired.services[0].frontends)
    theirs.insert({frontend.ip, frontend.port, frontend.proto});
  desired.services[0] = desired.services.back();
  desired.services.pop_back();
  EXPECT_GT(apply_at({0}), 0U);
  EXPECT_FALSE(plane_->service_view(gone));
  ASSERT_TRUE(plane_->service_view(extra.id()));
  for (const model::FrontendKey& each : theirs)
    EXPECT_FALSE(host_->maps().frontends.contains(each));
  expect_shares(key, {{"10.244.2.9", 1}});
  EXPECT_EQ(plane_->apply(desired, true).operations, 0U);
  after_grace();

  // And the other way.
  desired.services[0] = cluster().services[0];
  desired.services.push_back(extra);
  EXPECT_GT(apply_at({0}), 0U);
  desired.services.pop_back();
  EXPECT_GT(apply_at({}), 0U);
  EXPECT_EQ(plane_->service_names(), names);
  EXPECT_FALSE(host_->maps().vips.contains(key.ip));
  EXPECT_EQ(plane_->apply(desired, true).operations, 0U);
}

TEST_F(DataPlaneScenario, NothingNewIsNothingDone) {
  apply(cluster());
  const std::string before = kernel::dump(host_->maps());
  const unsigned writes = host_->faults->writes;
  model::Desired shuffled = cluster();
  std::reverse(shuffled.services.begin(), shuffled.services.end());
  std::reverse(shuffled.nodes.begin(), shuffled.nodes.end());
  for (const model::Desired& again : {cluster(), shuffled}) {
    const ApplyReport report = plane_->apply(again, true);
    EXPECT_TRUE(report.ok()) << errors(report);
    EXPECT_EQ(report.operations, 0U);
  }
  EXPECT_EQ(host_->faults->writes, writes);
  EXPECT_EQ(kernel::dump(host_->maps()), before);
}

TEST_F(DataPlaneScenario, ARestartedAgentTakesUpWhereItWas) {
  apply(cluster());
  const std::string maps = kernel::dump(host_->maps());
  const std::string network = host_->network();
  const unsigned writes = host_->faults->writes;
  open();
  EXPECT_EQ(kernel::dump(host_->maps()), maps);
  EXPECT_EQ(host_->network(), network);
  // Its view is empty at first; then it is what it was.
  model::Desired nothing;
  nothing.self = "h1";
  EXPECT_EQ(plane_->apply(nothing, false).operations, 0U);
  const ApplyReport report = plane_->apply(cluster(), true);
  EXPECT_TRUE(report.ok()) << errors(report);
  EXPECT_EQ(report.operations, 0U);
  EXPECT_EQ(host_->faults->writes, writes);
  EXPECT_EQ(kernel::dump(host_->maps()), maps);
  EXPECT_EQ(host_->network(), network);
}

TEST_F(DataPlaneScenario, ARestartInTheMiddleOfAChange) {
  apply(cluster());
  for (unsigned at = 1; at < 30; at++) {
    SCOPED_TRACE(fmt::format("killed before write {}", at));
    model::Desired changed = cluster();
    changed.services[0] = web(10 + at, 50);
    changed.services[0].backends.pop_back();
    changed.services[0].backends.push_back(
        backend(fmt::format("10.244.3.{}", 100 + at), "h3", "green"));
    host_->faults->fail_from = host_->faults->writes + at;
    (void)plane_->apply(changed, true);
    // Every half-done state serves, and only by backends that are there.
    const auto half = shares(host_->maps(), kWeb);
    EXPECT_GE(half.size(), 2U);
    EXPECT_FALSE(half.contains("nobody"));
    host_->faults->fail_from.reset();
    open();
    apply(changed);
    EXPECT_EQ(shares(host_->maps(), kWeb).size(), 3U);
    after_grace();
    after_grace();
    apply(cluster());
    after_grace();
  }
}

TEST_F(DataPlaneScenario, AFailureLeavesWhatServesAndTheNextApplyCompletes) {
  apply(cluster());
  for (unsigned at = 1; at < 20; at++) {
    SCOPED_TRACE(fmt::format("write {} fails", at));
    model::Desired changed = cluster();
    changed.services[0] = web(90, 10 + at);
    changed.services.push_back(dns());
    changed.services.back().name = fmt::format("dns{}", at);
    changed.services.back().frontends[0].ip = ip("10.96.0.54");
    host_->faults->fail_from = host_->faults->writes + at;
    const ApplyReport report = plane_->apply(changed, true);
    const auto half = shares(host_->maps(), kWeb);
    EXPECT_EQ(half.size(), 3U);
    EXPECT_FALSE(half.contains("nobody"));
    EXPECT_EQ(shares(host_->maps(), kDns).size(), 1U);
    for (const ObjectError& error : report.errors)
      EXPECT_THAT(error.error.message(), testing::HasSubstr("injected fault"));
    host_->faults->fail_from.reset();
    apply(changed);
    EXPECT_EQ(shares(host_->maps(), {ip("10.96.0.54"), 53, L4Proto::kUdp}).size(), 1U);
    apply(cluster());
    after_grace();
    after_grace();
  }
}

TEST_F(DataPlaneScenario, OneObjectsFailureIsNotTheOthers) {
  model::Desired desired = cluster();
  model::ServicePort twin = dns();
  twin.name = "z-twin";  // claims what dns has
  desired.services.push_back(twin);
  desired.nodes.push_back({"h4", ip("2001:db8::4"), {cidr("10.244.4.0/24")}, true});
  const ApplyReport report = plane_->apply(desired, true);
  EXPECT_EQ(report.errors.size(), 2U) << errors(report);
  EXPECT_EQ(shares(host_->maps(), kWeb).size(), 3U);
  EXPECT_EQ(shares(host_->maps(), kDns).size(), 1U);
  const auto view = plane_->service_view("kube-system", "z-twin", "", L4Proto::kUdp);
  ASSERT_TRUE(view.has_value());
  EXPECT_THAT(view->errors, testing::ElementsAre(testing::HasSubstr("belongs to service")));
}

TEST_F(DataPlaneScenario, AnIncompleteViewDeletesNothing) {
  apply(cluster());
  const std::string maps = kernel::dump(host_->maps());
  const std::string network = host_->network();
  model::Desired partial = cluster();
  partial.services.erase(partial.services.begin() + 1);
  partial.services[0].backends.pop_back();
  partial.nodes.resize(2);
  partial.nodes[1].alive = false;
  open();
  apply(partial, false);
  EXPECT_EQ(shares(host_->maps(), kWeb).size(), 3U);
  EXPECT_EQ(shares(host_->maps(), kDns).size(), 1U);
  apply(cluster());
  EXPECT_EQ(kernel::dump(host_->maps()), maps);
  EXPECT_EQ(host_->network(), network);
}

TEST_F(DataPlaneScenario, HostsAreRouted) {
  model::Desired desired = cluster();
  apply(desired);
  EXPECT_THAT(host_->network(), testing::HasSubstr("10.244.2.0/24"));
  EXPECT_EQ(host_->maps().nodes.at(cidr("10.244.2.0/24")).underlay, ip("198.18.0.12"));
  EXPECT_TRUE(host_->maps().nodes.at(cidr("10.244.1.0/24")).underlay.is_unspecified());
  desired.nodes.pop_back();
  apply(desired);
  EXPECT_THAT(host_->network(), testing::Not(testing::HasSubstr("10.244.3.0/24")));
  EXPECT_FALSE(host_->maps().nodes.contains(cidr("10.244.3.0/24")));
}

TEST_F(DataPlaneScenario, PodsComeAndGo) {
  apply(cluster());
  PodAttachment pod{"default/web-1", "uid-1", host_->new_pod_netns(), {{ip("10.244.1.5"), 7}}};
  const auto first = plane_->attach_pod(pod);
  ASSERT_TRUE(first.has_value()) << first.error().message();
  const auto again = plane_->attach_pod(pod);
  ASSERT_TRUE(again.has_value()) << again.error().message();
  EXPECT_EQ(*first, *again);
  EXPECT_EQ(host_->maps().pods.at(pod.addresses[0].ip).ifindex, first->host_ifindex);
  EXPECT_EQ(host_->maps().pods.at(pod.addresses[0].ip).generation, 7);
  // A desired state from before the pod takes nothing away.
  apply(cluster());
  model::Desired desired = cluster();
  desired.nodes.pop_back();
  apply(desired);
  EXPECT_TRUE(host_->maps().pods.contains(pod.addresses[0].ip));
  // After a restart it is kept as long as it is wanted.
  open();
  desired.pods = {*first};
  apply(desired);
  EXPECT_TRUE(host_->maps().pods.contains(pod.addresses[0].ip));
  EXPECT_TRUE(plane_->attach_pod(pod).has_value());
  ASSERT_TRUE(
      plane_->detach_pod(pod.uid, {pod.addresses[0].ip}, DataPlane::Detach::kNow).has_value());
  EXPECT_FALSE(host_->maps().pods.contains(pod.addresses[0].ip));
  EXPECT_THAT(host_->network(), testing::Not(testing::HasSubstr(kernel::pod_link_name("uid-1"))));
  EXPECT_TRUE(
      plane_->detach_pod(pod.uid, {pod.addresses[0].ip}, DataPlane::Detach::kNow).has_value());
}

// As the kernel takes a pod's device down with its network namespace: in its own time.
TEST_F(DataPlaneScenario, APodsDeviceMayGoWithItsNamespace) {
  apply(cluster());
  const PodAttachment pod{
      "default/web-1", "uid-1", host_->new_pod_netns(), {{ip("10.244.1.5"), 7}}};
  ASSERT_TRUE(plane_->attach_pod(pod).has_value());
  const auto detach = [&] {
    return plane_->detach_pod(pod.uid, {pod.addresses[0].ip}, DataPlane::Detach::kWithItsNamespace);
  };
  for (int i = 0; i < 2; ++i) {
    const auto gone = detach();
    ASSERT_TRUE(gone.has_value());
    EXPECT_FALSE(*gone);
    EXPECT_FALSE(host_->maps().pods.contains(pod.addresses[0].ip));
  }
  host_->delete_link(kernel::pod_link_name("uid-1"));
  EXPECT_TRUE(detach().value());
  EXPECT_TRUE(detach().value());
}

TEST_F(DataPlaneScenario, APodThatIsGoneLeavesNoEntry) {
  apply(cluster());
  const PodAttachment pod{
      "default/web-1", "uid-1", host_->new_pod_netns(), {{ip("10.244.1.5"), 7}}};
  ASSERT_TRUE(plane_->attach_pod(pod).has_value());
  open();
  apply(cluster());
  EXPECT_FALSE(host_->maps().pods.contains(pod.addresses[0].ip));
}

TEST_F(DataPlaneScenario, AFailedAttachLeavesNothing) {
  apply(cluster());
  const std::string before = host_->network();
  const PodAttachment pod{
      "default/web-1", "uid-1", host_->new_pod_netns(), {{ip("10.244.1.5"), 7}}};
  host_->faults->fail_once = host_->faults->writes + 1;
  const auto failed = plane_->attach_pod(pod);
  ASSERT_FALSE(failed.has_value());
  EXPECT_THAT(failed.error().message(),
              testing::HasSubstr("attach pod default/web-1 (10.244.1.5)"));
  EXPECT_EQ(host_->network(), before);
  EXPECT_TRUE(plane_->attach_pod(pod).has_value());
}

TEST_F(DataPlaneScenario, AnAddressOfAnotherPodIsLeftAlone) {
  const PodAttachment old_pod{
      "default/a", "uid-1", host_->new_pod_netns(), {{ip("10.244.1.5"), 1}}};
  const PodAttachment new_pod{
      "default/b", "uid-2", host_->new_pod_netns(), {{ip("10.244.1.5"), 2}}};
  ASSERT_TRUE(plane_->attach_pod(old_pod).has_value());
  ASSERT_TRUE(plane_->attach_pod(new_pod).has_value());
  ASSERT_TRUE(
      plane_->detach_pod("uid-1", {old_pod.addresses[0].ip}, DataPlane::Detach::kNow).has_value());
  EXPECT_EQ(host_->maps().pods.at(new_pod.addresses[0].ip).generation, 2);
}

// ---- two families

// The same cluster with an IPv6 pod CIDR a host, and the service's other half.
model::Desired dual_cluster() {
  model::Desired desired = cluster();
  for (std::size_t i = 0; i < desired.nodes.size(); i++)
    desired.nodes[i].pod_cidrs.push_back(cidr(fmt::format("fd10:244:0:{}::/64", i + 1)));
  desired.cluster_cidrs.push_back(cidr("fd10:244::/48"));
  desired.cluster_cidrs.push_back(cidr("fd10:96::/112"));
  model::ServicePort web6 = web(50, 50);
  web6.family = IpFamily::kV6;
  web6.frontends = {{kWeb6.ip, 80, L4Proto::kTcp, model::FrontendKind::kClusterIp},
                    {kVip6, 80, L4Proto::kTcp, model::FrontendKind::kLoadBalancer}};
  web6.backends = {backend("fd10:244:0:1::5", "h1", "blue"),
                   backend("fd10:244:0:2::5", "h2", "green")};
  desired.services.push_back(web6);
  desired.announced_vips.push_back(kVip6);
  return desired;
}

TEST_F(DataPlaneScenario, TwoFamiliesStandSideBySideAndGoOnOverARestart) {
  open(true);
  apply(dual_cluster());
  expect_shares(kWeb, {{"10.244.1.5", 0.9}, {"10.244.2.5", 0.05}, {"10.244.3.5", 0.05}});
  expect_shares(kWeb6, {{"fd10:244:0:1::5", 0.5}, {"fd10:244:0:2::5", 0.5}});
  EXPECT_TRUE(host_->maps().vips.at(kVip6).announced);
  EXPECT_EQ(host_->maps().nodes.at(cidr("fd10:244:0:2::/64")).underlay, ip("198.18.0.12"));
  EXPECT_TRUE(host_->maps().nodes.at(cidr("fd10:244:0:1::/64")).underlay.is_unspecified());
  const std::string network = host_->network();
  for (const char* line :
       {"neighbour fe80::2 dev shoal-vxlan mac 02:73:68:6f:61:6c permanent\n",
        "route fd10:244:0:1::/64 via fe80::2 dev shoal-vxlan scope global metric 1024 proto 83\n",
        "route fd10:244:0:3::/64 via fe80::2 dev shoal-vxlan scope global metric 1024 proto 83\n",
        "set pods6 fd10:244:0:1::/64\n", "set cluster6 fd10:96::/112\n"})
    EXPECT_THAT(network, testing::HasSubstr(line));

  open(true);
  const ApplyReport again = plane_->apply(dual_cluster(), true);
  EXPECT_TRUE(again.ok()) << errors(again);
  EXPECT_EQ(again.operations, 0U);
  EXPECT_EQ(host_->network(), network);
  EXPECT_THAT(plane_->audit().findings, testing::IsEmpty());
  host_->delete_route(cidr("fd10:244:0:3::/64"));
  EXPECT_THAT(plane_->audit().findings,
              testing::ElementsAre("the route to fd10:244:0:3::/64 was gone"));
  EXPECT_EQ(host_->network(), network);
  // And without the second family everything of it goes.
  apply(cluster());
  EXPECT_THAT(host_->network(), testing::Not(testing::HasSubstr("fd10:")));
  EXPECT_FALSE(host_->maps().frontends.contains(kWeb6));
}

TEST_F(DataPlaneScenario, APodHasAnEntryForEachOfItsAddresses) {
  open(true);
  apply(dual_cluster());
  const PodAttachment pod{"default/web-1",
                          "uid-1",
                          host_->new_pod_netns(),
                          {{ip("10.244.1.5"), 7}, {ip("fd10:244:0:1::5"), 3}}};
  const auto first = plane_->attach_pod(pod);
  ASSERT_TRUE(first.has_value()) << first.error().message();
  EXPECT_EQ(first->addresses, pod.addresses);
  for (const auto& [address, generation] : pod.addresses) {
    EXPECT_EQ(host_->maps().pods.at(address).ifindex, first->host_ifindex);
    EXPECT_EQ(host_->maps().pods.at(address).generation, generation);
  }
  model::Desired desired = dual_cluster();
  desired.pods = {*first};
  open(true);
  apply(desired);
  EXPECT_TRUE(host_->maps().pods.contains(pod.addresses[1].ip));
  ASSERT_TRUE(plane_->detach_pod("uid-1", {ip("10.244.1.5"), ip("fd10:244:0:1::5")},
                                 DataPlane::Detach::kNow));
  EXPECT_THAT(host_->maps().pods, testing::IsEmpty());
  EXPECT_THAT(host_->network(), testing::Not(testing::HasSubstr("fd10:244:0:1::5")));
}

TEST_F(DataPlaneScenario, AnAttachThatFailsAtItsSecondAddressLeavesNothing) {
  open(true);
  apply(dual_cluster());
  const std::string before = host_->network();
  const PodAttachment pod{"default/web-1",
                          "uid-1",
                          host_->new_pod_netns(),
                          {{ip("10.244.1.5"), 7}, {ip("fd10:244:0:1::5"), 3}}};
  host_->faults->fail_once = host_->faults->writes + 2;
  ASSERT_FALSE(plane_->attach_pod(pod).has_value());
  EXPECT_EQ(host_->network(), before);
  EXPECT_THAT(host_->maps().pods, testing::IsEmpty());
  EXPECT_TRUE(plane_->attach_pod(pod).has_value());
}

TEST_F(DataPlaneScenario, FamiliesAreNotMixed) {
  model::Desired desired = cluster();
  desired.services[0].backends.push_back(backend("fd10:244:0:2::5", "h2", "blue"));
  desired.services[0].frontends.push_back(
      {kVip6, 80, L4Proto::kTcp, model::FrontendKind::kLoadBalancer});
  const ApplyReport report = plane_->apply(desired, true);
  EXPECT_EQ(errors(report), "service default/web:http/TCP: frontend 2001:db8::10 is not IPv4\n"
                            "service default/web:http/TCP: backend fd10:244:0:2::5 is not IPv4\n");
  expect_shares(kWeb, {{"10.244.1.5", 0.9}, {"10.244.2.5", 0.05}, {"10.244.3.5", 0.05}});
  EXPECT_FALSE(host_->maps().vips.contains(kVip6));
}

TEST_F(DataPlaneScenario, AVipIsAnnouncedAFewTimesAndThenNowAndThen) {
  const auto sent = [&] { return plane_->counters()->announcements; };
  apply(cluster());
  EXPECT_EQ(sent(), 1U);
  plane_->tick();
  EXPECT_EQ(sent(), 1U);
  const Config config = host_->config();
  for (int i = 0; i < 60; i++) {
    clock_.advance(100ms);
    plane_->tick();
  }
  EXPECT_EQ(sent(), 1 + config.announce_repeats);
  clock_.advance(config.announce_refresh);
  plane_->tick();
  EXPECT_EQ(sent(), 2 + config.announce_repeats);
  // Given up, and taken over again: at once.
  model::Desired desired = cluster();
  desired.announced_vips.clear();
  apply(desired);
  clock_.advance(config.announce_refresh);
  plane_->tick();
  EXPECT_EQ(sent(), 2 + config.announce_repeats);
  apply(cluster());
  EXPECT_EQ(sent(), 3 + config.announce_repeats);
}

TEST_F(DataPlaneScenario, AddressesStayWhereTheyAreUntilTheViewIsComplete) {
  apply(cluster());
  const auto sent = plane_->counters()->announcements;
  open();  // an agent that does not know yet who else is alive
  model::Desired desired = cluster();
  const IpAddress other = ip("198.18.100.9");
  desired.announced_vips = {other};
  desired.services[1].frontends.push_back(
      {.ip = other, .port = 53, .kind = model::FrontendKind::kLoadBalancer});
  EXPECT_TRUE(plane_->apply(desired, false).ok());
  EXPECT_TRUE(host_->maps().vips.at(kVip).announced);
  EXPECT_FALSE(host_->maps().vips.at(other).announced);
  EXPECT_EQ(plane_->counters()->announcements, 0U);
  EXPECT_TRUE(plane_->apply(desired, true).ok());
  EXPECT_FALSE(host_->maps().vips.at(kVip).announced);
  EXPECT_TRUE(host_->maps().vips.at(other).announced);
  EXPECT_EQ(plane_->counters()->announcements, sent);
}

TEST_F(DataPlaneScenario, AnAuditFindsAndMends) {
  apply(cluster());
  EXPECT_THAT(plane_->audit().findings, testing::IsEmpty());
  const std::string maps = kernel::dump(host_->maps());
  const std::string network = host_->network();

  host_->delete_route(cidr("10.244.2.0/24"));
  host_->spoil_table();
  kernel::DataMaps& hands = host_->other_hands();
  const model::FrontendKey key[] = {kDns};
  ASSERT_TRUE(hands.delete_frontends(key));
  ASSERT_TRUE(hands.delete_vip(kVip));
  ASSERT_TRUE(hands.delete_node(cidr("10.244.3.0/24")));
  const kernel::BackendWrite nobody[] = {{1, {.epoch = 9, .valid = false}}};
  ASSERT_TRUE(hands.put_backends(nobody));
  AuditReport report = plane_->audit();
  EXPECT_EQ(report.findings.size(), 6U) << fmt::format("{}", fmt::join(report.findings, "\n"));
  EXPECT_TRUE(report.errors.empty());
  EXPECT_EQ(kernel::dump(host_->maps()), maps);
  EXPECT_EQ(host_->network(), network);

  // A ring is written anew elsewhere.
  const model::ServiceIndex index = host_->maps().frontends.at(kWeb).inside;
  ASSERT_TRUE(hands.switch_ring(index, {}));
  report = plane_->audit();
  EXPECT_EQ(report.findings.size(), 1U);
  expect_shares(kWeb, {{"10.244.1.5", 0.9}, {"10.244.2.5", 0.05}, {"10.244.3.5", 0.05}});
  after_grace();
  EXPECT_THAT(plane_->audit().findings, testing::IsEmpty());
}

TEST_F(DataPlaneScenario, AnAuditMakesTheDeviceAgain) {
  apply(cluster());
  const std::string network = host_->network();
  host_->delete_link("shoal-vxlan");
  const AuditReport report = plane_->audit();
  EXPECT_TRUE(report.errors.empty());
  EXPECT_THAT(report.findings, testing::Contains("the device shoal-vxlan was gone"));
  EXPECT_EQ(host_->network(), network);
  EXPECT_THAT(plane_->audit().findings, testing::IsEmpty());
}

TEST_F(DataPlaneScenario, AServiceShowsItself) {
  model::Desired desired = cluster();
  desired.services[0].backends.push_back(backend("10.244.3.7", "h3", "blue"));
  desired.services[0].backends.edit().back().state = model::BackendState::kTerminating;
  apply(desired);
  const auto view = plane_->service_view("default", "web", "http", L4Proto::kTcp);
  ASSERT_TRUE(view.has_value()) << view.error().message();
  EXPECT_EQ(view->slots, 1024U);
  EXPECT_EQ(view->frontends.size(), 2U);
  ASSERT_EQ(view->shares.size(), 2U);
  EXPECT_EQ(view->shares[0].group, "blue");
  EXPECT_DOUBLE_EQ(view->shares[0].asked, 0.9);
  EXPECT_NEAR(view->shares[0].effective, 0.9, 0.001);
  EXPECT_EQ(view->shares[0].backends, 2U);
  EXPECT_EQ(view->shares[0].ready, 1U);
  EXPECT_EQ(view->shares[0].slots + view->shares[1].slots, view->slots);
  EXPECT_EQ(view->backends.size(), 4U);
  EXPECT_FALSE(plane_->service_view("default", "none", "", L4Proto::kTcp).has_value());
  EXPECT_THAT(plane_->service_names(),
              testing::ElementsAre("default/web:http/TCP", "kube-system/dns:/UDP"));
  const auto counters = plane_->counters();
  ASSERT_TRUE(counters.has_value());
  EXPECT_EQ(counters->services.size(), 2U);
  EXPECT_EQ(counters->tables.front().table, "backends");
}

TEST_F(DataPlaneScenario, ADesiredStateOfAnotherHostIsRefused) {
  model::Desired desired = cluster();
  desired.self = "h2";
  const ApplyReport report = plane_->apply(desired, true);
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(report.operations, 0U);
}

}  // namespace
}  // namespace shoal::apply
