// SPDX-License-Identifier: Apache-2.0
#include "fake_kernel.h"

#include "forwarding_maps.h"

#include <fmt/format.h>

namespace shoal::apply {
namespace {

class FakeRtnl final : public kernel::Rtnl {
public:
  FakeRtnl(FakeHost& host, int fd) : host_(host), fd_(fd) {}
  int netns_fd() const override { return fd_; }

  Result<std::vector<kernel::Link>> links() override {
    std::vector<kernel::Link> out;
    for (const auto& [index, link] : net().links)
      out.push_back(link);
    return out;
  }
  Result<kernel::Link> link(std::string_view name) override {
    for (const auto& [index, link] : net().links)
      if (link.name == name)
        return link;
    return fail(Errc::kNotFound, fmt::format("no link {}", name));
  }
  Result<std::uint32_t> link_index(std::string_view name) override {
    const auto found = link(name);
    return found ? found->index : 0;
  }
  Result<kernel::Link> link(std::uint32_t index) override {
    const auto at = net().links.find(index);
    if (at == net().links.end())
      return fail(Errc::kNotFound, fmt::format("no link {}", index));
    return at->second;
  }
  Result<kernel::Link> create_veth(const kernel::VethSpec& spec) override {
    SHOAL_TRY(may("create_veth"));
    const int peer_fd = spec.peer_netns_fd < 0 ? fd_ : spec.peer_netns_fd;
    if (link(spec.name))
      return fail(Errc::kExists, spec.name);
    const kernel::Link mine = host_.add_link(
        fd_,
        {.name = spec.name, .kind = "veth", .mac = spec.mac, .mtu = spec.mtu, .group = spec.group});
    const kernel::Link theirs = host_.add_link(
        peer_fd, {.name = spec.peer_name, .kind = "veth", .mac = spec.peer_mac, .mtu = spec.mtu});
    net().links[mine.index].peer_index = theirs.index;
    host_.namespaces[peer_fd].links[theirs.index].peer_index = mine.index;
    net().peers[mine.index] = {peer_fd, theirs.index};
    return net().links[mine.index];
  }
  Result<kernel::Link> create_vxlan(const kernel::VxlanSpec& spec) override {
    SHOAL_TRY(may("create_vxlan"));
    return host_.add_link(fd_, {.name = spec.name,
                                .kind = "vxlan",
                                .mac = spec.mac,
                                .mtu = spec.mtu,
                                .group = spec.group});
  }
  Result<> set_link_up(std::uint32_t index, bool up) override {
    net().links.at(index).up = up;
    return {};
  }
  Result<> set_link_mtu(std::uint32_t index, std::uint32_t mtu) override {
    net().links.at(index).mtu = mtu;
    return {};
  }
  Result<> set_link_mac(std::uint32_t index, const MacAddress& mac) override {
    net().links.at(index).mac = mac;
    return {};
  }
  Result<> delete_link(std::uint32_t index) override {
    SHOAL_TRY(link(index));
    host_.delete_link(fd_, index);
    return {};
  }
  Result<std::vector<kernel::LinkAddress>> addresses() override {
    return std::vector(net().addresses.begin(), net().addresses.end());
  }
  Result<> replace_address(const kernel::LinkAddress& address) override {
    net().addresses.insert(address);
    return {};
  }
  Result<> delete_address(const kernel::LinkAddress& address) override {
    net().addresses.erase(address);
    return {};
  }
  Result<std::vector<kernel::Route>> routes(kernel::Family family) override {
    std::vector<kernel::Route> out;
    for (const kernel::Route& route : net().routes)
      if (route.destination.family() == family)
        out.push_back(route);
    return out;
  }
  Result<> replace_route(const kernel::Route& route) override {
    SHOAL_TRY(may("replace_route"));
    std::erase_if(net().routes, [&](const auto& r) { return r.destination == route.destination; });
    net().routes.insert(route);
    return {};
  }
  Result<> delete_route(const kernel::Route& route) override {
    SHOAL_TRY(may("delete_route"));
    if (std::erase_if(net().routes,
                      [&](const auto& r) { return r.destination == route.destination; }) == 0)
      return fail(Errc::kNotFound, "no route");
    return {};
  }
  Result<std::vector<kernel::Neighbour>> neighbours() override {
    return std::vector(net().neighbours.begin(), net().neighbours.end());
  }
  Result<> replace_neighbour(const kernel::Neighbour& neighbour) override {
    net().neighbours.insert(neighbour);
    return {};
  }
  Result<std::vector<kernel::Proxy>> proxies() override {
    return std::vector(net().proxies.begin(), net().proxies.end());
  }
  Result<> replace_proxy(const kernel::Proxy& proxy) override {
    net().proxies.insert(proxy);
    return {};
  }
  Result<> delete_proxy(const kernel::Proxy& proxy) override {
    net().proxies.erase(proxy);
    return {};
  }
  Result<> delete_neighbour(const kernel::Neighbour& neighbour) override {
    net().neighbours.erase(neighbour);
    return {};
  }
  Result<> set_sysctl(std::string_view key, std::string_view value) override {
    net().sysctls[std::string(key)] = value;
    return {};
  }
  Result<std::string> sysctl(std::string_view key) override {
    return net().sysctls[std::string(key)];
  }

private:
  FakeNetns& net() { return host_.namespaces[fd_]; }
  Result<> may(std::string_view operation) const {
    if (host_.fail_rtnl == operation)
      return fail(Errc::kIo, fmt::format("{}: injected fault", operation));
    return {};
  }
  FakeHost& host_;
  int fd_;
};

class FakeNft final : public kernel::Nft {
public:
  explicit FakeNft(FakeHost& host) : host_(host) {}
  Result<> apply(const kernel::NftRules& rules) override {
    host_.table = rules;
    host_.foreign_table_text.clear();
    return {};
  }
  Result<std::string> dump() override {
    if (!host_.foreign_table_text.empty())
      return host_.foreign_table_text;
    return host_.table ? kernel::render(*host_.table) : "";
  }
  Result<> remove() override {
    host_.table.reset();
    return {};
  }
  Result<std::vector<std::string>> foreign_drops() override { return std::vector<std::string>(); }

private:
  FakeHost& host_;
};

class FakePrograms final : public Programs {
public:
  explicit FakePrograms(FakeHost& host) : host_(host) {}
  Result<> attach_host(const std::vector<kernel::Uplink>&, const kernel::Link&) override {
    host_.host_attachments++;
    return {};
  }
  Result<> attach_pod(std::uint32_t ifindex) override {
    if (host_.fail_rtnl == "attach_pod")
      return fail(Errc::kIo, "attach_pod: injected fault");
    host_.attached_pods.insert(ifindex);
    return {};
  }
  Result<> detach_pod(std::uint32_t ifindex) override {
    host_.attached_pods.erase(ifindex);
    return {};
  }
  Result<> forget_pod(std::uint32_t ifindex) override {
    host_.attached_pods.erase(ifindex);
    return {};
  }
  Result<bool> attached_before() const override { return host_.attached_before; }
  Result<> sweep() override { return {}; }
  std::vector<std::string> limitations() const override { return {}; }

private:
  FakeHost& host_;
};

class FakeAnnouncer final : public VipAnnouncer {
public:
  explicit FakeAnnouncer(FakeHost& host) : host_(host) {}
  Result<> announce(const IpAddress& ip) override {
    if (host_.announcing_fails)
      return fail(Errc::kUnavailable, "the link is down");
    host_.announced.push_back(ip);
    return {};
  }
  Result<> listen_for(const IpAddress& ip) override {
    host_.listened_for.insert(ip);
    return {};
  }
  void ignore(const IpAddress& ip) override { host_.listened_for.erase(ip); }

private:
  FakeHost& host_;
};

}  // namespace

FakeHost::FakeHost() {
  add_link(kHostFd, {.name = "lo", .mtu = 65536, .up = true});
  const kernel::Link eth0 = add_link(kHostFd, {.name = "eth0",
                                               .mac = MacAddress::from_name("eth0"),
                                               .mtu = 1500,
                                               .up = true,
                                               .carrier = true});
  namespaces[kHostFd].addresses.insert(
      {.link = eth0.index, .ip = IpAddress::v4(0xc612000b), .prefix_length = 24});
}

kernel::Link& FakeHost::add_link(int netns_fd, kernel::Link link) {
  link.index = next_index++;
  return namespaces[netns_fd].links[link.index] = link;
}

// What hangs on a link goes with it, and so does a veth's other end.
void FakeHost::delete_link(int netns_fd, std::uint32_t index) {
  FakeNetns& net = namespaces[netns_fd];
  net.links.erase(index);
  std::erase_if(net.addresses, [&](const auto& a) { return a.link == index; });
  std::erase_if(net.routes, [&](const auto& r) { return r.link == index; });
  std::erase_if(net.neighbours, [&](const auto& n) { return n.link == index; });
  attached_pods.erase(index);
  if (const auto peer = net.peers.find(index); peer != net.peers.end()) {
    const auto [fd, other] = peer->second;
    net.peers.erase(peer);
    delete_link(fd, other);
  }
}

void FakeHost::move_uplink() {
  for (const auto& [index, link] : std::map(namespaces[kHostFd].links))
    if (link.name == "eth0")
      delete_link(kHostFd, index);
  const kernel::Link eth0 = add_link(kHostFd, {.name = "eth0",
                                               .mac = MacAddress::from_name("new"),
                                               .mtu = 1500,
                                               .up = true,
                                               .carrier = true});
  namespaces[kHostFd].addresses.insert(
      {.link = eth0.index, .ip = IpAddress::v4(0xc612000b), .prefix_length = 24});
}

KernelPorts fake_ports(FakeHost& host) {
  KernelPorts ports;
  ports.rtnl = std::make_unique<FakeRtnl>(host, FakeHost::kHostFd);
  ports.maps = std::make_unique<ForwardingMaps>(host.maps);
  ports.nft = std::make_unique<FakeNft>(host);
  ports.programs = std::make_unique<FakePrograms>(host);
  ports.open_announcer =
      [&host](const std::vector<kernel::Uplink>&) -> Result<std::unique_ptr<VipAnnouncer>> {
    return std::make_unique<FakeAnnouncer>(host);
  };
  ports.links_stirred = [&host] { return std::exchange(host.links_stirred, {}); };
  ports.remove_nftables = [] { return Result<>(); };
  ports.open_pod_rtnl = [&host](int fd) -> Result<std::unique_ptr<kernel::Rtnl>> {
    if (host.namespaces[fd].links.empty())
      host.add_link(fd, {.name = "lo", .mtu = 65536});
    return std::make_unique<FakeRtnl>(host, fd);
  };
  return ports;
}

}  // namespace shoal::apply
