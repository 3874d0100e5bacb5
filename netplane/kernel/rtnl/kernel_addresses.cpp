// SPDX-License-Identifier: Apache-2.0
// Addresses, routes, neighbours and sysctls of the real Rtnl.
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "netplane/kernel/rtnl/kernel_rtnl.h"
#include "netplane/kernel/rtnl/netns.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <endian.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_addr.h>
#include <linux/lwtunnel.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/neighbour.h>
#include <optional>

namespace shoal::kernel {
namespace {

constexpr std::size_t kSysctlBytesMax = 65'536;

std::uint8_t family_of(const IpAddress& ip) { return ip.is_v4() ? AF_INET : AF_INET6; }

// Nothing for a foreign family.
std::optional<IpAddress> ip_of(nl_addr* address) {
  if (address == nullptr)
    return std::nullopt;
  const auto* bytes = static_cast<const std::uint8_t*>(nl_addr_get_binary_addr(address));
  const int family = nl_addr_get_family(address);
  if (family == AF_INET && nl_addr_get_len(address) == 4)
    return IpAddress::v4((std::uint32_t{bytes[0]} << 24) | (std::uint32_t{bytes[1]} << 16) |
                         (std::uint32_t{bytes[2]} << 8) | bytes[3]);
  if (family == AF_INET6 && nl_addr_get_len(address) == 16) {
    IpAddress::Bytes raw;
    std::memcpy(raw.data(), bytes, raw.size());
    return IpAddress::from_bytes(raw);
  }
  return std::nullopt;
}

Scope scope_of(int scope) {
  return scope == RT_SCOPE_LINK ? Scope::kLink
                                : (scope == RT_SCOPE_HOST ? Scope::kHost : Scope::kGlobal);
}

IpPrefix default_of(int family) {
  return family == AF_INET ? IpPrefix::containing(IpAddress::v4(0), 0) : IpPrefix();
}

std::optional<IpAddress> ip_of(const nlattr* attribute, std::uint8_t family) {
  const int size = family == AF_INET ? 4 : 16;
  if (attribute == nullptr || nla_len(attribute) != size)
    return std::nullopt;
  IpAddress::Bytes raw{};
  if (family == AF_INET)
    raw[10] = raw[11] = 0xff;  // an IPv4 address lies mapped
  std::memcpy(raw.data() + raw.size() - size, nla_data(attribute), size);
  return IpAddress::from_bytes(raw);
}

bool is_lasting(const IpAddress& ip, unsigned flags) {
  constexpr unsigned kPassing =
      IFA_F_TEMPORARY | IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_TENTATIVE;
  return ip.is_v4() || (flags & kPassing) == 0;
}

// Nothing for tunnels of other kinds.
std::optional<RouteEncap> encap_of(nlattr* type, nlattr* encap) {
  if (type == nullptr || encap == nullptr || nla_get_u16(type) != LWTUNNEL_ENCAP_IP)
    return std::nullopt;
  nlattr* parts[LWTUNNEL_IP_MAX + 1] = {};
  if (nla_parse_nested(parts, LWTUNNEL_IP_MAX, encap, nullptr) < 0 ||
      parts[LWTUNNEL_IP_ID] == nullptr || nla_len(parts[LWTUNNEL_IP_ID]) != sizeof(std::uint64_t))
    return std::nullopt;
  return RouteEncap{static_cast<std::uint32_t>(be64toh(nla_get_u64(parts[LWTUNNEL_IP_ID]))),
                    ip_of(parts[LWTUNNEL_IP_DST], AF_INET).value_or(IpAddress())};
}

std::uint32_t u32_of(const nlattr* attribute) {
  return attribute == nullptr ? 0 : nla_get_u32(attribute);
}

// One a next hop.
std::vector<Route> hops_of(Route route, nlattr* multipath, unsigned char family) {
  std::vector<Route> out;
  auto* hop = static_cast<rtnexthop*>(nla_data(multipath));
  int left = nla_len(multipath);
  while (left >= static_cast<int>(sizeof(*hop)) && RTNH_OK(hop, left)) {
    nlattr* parts[RTA_MAX + 1] = {};
    if (nla_parse(parts, RTA_MAX, reinterpret_cast<nlattr*>(RTNH_DATA(hop)),
                  hop->rtnh_len - static_cast<int>(sizeof(*hop)), nullptr) < 0)
      break;
    route.link = static_cast<std::uint32_t>(hop->rtnh_ifindex);
    route.gateway = ip_of(parts[RTA_GATEWAY], family);
    route.onlink = (hop->rtnh_flags & RTNH_F_ONLINK) != 0;
    route.encap = encap_of(parts[RTA_ENCAP_TYPE], parts[RTA_ENCAP]);
    out.push_back(route);
    left -= static_cast<int>(RTNH_ALIGN(hop->rtnh_len));
    hop = RTNH_NEXT(hop);
  }
  return out;
}

// None for routes that this interface does not show. libnl's own reader gives up on a whole table
// for one route with a tunnel that it does not know.
std::vector<Route> routes_of(nlmsghdr* message) {
  nlattr* parts[RTA_MAX + 1] = {};
  const auto* header = static_cast<const rtmsg*>(nlmsg_data(message));
  if (nlmsg_parse(message, sizeof(*header), parts, RTA_MAX, nullptr) < 0)
    return {};
  const std::uint32_t table =
      parts[RTA_TABLE] != nullptr ? u32_of(parts[RTA_TABLE]) : header->rtm_table;
  if (header->rtm_type != RTN_UNICAST || table == RT_TABLE_LOCAL ||
      (header->rtm_flags & RTM_F_CLONED) != 0)
    return {};
  Route route;
  const auto ip = ip_of(parts[RTA_DST], header->rtm_family);
  route.destination = ip && header->rtm_dst_len > 0 ? IpPrefix::containing(*ip, header->rtm_dst_len)
                                                    : default_of(header->rtm_family);
  route.link = u32_of(parts[RTA_OIF]);
  route.gateway = ip_of(parts[RTA_GATEWAY], header->rtm_family);
  route.onlink = (header->rtm_flags & RTNH_F_ONLINK) != 0;
  route.source = ip_of(parts[RTA_PREFSRC], header->rtm_family);
  route.scope = scope_of(header->rtm_scope);
  nlattr* metrics[RTAX_MAX + 1] = {};
  if (parts[RTA_METRICS] != nullptr &&
      nla_parse_nested(metrics, RTAX_MAX, parts[RTA_METRICS], nullptr) == 0)
    route.mtu = u32_of(metrics[RTAX_MTU]);
  route.advmss = u32_of(metrics[RTAX_ADVMSS]);
  route.metric = u32_of(parts[RTA_PRIORITY]);
  route.table = table;
  route.protocol = header->rtm_protocol;
  route.encap = encap_of(parts[RTA_ENCAP_TYPE], parts[RTA_ENCAP]);
  if (parts[RTA_MULTIPATH] != nullptr)
    return hops_of(route, parts[RTA_MULTIPATH], header->rtm_family);
  return {route};
}

NlMessage route_request(int type, int flags, const Route& route) {
  rtmsg header{};
  header.rtm_family = family_of(route.destination.address());
  header.rtm_dst_len = static_cast<std::uint8_t>(route.destination.length());
  header.rtm_table = route.table < 256 ? static_cast<std::uint8_t>(route.table)
                                       : static_cast<std::uint8_t>(RT_TABLE_UNSPEC);
  header.rtm_protocol = type == RTM_NEWROUTE ? route.protocol : std::uint8_t{RTPROT_UNSPEC};
  header.rtm_scope = type == RTM_NEWROUTE ? static_cast<std::uint8_t>(route.scope)
                                          : std::uint8_t{RT_SCOPE_NOWHERE};  // any
  header.rtm_type = type == RTM_NEWROUTE ? std::uint8_t{RTN_UNICAST} : std::uint8_t{RTN_UNSPEC};
  header.rtm_flags = route.onlink ? unsigned{RTNH_F_ONLINK} : 0U;
  NlMessage request(type, flags);
  request.header(header);
  if (route.destination.length() > 0)
    request.ip(RTA_DST, route.destination.address());
  request.u32(RTA_TABLE, route.table);
  if (route.link != 0)
    request.u32(RTA_OIF, route.link);
  if (route.metric != 0)
    request.u32(RTA_PRIORITY, route.metric);
  return request;
}

std::string describe(const Route& route) {
  return fmt::format("{}{} on link {}", route.destination.to_string(),
                     route.gateway ? " via " + route.gateway->to_string() : "", route.link);
}

NlMessage address_request(int type, int flags, const LinkAddress& address) {
  ifaddrmsg header{};
  header.ifa_family = family_of(address.ip);
  header.ifa_prefixlen = static_cast<std::uint8_t>(address.prefix_length);
  header.ifa_scope = static_cast<std::uint8_t>(address.scope);
  header.ifa_index = address.link;
  NlMessage request(type, flags);
  request.header(header).ip(IFA_LOCAL, address.ip).ip(IFA_ADDRESS, address.ip);
  constexpr unsigned kSingle = 128;
  if (address.ip.is_v6() && type == RTM_NEWADDR)
    request.u32(IFA_FLAGS,
                IFA_F_NODAD | (address.prefix_length == kSingle ? IFA_F_NOPREFIXROUTE : 0U));
  return request;
}

std::string describe(const LinkAddress& address) {
  return fmt::format("address {}/{} of link {}", address.ip.to_string(), address.prefix_length,
                     address.link);
}

NlMessage neighbour_request(int type, int flags, const Neighbour& neighbour) {
  ndmsg header{};
  header.ndm_family = family_of(neighbour.ip);
  header.ndm_ifindex = static_cast<int>(neighbour.link);
  header.ndm_state = neighbour.permanent ? NUD_PERMANENT : NUD_REACHABLE;
  header.ndm_type = RTN_UNICAST;
  NlMessage request(type, flags);
  request.header(header).ip(NDA_DST, neighbour.ip);
  if (type == RTM_NEWNEIGH)
    request.mac(NDA_LLADDR, neighbour.mac);
  return request;
}

std::string describe(const Neighbour& neighbour) {
  return fmt::format("neighbour {} of link {}", neighbour.ip.to_string(), neighbour.link);
}

NlMessage proxy_request(int type, int flags, const Proxy& proxy) {
  ndmsg header{};
  header.ndm_family = family_of(proxy.ip);
  header.ndm_ifindex = static_cast<int>(proxy.link);
  header.ndm_state = NUD_PERMANENT;
  header.ndm_flags = NTF_PROXY;
  NlMessage request(type, flags);
  request.header(header).ip(NDA_DST, proxy.ip);
  if (type == RTM_NEWNEIGH)
    request.u8(NDA_PROTOCOL, kRouteProtocolShoal);
  return request;
}

std::string describe(const Proxy& proxy) {
  return fmt::format("proxy entry {} of link {}", proxy.ip.to_string(), proxy.link);
}

Result<std::string> sysctl_path(std::string_view key) {
  if (key.empty() || key.front() == '/' || key.find("..") != std::string_view::npos)
    return fail(Errc::kInvalid, fmt::format("'{}' is no sysctl below net/", key));
  return fmt::format("/proc/sys/net/{}", key);
}

}  // namespace

Result<std::vector<LinkAddress>> KernelRtnl::addresses() {
  nl_cache* raw = nullptr;
  if (const int error = rtnl_addr_alloc_cache(socket_.get(), &raw); error < 0)
    return fail(nl_error(error, "list addresses"));
  const NlCachePtr cache(raw);
  std::vector<LinkAddress> result;
  for (nl_object* object = nl_cache_get_first(cache.get()); object != nullptr;
       object = nl_cache_get_next(object)) {
    auto* entry = reinterpret_cast<rtnl_addr*>(object);
    const auto ip = ip_of(rtnl_addr_get_local(entry));
    if (ip)
      result.push_back({static_cast<std::uint32_t>(rtnl_addr_get_ifindex(entry)), *ip,
                        static_cast<unsigned>(rtnl_addr_get_prefixlen(entry)),
                        scope_of(rtnl_addr_get_scope(entry)),
                        is_lasting(*ip, static_cast<unsigned>(rtnl_addr_get_flags(entry)))});
  }
  std::ranges::sort(result);
  return result;
}

Result<> KernelRtnl::replace_address(const LinkAddress& address) {
  SHOAL_TRY_WRAP(
      socket_.transact(address_request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, address)),
      "set " + describe(address));
  return {};
}

Result<> KernelRtnl::delete_address(const LinkAddress& address) {
  auto deleted = socket_.transact(address_request(RTM_DELADDR, 0, address));
  if (deleted)
    return {};
  Error error = std::move(deleted).error().wrap("delete " + describe(address));
  if (error.sys_errno() == EADDRNOTAVAIL)  // the kernel's word for an address that is not there
    return fail(std::move(error).with_code(Errc::kNotFound));
  return fail(std::move(error));
}

Result<std::vector<Route>> KernelRtnl::routes(Family family) {
  rtmsg header{};
  header.rtm_family = family == Family::kV4 ? AF_INET : AF_INET6;
  NlMessage request(RTM_GETROUTE, NLM_F_DUMP);
  request.header(header);
  std::vector<Route> result;
  SHOAL_TRY_WRAP(socket_.dump(request,
                              [&](nlmsghdr* message) {
                                if (message->nlmsg_type != RTM_NEWROUTE)
                                  return;
                                for (Route& route : routes_of(message))
                                  result.push_back(route);
                              }),
                 "list routes");
  std::ranges::sort(result);
  return result;
}

Result<> KernelRtnl::replace_route(const Route& route) {
  NlMessage request = route_request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route);
  if (route.gateway)
    request.ip(RTA_GATEWAY, *route.gateway);
  if (route.source)
    request.ip(RTA_PREFSRC, *route.source);
  if (route.encap) {
    const std::uint64_t id = htobe64(route.encap->id);
    request.u16(RTA_ENCAP_TYPE, LWTUNNEL_ENCAP_IP);
    nlattr* encap = request.begin(RTA_ENCAP);
    request.put(LWTUNNEL_IP_ID, &id, sizeof(id)).ip(LWTUNNEL_IP_DST, route.encap->remote);
    request.end(encap);
  }
  if (route.mtu != 0) {
    nlattr* metrics = request.begin(RTA_METRICS);
    request.u32(RTAX_MTU, route.mtu);
    request.end(metrics);
  }
  SHOAL_TRY_WRAP(socket_.transact(request), "set route " + describe(route));
  return {};
}

Result<> KernelRtnl::delete_route(const Route& route) {
  SHOAL_TRY_WRAP(socket_.transact(route_request(RTM_DELROUTE, 0, route)),
                 "delete route " + describe(route));
  return {};
}

Result<std::vector<Neighbour>> KernelRtnl::neighbours() {
  nl_cache* raw = nullptr;
  if (const int error = rtnl_neigh_alloc_cache(socket_.get(), &raw); error < 0)
    return fail(nl_error(error, "list neighbours"));
  const NlCachePtr cache(raw);
  std::vector<Neighbour> result;
  for (nl_object* object = nl_cache_get_first(cache.get()); object != nullptr;
       object = nl_cache_get_next(object)) {
    auto* entry = reinterpret_cast<rtnl_neigh*>(object);
    const auto ip = ip_of(rtnl_neigh_get_dst(entry));
    nl_addr* mac = rtnl_neigh_get_lladdr(entry);
    const int state = rtnl_neigh_get_state(entry);
    if (!ip || mac == nullptr || nl_addr_get_len(mac) != 6 || (state & NUD_NOARP) != 0)
      continue;
    MacAddress::Bytes bytes;
    std::memcpy(bytes.data(), nl_addr_get_binary_addr(mac), bytes.size());
    result.push_back({static_cast<std::uint32_t>(rtnl_neigh_get_ifindex(entry)), *ip,
                      MacAddress::from_bytes(bytes), (state & NUD_PERMANENT) != 0});
  }
  std::ranges::sort(result);
  return result;
}

Result<> KernelRtnl::replace_neighbour(const Neighbour& neighbour) {
  SHOAL_TRY_WRAP(
      socket_.transact(neighbour_request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, neighbour)),
      "set " + describe(neighbour));
  return {};
}

Result<> KernelRtnl::delete_neighbour(const Neighbour& neighbour) {
  SHOAL_TRY_WRAP(socket_.transact(neighbour_request(RTM_DELNEIGH, 0, neighbour)),
                 "delete " + describe(neighbour));
  return {};
}

// NTF_PROXY entries are listed apart from the others, and only where the request says so.
Result<std::vector<Proxy>> KernelRtnl::proxies() {
  std::vector<Proxy> result;
  for (const std::uint8_t family : {AF_INET, AF_INET6}) {
    ndmsg header{};
    header.ndm_family = family;
    header.ndm_flags = NTF_PROXY;
    NlMessage request(RTM_GETNEIGH, NLM_F_DUMP);
    request.header(header);
    SHOAL_TRY_WRAP(
        socket_.dump(request,
                     [&](nlmsghdr* message) {
                       nlattr* parts[NDA_MAX + 1] = {};
                       const auto* entry = static_cast<const ndmsg*>(nlmsg_data(message));
                       if (message->nlmsg_type != RTM_NEWNEIGH ||
                           nlmsg_parse(message, sizeof(*entry), parts, NDA_MAX, nullptr) < 0 ||
                           (entry->ndm_flags & NTF_PROXY) == 0 || parts[NDA_PROTOCOL] == nullptr ||
                           nla_get_u8(parts[NDA_PROTOCOL]) != kRouteProtocolShoal)
                         return;
                       if (const auto ip = ip_of(parts[NDA_DST], entry->ndm_family))
                         result.push_back({static_cast<std::uint32_t>(entry->ndm_ifindex), *ip});
                     }),
        "list proxy entries");
  }
  std::ranges::sort(result);
  return result;
}

Result<> KernelRtnl::replace_proxy(const Proxy& proxy) {
  SHOAL_TRY_WRAP(socket_.transact(proxy_request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, proxy)),
                 "set " + describe(proxy));
  return {};
}

Result<> KernelRtnl::delete_proxy(const Proxy& proxy) {
  SHOAL_TRY_WRAP(socket_.transact(proxy_request(RTM_DELNEIGH, 0, proxy)),
                 "delete " + describe(proxy));
  return {};
}

Result<> KernelRtnl::set_sysctl(std::string_view key, std::string_view value) {
  const std::string path = SHOAL_TRY(sysctl_path(key));
  // /proc/sys/net shows the namespace of the thread that looks.
  const NetnsScope scope = SHOAL_TRY(NetnsScope::enter(netns_.get()));
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd)
    return fail_errno(fmt::format("open {}", path));
  SHOAL_TRY_WRAP(write_all(fd.get(), value), fmt::format("{} = {}", path, value));
  return {};
}

Result<std::string> KernelRtnl::sysctl(std::string_view key) {
  const std::string path = SHOAL_TRY(sysctl_path(key));
  const NetnsScope scope = SHOAL_TRY(NetnsScope::enter(netns_.get()));
  const std::string text = SHOAL_TRY(read_file(path, kSysctlBytesMax));
  return std::string(trim(text));
}

}  // namespace shoal::kernel
