// SPDX-License-Identifier: Apache-2.0
// garp: tells the LAN that an address has moved to this host.
//
// IPv4: gratuitous ARP (RFC 5227, section 3; RFC 826), as a request and as a reply, since some
// switches and stacks learn from one form only. IPv6: unsolicited neighbour advertisement to all
// nodes with the override flag (RFC 4861, section 7.2.6). Frames go out of one interface through
// AF_PACKET; nothing is received. Repeating them over time is the caller's timer.
//
// Who asks for an IPv6 address asks its solicited-node multicast group (RFC 4291, 2.7.1), and a NIC
// or a switch that was not told of the group keeps the question away from the program that answers.
// So the group is joined twice: by a socket, which tells switches (MLD), and at the link's filter,
// where it stays when the process is gone and the program is not. A socket takes some hundreds of
// groups (net.core.optmem_max), so there are as many sockets as it needs.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace shoal::kernel {

// Pure: the Ethernet frames that announce `ip` at `mac`; two for IPv4, one for IPv6.
std::vector<std::string> announcement_frames(const IpAddress& ip, const MacAddress& mac);

// Pure: "ff02::1:ffXX:XXXX" of an IPv6 address.
IpAddress solicited_node_group(const IpAddress& ip);

// The groups that are listened to on one link, each once however many addresses have it.
class SolicitedGroups {
public:
  // Of 6.1's 20,480 bytes of optmem_max some 365 groups are paid for; newer kernels have more.
  static constexpr std::size_t kGroupsPerSocket = 256;

  // The namespace is that of the link.
  SolicitedGroups(UniqueFd netns, std::uint32_t link) : netns_(std::move(netns)), link_(link) {}

  // May be repeated; is to be left as often.
  Result<> join(const IpAddress& group);
  bool leave(const IpAddress& group);  // true when nobody needs it any more
  std::size_t sockets() const { return sockets_.size(); }

private:
  struct Socket {
    UniqueFd fd;
    std::size_t groups = 0;
  };
  struct Membership {
    std::size_t socket = 0;
    std::size_t users = 0;
  };
  Result<std::size_t> socket_with_room();

  UniqueFd netns_;
  std::uint32_t link_;
  std::vector<Socket> sockets_;
  std::map<IpAddress, Membership> joined_;
};

class Announcer {
public:
  // netns_fd -1: the calling thread's own namespace.
  static Result<Announcer> open(int netns_fd, std::uint32_t link, const MacAddress& mac);
  // Never blocks: a full queue is kUnavailable, a link that is down kUnavailable too.
  Result<> announce(const IpAddress& ip);

  // Lets questions for `ip` through to this host. Nothing to do for IPv4: ARP is broadcast. May be
  // repeated.
  Result<> listen_for(const IpAddress& ip);
  void ignore(const IpAddress& ip);  // no more; what cannot be left is left in

private:
  Announcer(UniqueFd socket, SolicitedGroups groups, std::uint32_t link, const MacAddress& mac)
      : socket_(std::move(socket)), groups_(std::move(groups)), link_(link), mac_(mac) {}
  Result<> change_filter(const IpAddress& group, bool add);

  UniqueFd socket_;
  SolicitedGroups groups_;
  std::map<IpAddress, IpAddress> heard_;  // the group of each address
  std::uint32_t link_;
  MacAddress mac_;
};

}  // namespace shoal::kernel
