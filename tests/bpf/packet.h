// SPDX-License-Identifier: Apache-2.0
// Frames for packet tests, as people read them: built by role ("from client to frontend, a SYN")
// and rendered as one line. Checksums are made and verified here, by a second implementation that
// is obviously right. A packet's family is that of its destination address.
#pragma once

#include "netplane/base/ip.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace shoal::bpftest {

using Frame = std::vector<std::uint8_t>;

enum class Family : std::uint8_t { kV4, kV6 };

inline constexpr std::uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kAck = 0x10;
inline constexpr std::uint8_t kHopByHop = 0, kRouting = 43, kFragment = 44, kDestination = 60;

// Text to values; a bad literal ends the test program.
IpAddress ip(const char* text);
MacAddress mac(const char* text);
SocketAddress at(const char* text);

// An IPv6 extension header of 8 * (1 + words) bytes.
struct Extension {
  std::uint8_t type = kHopByHop;
  std::uint8_t words = 0;
  std::uint8_t segments_left = 0;  // of a routing header
};

struct Packet {
  MacAddress eth_dst, eth_src;
  SocketAddress from, to;
  std::uint8_t protocol = 6;
  std::uint8_t ttl = 64;
  std::uint8_t flags = 0;  // TCP
  std::uint32_t seq = 1000, ack = 0;
  std::size_t payload = 0;            // bytes, a running pattern
  std::size_t options = 0;            // bytes of IPv4 options, a multiple of 4
  std::vector<Extension> extensions;  // of IPv6, in order
  // As in the IPv4 header: 0x2000 is "more", the low 13 bits the offset. IPv6: a fragment header,
  // after the other extensions.
  std::uint16_t fragment = 0;
  std::uint16_t id = 0x1234;   // of the fragments' datagram
  bool dont_fragment = false;  // IPv4
  bool udp_checksum = true;
  std::vector<std::uint8_t> tcp_options;  // a multiple of 4 bytes

  Packet with(std::uint8_t tcp_flags) const;
  Frame frame() const;
};
Packet tcp(const SocketAddress& from, const SocketAddress& to, std::uint8_t flags);
Packet udp(const SocketAddress& from, const SocketAddress& to);
Frame echo_request(const Packet& like);
// An ICMP error of either family, by its name in text(), about a packet as its sender sent it.
struct IcmpError {
  MacAddress eth_dst, eth_src;
  std::string kind = "too-big";
  IpAddress from, to;
  Frame about;
  std::size_t quoted = 8;  // bytes of its layer 4
  std::uint32_t mtu = 0;
  Frame frame() const;
};
Frame arp_request(const MacAddress& sender_mac, const IpAddress& sender, const IpAddress& target);

// RFC 4861: a question for `target`, to its solicited-node group unless `to` is given. `sender`
// "::" is duplicate address detection.
struct Solicitation {
  MacAddress sender_mac;
  IpAddress sender, target;
  std::optional<IpAddress> to = std::nullopt;
  std::optional<MacAddress> to_mac = std::nullopt;
  std::uint8_t hop_limit = 255;
  std::uint8_t type = 135;
  std::vector<Extension> extensions;
  Frame frame() const;
};

// Who is called what in text().
using Names = std::vector<std::pair<std::string, SocketAddress>>;

// "TCP 198.18.0.101:40000 > 10.96.0.10:80 [S] seq=1000 ttl=64 +0", or with names "TCP client > vip
// [S] ..." ("client:1" on another port), "mss=1410" where it is said, "UDP-FRAGMENT client > vip",
// "ICMP port-unreachable a > b (c:1 > d:2)", "ARP reply ...", "NA ...". A wrong checksum or length
// is part of the line: "BAD-IP-CHECKSUM"; also of the quoted packet, as far as it is there.
std::string text(const Frame& frame, const Names& names = {});
// "02:.. > 02:.."; destination last.
std::string macs(const Frame& frame);

}  // namespace shoal::bpftest
