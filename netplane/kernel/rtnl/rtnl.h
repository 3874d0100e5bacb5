// SPDX-License-Identifier: Apache-2.0
// Rtnl: links, addresses, routes, neighbours and per-interface sysctls of one network namespace.
//
// An Rtnl is bound to its namespace when it is opened and stays bound, whatever namespace the
// calling thread is in. open_rtnl gives the real one (libnl-route); tests/fakes/fake_rtnl.h gives
// one that lives in memory and fails on request; one scenario suite runs on both.
//
// Names follow the kernel's: a set_/replace_ call gives the same state however often it is made; a
// delete_ of what is not there answers kNotFound. Every call waits for the kernel's answer, at most
// kRtnlTimeout. Errors carry the kernel's errno and extended-ack text. Threading: one thread at a
// time.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"

#include <chrono>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::kernel {

inline constexpr std::chrono::milliseconds kRtnlTimeout{5000};
inline constexpr std::size_t kLinkNameMax = 15;  // IFNAMSIZ - 1

struct Link {
  std::uint32_t index = 0;
  std::string name;
  std::string kind;  // "veth", "vxlan", "bridge", ...; empty for a hardware device and lo
  MacAddress mac;
  std::uint32_t mtu = 0;
  bool up = false;               // IFF_UP: switched on by the administrator
  bool carrier = false;          // IFF_LOWER_UP: the other end answers
  std::uint32_t peer_index = 0;  // IFLA_LINK: a veth's other end, in that end's namespace; 0: none
  std::uint32_t group = 0;
  std::uint32_t master = 0;  // the bridge, bond or VRF that it is a port of; 0: none
  bool ethernet = true;      // its frames begin with a MAC header; false of WireGuard, tun, PPP
  auto operator<=>(const Link&) const = default;
};

// Both ends are made in one request, with their MACs: a manager such as networkd or udev never sees
// a random one to replace. A MAC of zeros leaves the choice to the kernel.
struct VethSpec {
  std::string name;
  MacAddress mac;
  std::string peer_name;
  MacAddress peer_mac;
  int peer_netns_fd = -1;    // -1: the same namespace
  std::uint32_t mtu = 1500;  // of both ends
  std::uint32_t group = 0;   // of this end
};

// One device for all remote hosts: the tunnel's far end is chosen per packet by BPF or by a route's
// encap.
struct VxlanSpec {
  std::string name;
  MacAddress mac;
  std::uint16_t port =
      4789;  // UDP; the kernel allows one collect-metadata device a port and namespace
  std::uint32_t mtu = 1450;
  std::uint32_t group = 0;
};

enum class Scope : std::uint8_t { kGlobal = 0, kLink = 253, kHost = 254 };  // RT_SCOPE_*
std::string_view to_string(Scope scope);

struct LinkAddress {
  std::uint32_t link = 0;
  IpAddress ip;
  unsigned prefix_length = 32;
  Scope scope = Scope::kGlobal;
  // False for an IPv6 address that others should not be told: temporary (RFC 8981), deprecated,
  // not yet known to be nobody else's, or found to be (RFC 4862).
  bool lasting = true;
  auto operator<=>(const LinkAddress&) const = default;
};

// rtm_protocol of the routes that Shoal makes, so that they are told from everybody else's: `ip
// route show proto 83`.
inline constexpr std::uint8_t kRouteProtocolShoal = 83;

// The kernel gives an IPv6 route this metric when none is named, and an IPv4 route 0.
constexpr std::uint32_t default_metric(IpFamily family) {
  return family == IpFamily::kV4 ? 0 : 1024;
}

// A lightweight tunnel's head on a route: packets leave the (collect-metadata) device as this
// network's, towards that host. IPv4 outside, whatever is inside.
struct RouteEncap {
  std::uint32_t id = 0;  // VNI
  IpAddress remote;
  auto operator<=>(const RouteEncap&) const = default;
};

// One next hop, unicast. Routes of other types are not listed, and one with several next hops is
// listed once for each.
struct Route {
  IpPrefix destination;  // 0.0.0.0/0 or ::/0: the default route
  std::uint32_t link = 0;
  std::optional<IpAddress> gateway;
  std::optional<IpAddress> source;  // preferred source address
  bool onlink = false;              // the gateway is on the link although no address covers it
  Scope scope = Scope::kGlobal;     // kLink for IPv4 routes without a gateway
  std::uint32_t mtu = 0;            // 0: the link's
  std::uint32_t advmss = 0;         // read only; 0: as the MTU has it
  std::uint32_t metric = 0;
  std::uint32_t table = 254;  // main
  std::uint8_t protocol = kRouteProtocolShoal;
  std::optional<RouteEncap> encap;
  auto operator<=>(const Route&) const = default;
};

struct Neighbour {
  std::uint32_t link = 0;
  IpAddress ip;
  MacAddress mac;
  bool permanent = true;
  auto operator<=>(const Neighbour&) const = default;
};

// An address that this host answers ARP or neighbour solicitations for on a link, without having
// it: it must be routed over another link (proxy entries; `ip neigh show proxy`).
struct Proxy {
  std::uint32_t link = 0;
  IpAddress ip;
  auto operator<=>(const Proxy&) const = default;
};

using Family = IpFamily;

class Rtnl {
public:
  virtual ~Rtnl() = default;

  // The namespace this Rtnl works on; valid as long as the Rtnl lives.
  virtual int netns_fd() const = 0;

  virtual Result<std::vector<Link>> links() = 0;  // by index
  virtual Result<Link> link(std::string_view name) = 0;
  virtual Result<Link> link(std::uint32_t index) = 0;
  // Its index, 0 when there is none. Waits for nobody who is changing devices, as link() does.
  virtual Result<std::uint32_t> link_index(std::string_view name) = 0;
  virtual Result<Link>
  create_veth(const VethSpec& spec) = 0;  // this end; kExists when either name is taken
  virtual Result<Link> create_vxlan(const VxlanSpec& spec) = 0;
  virtual Result<> set_link_up(std::uint32_t index, bool up) = 0;
  virtual Result<> set_link_mtu(std::uint32_t index, std::uint32_t mtu) = 0;
  virtual Result<> set_link_mac(std::uint32_t index, const MacAddress& mac) = 0;
  // When it returns nobody can find the link any more and its name is free. The kernel's own answer
  // comes some 20 ms later, after its grace periods; that wait is left to a helper thread.
  virtual Result<> delete_link(std::uint32_t index) = 0;

  virtual Result<std::vector<LinkAddress>> addresses() = 0;  // sorted
  virtual Result<>
  replace_address(const LinkAddress& address) = 0;  // IPv6: without duplicate detection; a /128
                                                    // without a route of its own
  virtual Result<> delete_address(const LinkAddress& address) = 0;

  virtual Result<std::vector<Route>>
  routes(Family family) = 0;  // of all tables but `local`; sorted
  virtual Result<>
  replace_route(const Route& route) = 0;  // replaces the one of equal destination, table, metric
  virtual Result<>
  delete_route(const Route& route) = 0;  // destination, table, metric and link count

  virtual Result<std::vector<Neighbour>> neighbours() = 0;  // with a MAC; sorted
  virtual Result<> replace_neighbour(const Neighbour& neighbour) = 0;
  virtual Result<> delete_neighbour(const Neighbour& neighbour) = 0;

  virtual Result<std::vector<Proxy>> proxies() = 0;  // Shoal's own, sorted
  virtual Result<> replace_proxy(const Proxy& proxy) = 0;
  virtual Result<> delete_proxy(const Proxy& proxy) = 0;

  // key: below net/, with slashes: "ipv4/conf/eth0/rp_filter". value: without a newline.
  virtual Result<> set_sysctl(std::string_view key, std::string_view value) = 0;
  virtual Result<std::string> sysctl(std::string_view key) = 0;
};

// Opens the real one in that namespace (the fd is duplicated); -1: the calling thread's own.
Result<std::unique_ptr<Rtnl>> open_rtnl(int netns_fd = -1);

// --- The uplinks: the devices that lead to the other hosts and to clients
// ------------------------------------------

struct Uplink {
  std::uint32_t index = 0;
  std::string name;
  MacAddress mac;
  // What it carries towards the other hosts: the link's, or less where the route there says so.
  std::uint32_t mtu = 0;
  IpAddress address;                    // IPv4; of the main one the underlay address of this host;
                                        // unspecified: it has none (never the main one)
  std::optional<IpAddress> gateway;     // of the IPv4 default route, when it leads over this device
  std::optional<IpAddress> address_v6;  // its global IPv6 address there, a lasting one; the lowest
                                        // of several
  std::vector<IpPrefix> subnets;        // what is on the link, sorted
  bool leads_out_v4 = false;            // a default route leads over it
  bool leads_out_v6 = false;
  std::string kind;      // as in Link
  bool ethernet = true;  // as in Link; false of the main one only
  auto operator<=>(const Uplink&) const = default;
  bool reaches(const IpAddress& ip) const;  // without a gateway
};

// What the configuration asks for.
struct UplinkWish {
  std::string device;                // the main one; empty: found
  std::optional<IpAddress> address;  // the underlay address; none: the main device's first
  std::vector<std::string> names;    // of all, with '*' for any characters; none: found
};

struct HostNetwork {
  std::vector<Link> links;
  std::vector<LinkAddress> addresses;
  std::vector<Route> routes;  // of both families
};
Result<HostNetwork> read_host_network(Rtnl& rtnl);

// Pure. The main uplink first, then the others by index. The main one is the device wished for,
// then the one that holds the address, then that of the default route with the lowest metric, then
// the first that `names` finds, then the only device that is up. Without `names` the others are
// those of default routes. Loopback, the pods' links and overlays are never among them, and a port
// of a bond or bridge is not: its master stands for it, or that one's. Nor is what is no Ethernet:
// only as the main one, when the configuration says so. kNotFound says what there is.
// A name that no link has is passed over: see missing_uplinks. kExhausted: more than kUplinksMax.
Result<std::vector<Uplink>> choose_uplinks(const HostNetwork& host, const UplinkWish& wish);
inline constexpr std::size_t kUplinksMax = 64;
// Pure. The names that no link has, or no link that is up for a pattern.
std::vector<std::string> missing_uplinks(const HostNetwork& host, const UplinkWish& wish);
// Pure. Links without Ethernet that are named for uplinks, or are the main one, by index.
std::vector<std::string> unfit_uplinks(const HostNetwork& host, const UplinkWish& wish);
Result<std::vector<Uplink>> find_uplinks(Rtnl& rtnl, const UplinkWish& wish = {});

// Pure. The one on which the LAN is told of an address: the first whose subnet holds it, else the
// first with a default route of its family, else the main one. Not empty.
const Uplink& uplink_towards(const std::vector<Uplink>& uplinks, const IpAddress& ip);

// --- Audit
// ------------------------------------------------------------------------------------------

// Sorted one-line text of everything above, for golden files and `shoal` commands; link indices are
// given as names.
Result<std::string> dump_network(Rtnl& rtnl);

}  // namespace shoal::kernel
