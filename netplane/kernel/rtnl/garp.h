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
// where it stays when the process is gone and the program is not.
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
  Announcer(UniqueFd socket, UniqueFd groups, std::uint32_t link, const MacAddress& mac)
      : socket_(std::move(socket)), groups_(std::move(groups)), link_(link), mac_(mac) {}
  Result<> change_filter(const IpAddress& group, bool add);

  UniqueFd socket_;
  UniqueFd groups_;                       // IPv6, joins; -1: this kernel has none
  std::map<IpAddress, IpAddress> heard_;  // the group of each address
  std::uint32_t link_;
  MacAddress mac_;
};

}  // namespace shoal::kernel
