// SPDX-License-Identifier: Apache-2.0
// Frames for packet tests, as people read them: built by role ("from client to frontend, a SYN")
// and rendered as one line. Checksums are made and verified here, by a second implementation that
// is obviously right.
#pragma once

#include "netplane/base/ip.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace shoal::bpftest {

using Frame = std::vector<std::uint8_t>;

inline constexpr std::uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kAck = 0x10;

// Text to values; a bad literal ends the test program.
IpAddress ip(const char* text);
MacAddress mac(const char* text);
SocketAddress at(const char* text);

struct Packet {
  MacAddress eth_dst, eth_src;
  SocketAddress from, to;
  std::uint8_t protocol = 6;
  std::uint8_t ttl = 64;
  std::uint8_t flags = 0;  // TCP
  std::uint32_t seq = 1000, ack = 0;
  std::size_t payload = 0;  // bytes, a running pattern
  std::size_t options = 0;  // bytes of IP options, a multiple of 4
  std::uint16_t fragment =
      0;  // the IP header's field: 0x2000 is "more", the low 13 bits the offset
  bool udp_checksum = true;

  Packet with(std::uint8_t tcp_flags) const;
  Frame frame() const;
};
Packet tcp(const SocketAddress& from, const SocketAddress& to, std::uint8_t flags);
Packet udp(const SocketAddress& from, const SocketAddress& to);
Frame echo_request(const Packet& like);
Frame arp_request(const MacAddress& sender_mac, const IpAddress& sender, const IpAddress& target);

// "TCP 198.18.0.101:40000 > 10.96.0.10:80 [S] seq=1000 ttl=64 +0", "ICMP 3/3 a > b (UDP c:1 >
// d:2)", "ARP reply ...". A wrong checksum or length is part of the line: "BAD-IP-CHECKSUM".
std::string text(const Frame& frame);
// "02:.. > 02:.."; destination last.
std::string macs(const Frame& frame);

}  // namespace shoal::bpftest
