// SPDX-License-Identifier: Apache-2.0
// What only a kernel in memory can be made to do.
#include "netplane/apply/bpf_data_plane.h"

#include "bpf/abi/shoal_abi.h"
#include "fake_kernel.h"
#include "tests/fakes/fake_clock.h"

namespace shoal::apply {
namespace {

Config config() {
  Config config;
  config.node_name = "h1";
  config.underlay = IpAddress::v4(0xc612000b);
  return config;
}

model::Desired alone() {
  model::Desired desired;
  desired.self = "h1";
  desired.nodes = {{"h1", IpAddress::v4(0xc612000b), {*IpPrefix::parse("10.244.1.0/24")}, true}};
  return desired;
}

TEST(DataPlane, TheGatewaysMacIsTheAbis) {
  constexpr std::uint8_t kMac[] = SHOAL_OVERLAY_MAC;
  EXPECT_TRUE(
      std::equal(std::begin(kMac), std::end(kMac), plan::overlay_gateway_mac().bytes().begin()));
}

TEST(DataPlane, NewMapsAreFilledBeforeOlderProgramsAreReplaced) {
  FakeHost host;
  FakeClock clock;
  host.attached_before = true;
  auto plane = *BpfDataPlane::open_with(config(), fake_ports(host), clock);
  EXPECT_EQ(host.host_attachments, 0U);
  (void)plane->apply(alone(), false);
  EXPECT_EQ(host.host_attachments, 0U);
  (void)plane->apply(alone(), true);
  EXPECT_EQ(host.host_attachments, 1U);
}

TEST(DataPlane, WhatIsSwitchedOffIsALimitation) {
  FakeHost host;
  FakeClock clock;
  EXPECT_THAT((*BpfDataPlane::open_with(config(), fake_ports(host), clock))->limitations(),
              testing::IsEmpty());
  Config less = config();
  less.socket_hooks = false;
  less.masquerade = false;
  EXPECT_THAT((*BpfDataPlane::open_with(less, fake_ports(host), clock))->limitations(),
              testing::ElementsAre(testing::HasSubstr("features.socket_lb is off"),
                                   testing::HasSubstr("features.masquerade is off")));
}

model::Desired with_others() {
  model::Desired desired = alone();
  desired.nodes.push_back(
      {"h2", *IpAddress::parse("198.18.0.12"), {*IpPrefix::parse("10.244.2.0/24")}, true});
  desired.nodes.push_back(
      {"h3", *IpAddress::parse("203.0.113.13"), {*IpPrefix::parse("10.244.3.0/24")}, true});
  return desired;
}

// "10.244.2.0/24 via 198.18.0.12 dev eth0", of Shoal's routes with a gateway.
std::vector<std::string> routes_of(const FakeHost& host) {
  std::vector<std::string> out;
  const FakeNetns& net = host.namespaces.at(FakeHost::kHostFd);
  for (const kernel::Route& route : net.routes)
    if (is_between_hosts(route))
      out.push_back(fmt::format("{} via {} dev {}", route.destination.to_string(),
                                route.gateway->to_string(), net.links.at(route.link).name));
  return out;
}

TEST(DataPlane, NativeRoutesLeadToHostsOnALinkAndAreTakenAwayWithThem) {
  FakeHost host;
  FakeClock clock;
  Config native = config();
  native.native_routes = true;
  const std::vector<std::string> overlay = {"10.244.1.0/24 via 169.254.1.2 dev shoal-vxlan",
                                            "10.244.2.0/24 via 169.254.1.2 dev shoal-vxlan",
                                            "10.244.3.0/24 via 169.254.1.2 dev shoal-vxlan"};
  std::vector<std::string> routed = overlay;
  routed[1] = "10.244.2.0/24 via 198.18.0.12 dev eth0";
  {
    auto plane = *BpfDataPlane::open_with(config(), fake_ports(host), clock);
    EXPECT_TRUE(plane->apply(with_others(), true).ok());
    EXPECT_THAT(routes_of(host), testing::UnorderedElementsAreArray(overlay));
    EXPECT_EQ(plane->network().pod_mtu, 1450U);
    EXPECT_THAT(plane->network().detours, testing::IsEmpty());
  }
  {
    auto plane = *BpfDataPlane::open_with(native, fake_ports(host), clock);
    const ApplyReport report = plane->apply(with_others(), true);
    EXPECT_TRUE(report.ok()) << "a host that needs the overlay is told of, and is no error";
    EXPECT_THAT(routes_of(host), testing::UnorderedElementsAreArray(routed));
    EXPECT_EQ(plane->network().pod_mtu, 1500U);
    EXPECT_EQ(plane->network().overlay_mtu, 1450U);
    EXPECT_THAT(plane->network().detours,
                testing::ElementsAre(testing::HasSubstr("host h3 (203.0.113.13)")));
    const model::DataPlane maps = *host.maps.read();
    EXPECT_TRUE(maps.host.native);
    EXPECT_TRUE(maps.nodes.at(*IpPrefix::parse("10.244.2.0/24")).native);
    EXPECT_FALSE(maps.nodes.at(*IpPrefix::parse("10.244.3.0/24")).native);
    EXPECT_THAT(plane->audit().findings, testing::IsEmpty());
    EXPECT_TRUE(plane->apply(alone(), true).ok());
    EXPECT_THAT(routes_of(host), testing::ElementsAre(overlay[0]));
    EXPECT_TRUE(plane->apply(with_others(), true).ok());
  }
  // Found again by the next agent, of the other mode.
  auto plane = *BpfDataPlane::open_with(config(), fake_ports(host), clock);
  EXPECT_TRUE(plane->apply(with_others(), true).ok());
  EXPECT_THAT(routes_of(host), testing::UnorderedElementsAreArray(overlay));
  EXPECT_FALSE(host.maps.read()->host.native);
}

TEST(DataPlane, SnatIsSaidAndTheProgramsAreToldForAsLongAsItsConnectionsMayGoOn) {
  FakeHost host;
  FakeClock clock;
  auto plane = *BpfDataPlane::open_with(config(), fake_ports(host), clock);
  model::Desired desired = with_others();
  model::ServicePort web{.ns = "default", .name = "web"};
  web.frontends = {{*IpAddress::parse("10.96.0.10"), 80}};
  web.backends = std::vector<model::Backend>{
      {.ip = *IpAddress::parse("10.244.2.1"), .port = 8080, .generation = 1, .host = "h2"}};
  desired.services = {web};
  EXPECT_TRUE(plane->apply(desired, true).ok());
  EXPECT_FALSE(host.maps.read()->host.snat);
  desired.nodes[0].snat = true;
  EXPECT_TRUE(plane->apply(desired, true).ok());
  EXPECT_FALSE(host.maps.read()->host.snat) << "what others make of this host is nothing to it";
  desired.nodes[1].snat = true;
  EXPECT_TRUE(plane->apply(desired, true).ok());
  EXPECT_TRUE(host.maps.read()->host.snat);
  EXPECT_THAT(plane->limitations(),
              testing::ElementsAre(testing::HasSubstr("drops what h2 sends")));
  EXPECT_THAT(plane->reached_by_snat(), testing::ElementsAre(*IpAddress::parse("198.18.0.12")));

  plane = *BpfDataPlane::open_with(config(), fake_ports(host), clock);
  EXPECT_TRUE(host.maps.read()->host.snat) << "found again";
  EXPECT_THAT(plane->reached_by_snat(), testing::ElementsAre(*IpAddress::parse("198.18.0.12")));
  desired.nodes[1].snat = false;
  EXPECT_TRUE(plane->apply(desired, true).ok());
  EXPECT_THAT(plane->reached_by_snat(), testing::IsEmpty());
  EXPECT_THAT(plane->limitations(), testing::IsEmpty());
  clock.advance(config().snat_linger);
  (void)plane->audit();
  EXPECT_TRUE(host.maps.read()->host.snat);
  clock.advance(std::chrono::seconds(1));
  (void)plane->audit();
  EXPECT_FALSE(host.maps.read()->host.snat);
}

TEST(DataPlane, AnMtuThatDoesNotFitIsRefused) {
  FakeHost host;
  FakeClock clock;
  Config wrong = config();
  wrong.mtu = 1500;
  const auto plane = BpfDataPlane::open_with(wrong, fake_ports(host), clock);
  ASSERT_FALSE(plane.has_value());
  EXPECT_THAT(plane.error().message(), testing::HasSubstr("it must be 576 to 1450"));
}

TEST(DataPlane, AFailingRouteIsSaidAndTriedAgain) {
  FakeHost host;
  FakeClock clock;
  auto plane = *BpfDataPlane::open_with(config(), fake_ports(host), clock);
  host.fail_rtnl = "replace_route";
  const ApplyReport report = plane->apply(alone(), true);
  ASSERT_EQ(report.errors.size(), 1U);
  EXPECT_EQ(report.errors[0].object, "route 10.244.1.0/24");
  host.fail_rtnl.clear();
  EXPECT_EQ(plane->apply(alone(), true).operations, 1U);
}

TEST(DataPlane, AFailingAnnouncementIsTriedAgain) {
  FakeHost host;
  FakeClock clock;
  auto plane = *BpfDataPlane::open_with(config(), fake_ports(host), clock);
  model::Desired desired = alone();
  desired.announced_vips = {IpAddress::v4(0xcb007101)};
  host.announcing_fails = true;
  EXPECT_FALSE(plane->apply(desired, true).ok());
  host.announcing_fails = false;
  clock.advance(config().announce_interval);
  plane->tick();
  EXPECT_EQ(host.announced.size(), 1U);
}

TEST(DataPlane, AnUplinkThatMovedIsFoundByTheAudit) {
  FakeHost host;
  FakeClock clock;
  auto plane = *BpfDataPlane::open_with(config(), fake_ports(host), clock);
  (void)plane->apply(alone(), true);
  const unsigned before = host.host_attachments;
  host.move_uplink();
  const AuditReport report = plane->audit();
  EXPECT_THAT(report.findings, testing::Contains(testing::HasSubstr("the uplinks are eth0")));
  EXPECT_EQ(host.host_attachments, before + 1);
}

TEST(DataPlane, AnUplinkThatCarriesLessIsSeenByTheNextTickAndItsMtusFollow) {
  FakeHost host;
  FakeClock clock;
  auto plane = *BpfDataPlane::open_with(config(), fake_ports(host), clock);
  (void)plane->apply(alone(), true);
  EXPECT_FALSE(plane->tick());
  host.links_stirred.uplinks = true;
  EXPECT_FALSE(plane->tick()) << "nothing that concerns the uplinks";
  kernel::Link& eth0 = std::ranges::find_if(host.namespaces[FakeHost::kHostFd].links, [](auto& at) {
                         return at.second.name == "eth0";
                       })->second;
  eth0.mtu = 1400;
  host.links_stirred.uplinks = true;
  EXPECT_FALSE(plane->tick()) << "once a second at most";
  clock.advance(std::chrono::seconds(1));
  EXPECT_TRUE(plane->tick());
  EXPECT_THAT(plane->audit().findings,
              testing::Contains(testing::HasSubstr("MTU of pods is 1350")));
  EXPECT_EQ(plane->network().pod_mtu, 1350U);
  EXPECT_EQ(plane->network().overlay_mtu, 1350U);
  EXPECT_EQ(plane->network().uplinks[0].mtu, 1400U);
  clock.advance(std::chrono::seconds(1));
  EXPECT_FALSE(plane->tick());
}

TEST(DataPlane, RoutesThatWentWithALinkAreBackWithIt) {
  FakeHost host;
  FakeClock clock;
  Config native = config();
  native.native_routes = true;
  auto plane = *BpfDataPlane::open_with(native, fake_ports(host), clock);
  EXPECT_TRUE(plane->apply(with_others(), true).ok());
  const std::vector<std::string> all = routes_of(host);
  std::erase_if(host.namespaces.at(FakeHost::kHostFd).routes, [](const kernel::Route& route) {
    return is_between_hosts(route) && !route.onlink;
  });
  ASSERT_LT(routes_of(host).size(), all.size());
  EXPECT_FALSE(plane->tick()) << "nobody has said anything";
  ASSERT_LT(routes_of(host).size(), all.size());
  host.links_stirred.routes = true;
  EXPECT_FALSE(plane->tick()) << "no audit is needed";
  EXPECT_THAT(routes_of(host), testing::UnorderedElementsAreArray(all));
  EXPECT_THAT(plane->audit().findings, testing::IsEmpty());
}

// Time goes on with every question for it: what lies between two takes as long as that.
class SlowClock final : public Clock {
public:
  MonoTime now() const override { return now_ += std::chrono::milliseconds(500); }
  WallTime wall() const override { return {}; }

private:
  mutable MonoTime now_{std::chrono::hours(1)};
};

TEST(DataPlane, LooksAtManyRoutesTakeATwentiethOfTheTime) {
  FakeHost host;
  SlowClock clock;
  auto plane = *BpfDataPlane::open_with(config(), fake_ports(host), clock);
  UplinkWatch watch;
  const auto rtnl = fake_ports(host).rtnl;
  const LinksStirred always = [] { return kernel::Stir{.uplinks = true}; };
  const HostLinks none;
  unsigned looks = 0;
  const MonoTime end = clock.now() + std::chrono::seconds(105);
  while (clock.now() < end)
    looks += watch.look(always, *rtnl, config(), none, clock).uplinks ? 1 : 0;
  EXPECT_GE(looks, 8U);
  EXPECT_LE(looks, 11U);
}

TEST(DataPlane, AFailingProgramUndoesTheWire) {
  FakeHost host;
  FakeClock clock;
  auto plane = *BpfDataPlane::open_with(config(), fake_ports(host), clock);
  host.fail_rtnl = "attach_pod";
  const std::size_t links = host.namespaces[FakeHost::kHostFd].links.size();
  EXPECT_FALSE(
      plane->attach_pod({"default/p", "u", 50, {{IpAddress::v4(0x0af40105), 1}}}).has_value());
  EXPECT_EQ(host.namespaces[FakeHost::kHostFd].links.size(), links);
  EXPECT_TRUE(host.maps.read()->pods.empty());
}

TEST(DataPlane, MasqueradeCanBeSwitchedOff) {
  FakeHost host;
  FakeClock clock;
  {
    auto plane = *BpfDataPlane::open_with(config(), fake_ports(host), clock);
    (void)plane->apply(alone(), true);
    ASSERT_TRUE(host.table.has_value());
    EXPECT_EQ(host.table->tunnel_port, config().vxlan_port);
  }
  Config off = config();
  off.masquerade = false;
  auto plane = *BpfDataPlane::open_with(off, fake_ports(host), clock);
  (void)plane->apply(alone(), true);
  EXPECT_FALSE(host.table.has_value());
}

}  // namespace
}  // namespace shoal::apply
