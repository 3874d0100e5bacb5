// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/packet.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

namespace shoal::bpftest {
namespace {

constexpr std::size_t kEth = 14;
constexpr std::uint8_t kTcp = 6, kUdp = 17, kIcmp = 1, kIcmp6 = 58;

void put16(Frame& f, std::size_t at, unsigned value) {
  f[at] = static_cast<std::uint8_t>(value >> 8);
  f[at + 1] = static_cast<std::uint8_t>(value);
}
void put32(Frame& f, std::size_t at, std::uint32_t value) {
  put16(f, at, value >> 16);
  put16(f, at + 2, value & 0xffff);
}
void put_ip(Frame& f, std::size_t at, const IpAddress& ip, bool v6) {
  const auto skip = v6 ? 0 : 12;
  std::copy(ip.bytes().begin() + skip, ip.bytes().end(),
            f.begin() + static_cast<std::ptrdiff_t>(at));
}
void put_mac(Frame& f, std::size_t at, const MacAddress& mac) {
  std::copy(mac.bytes().begin(), mac.bytes().end(), f.begin() + static_cast<std::ptrdiff_t>(at));
}
unsigned get16(const Frame& f, std::size_t at) { return f.at(at) << 8U | f.at(at + 1); }
std::uint32_t get32(const Frame& f, std::size_t at) {
  return get16(f, at) << 16U | get16(f, at + 2);
}
IpAddress get_ip(const Frame& f, std::size_t at, bool v6) {
  if (!v6)
    return IpAddress::v4(get32(f, at));
  IpAddress::Bytes bytes;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = f.at(at + i);
  return IpAddress::from_bytes(bytes);
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

bool is_extension(std::uint8_t type) {
  return type == kHopByHop || type == kRouting || type == kFragment || type == kDestination;
}

// Where things are in an IP packet that begins at `at`.
struct Layout {
  bool v6 = false;
  bool later = false;  // a fragment that does not begin with layer 4
  std::uint8_t protocol = 0;
  std::size_t at = 0, l4 = 0, end = 0;

  static Layout of(const Frame& f, std::size_t at) {
    Layout out{.v6 = f.at(at) >> 4U == 6, .at = at};
    if (!out.v6) {
      out.protocol = f.at(at + 9);
      out.l4 = at + (f[at] & 0xfU) * 4;
      out.end = at + get16(f, at + 2);
      out.later = (get16(f, at + 6) & 0x1fffU) != 0;
      return out;
    }
    out.protocol = f.at(at + 6);
    out.l4 = at + 40;
    out.end = out.l4 + get16(f, at + 4);
    while (is_extension(out.protocol) && out.l4 + 8 <= std::min(out.end, f.size()) && !out.later) {
      if (out.protocol == kFragment && (get16(f, out.l4 + 2) & 0xfff8U) != 0)
        out.later = true;
      out.protocol = f.at(out.l4);
      out.l4 += 8U + 8U * f.at(out.l4 + 1);
    }
    return out;
  }
  std::size_t addresses() const { return at + (v6 ? 8 : 12); }
  std::size_t address_bytes() const { return v6 ? 16 : 4; }
  std::uint8_t ttl(const Frame& f) const { return f.at(at + (v6 ? 7 : 8)); }
  std::uint32_t pseudo(const Frame& f) const {
    return sum(f, addresses(), addresses() + 2 * address_bytes()) + protocol +
           static_cast<std::uint32_t>(end - l4);
  }
};

void eth(Frame& f, const MacAddress& dst, const MacAddress& src, unsigned type) {
  put_mac(f, 0, dst);
  put_mac(f, 6, src);
  put16(f, 12, type);
}

std::string mac_at(const Frame& f, std::size_t at) {
  MacAddress::Bytes bytes;
  std::copy_n(f.begin() + static_cast<std::ptrdiff_t>(at), 6, bytes.begin());
  return MacAddress::from_bytes(bytes).to_string();
}

std::string ip_text(const IpAddress& ip, const Names& names) {
  for (const auto& [name, address] : names)
    if (address.ip == ip)
      return name;
  return ip.to_string();
}
std::string end_text(const SocketAddress& end, const Names& names) {
  for (const auto& [name, address] : names)
    if (address == end)
      return name;
  for (const auto& [name, address] : names)
    if (address.ip == end.ip)
      return fmt::format("{}:{}", name, end.port);
  return end.to_string();
}

std::string arp_text(const Frame& f, const Names& names) {
  const char* what = get16(f, kEth + 6) == 2 ? "reply" : "request";
  return fmt::format("ARP {} {} is {} to {} {}", what, ip_text(get_ip(f, kEth + 14, false), names),
                     mac_at(f, kEth + 8), ip_text(get_ip(f, kEth + 24, false), names),
                     mac_at(f, kEth + 18));
}

std::string flags_text(std::uint8_t flags) {
  std::string out;
  for (auto [bit, letter] : {std::pair{kSyn, 'S'}, {kFin, 'F'}, {kRst, 'R'}, {kAck, 'A'}})
    if (flags & bit)
      out += letter;
  return out;
}

std::string route_text(const Frame& f, const Layout& l, const Names& names) {
  return ip_text(get_ip(f, l.addresses(), l.v6), names) + " > " +
         ip_text(get_ip(f, l.addresses() + l.address_bytes(), l.v6), names);
}
std::string ports_text(const Frame& f, const Layout& l, const Names& names) {
  const SocketAddress from{get_ip(f, l.addresses(), l.v6),
                           static_cast<std::uint16_t>(get16(f, l.l4))};
  const SocketAddress to{get_ip(f, l.addresses() + l.address_bytes(), l.v6),
                         static_cast<std::uint16_t>(get16(f, l.l4 + 2))};
  return end_text(from, names) + " > " + end_text(to, names);
}

// "NA router solicited override vip is 02:.. to client hops=255"
std::string advertisement_text(const Frame& f, const Layout& l, const Names& names) {
  std::string flags;
  for (auto [bit, name] :
       {std::pair{0x80U, " router"}, {0x40U, " solicited"}, {0x20U, " override"}})
    if (f.at(l.l4 + 4) & bit)
      flags += name;
  const bool has_mac = l.end == l.l4 + 32 && f[l.l4 + 24] == 2 && f[l.l4 + 25] == 1;
  return fmt::format("NA{} {} is {}, {} hops={}", flags, ip_text(get_ip(f, l.l4 + 8, true), names),
                     has_mac ? mac_at(f, l.l4 + 26) : "nowhere", route_text(f, l, names), l.ttl(f));
}

// The two families' numbers for one meaning.
struct IcmpRow {
  const char* name;
  std::uint8_t v4_type, v4_code, v6_type, v6_code;
};
constexpr IcmpRow kIcmpRows[] = {
    {"echo-reply", 0, 0, 129, 0},
    {"echo-request", 8, 0, 128, 0},
    {"port-unreachable", 3, 3, 1, 4},
    {"host-unreachable", 3, 1, 1, 3},
    {"too-big", 3, 4, 2, 0},
    {"time-exceeded", 11, 0, 3, 0},
    {"parameter-problem", 12, 0, 4, 0},
    {"redirect", 5, 1, 137, 0},
};

std::string icmp_name(bool v6, unsigned type, unsigned code) {
  for (const IcmpRow& row : kIcmpRows)
    if (type == (v6 ? row.v6_type : row.v4_type) && code == (v6 ? row.v6_code : row.v4_code))
      return row.name;
  return fmt::format("{}/{}", type, code);
}

// " (client > vip)" for the packet at `at`, of which there may be less than it says.
std::string quoted_text(const Frame& f, std::size_t at, std::size_t end, const Names& names) {
  const Layout q = Layout::of(f, at);
  if (q.l4 + 4 > end)
    return " (BAD-QUOTATION)";
  std::string bad;
  if (!q.v6 && fold(sum(f, at, q.l4)) != 0)
    bad += " BAD-IP-CHECKSUM";
  const bool whole = q.end <= end && (q.protocol == kTcp || get16(f, q.l4 + 6) != 0);
  if (whole && fold(sum(f, q.l4, q.end, q.pseudo(f))) != 0)
    bad += " BAD-L4-CHECKSUM";
  return fmt::format(" ({}{})", q.later ? route_text(f, q, names) : ports_text(f, q, names), bad);
}

std::string icmp_text(const Frame& f, const Layout& l, const Names& names) {
  std::string bad;
  if (fold(sum(f, l.l4, l.end, l.v6 ? l.pseudo(f) : 0)) != 0)
    bad = " BAD-ICMP-CHECKSUM";
  const std::uint8_t type = f.at(l.l4);
  if (l.v6 && type == 136)
    return advertisement_text(f, l, names) + bad;
  const bool is_error = l.v6 ? type < 128 : (type == 3 || type == 11 || type == 12);
  std::string quoted;
  if (is_error)
    quoted = quoted_text(f, l.l4 + 8, l.end, names);
  const std::string name = icmp_name(l.v6, type, f.at(l.l4 + 1));
  const std::string mtu =
      name == "too-big" ? fmt::format(" mtu={}", get32(f, l.l4 + 4)) : std::string();
  return fmt::format("ICMP {}{} {}{}{}", name, mtu, route_text(f, l, names), quoted, bad);
}

// " mss=1410", when one of the TCP options says so.
std::string mss_text(const Frame& f, std::size_t at, std::size_t end) {
  while (at + 4 <= end && f[at] != 0) {
    if (f[at] == 2)
      return fmt::format(" mss={}", get16(f, at + 2));
    at += f[at] == 1 ? 1U : std::max<std::size_t>(f[at + 1], 2);
  }
  return {};
}

// The bytes between the IPv6 header and layer 4: each header names the next.
Frame extension_bytes(const Packet& p, std::uint8_t* first) {
  Frame out;
  std::vector<Extension> all = p.extensions;
  if (p.fragment != 0)
    all.push_back({.type = kFragment});
  *first = all.empty() ? p.protocol : all.front().type;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t start = out.size();
    out.resize(start + 8 + 8 * std::size_t{all[i].words});
    out[start] = i + 1 < all.size() ? all[i + 1].type : p.protocol;
    out[start + 1] = all[i].words;
    if (all[i].type == kFragment) {
      put16(out, start + 2, (p.fragment & 0x1fffU) << 3U | (p.fragment & 0x2000U) >> 13U);
      put32(out, start + 4, p.id);
    } else if (all[i].type == kRouting) {
      out[start + 3] = all[i].segments_left;
    } else {  // one option that pads to the end
      out[start + 2] = 1;
      out[start + 3] = static_cast<std::uint8_t>(out.size() - start - 4);
    }
  }
  return out;
}

// The IP header, at the front of a frame of the right size; returns where layer 4 is.
std::size_t ip_header(Frame& f, const Packet& p) {
  if (!p.to.ip.is_v4()) {
    std::uint8_t first = 0;
    const Frame extensions = extension_bytes(p, &first);
    f[kEth] = 0x60;
    put16(f, kEth + 4, static_cast<unsigned>(f.size() - kEth - 40));
    f[kEth + 6] = first;
    f[kEth + 7] = p.ttl;
    put_ip(f, kEth + 8, p.from.ip, true);
    put_ip(f, kEth + 24, p.to.ip, true);
    std::copy(extensions.begin(), extensions.end(), f.begin() + kEth + 40);
    return kEth + 40 + extensions.size();
  }
  const std::size_t l4 = kEth + 20 + p.options;
  f[kEth] = static_cast<std::uint8_t>(0x40 | (5 + p.options / 4));
  put16(f, kEth + 2, static_cast<unsigned>(f.size() - kEth));
  put16(f, kEth + 4, p.id);
  put16(f, kEth + 6, p.fragment | (p.dont_fragment ? 0x4000U : 0U));
  f[kEth + 8] = p.ttl;
  f[kEth + 9] = p.protocol;
  put_ip(f, kEth + 12, p.from.ip, false);
  put_ip(f, kEth + 16, p.to.ip, false);
  std::fill_n(f.begin() + kEth + 20, p.options, std::uint8_t{1});  // NOP
  put16(f, kEth + 10, fold(sum(f, kEth, l4)));
  return l4;
}

std::size_t ip_bytes(const Packet& p) {
  std::uint8_t first = 0;
  return p.to.ip.is_v4() ? 20 + p.options : 40 + extension_bytes(p, &first).size();
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
  p.protocol = kUdp;
  p.payload = 12;
  return p;
}

Packet Packet::with(std::uint8_t tcp_flags) const {
  Packet p = *this;
  p.flags = tcp_flags;
  return p;
}

Frame Packet::frame() const {
  const std::size_t header = protocol == kTcp ? 20 + tcp_options.size() : 8;
  Frame f(kEth + ip_bytes(*this) + header + payload);
  eth(f, eth_dst, eth_src, to.ip.is_v4() ? 0x0800 : 0x86dd);
  const std::size_t l4 = ip_header(f, *this);
  for (std::size_t i = 0; i < payload; ++i)
    f[l4 + header + i] = static_cast<std::uint8_t>(i * 7 + 1);
  Layout layout = Layout::of(f, kEth);
  if (protocol == kIcmp || protocol == kIcmp6) {
    f[l4] = protocol == kIcmp ? 8 : 128;  // an echo request
    put16(f, l4 + 2, fold(sum(f, l4, f.size(), layout.v6 ? layout.pseudo(f) : 0)));
    return f;
  }
  put16(f, l4, from.port);
  put16(f, l4 + 2, to.port);
  if (protocol == kTcp) {
    put32(f, l4 + 4, seq);
    put32(f, l4 + 8, ack);
    f[l4 + 12] = static_cast<std::uint8_t>(header / 4 << 4U);
    std::copy(tcp_options.begin(), tcp_options.end(),
              f.begin() + static_cast<std::ptrdiff_t>(l4 + 20));
    f[l4 + 13] = flags;
    put16(f, l4 + 14, 64240);
    put16(f, l4 + 16, fold(sum(f, l4, f.size(), layout.pseudo(f))));
  } else {
    put16(f, l4 + 4, static_cast<unsigned>(f.size() - l4));
    if (udp_checksum)
      put16(f, l4 + 6, fold(sum(f, l4, f.size(), layout.pseudo(f))));
  }
  return f;
}

Frame echo_request(const Packet& like) {
  Packet p = like;
  p.protocol = like.to.ip.is_v4() ? kIcmp : kIcmp6;
  p.payload = 24;
  return p.frame();
}

Frame IcmpError::frame() const {
  const Layout q = Layout::of(about, kEth);
  const std::size_t quoted_bytes = std::min(q.l4 + quoted, about.size()) - kEth;
  Packet outer;
  outer.from.ip = from;
  outer.to.ip = to;
  outer.protocol = q.v6 ? kIcmp6 : kIcmp;
  Frame f(kEth + ip_bytes(outer) + 8 + quoted_bytes);
  eth(f, eth_dst, eth_src, q.v6 ? 0x86dd : 0x0800);
  const std::size_t l4 = ip_header(f, outer);
  const auto* row =
      std::ranges::find(kIcmpRows, kind, [](const IcmpRow& r) { return std::string(r.name); });
  f[l4] = q.v6 ? row->v6_type : row->v4_type;
  f[l4 + 1] = q.v6 ? row->v6_code : row->v4_code;
  put32(f, l4 + 4, mtu);
  std::copy_n(about.begin() + kEth, quoted_bytes, f.begin() + static_cast<std::ptrdiff_t>(l4 + 8));
  put16(f, l4 + 2, fold(sum(f, l4, f.size(), q.v6 ? Layout::of(f, kEth).pseudo(f) : 0)));
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
  put_mac(f, kEth + 8, sender_mac);
  put32(f, kEth + 14, sender.v4_host_order());
  put32(f, kEth + 24, target.v4_host_order());
  return f;
}

Frame Solicitation::frame() const {
  const auto& t = target.bytes();
  IpAddress::Bytes group{0xff, 0x02};
  group[11] = 1;
  group[12] = 0xff;
  std::copy(t.begin() + 13, t.end(), group.begin() + 13);
  Packet p;
  p.from.ip = sender;
  p.to.ip = to.value_or(IpAddress::from_bytes(group));
  p.ttl = hop_limit;
  p.protocol = kIcmp6;
  p.extensions = extensions;
  const std::size_t bytes = sender.is_unspecified() ? 24 : 32;  // RFC 4861, 4.3: no option then
  Frame f(kEth + ip_bytes(p) + bytes);
  eth(f, to_mac.value_or(MacAddress::from_bytes({0x33, 0x33, 0xff, t[13], t[14], t[15]})),
      sender_mac, 0x86dd);
  const std::size_t l4 = ip_header(f, p);
  f[l4] = type;
  put_ip(f, l4 + 8, target, true);
  if (bytes == 32) {
    f[l4 + 24] = 1;  // the sender's link-layer address
    f[l4 + 25] = 1;
    put_mac(f, l4 + 26, sender_mac);
  }
  put16(f, l4 + 2, fold(sum(f, l4, f.size(), Layout::of(f, kEth).pseudo(f))));
  return f;
}

std::string macs(const Frame& f) { return mac_at(f, 6) + " > " + mac_at(f, 0); }

std::string text(const Frame& f, const Names& names) {
  if (f.size() < kEth + 20)
    return fmt::format("{} bytes", f.size());
  const unsigned type = get16(f, 12);
  if (type == 0x0806)
    return arp_text(f, names);
  if (type != 0x0800 && type != 0x86dd)
    return fmt::format("ethertype {:04x}", type);
  if ((type == 0x86dd) != (f[kEth] >> 4U == 6) || f.size() < kEth + (type == 0x86dd ? 40 : 20))
    return "BAD-VERSION";
  const Layout l = Layout::of(f, kEth);
  if (l.end > f.size() || l.l4 + 8 > l.end)
    return "BAD-LENGTH";
  std::string bad;
  if (!l.v6 && fold(sum(f, kEth, l.l4)) != 0)
    bad += " BAD-IP-CHECKSUM";
  if (l.later)
    return fmt::format("{}-FRAGMENT {}{}", l.protocol == kUdp ? "UDP" : "TCP",
                       route_text(f, l, names), bad);
  if (l.protocol == (l.v6 ? kIcmp6 : kIcmp))
    return icmp_text(f, l, names) + bad;
  const bool unchecked = l.protocol == kUdp && get16(f, l.l4 + 6) == 0;
  if (!unchecked && fold(sum(f, l.l4, l.end, l.pseudo(f))) != 0)
    bad += " BAD-L4-CHECKSUM";
  if (l.protocol == kUdp)
    return fmt::format("UDP {} ttl={} +{}{}", ports_text(f, l, names), l.ttl(f), l.end - l.l4 - 8,
                       bad);
  const std::size_t data = l.l4 + (f[l.l4 + 12] >> 4U) * 4U;
  return fmt::format("TCP {} [{}] seq={} ack={} ttl={} +{}{}{}", ports_text(f, l, names),
                     flags_text(f.at(l.l4 + 13)), get32(f, l.l4 + 4), get32(f, l.l4 + 8), l.ttl(f),
                     l.end - data, mss_text(f, l.l4 + 20, data), bad);
}

}  // namespace shoal::bpftest
