// SPDX-License-Identifier: Apache-2.0
// Nft: Shoal's own nftables table, `inet shoal`, written whole in one transaction over libmnl and
// libnftnl.
//
// What it holds now. Masquerade for packets of this host's pods that leave for anything but the
// cluster:
//   chain postrouting { type nat hook postrouting priority srcnat; policy accept;
//     ip saddr @pods ip daddr != @cluster ip daddr != @nodes oifname != "shl*" oifname !=
//     "shoal-vxlan" masquerade }
// and, when the pods have IPv6 addresses, the same with ip6, @pods6, @cluster6 and @nodes6.
// What the BPF programs mark leaves with an address of this host's, since the reply would not come
// back otherwise: over the overlay with the one that the other hosts know it by, elsewhere with
// that of the device:
//     meta mark & 0x00800000 != 0 oifname "shoal-vxlan" snat ip to 198.18.0.11 fully-random
//     meta mark & 0x00800000 != 0 masquerade fully-random
// And no connection tracking for the tunnel's own packets between member hosts. Their UDP source
// port is a hash of the flow inside, so that each flow would cost an entry of the host's conntrack
// table; a full table drops packets, of others too:
//   chain prerouting { type filter hook prerouting priority raw; policy accept;
//     ip saddr @nodes udp dport 4789 notrack }
//   chain output { type filter hook output priority raw; policy accept;
//     ip daddr @nodes udp dport 4789 notrack }
// Other tables are never touched, and other programs' flushes of their own tables do not touch this
// one. A replaced table changes nothing for connections that conntrack already knows.
//
// open_nft gives the real one; tests/fakes/fake_nft.h one in memory. Threading: one thread at a
// time.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"

#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::kernel {

inline constexpr std::string_view kNftTable = "shoal";
inline constexpr std::size_t kNftSetElementsMax = 4096;  // of each set: prefixes, hosts

// Order does not matter, doubles are dropped; prefixes that overlap are merged.
struct NftRules {
  std::vector<IpPrefix> pods;     // this host's pod CIDRs
  std::vector<IpPrefix> cluster;  // pod and service ranges of the whole cluster
  std::vector<IpAddress> nodes;   // the member hosts' own addresses; the tunnel's are IPv4
  std::uint16_t tunnel_port = 0;  // UDP, of the overlay; 0: there is none
  std::uint32_t mark = 0;         // bits of packets to be masqueraded; 0: there are none
  IpAddress self_v4, self_v6;     // unspecified: marked packets are masqueraded there, too
  std::string overlay_link = "shoal-vxlan";
  std::vector<std::string> internal_links = {"shl*",
                                             "shoal-vxlan"};  // a trailing '*' is a wildcard
  auto operator<=>(const NftRules&) const = default;
};

class Nft {
public:
  virtual ~Nft() = default;
  // Replaces the table by these rules, all or nothing.
  virtual Result<> apply(const NftRules& rules) = 0;
  // What the kernel holds of our table, as sorted text, one chain, rule or set element a line;
  // empty: no table. Equal to render(rules) after apply(rules).
  virtual Result<std::string> dump() = 0;
  virtual Result<> remove() = 0;  // no table is success
  // Base chains of other tables (families ip, ip6 and inet) that drop what they do not name: "ip
  // filter FORWARD hook forward policy drop". They can eat pods' packets or the tunnel's; Shoal
  // reports them and does not change them. Rules of the older iptables (legacy) are not seen here.
  virtual Result<std::vector<std::string>> foreign_drops() = 0;
};

// Pure: the text that dump() gives for a table made from these rules.
std::string render(const NftRules& rules);

// Opens the real one in that namespace; -1: the calling thread's own.
Result<std::unique_ptr<Nft>> open_nft(int netns_fd = -1);

}  // namespace shoal::kernel
