// SPDX-License-Identifier: Apache-2.0
// On the real kernel, in network namespaces of its own.
#include "tests/unit/netplane/kernel/nft/nft_scenarios.h"

#include "netplane/base/fs.h"
#include "netplane/base/process.h"
#include "netplane/kernel/rtnl/netns.h"
#include "netplane/kernel/rtnl/pod_net.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace shoal::kernel {
namespace {

struct KernelWorld {
  KernelWorld() : netns(std::move(*create_netns())), opened(std::move(*open_nft(netns.get()))) {}
  Nft& nft() { return *opened; }
  UniqueFd netns;
  std::unique_ptr<Nft> opened;
};
INSTANTIATE_TYPED_TEST_SUITE_P(Kernel, NftSuite, KernelWorld);

// The nft program, in a namespace.
std::string nft_program(int netns, const std::string& script) {
  const auto scope = NetnsScope::enter(netns);
  RunOptions options;
  options.input = script;
  const auto out = run_checked({"nft", "-f", "-"}, options);
  return out ? *out : "failed: " + out.error().message();
}

TEST(Nft, LivesBesideOtherTablesAndNamesThoseThatDrop) {
  KernelWorld world;
  ASSERT_EQ(nft_program(world.netns.get(),
                        "table ip filter {\n"
                        "  chain FORWARD { type filter hook forward priority 0; policy drop; }\n"
                        "  chain OUTPUT { type filter hook output priority 0; policy accept; }\n"
                        "}\n"
                        "table inet firewall {\n"
                        "  chain in { type filter hook input priority 0; policy drop; }\n"
                        "}\n"),
            "");
  const std::string before = nft_program(world.netns.get(), "list table ip filter");
  ASSERT_TRUE(world.nft().apply(kUsual));
  EXPECT_EQ(nft_program(world.netns.get(), "list table ip filter"), before);
  EXPECT_THAT(*world.nft().foreign_drops(),
              testing::ElementsAre("inet firewall in hook input policy drop",
                                   "ip filter FORWARD hook forward policy drop"));
  ASSERT_TRUE(world.nft().remove());
  EXPECT_EQ(nft_program(world.netns.get(), "list table ip filter"), before);
}

// What an operator sees: the nft program can read and print all of it.
TEST(Nft, IsShownByTheNftProgram) {
  KernelWorld world;
  ASSERT_TRUE(world.nft().apply(kUsual));
  const std::string shown = nft_program(world.netns.get(), "list table inet shoal");
  EXPECT_THAT(shown,
              testing::AllOf(testing::HasSubstr("elements = { 10.96.0.0/16, 10.244.0.0/16 }"),
                             testing::HasSubstr("ip saddr @pods ip daddr != @cluster"),
                             testing::HasSubstr("oifname != \"shl*\""),
                             testing::HasSubstr("masquerade fully-random"),
                             testing::HasSubstr("ip saddr @nodes udp dport 4789 notrack"),
                             testing::HasSubstr("ip daddr @nodes udp dport 4789 notrack")));
}

TEST(Nft, ARuleThatSomebodyAddedShows) {
  KernelWorld world;
  ASSERT_TRUE(world.nft().apply(kUsual));
  ASSERT_EQ(nft_program(world.netns.get(),
                        "add rule inet shoal postrouting iifname \"x\" ip daddr 192.0.2.1 drop"),
            "");
  EXPECT_NE(*world.nft().dump(), kUsualText);
  EXPECT_THAT(*world.nft().dump(), testing::HasSubstr("iifname \"x\" ip daddr c0000201"));
  ASSERT_TRUE(world.nft().apply(kUsual));
  EXPECT_EQ(*world.nft().dump(), kUsualText);
}

// pod 10.244.1.7 --- host --- up0 198.18.0.11 | 198.18.0.1, 198.18.0.12, 10.244.2.9 outside
class Masquerade : public testing::Test {
protected:
  void SetUp() override {
    outside_ = std::move(*open_rtnl(outside_ns_.get()));
    host_ = std::move(*open_rtnl(host_ns_.get()));
    pod_ = std::move(*open_rtnl(pod_ns_.get()));
    ASSERT_TRUE(attach_pod(*host_, *pod_, make_pod_net_spec("uid", {ip("10.244.1.7")}, 1450)));
    const auto up = host_->create_veth(
        {.name = "up0", .peer_name = "eth0", .peer_netns_fd = outside_ns_.get()});
    ASSERT_TRUE(up);
    ASSERT_TRUE(host_->set_link_up(up->index, true));
    const auto far = outside_->link("eth0");
    ASSERT_TRUE(outside_->set_link_up(far->index, true));
    ASSERT_TRUE(host_->link(up->index));  // see pod_net.cpp: the first packet is to pass
    ASSERT_TRUE(
        host_->replace_address({.link = up->index, .ip = ip("198.18.0.11"), .prefix_length = 24}));
    for (const char* address : {"198.18.0.1", "198.18.0.12", "10.244.2.9"})
      ASSERT_TRUE(
          outside_->replace_address({.link = far->index, .ip = ip(address), .prefix_length = 24}));
    ASSERT_TRUE(host_->replace_route({.destination = IpPrefix::containing(IpAddress::v4(0), 0),
                                      .link = up->index,
                                      .gateway = ip("198.18.0.1")}));
    ASSERT_TRUE(prepare_host(*host_, *find_uplinks(*host_)));
    nft_ = std::move(*open_nft(host_ns_.get()));
  }
  static IpAddress ip(const char* text) { return *IpAddress::parse(text); }
  static UniqueFd udp_in(int netns) {
    const auto scope = NetnsScope::enter(netns);
    UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const timeval timeout{5, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    return fd;
  }
  // As which address the outside sees the pod, when it sends there.
  std::string seen_at(const char* destination) {
    const UniqueFd listener = udp_in(outside_ns_.get());
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(7000);
    inet_pton(AF_INET, destination, &at.sin_addr);
    EXPECT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
    const UniqueFd sender = udp_in(pod_ns_.get());
    EXPECT_EQ(::sendto(sender.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&at), sizeof(at)), 1);
    char byte = 0;
    sockaddr_in from{};
    socklen_t size = sizeof(from);
    if (::recvfrom(listener.get(), &byte, 1, 0, reinterpret_cast<sockaddr*>(&from), &size) != 1)
      return "nothing";
    char text[INET_ADDRSTRLEN];
    return inet_ntop(AF_INET, &from.sin_addr, text, sizeof(text));
  }

  UniqueFd outside_ns_ = std::move(*create_netns());
  UniqueFd host_ns_ = std::move(*create_netns());
  UniqueFd pod_ns_ = std::move(*create_netns());
  std::unique_ptr<Rtnl> outside_;
  std::unique_ptr<Rtnl> host_;
  std::unique_ptr<Rtnl> pod_;
  std::unique_ptr<Nft> nft_;
};

TEST_F(Masquerade, PodsAreHiddenFromTheOutsideOnly) {
  ASSERT_TRUE(nft_->apply(kUsual));
  EXPECT_EQ(seen_at("198.18.0.1"), "198.18.0.11");  // the outside
  EXPECT_EQ(seen_at("198.18.0.12"), "10.244.1.7");  // another member host
  EXPECT_EQ(seen_at("10.244.2.9"), "10.244.1.7");   // another host's pod, over native routes
  ASSERT_TRUE(nft_->remove());
  EXPECT_EQ(seen_at("198.18.0.1"), "10.244.1.7");
}

// How many connections the namespace's conntrack table holds.
unsigned tracked(int netns) {
  const auto scope = NetnsScope::enter(netns);
  const auto text = read_file("/proc/sys/net/netfilter/nf_conntrack_count", 64);
  EXPECT_TRUE(text) << text.error().message();
  return static_cast<unsigned>(std::stoul(*text));
}

TEST_F(Masquerade, TheTunnelBetweenHostsIsNotTrackedInEitherDirection) {
  const auto pass = [&](int from_ns, const char* from, int to_ns, const char* to,
                        std::uint16_t port) {
    const auto at = [](const char* address, std::uint16_t number) {
      sockaddr_in out{};
      out.sin_family = AF_INET;
      out.sin_port = htons(number);
      inet_pton(AF_INET, address, &out.sin_addr);
      return out;
    };
    const UniqueFd listener = udp_in(to_ns);
    const UniqueFd sender = udp_in(from_ns);
    const sockaddr_in source = at(from, 0);
    const sockaddr_in target = at(to, port);
    const auto* raw = reinterpret_cast<const sockaddr*>(&target);
    EXPECT_EQ(::bind(listener.get(), raw, sizeof(target)), 0);
    EXPECT_EQ(::bind(sender.get(), reinterpret_cast<const sockaddr*>(&source), sizeof(source)), 0);
    EXPECT_EQ(::sendto(sender.get(), "x", 1, 0, raw, sizeof(target)), 1);
    char byte = 0;
    EXPECT_EQ(::recv(listener.get(), &byte, 1, 0), 1);
    return tracked(host_ns_.get());
  };
  const int host = host_ns_.get(), outside = outside_ns_.get();
  ASSERT_TRUE(nft_->apply(kUsual));
  EXPECT_EQ(pass(host, "198.18.0.11", outside, "198.18.0.12", 4789), 0U);
  EXPECT_EQ(pass(outside, "198.18.0.12", host, "198.18.0.11", 4789), 0U);
  // What is not between member hosts, or not the tunnel's, is tracked as ever.
  EXPECT_EQ(pass(host, "198.18.0.11", outside, "198.18.0.1", 4789), 1U);
  EXPECT_EQ(pass(outside, "198.18.0.1", host, "198.18.0.11", 4789), 2U);
  EXPECT_EQ(pass(host, "198.18.0.11", outside, "198.18.0.12", 4790), 3U);
}

}  // namespace
}  // namespace shoal::kernel
