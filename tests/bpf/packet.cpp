// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/packet.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

namespace shoal::bpftest {
namespace {

constexpr std::size_t kEth = 14;

void put16(Frame& f, std::size_t at, unsigned value) {
  f[at] = static_cast<std::uint8_t>(value >> 8);
  f[at + 1] = static_cast<std::uint8_t>(value);
}
void put32(Frame& f, std::size_t at, std::uint32_t value) {
  put16(f, at, value >> 16);
  put16(f, at + 2, value & 0xffff);
}
unsigned get16(const Frame& f, std::size_t at) { return f.at(at) << 8U | f.at(at + 1); }
std::uint32_t get32(const Frame& f, std::size_t at) {
  return get16(f, at) << 16U | get16(f, at + 2);
}

// RFC 1071, byte by byte.
std::uint32_t sum(const Frame& f, std::size_t from, std::size_t to, std::uint32_t start = 0) {
  for (std::size_t i = from; i < to; ++i)
    start += (i - from) % 2 == 0 ? static_cast<std::uint32_t>(f.at(i)) << 8U : f.at(i);
  return start;
}
unsigned fold(std::uint32_t value) {
  while (value > 0xffff)
    value = (value & 0xffff) + (value >> 16);
  return ~value & 0xffff;
}
std::uint32_t pseudo(const Frame& f, std::size_t l4_bytes) {
  return sum(f, kEth + 12, kEth + 20) + f.at(kEth + 9) + static_cast<std::uint32_t>(l4_bytes);
}

void eth(Frame& f, const MacAddress& dst, const MacAddress& src, unsigned type) {
  std::copy(dst.bytes().begin(), dst.bytes().end(), f.begin());
  std::copy(src.bytes().begin(), src.bytes().end(), f.begin() + 6);
  put16(f, 12, type);
}

std::string mac_at(const Frame& f, std::size_t at) {
  MacAddress::Bytes bytes;
  std::copy_n(f.begin() + static_cast<std::ptrdiff_t>(at), 6, bytes.begin());
  return MacAddress::from_bytes(bytes).to_string();
}
std::string ip_at(const Frame& f, std::size_t at) {
  return IpAddress::v4(get32(f, at)).to_string();
}

std::string arp_text(const Frame& f) {
  const char* what = get16(f, kEth + 6) == 2 ? "reply" : "request";
  return fmt::format("ARP {} {} is {} to {} {}", what, ip_at(f, kEth + 14), mac_at(f, kEth + 8),
                     ip_at(f, kEth + 24), mac_at(f, kEth + 18));
}

std::string flags_text(std::uint8_t flags) {
  std::string out;
  for (auto [bit, letter] : {std::pair{kSyn, 'S'}, {kFin, 'F'}, {kRst, 'R'}, {kAck, 'A'}})
    if (flags & bit)
      out += letter;
  return out;
}

std::string ports_text(const Frame& f, std::size_t ip_at_byte, std::size_t l4) {
  return fmt::format("{}:{} > {}:{}", ip_at(f, ip_at_byte + 12), get16(f, l4),
                     ip_at(f, ip_at_byte + 16), get16(f, l4 + 2));
}

}  // namespace

IpAddress ip(const char* literal) { return IpAddress::parse(literal).value(); }
MacAddress mac(const char* literal) { return MacAddress::parse(literal).value(); }
SocketAddress at(const char* literal) { return SocketAddress::parse(literal).value(); }

Packet tcp(const SocketAddress& from, const SocketAddress& to, std::uint8_t flags) {
  Packet p;
  p.from = from;
  p.to = to;
  p.flags = flags;
  return p;
}

Packet udp(const SocketAddress& from, const SocketAddress& to) {
  Packet p;
  p.from = from;
  p.to = to;
  p.protocol = 17;
  p.payload = 12;
  return p;
}

Packet Packet::with(std::uint8_t tcp_flags) const {
  Packet p = *this;
  p.flags = tcp_flags;
  return p;
}

Frame Packet::frame() const {
  const std::size_t l4 = kEth + 20 + options;
  const std::size_t header = protocol == 6 ? 20 : 8;
  Frame f(l4 + header + payload);
  eth(f, eth_dst, eth_src, 0x0800);
  f[kEth] = static_cast<std::uint8_t>(0x40 | (5 + options / 4));
  put16(f, kEth + 2, static_cast<unsigned>(f.size() - kEth));
  put16(f, kEth + 4, 0x1234);
  put16(f, kEth + 6, fragment);
  f[kEth + 8] = ttl;
  f[kEth + 9] = protocol;
  put32(f, kEth + 12, from.ip.v4_host_order());
  put32(f, kEth + 16, to.ip.v4_host_order());
  std::fill_n(f.begin() + kEth + 20, options, std::uint8_t{1});  // NOP
  put16(f, kEth + 10, fold(sum(f, kEth, l4)));
  put16(f, l4, from.port);
  put16(f, l4 + 2, to.port);
  for (std::size_t i = 0; i < payload; ++i)
    f[l4 + header + i] = static_cast<std::uint8_t>(i * 7 + 1);
  if (protocol == 6) {
    put32(f, l4 + 4, seq);
    put32(f, l4 + 8, ack);
    f[l4 + 12] = 5 << 4;
    f[l4 + 13] = flags;
    put16(f, l4 + 14, 64240);
    put16(f, l4 + 16, fold(sum(f, l4, f.size(), pseudo(f, f.size() - l4))));
  } else {
    put16(f, l4 + 4, static_cast<unsigned>(f.size() - l4));
    if (udp_checksum)
      put16(f, l4 + 6, fold(sum(f, l4, f.size(), pseudo(f, f.size() - l4))));
  }
  return f;
}

Frame echo_request(const Packet& like) {
  Packet p = like;
  p.protocol = 17;
  p.payload = 24;
  Frame f = p.frame();
  const std::size_t l4 = kEth + 20;
  f[kEth + 9] = 1;
  put16(f, kEth + 10, 0);
  put16(f, kEth + 10, fold(sum(f, kEth, l4)));
  put16(f, l4, 0x0800);
  put16(f, l4 + 2, 0);
  put16(f, l4 + 2, fold(sum(f, l4, f.size())));
  return f;
}

Frame arp_request(const MacAddress& sender_mac, const IpAddress& sender, const IpAddress& target) {
  Frame f(kEth + 28);
  eth(f, mac("ff:ff:ff:ff:ff:ff"), sender_mac, 0x0806);
  put16(f, kEth, 1);
  put16(f, kEth + 2, 0x0800);
  f[kEth + 4] = 6;
  f[kEth + 5] = 4;
  put16(f, kEth + 6, 1);
  std::copy(sender_mac.bytes().begin(), sender_mac.bytes().end(), f.begin() + kEth + 8);
  put32(f, kEth + 14, sender.v4_host_order());
  put32(f, kEth + 24, target.v4_host_order());
  return f;
}

std::string macs(const Frame& f) { return mac_at(f, 6) + " > " + mac_at(f, 0); }

std::string text(const Frame& f) {
  if (f.size() < kEth + 20)
    return fmt::format("{} bytes", f.size());
  if (get16(f, 12) == 0x0806)
    return arp_text(f);
  if (get16(f, 12) != 0x0800)
    return fmt::format("ethertype {:04x}", get16(f, 12));
  const std::size_t l4 = kEth + (f[kEth] & 0xfU) * 4;
  const std::size_t end = kEth + get16(f, kEth + 2);
  if (end > f.size() || l4 + 8 > end)
    return "BAD-LENGTH";
  std::string bad;
  if (fold(sum(f, kEth, l4)) != 0)
    bad += " BAD-IP-CHECKSUM";
  const std::uint8_t protocol = f[kEth + 9];
  if (protocol == 1) {
    if (fold(sum(f, l4, end)) != 0)
      bad += " BAD-ICMP-CHECKSUM";
    std::string quoted;
    if (f[l4] == 3)
      quoted = fmt::format(" ({})", ports_text(f, l4 + 8, l4 + 8 + 20));
    return fmt::format("ICMP {}/{} {} > {}{}{}", f[l4], f[l4 + 1], ip_at(f, kEth + 12),
                       ip_at(f, kEth + 16), quoted, bad);
  }
  const bool unchecked = protocol == 17 && get16(f, l4 + 6) == 0;
  if (!unchecked && fold(sum(f, l4, end, pseudo(f, end - l4))) != 0)
    bad += " BAD-L4-CHECKSUM";
  if (protocol == 17)
    return fmt::format("UDP {} ttl={} +{}{}", ports_text(f, kEth, l4), f[kEth + 8], end - l4 - 8,
                       bad);
  const std::uint8_t flags = f.at(l4 + 13);
  return fmt::format("TCP {} [{}] seq={} ack={} ttl={} +{}{}", ports_text(f, kEth, l4),
                     flags_text(flags), get32(f, l4 + 4), get32(f, l4 + 8), f[kEth + 8],
                     end - l4 - (f[l4 + 12] >> 4U) * 4U, bad);
}

}  // namespace shoal::bpftest
