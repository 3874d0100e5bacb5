// SPDX-License-Identifier: Apache-2.0
// Rtnl in memory. A FakeNet holds namespaces; FakeRtnl is one of them seen through the interface.
// It keeps the rules of the kernel that Shoal's code leans on: names are unique, routes need a link
// that is up and a gateway that is reachable, what hangs on a link goes with it, and a veth's other
// end too.
//
// Faults: fail_at(3) makes the third call that changes something, in any namespace, fail with
// nothing changed.
#pragma once

#include "netplane/kernel/rtnl/rtnl.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace shoal {

class FakeNet {
public:
  struct Namespace {
    std::vector<kernel::Link> links;
    std::map<std::uint32_t, int> peer_namespaces;  // link -> fd of the namespace of its other end
    std::vector<kernel::LinkAddress> addresses;
    std::vector<kernel::Route> routes;
    std::vector<kernel::Neighbour> neighbours;
    std::set<kernel::Proxy> proxies;
    std::map<std::string, std::string, std::less<>> sysctls;
  };

  // A namespace with lo, down. The number stands for its fd; it is none of the process's.
  int make_namespace() {
    const int fd = kFirstFd + static_cast<int>(namespaces_.size());
    Namespace fresh;
    fresh.links.push_back({.index = 1, .name = "lo", .mtu = 65536});
    namespaces_.push_back(std::make_unique<Namespace>(std::move(fresh)));
    return fd;
  }
  Namespace& at(int fd) { return *namespaces_.at(static_cast<std::size_t>(fd - kFirstFd)); }

  // The n-th change from now (1 is the next) fails; then all is well again.
  void fail_at(unsigned n, Errc code = Errc::kIo) {
    fail_in_ = n;
    fail_code_ = code;
  }
  unsigned changes() const { return changes_; }

  Result<> change(std::string_view what) {
    ++changes_;
    if (fail_in_ != 0 && --fail_in_ == 0)
      return fail(fail_code_, fmt::format("{}: injected fault", what));
    return {};
  }
  std::uint32_t next_index() { return next_index_++; }

private:
  static constexpr int kFirstFd = 100'000;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  unsigned fail_in_ = 0;
  Errc fail_code_ = Errc::kIo;
  unsigned changes_ = 0;
  std::uint32_t next_index_ = 2;
};

class FakeRtnl final : public kernel::Rtnl {
public:
  FakeRtnl(FakeNet& net, int fd) : net_(net), fd_(fd) {}

  int netns_fd() const override { return fd_; }

  Result<std::vector<kernel::Link>> links() override {
    auto result = here().links;
    std::ranges::sort(result);
    return result;
  }
  Result<kernel::Link> link(std::string_view name) override {
    for (const kernel::Link& link : here().links)
      if (link.name == name)
        return link;
    return fail(Errc::kNotFound, fmt::format("link {}: there is none", name));
  }
  Result<std::uint32_t> link_index(std::string_view name) override {
    const auto found = link(name);
    return found ? found->index : 0;
  }
  Result<kernel::Link> link(std::uint32_t index) override {
    if (const kernel::Link* found = find(index))
      return *found;
    return no_link(index);
  }

  Result<kernel::Link> create_veth(const kernel::VethSpec& spec) override {
    const int peer_fd = spec.peer_netns_fd < 0 ? fd_ : spec.peer_netns_fd;
    SHOAL_TRY(check_new_name(here(), spec.name));
    SHOAL_TRY(check_new_name(net_.at(peer_fd), spec.peer_name));
    SHOAL_TRY(net_.change("create veth"));
    kernel::Link mine{.index = net_.next_index(),
                      .name = spec.name,
                      .kind = "veth",
                      .mac = spec.mac,
                      .mtu = spec.mtu,
                      .group = spec.group};
    kernel::Link other{.index = net_.next_index(),
                       .name = spec.peer_name,
                       .kind = "veth",
                       .mac = spec.peer_mac,
                       .mtu = spec.mtu};
    mine.peer_index = other.index;
    other.peer_index = mine.index;
    here().links.push_back(mine);
    net_.at(peer_fd).links.push_back(other);
    here().peer_namespaces[mine.index] = peer_fd;
    net_.at(peer_fd).peer_namespaces[other.index] = fd_;
    return mine;
  }

  Result<kernel::Link> create_vxlan(const kernel::VxlanSpec& spec) override {
    SHOAL_TRY(check_new_name(here(), spec.name));
    SHOAL_TRY(net_.change("create vxlan"));
    here().links.push_back({.index = net_.next_index(),
                            .name = spec.name,
                            .kind = "vxlan",
                            .mac = spec.mac,
                            .mtu = spec.mtu,
                            .group = spec.group});
    return here().links.back();
  }

  Result<> set_link_up(std::uint32_t index, bool up) override {
    return edit(index, "set link up", [&](kernel::Link& link) {
      link.up = up;
      if (!up)
        std::erase_if(here().routes, [&](const auto& route) { return route.link == index; });
      refresh_carrier(link);
    });
  }
  Result<> set_link_mtu(std::uint32_t index, std::uint32_t mtu) override {
    return edit(index, "set link mtu", [&](kernel::Link& link) { link.mtu = mtu; });
  }
  Result<> set_link_mac(std::uint32_t index, const MacAddress& mac) override {
    return edit(index, "set link mac", [&](kernel::Link& link) { link.mac = mac; });
  }

  Result<> delete_link(std::uint32_t index) override {
    const kernel::Link* found = find(index);
    if (found == nullptr)
      return no_link(index);
    if (found->name == "lo")
      return fail(Errc::kUnsupported, "delete link lo");
    SHOAL_TRY(net_.change("delete link"));
    const std::uint32_t peer = found->peer_index;
    const auto where = here().peer_namespaces.find(index);
    if (where != here().peer_namespaces.end())
      forget(net_.at(where->second), peer);
    forget(here(), index);
    return {};
  }

  Result<std::vector<kernel::LinkAddress>> addresses() override {
    auto result = here().addresses;
    std::ranges::sort(result);
    return result;
  }
  Result<> replace_address(const kernel::LinkAddress& address) override {
    if (find(address.link) == nullptr)
      return no_link(address.link);
    SHOAL_TRY(net_.change("set address"));
    std::erase_if(here().addresses, [&](const auto& old) { return same(old, address); });
    here().addresses.push_back(address);
    return {};
  }
  Result<> delete_address(const kernel::LinkAddress& address) override {
    return drop(here().addresses, "address", [&](const auto& old) { return same(old, address); });
  }

  Result<std::vector<kernel::Route>> routes(kernel::Family family) override {
    std::vector<kernel::Route> result;
    for (const kernel::Route& route : here().routes)
      if (route.destination.is_v4() == (family == kernel::Family::kV4))
        result.push_back(route);
    std::ranges::sort(result);
    return result;
  }
  Result<> replace_route(const kernel::Route& route) override {
    const kernel::Link* link = find(route.link);
    if (link == nullptr)
      return no_link(route.link);
    if (!link->up)
      return fail(Errc::kIo,
                  fmt::format("set route {}: the link is down", route.destination.to_string()));
    if (route.gateway && !route.onlink && !reachable(*route.gateway, route.link))
      return fail(Errc::kUnavailable,
                  fmt::format("set route {}: gateway {} is unreachable",
                              route.destination.to_string(), route.gateway->to_string()));
    SHOAL_TRY(net_.change("set route"));
    std::erase_if(here().routes, [&](const auto& old) { return same(old, route); });
    here().routes.push_back(route);
    return {};
  }
  Result<> delete_route(const kernel::Route& route) override {
    return drop(here().routes, "route", [&](const auto& old) {
      return same(old, route) && (route.link == 0 || route.link == old.link);
    });
  }

  Result<std::vector<kernel::Neighbour>> neighbours() override {
    auto result = here().neighbours;
    std::ranges::sort(result);
    return result;
  }
  Result<> replace_neighbour(const kernel::Neighbour& neighbour) override {
    const kernel::Link* link = find(neighbour.link);
    if (link == nullptr)
      return no_link(neighbour.link);
    SHOAL_TRY(net_.change("set neighbour"));
    std::erase_if(here().neighbours, [&](const auto& old) { return same(old, neighbour); });
    here().neighbours.push_back(neighbour);
    return {};
  }
  Result<std::vector<kernel::Proxy>> proxies() override {
    return std::vector(here().proxies.begin(), here().proxies.end());
  }
  Result<> replace_proxy(const kernel::Proxy& proxy) override {
    if (find(proxy.link) == nullptr)
      return no_link(proxy.link);
    SHOAL_TRY(net_.change("set proxy entry"));
    here().proxies.insert(proxy);
    return {};
  }
  Result<> delete_proxy(const kernel::Proxy& proxy) override {
    if (!here().proxies.contains(proxy))
      return fail(Errc::kNotFound, "delete proxy entry: there is none");
    SHOAL_TRY(net_.change("delete proxy entry"));
    here().proxies.erase(proxy);
    return {};
  }
  Result<> delete_neighbour(const kernel::Neighbour& neighbour) override {
    return drop(here().neighbours, "neighbour",
                [&](const auto& old) { return same(old, neighbour); });
  }

  Result<> set_sysctl(std::string_view key, std::string_view value) override {
    SHOAL_TRY(net_.change("set sysctl"));
    here().sysctls.insert_or_assign(std::string(key), std::string(value));
    return {};
  }
  Result<std::string> sysctl(std::string_view key) override {
    const auto found = here().sysctls.find(key);
    if (found == here().sysctls.end())
      return fail(Errc::kNotFound, fmt::format("sysctl {}", key));
    return found->second;
  }

private:
  FakeNet::Namespace& here() { return net_.at(fd_); }

  kernel::Link* find(std::uint32_t index) {
    for (kernel::Link& link : here().links)
      if (link.index == index)
        return &link;
    return nullptr;
  }
  static std::unexpected<Error> no_link(std::uint32_t index) {
    return fail(Errc::kNotFound, fmt::format("link {}: there is none", index));
  }
  static Result<> check_new_name(const FakeNet::Namespace& space, const std::string& name) {
    if (name.empty() || name.size() > kernel::kLinkNameMax)
      return fail(Errc::kInvalid, fmt::format("link name '{}'", name));
    for (const kernel::Link& link : space.links)
      if (link.name == name)
        return fail(Errc::kExists, fmt::format("link {} exists", name));
    return {};
  }
  template <class Edit>
  Result<> edit(std::uint32_t index, std::string_view what, Edit change) {
    kernel::Link* link = find(index);
    if (link == nullptr)
      return no_link(index);
    SHOAL_TRY(net_.change(what));
    change(*link);
    return {};
  }
  template <class T, class Match>
  Result<> drop(std::vector<T>& from, std::string_view what, Match match) {
    if (std::ranges::none_of(from, match))
      return fail(Errc::kNotFound, fmt::format("delete {}: there is none", what));
    SHOAL_TRY(net_.change(what));
    std::erase_if(from, match);
    return {};
  }
  // Carrier follows the other end; lo and tunnels have it when they are up.
  void refresh_carrier(kernel::Link& link) {
    const auto where = here().peer_namespaces.find(link.index);
    if (where == here().peer_namespaces.end()) {
      link.carrier = link.up;
      return;
    }
    for (kernel::Link& other : net_.at(where->second).links)
      if (other.index == link.peer_index) {
        link.carrier = link.up && other.up;
        other.carrier = link.carrier;
      }
  }
  bool reachable(const IpAddress& gateway, std::uint32_t link) {
    if (gateway.is_v6() && gateway.is_link_local())
      return true;  // on the link by itself
    for (const kernel::Route& route : here().routes)
      if (route.link == link && !route.gateway && route.destination.contains(gateway))
        return true;
    for (const kernel::LinkAddress& address : here().addresses)
      if (address.link == link &&
          IpPrefix::containing(address.ip, address.prefix_length).contains(gateway))
        return true;
    return false;
  }
  static void forget(FakeNet::Namespace& space, std::uint32_t index) {
    std::erase_if(space.links, [&](const auto& link) { return link.index == index; });
    std::erase_if(space.addresses, [&](const auto& address) { return address.link == index; });
    std::erase_if(space.routes, [&](const auto& route) { return route.link == index; });
    std::erase_if(space.neighbours, [&](const auto& entry) { return entry.link == index; });
    std::erase_if(space.proxies, [&](const auto& entry) { return entry.link == index; });
    space.peer_namespaces.erase(index);
  }
  static bool same(const kernel::LinkAddress& a, const kernel::LinkAddress& b) {
    return a.link == b.link && a.ip == b.ip && a.prefix_length == b.prefix_length;
  }
  static bool same(const kernel::Route& a, const kernel::Route& b) {
    return a.destination == b.destination && a.table == b.table && a.metric == b.metric;
  }
  static bool same(const kernel::Neighbour& a, const kernel::Neighbour& b) {
    return a.link == b.link && a.ip == b.ip;
  }

  FakeNet& net_;
  int fd_;
};

}  // namespace shoal
