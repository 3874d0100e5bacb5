// SPDX-License-Identifier: Apache-2.0
// The scenarios on the kernel, and what only a kernel can show: packets that pass, and how long it
// takes.
#include "netplane/base/process.h"
#include "tests/unit/netplane/kernel/rtnl/rtnl_scenarios.h"

#include "netplane/kernel/rtnl/garp.h"
#include "netplane/kernel/rtnl/link_watch.h"

#include <arpa/inet.h>
#include <chrono>
#include <fcntl.h>
#include <fstream>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace shoal::kernel {
namespace {

INSTANTIATE_TYPED_TEST_SUITE_P(Kernel, RtnlSuite, RealWorld);

class KernelOnly : public RtnlSuite<RealWorld> {
protected:
  void ip_command(const std::vector<std::string>& words) {
    const auto scope = NetnsScope::enter(host_->netns_fd());
    std::vector<std::string> argv{"ip"};
    argv.insert(argv.end(), words.begin(), words.end());
    EXPECT_OK(run_checked(argv));
  }
};

TEST(Netns, AScopeComesBackAndNestsAndSeesItsNamespace) {
  const auto home = open_current_netns();
  ASSERT_TRUE(home);
  auto one = create_netns();
  auto two = create_netns();
  ASSERT_TRUE(one && two);
  const auto inode = [] { return *netns_inode(open_current_netns()->get()); };
  const auto home_inode = inode();
  {
    const auto outer = NetnsScope::enter(one->get());
    ASSERT_TRUE(outer);
    EXPECT_EQ(inode(), *netns_inode(one->get()));
    {
      const auto inner = NetnsScope::enter(two->get());
      EXPECT_EQ(inode(), *netns_inode(two->get()));
    }
    EXPECT_EQ(inode(), *netns_inode(one->get()));
  }
  EXPECT_EQ(inode(), home_inode);
  EXPECT_FAILS(open_netns_at("/proc/self/ns/mnt"), Errc::kInvalid);
  EXPECT_FAILS(open_netns_at("/no/such/file"), Errc::kNotFound);
}

TEST_F(KernelOnly, AnOverlayWhosePortIsTakenSaysSoAndComesUpWhenItIsFree) {
  const VxlanSpec spec{.name = "shoal-vxlan", .mac = mac("02:00:00:00:0e:01"), .mtu = 1450};
  {
    const auto scope = NetnsScope::enter(world_->host_fd());
    const UniqueFd other(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(spec.port);
    ASSERT_EQ(::bind(other.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
    const auto refused = ensure_overlay(*host_, spec);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(),
                testing::AllOf(testing::HasSubstr("another program has UDP port 4789"),
                               testing::HasSubstr("network.vxlan_port")));
  }
  const auto made = ensure_overlay(*host_, spec);
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_TRUE(made->up);
}

// pod --- host: a datagram from the pod to the host and back, without any ARP.
TEST_F(KernelOnly, APodAndItsHostReachEachOtherWithoutArp) {
  ASSERT_TRUE(attach_pod(*host_, *pod_, kPod));
  ASSERT_TRUE(host_->set_link_up(host_->link("lo")->index, true));
  ASSERT_TRUE(host_->replace_address({.link = host_->link("lo")->index, .ip = ip("192.0.2.1")}));
  const auto socket_in = [](int netns, const char* address) {
    const auto scope = NetnsScope::enter(netns);
    UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(7000);
    inet_pton(AF_INET, address, &at.sin_addr);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
    const timeval timeout{5, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    return fd;
  };
  const UniqueFd on_host = socket_in(host_->netns_fd(), "192.0.2.1");
  const UniqueFd in_pod = socket_in(pod_->netns_fd(), "10.244.1.7");
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(7000);
  inet_pton(AF_INET, "192.0.2.1", &to.sin_addr);
  ASSERT_EQ(::sendto(in_pod.get(), "ping", 4, 0, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 4);
  char buffer[16];
  sockaddr_in from{};
  socklen_t size = sizeof(from);
  ASSERT_EQ(::recvfrom(on_host.get(), buffer, sizeof(buffer), 0, reinterpret_cast<sockaddr*>(&from),
                       &size),
            4);
  char text[INET_ADDRSTRLEN];
  EXPECT_STREQ(inet_ntop(AF_INET, &from.sin_addr, text, sizeof(text)), "10.244.1.7");
  ASSERT_EQ(::sendto(on_host.get(), "pong", 4, 0, reinterpret_cast<sockaddr*>(&from), size), 4);
  EXPECT_EQ(::recv(in_pod.get(), buffer, sizeof(buffer), 0), 4);
}

TEST_F(KernelOnly, ADeletedLinkIsGoneLongBeforeTheKernelsAnswer) {
  ASSERT_TRUE(attach_pod(*host_, *pod_, kPod));
  ASSERT_TRUE(detach_pod(*host_, kPod.host_link));  // the helper is up from here on
  ASSERT_TRUE(attach_pod(*host_, *pod_, kPod));
  const auto before = std::chrono::steady_clock::now();
  ASSERT_TRUE(detach_pod(*host_, kPod.host_link));
  const auto took = std::chrono::steady_clock::now() - before;
  RecordProperty("detach_us", static_cast<int>(took / std::chrono::microseconds(1)));
  EXPECT_FAILS(host_->link(kPod.host_link), Errc::kNotFound);
}

TEST_F(KernelOnly, TheKernelsOwnWordsAreInTheError) {
  const auto made = host_->create_veth({.name = "v0", .peer_name = "v1"});
  ASSERT_TRUE(made);
  const auto refused = host_->set_link_mtu(made->index, 1);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), testing::HasSubstr("mtu less than device minimum"));
  EXPECT_EQ(refused.error().sys_errno(), EINVAL);
}

TEST_F(KernelOnly, PodsAreAttachedInAMillisecondOrSo) {
  constexpr int kPods = 20;
  std::vector<double> milliseconds;
  for (int i = 0; i < kPods; ++i) {
    const auto netns = create_netns();
    const auto before = std::chrono::steady_clock::now();
    const auto pod = open_rtnl(netns->get());
    ASSERT_TRUE(attach_pod(*host_, **pod,
                           make_pod_net_spec(fmt::format("uid-{}", i),
                                             {ip("10.244.1.1").plus(static_cast<unsigned>(i)),
                                              ip("fd10:244::1").plus(static_cast<unsigned>(i))},
                                             1450)));
    milliseconds.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - before)
            .count());
  }
  std::ranges::sort(milliseconds);
  fmt::print("attach: median {:.2f} ms, max {:.2f} ms\n", milliseconds[kPods / 2],
             milliseconds.back());
  EXPECT_LT(milliseconds[kPods / 2], 50.0);  // a sanity bound, not the figure: machines are shared
}

TEST_F(KernelOnly, GratuitousArpArrivesAtTheOtherEnd) {
  ASSERT_TRUE(attach_pod(*host_, *pod_, kPod));
  UniqueFd listener;
  {
    const auto scope = NetnsScope::enter(pod_->netns_fd());
    listener = UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ARP)));
    const timeval timeout{5, 0};
    ::setsockopt(listener.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  }
  const Link link = *host_->link(kPod.host_link);
  auto announcer = Announcer::open(host_->netns_fd(), link.index, link.mac);
  ASSERT_TRUE(announcer);
  ASSERT_TRUE(announcer->announce(ip("198.18.0.210")));
  for (const std::string& wanted : announcement_frames(ip("198.18.0.210"), link.mac)) {
    char buffer[256];
    const ssize_t n = ::recv(listener.get(), buffer, sizeof(buffer), 0);
    ASSERT_GT(n, 0);
    EXPECT_EQ(std::string(buffer, static_cast<std::size_t>(n)), wanted);
  }
  ASSERT_TRUE(host_->set_link_up(link.index, false));
  EXPECT_FAILS(announcer->announce(ip("198.18.0.210")), Errc::kUnavailable);
}

// What ends soon, or may be somebody else's, is told from what lasts; and so is a port from its
// master.
TEST_F(KernelOnly, LinksAndAddressesAreReadWithWhatTheyAre) {
  ASSERT_TRUE(host_->create_veth({.name = "v0", .peer_name = "v1"}));
  ip_command({"link", "add", "br0", "type", "bridge"});
  ip_command({"link", "set", "v1", "master", "br0"});
  EXPECT_EQ(host_->link("v1")->master, host_->link("br0")->index);
  EXPECT_EQ(host_->link("v0")->master, 0U);
  ip_command({"addr", "add", "2001:db8::1/64", "dev", "v0", "nodad"});
  ip_command({"addr", "add", "2001:db8::2/64", "dev", "v0", "nodad", "preferred_lft", "0"});
  ip_command(
      {"addr", "add", "2001:db8::3/64", "dev", "v0"});  // the link is down: it stays tentative
  ip_command({"addr", "add", "192.0.2.1/24", "dev", "v0"});
  ip_command({"addr", "add", "192.0.2.2/24", "dev", "v0"});  // a second one of a subnet is no less
  std::map<std::string, bool> lasting;
  const auto addresses = host_->addresses();
  ASSERT_TRUE(addresses);
  for (const LinkAddress& address : *addresses)
    if (address.scope == Scope::kGlobal)
      lasting[address.ip.to_string()] = address.lasting;
  EXPECT_EQ(lasting, (std::map<std::string, bool>{{"192.0.2.1", true},
                                                  {"192.0.2.2", true},
                                                  {"2001:db8::1", true},
                                                  {"2001:db8::2", false},
                                                  {"2001:db8::3", false}}));
  EXPECT_OK(host_->set_link_up(host_->link("v0")->index, true));
  ip_command({"route", "add", "10.9.0.0/16", "dev", "v0", "advmss", "1360"});
  const auto routes = *host_->routes(Family::kV4);
  const auto route = std::ranges::find(routes, prefix("10.9.0.0/16"), &Route::destination);
  ASSERT_NE(route, routes.end());
  EXPECT_EQ(route->advmss, 1360U);
}

TEST_F(KernelOnly, ARouteWithSeveralNextHopsIsListedForEach) {
  ASSERT_TRUE(host_->create_veth({.name = "v0", .peer_name = "v1"}));
  for (const auto& [name, n] : {std::pair("v0", "1"), std::pair("v1", "2")}) {
    ASSERT_TRUE(host_->set_link_up(host_->link(name)->index, true));
    ip_command({"addr", "add", fmt::format("192.0.{}.1/24", n), "dev", name});
    ip_command({"addr", "add", fmt::format("2001:db8:{}::1/64", n), "dev", name, "nodad"});
  }
  ip_command(
      {"route", "add", "default", "nexthop", "via", "192.0.1.9", "nexthop", "via", "192.0.2.9"});
  ip_command({"-6", "route", "add", "default", "nexthop", "via", "2001:db8:1::9", "nexthop", "via",
              "2001:db8:2::9"});
  for (const Family family : {Family::kV4, Family::kV6}) {
    std::vector<std::pair<std::uint32_t, std::string>> hops;
    const auto routes = *host_->routes(family);
    for (const Route& route : routes)
      if (route.destination.length() == 0)
        hops.emplace_back(route.link, route.gateway.value_or(IpAddress()).to_string());
    const bool v4 = family == Family::kV4;
    EXPECT_THAT(hops,
                testing::UnorderedElementsAre(
                    testing::Pair(host_->link("v0")->index, v4 ? "192.0.1.9" : "2001:db8:1::9"),
                    testing::Pair(host_->link("v1")->index, v4 ? "192.0.2.9" : "2001:db8:2::9")));
  }
  EXPECT_EQ(find_uplinks(*host_)->size(), 2U);
}

TEST_F(KernelOnly, WhatHasNoEthernetIsToldFromWhatHas) {
  ip_command({"tuntap", "add", "dev", "tun0", "mode", "tun"});
  ip_command({"tuntap", "add", "dev", "tap0", "mode", "tap"});
  ASSERT_TRUE(host_->create_veth({.name = "v0", .peer_name = "v1"}));
  EXPECT_FALSE(host_->link("tun0")->ethernet);
  for (const char* name : {"tap0", "v0"})
    EXPECT_TRUE(host_->link(name)->ethernet) << name;
}

TEST_F(KernelOnly, AWatchSaysWhatMayConcernUplinksAndNotWhatPodsDo) {
  auto watch = LinkWatch::open(host_->netns_fd());
  ASSERT_TRUE(watch) << watch.error().message();
  EXPECT_FALSE(watch->stirred());
  ASSERT_TRUE(attach_pod(*host_, *pod_, kDualPod));
  ASSERT_TRUE(detach_pod(*host_, kDualPod.host_link));
  EXPECT_FALSE(watch->stirred());
  ASSERT_TRUE(host_->create_veth({.name = "v0", .peer_name = "v1"}));
  EXPECT_TRUE(watch->stirred());
  EXPECT_FALSE(watch->stirred());
  const std::uint32_t link = host_->link("v0")->index;
  ASSERT_TRUE(host_->set_link_up(link, true));
  EXPECT_TRUE(watch->stirred());
  ASSERT_TRUE(host_->replace_address({.link = link, .ip = ip("192.0.2.1"), .prefix_length = 24}));
  EXPECT_TRUE(watch->stirred());
  Route route{.destination = prefix("10.9.0.0/16"), .link = link, .gateway = ip("192.0.2.9")};
  ASSERT_TRUE(host_->replace_route(route));
  EXPECT_FALSE(watch->stirred()) << "Shoal's own";
  ASSERT_TRUE(host_->delete_route(route));
  Stir stir = watch->stirred();
  EXPECT_TRUE(stir.routes && !stir.uplinks) << "which somebody has taken away";
  route.protocol = 4;
  ASSERT_TRUE(host_->replace_route(route));
  ip_command({"route", "add", "10.10.0.0/16", "nexthop", "via", "192.0.2.9", "nexthop", "via",
              "192.0.2.8"});
  EXPECT_FALSE(watch->stirred()) << "a routing daemon's";
  route.destination = IpPrefix::containing(IpAddress::v4(0), 0);
  ASSERT_TRUE(host_->replace_route(route));
  stir = watch->stirred();
  EXPECT_TRUE(stir.uplinks && !stir.routes) << "the default route";
  ASSERT_TRUE(host_->replace_route({.destination = prefix("10.11.0.0/16"),
                                    .link = link,
                                    .scope = Scope::kLink,
                                    .mtu = 1400,
                                    .protocol = 4}));
  EXPECT_TRUE(watch->stirred().uplinks) << "on the link";
  ASSERT_TRUE(host_->set_link_mtu(link, 1400));
  stir = watch->stirred();
  EXPECT_TRUE(stir.uplinks && stir.routes);
}

// More than one socket is let join: many announced IPv6 addresses.
TEST_F(KernelOnly, AnyNumberOfSolicitedNodeGroupsIsListenedTo) {
  constexpr unsigned kGroups = 3000;
  const auto link = host_->create_veth({.name = "v0", .peer_name = "v1"});
  ASSERT_TRUE(link);
  ASSERT_TRUE(host_->set_link_up(link->index, true));
  const auto joined = [&] {
    const auto scope = NetnsScope::enter(host_->netns_fd());
    std::ifstream file("/proc/thread-self/net/igmp6");
    std::size_t lines = 0;
    for (std::string line; std::getline(file, line);)
      lines += line.find(" v0 ") != std::string::npos &&
               line.find("ff0200000000000000000001ff") != std::string::npos;
    return lines;
  };
  const std::size_t before = joined();
  SolicitedGroups groups(UniqueFd(::fcntl(host_->netns_fd(), F_DUPFD_CLOEXEC, 0)), link->index);
  const auto group = [](unsigned n) { return solicited_node_group(ip("2001:db8::").plus(n)); };
  for (unsigned n = 1; n <= kGroups; n++)
    EXPECT_OK(groups.join(group(n)));
  EXPECT_EQ(joined() - before, kGroups);
  EXPECT_EQ(groups.sockets(),
            (kGroups + SolicitedGroups::kGroupsPerSocket - 1) / SolicitedGroups::kGroupsPerSocket);
  // Two users of one group; room that is made is used again.
  EXPECT_OK(groups.join(group(1)));
  EXPECT_FALSE(groups.leave(group(1)));
  EXPECT_TRUE(groups.leave(group(1)));
  EXPECT_FALSE(groups.leave(group(1)));
  EXPECT_EQ(joined() - before, kGroups - 1);
  EXPECT_OK(groups.join(group(kGroups + 1)));
  EXPECT_EQ(joined() - before, kGroups);
}

TEST_F(KernelOnly, TheHostIsMadeToForward) {
  ASSERT_TRUE(host_->create_veth({.name = "up0", .peer_name = "up1"}));
  ASSERT_TRUE(prepare_host(*host_, {Uplink{.name = "up0"}}));
  EXPECT_EQ(*host_->sysctl("ipv4/ip_forward"), "1");
  EXPECT_EQ(*host_->sysctl("ipv4/conf/up0/rp_filter"), "2");
  EXPECT_EQ(*pod_->sysctl("ipv4/ip_forward"), "0");
  EXPECT_EQ(*host_->sysctl("ipv6/conf/all/forwarding"), "0");
  EXPECT_FAILS(host_->set_sysctl("../kernel/panic", "1"), Errc::kInvalid);
  EXPECT_FAILS(host_->sysctl("ipv4/conf/no-such/rp_filter"), Errc::kNotFound);
}

// A router listens to no other router unless it is told to: the uplink may live by that.
TEST_F(KernelOnly, AHostThatForwardsIpv6GoesOnListeningToRouters) {
  ASSERT_TRUE(host_->create_veth({.name = "up0", .peer_name = "up1"}));
  ASSERT_TRUE(host_->set_sysctl("ipv6/conf/up0/accept_ra", "1"));
  ASSERT_TRUE(host_->set_sysctl("ipv6/conf/up1/accept_ra", "1"));
  ASSERT_TRUE(prepare_host(*host_, {Uplink{.name = "up0"}}, true));
  EXPECT_EQ(*host_->sysctl("ipv6/conf/all/forwarding"), "1");
  EXPECT_EQ(*host_->sysctl("ipv6/conf/up0/accept_ra"), "2");
  EXPECT_EQ(*host_->sysctl("ipv6/conf/up1/accept_ra"), "2");
  ASSERT_TRUE(host_->set_sysctl("ipv6/conf/up0/accept_ra", "0"));
  ASSERT_TRUE(prepare_host(*host_, {Uplink{.name = "up0"}}, true));
  EXPECT_EQ(*host_->sysctl("ipv6/conf/up0/accept_ra"), "0");  // who does not listen is not made to
}

TEST_F(KernelOnly, Ipv6IsSwitchedOnForPodsWhereverItWasOff) {
  ASSERT_TRUE(host_->set_sysctl("ipv6/conf/default/disable_ipv6", "1"));
  ASSERT_TRUE(pod_->set_sysctl("ipv6/conf/all/disable_ipv6", "1"));
  const auto attached = attach_pod(*host_, *pod_, kDualPod);
  ASSERT_TRUE(attached) << attached.error().message();
  EXPECT_EQ(lines_about(*dump_network(*pod_), "eth0"), std::string(kDualPodSide));
}

}  // namespace
}  // namespace shoal::kernel
