// SPDX-License-Identifier: Apache-2.0
// Links of the real Rtnl.
#include "netplane/kernel/rtnl/kernel_rtnl.h"
#include "netplane/kernel/rtnl/netns.h"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netlink/errno.h>
#include <netlink/route/link.h>
#include <sys/ioctl.h>
#include <unistd.h>

// Newer than what <net/if.h> has; <linux/if.h> cannot be included beside it.
#ifndef IFF_LOWER_UP
#define IFF_LOWER_UP 0x10000
#endif

namespace shoal::kernel {
namespace {

using LinkPtr = std::unique_ptr<rtnl_link, Freer<rtnl_link_put>>;

MacAddress mac_of(nl_addr* address) {
  MacAddress::Bytes bytes{};
  if (address != nullptr && nl_addr_get_len(address) == bytes.size())
    std::memcpy(bytes.data(), nl_addr_get_binary_addr(address), bytes.size());
  return MacAddress::from_bytes(bytes);
}

Link link_of(rtnl_link* object) {
  Link link;
  link.index = static_cast<std::uint32_t>(rtnl_link_get_ifindex(object));
  if (const char* name = rtnl_link_get_name(object))
    link.name = name;
  if (const char* kind = rtnl_link_get_type(object))
    link.kind = kind;
  link.mac = mac_of(rtnl_link_get_addr(object));
  link.mtu = rtnl_link_get_mtu(object);
  const unsigned flags = rtnl_link_get_flags(object);
  link.up = (flags & IFF_UP) != 0;
  link.carrier = (flags & IFF_LOWER_UP) != 0;
  link.peer_index = static_cast<std::uint32_t>(rtnl_link_get_link(object));
  link.group = rtnl_link_get_group(object);
  link.master = static_cast<std::uint32_t>(rtnl_link_get_master(object));
  link.ethernet = rtnl_link_get_arptype(object) == ARPHRD_ETHER;
  return link;
}

Result<> check_name(std::string_view name) {
  const bool bad = name.empty() || name.size() > kLinkNameMax || name == "." || name == ".." ||
                   name.find_first_of("/: \t\n%") != std::string_view::npos;
  if (bad)
    return fail(Errc::kInvalid, fmt::format("link name '{}': 1 to {} characters, none of '/', ':', "
                                            "'%' or a blank",
                                            name, kLinkNameMax));
  return {};
}

ifinfomsg for_index(std::uint32_t index, unsigned flags = 0, unsigned change = 0) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index);
  header.ifi_flags = flags;
  header.ifi_change = change;
  return header;
}

void put_mac(NlMessage& request, const MacAddress& mac) {
  if (mac != MacAddress())
    request.mac(IFLA_ADDRESS, mac);
}

}  // namespace

Result<std::vector<Link>> KernelRtnl::links() {
  nl_cache* raw = nullptr;
  if (const int error = rtnl_link_alloc_cache(socket_.get(), AF_UNSPEC, &raw); error < 0)
    return fail(nl_error(error, "list links"));
  const NlCachePtr cache(raw);
  std::vector<Link> links;
  for (nl_object* object = nl_cache_get_first(cache.get()); object != nullptr;
       object = nl_cache_get_next(object))
    links.push_back(link_of(reinterpret_cast<rtnl_link*>(object)));
  std::ranges::sort(links);
  return links;
}

Result<Link> KernelRtnl::find_link(std::uint32_t index, const std::string& name) {
  rtnl_link* raw = nullptr;
  const int error = rtnl_link_get_kernel(socket_.get(), static_cast<int>(index),
                                         name.empty() ? nullptr : name.c_str(), &raw);
  const std::string what = name.empty() ? fmt::format("link {}", index) : "link " + name;
  if (error == -NLE_NODEV || error == -NLE_OBJ_NOTFOUND)
    return fail(Errc::kNotFound, what + ": there is none");
  if (error < 0)
    return fail(nl_error(error, what));
  const LinkPtr object(raw);
  return link_of(object.get());
}

Result<Link> KernelRtnl::link(std::string_view name) {
  SHOAL_TRY(check_name(name));
  return find_link(0, std::string(name));
}

Result<Link> KernelRtnl::link(std::uint32_t index) { return find_link(index, {}); }

Result<std::uint32_t> KernelRtnl::link_index(std::string_view name) {
  SHOAL_TRY(check_name(name));
  ifreq request{};
  name.copy(request.ifr_name, sizeof(request.ifr_name) - 1);
  if (::ioctl(socket_.fd(), SIOCGIFINDEX, &request) == 0)
    return static_cast<std::uint32_t>(request.ifr_ifindex);
  if (errno == ENODEV)
    return 0U;
  return fail_errno(fmt::format("look for link {}", name));
}

Result<Link> KernelRtnl::create_veth(const VethSpec& spec) {
  SHOAL_TRY(check_name(spec.name));
  SHOAL_TRY(check_name(spec.peer_name));
  NlMessage request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  request.header(for_index(0)).text(IFLA_IFNAME, spec.name);
  put_mac(request, spec.mac);
  request.u32(IFLA_MTU, spec.mtu).u32(IFLA_GROUP, spec.group);
  nlattr* info = request.begin(IFLA_LINKINFO);
  request.text(IFLA_INFO_KIND, "veth");
  nlattr* data = request.begin(IFLA_INFO_DATA);
  nlattr* peer = request.begin(VETH_INFO_PEER);
  request.header(for_index(0)).text(IFLA_IFNAME, spec.peer_name);
  put_mac(request, spec.peer_mac);
  request.u32(IFLA_MTU, spec.mtu);
  if (spec.peer_netns_fd >= 0)
    request.u32(IFLA_NET_NS_FD, static_cast<std::uint32_t>(spec.peer_netns_fd));
  request.end(peer);
  request.end(data);
  request.end(info);
  SHOAL_TRY_WRAP(socket_.transact(request),
                 fmt::format("create veth {} with peer {}", spec.name, spec.peer_name));
  return link(spec.name);
}

Result<Link> KernelRtnl::create_vxlan(const VxlanSpec& spec) {
  SHOAL_TRY(check_name(spec.name));
  NlMessage request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  request.header(for_index(0)).text(IFLA_IFNAME, spec.name);
  put_mac(request, spec.mac);
  request.u32(IFLA_MTU, spec.mtu).u32(IFLA_GROUP, spec.group);
  nlattr* info = request.begin(IFLA_LINKINFO);
  request.text(IFLA_INFO_KIND, "vxlan");
  nlattr* data = request.begin(IFLA_INFO_DATA);
  request.u8(IFLA_VXLAN_COLLECT_METADATA, 1).be16(IFLA_VXLAN_PORT, spec.port);
  request.u8(IFLA_VXLAN_LEARNING, 0);
  // The inner packet has its own checksum: an outer one is not demanded over IPv6 (RFC 6935) and
  // not sent over IPv4.
  request.u8(IFLA_VXLAN_UDP_ZERO_CSUM6_RX, 1).u8(IFLA_VXLAN_UDP_ZERO_CSUM6_TX, 1);
  request.end(data);
  request.end(info);
  SHOAL_TRY_WRAP(socket_.transact(request),
                 fmt::format("create VXLAN device {} on UDP port {}", spec.name, spec.port));
  return link(spec.name);
}

Result<> KernelRtnl::set_link_up(std::uint32_t index, bool up) {
  NlMessage request(RTM_NEWLINK, 0);
  request.header(for_index(index, up ? IFF_UP : 0, IFF_UP));
  SHOAL_TRY_WRAP(socket_.transact(request),
                 fmt::format("switch link {} {}", index, up ? "on" : "off"));
  return {};
}

Result<> KernelRtnl::set_link_mtu(std::uint32_t index, std::uint32_t mtu) {
  NlMessage request(RTM_NEWLINK, 0);
  request.header(for_index(index)).u32(IFLA_MTU, mtu);
  SHOAL_TRY_WRAP(socket_.transact(request), fmt::format("set MTU {} of link {}", mtu, index));
  return {};
}

Result<> KernelRtnl::set_link_mac(std::uint32_t index, const MacAddress& mac) {
  NlMessage request(RTM_NEWLINK, 0);
  request.header(for_index(index)).mac(IFLA_ADDRESS, mac);
  SHOAL_TRY_WRAP(socket_.transact(request),
                 fmt::format("set MAC {} of link {}", mac.to_string(), index));
  return {};
}

Result<> KernelRtnl::delete_link(std::uint32_t index) {
  SHOAL_TRY_WRAP(reaper_.remove(index), fmt::format("delete link {}", index));
  return {};
}

Result<std::unique_ptr<Rtnl>> open_rtnl(int netns_fd) {
  UniqueFd netns;
  if (netns_fd >= 0) {
    netns = UniqueFd(::fcntl(netns_fd, F_DUPFD_CLOEXEC, 0));
    if (!netns)
      return fail_errno("duplicate a network namespace's fd");
  } else {
    netns = SHOAL_TRY(open_current_netns());
  }
  NlSocket socket = SHOAL_TRY(NlSocket::open(netns.get()));
  return std::make_unique<KernelRtnl>(std::move(netns), std::move(socket));
}

}  // namespace shoal::kernel
