// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/rtnl/garp.h"

#include "netplane/kernel/rtnl/netns.h"
#include "netplane/kernel/rtnl/packet_bytes.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace shoal::kernel {
namespace {

constexpr std::uint16_t kArpRequest = 1;
constexpr std::uint16_t kArpReply = 2;
constexpr std::uint8_t kIcmpV6 = 58;
constexpr std::uint8_t kNeighbourAdvertisement = 136;
constexpr std::uint32_t kOverrideFlag = 1U << 29;
constexpr std::uint8_t kTargetLinkLayerOption = 2;

void put8(std::string& out, std::uint8_t value) { out.push_back(static_cast<char>(value)); }

void put_mac(std::string& out, const MacAddress& mac) {
  out.append(reinterpret_cast<const char*>(mac.bytes().data()), mac.bytes().size());
}

void put_v6(std::string& out, const IpAddress& ip) {
  out.append(reinterpret_cast<const char*>(ip.bytes().data()), ip.bytes().size());
}

const MacAddress kBroadcast = MacAddress::from_bytes({0xff, 0xff, 0xff, 0xff, 0xff, 0xff});
const MacAddress kAllNodesMac = MacAddress::from_bytes({0x33, 0x33, 0, 0, 0, 1});
const IpAddress kAllNodes =
    IpAddress::from_bytes({0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});

std::string ethernet(const MacAddress& to, const MacAddress& from, std::uint16_t type) {
  std::string out;
  put_mac(out, to);
  put_mac(out, from);
  put16(out, type);
  return out;
}

std::string arp(std::uint16_t operation, const IpAddress& ip, const MacAddress& mac) {
  std::string out = ethernet(kBroadcast, mac, ETHERTYPE_ARP);
  put16(out, 1);  // Ethernet
  put16(out, ETHERTYPE_IP);
  put8(out, 6);
  put8(out, 4);
  put16(out, operation);
  put_mac(out, mac);
  put32(out, ip.v4_host_order());
  // A request asks for the hardware address of `ip`; a reply tells it to everybody.
  put_mac(out, operation == kArpRequest ? MacAddress() : kBroadcast);
  put32(out, ip.v4_host_order());
  return out;
}

// RFC 1071, over the pseudo header of RFC 8200, section 8.1, and the message.
std::uint16_t icmpv6_checksum(const IpAddress& from, const IpAddress& to, std::string_view body) {
  std::string covered;
  put_v6(covered, from);
  put_v6(covered, to);
  put32(covered, static_cast<std::uint32_t>(body.size()));
  put32(covered, kIcmpV6);
  covered += body;
  return static_cast<std::uint16_t>(~folded(sum_of(covered)));
}

std::string neighbour_advertisement(const IpAddress& ip, const MacAddress& mac) {
  std::string body;
  put8(body, kNeighbourAdvertisement);
  put8(body, 0);
  put16(body, 0);  // the checksum, below
  put32(body, kOverrideFlag);
  put_v6(body, ip);
  put8(body, kTargetLinkLayerOption);
  put8(body, 1);  // in units of 8 bytes
  put_mac(body, mac);
  const std::uint16_t checksum = icmpv6_checksum(ip, kAllNodes, body);
  body[2] = static_cast<char>(checksum >> 8);
  body[3] = static_cast<char>(checksum & 0xff);

  std::string out = ethernet(kAllNodesMac, mac, ETHERTYPE_IPV6);
  put32(out, 6U << 28);
  put16(out, static_cast<std::uint16_t>(body.size()));
  put8(out, kIcmpV6);
  put8(out, 255);  // a receiver drops it with any other hop limit
  put_v6(out, ip);
  put_v6(out, kAllNodes);
  return out + body;
}

}  // namespace

std::vector<std::string> announcement_frames(const IpAddress& ip, const MacAddress& mac) {
  if (ip.is_v4())
    return {arp(kArpRequest, ip, mac), arp(kArpReply, ip, mac)};
  return {neighbour_advertisement(ip, mac)};
}

Result<Announcer> Announcer::open(int netns_fd, std::uint32_t link, const MacAddress& mac) {
  UniqueFd netns(netns_fd >= 0 ? ::fcntl(netns_fd, F_DUPFD_CLOEXEC, 0) : -1);
  if (netns_fd < 0)
    netns = SHOAL_TRY(open_current_netns());
  if (!netns)
    return fail_errno("duplicate a network namespace's fd");
  const NetnsScope scope = SHOAL_TRY(NetnsScope::enter(netns.get()));
  // Protocol 0: the socket receives nothing.
  UniqueFd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket)
    return fail_errno("open a packet socket for gratuitous ARP");
  return Announcer(std::move(socket), SolicitedGroups(std::move(netns), link), link, mac);
}

// --- Solicited-node groups
// ----------------------------------------------------------------------

Result<std::size_t> SolicitedGroups::socket_with_room() {
  for (std::size_t at = 0; at < sockets_.size(); at++)
    if (sockets_[at].groups < kGroupsPerSocket)
      return at;
  const NetnsScope scope = SHOAL_TRY(NetnsScope::enter(netns_.get()));
  UniqueFd fd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd && errno == EAFNOSUPPORT)
    return fail(Errc::kUnsupported, "this kernel has no IPv6");
  if (!fd)
    return fail_errno("open a socket for solicited-node groups");
  sockets_.push_back({std::move(fd), 0});
  return sockets_.size() - 1;
}

Result<> SolicitedGroups::join(const IpAddress& group) {
  if (const auto held = joined_.find(group); held != joined_.end()) {
    held->second.users++;
    return {};
  }
  const std::size_t at = SHOAL_TRY(socket_with_room());
  ipv6_mreq request{};
  std::memcpy(&request.ipv6mr_multiaddr, group.bytes().data(), group.bytes().size());
  request.ipv6mr_interface = link_;
  if (::setsockopt(sockets_[at].fd.get(), IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &request,
                   sizeof(request)) != 0)
    return fail_errno(fmt::format("join {} on link {}", group.to_string(), link_));
  sockets_[at].groups++;
  joined_.emplace(group, Membership{at, 1});
  return {};
}

bool SolicitedGroups::leave(const IpAddress& group) {
  const auto held = joined_.find(group);
  if (held == joined_.end() || --held->second.users != 0)
    return false;
  Socket& socket = sockets_[held->second.socket];
  joined_.erase(held);
  ipv6_mreq request{};
  std::memcpy(&request.ipv6mr_multiaddr, group.bytes().data(), group.bytes().size());
  request.ipv6mr_interface = link_;
  // What cannot be left, since its link is gone, is the kernel's to forget.
  static_cast<void>(
      ::setsockopt(socket.fd.get(), IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP, &request, sizeof(request)));
  socket.groups--;
  return true;
}

IpAddress solicited_node_group(const IpAddress& ip) {
  SHOAL_ASSERT(ip.is_v6());
  const auto& b = ip.bytes();
  return IpAddress::from_bytes({0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, b[13], b[14], b[15]});
}

// An entry of the link's own list, that nobody's exit takes away. It is there once, however often
// it is added.
Result<> Announcer::change_filter(const IpAddress& group, bool add) {
  ifreq request{};
  if (::if_indextoname(link_, request.ifr_name) == nullptr)
    return fail_errno(fmt::format("look up link {}", link_));
  const auto& b = group.bytes();
  const std::uint8_t mac[ETH_ALEN] = {0x33, 0x33, b[12], b[13], b[14], b[15]};
  request.ifr_hwaddr.sa_family = AF_UNSPEC;
  std::memcpy(request.ifr_hwaddr.sa_data, mac, sizeof(mac));
  if (::ioctl(socket_.get(), add ? SIOCADDMULTI : SIOCDELMULTI, &request) == 0 ||
      errno == EOPNOTSUPP || errno == EINVAL)  // a link that filters nothing
    return {};
  return fail_errno(fmt::format("{} {} on link {}", add ? "let in" : "keep out", group.to_string(),
                                request.ifr_name));
}

Result<> Announcer::listen_for(const IpAddress& ip) {
  if (ip.is_v4() || heard_.contains(ip))
    return {};
  const IpAddress group = solicited_node_group(ip);
  SHOAL_TRY_WRAP(groups_.join(group), fmt::format("announce {}", ip.to_string()));
  if (Result<> done = change_filter(group, true); !done) {
    groups_.leave(group);
    return done;
  }
  heard_.emplace(ip, group);
  return {};
}

void Announcer::ignore(const IpAddress& ip) {
  const auto heard = heard_.find(ip);
  if (heard == heard_.end())
    return;
  const IpAddress group = heard->second;
  heard_.erase(heard);
  if (groups_.leave(group))
    static_cast<void>(change_filter(group, false));
}

Result<> Announcer::announce(const IpAddress& ip) {
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = static_cast<int>(link_);
  to.sll_halen = ETH_ALEN;
  for (const std::string& frame : announcement_frames(ip, mac_)) {
    std::memcpy(to.sll_addr, frame.data(), ETH_ALEN);
    std::memcpy(&to.sll_protocol, frame.data() + 2 * ETH_ALEN, sizeof(to.sll_protocol));
    ssize_t sent = 0;
    do
      sent = ::sendto(socket_.get(), frame.data(), frame.size(), 0,
                      reinterpret_cast<const sockaddr*>(&to), sizeof(to));
    while (sent < 0 && errno == EINTR);
    if (sent < 0) {
      const int error = errno;
      const std::string what = fmt::format("announce {} on link {}", ip.to_string(), link_);
      if (error == ENETDOWN || error == ENOBUFS)
        return fail(Error::from_errno(error, what).with_code(Errc::kUnavailable));
      return fail_errno(error, what);
    }
  }
  return {};
}

}  // namespace shoal::kernel
