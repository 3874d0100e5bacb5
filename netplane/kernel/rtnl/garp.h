// SPDX-License-Identifier: Apache-2.0
// garp: tells the LAN that an address has moved to this host.
//
// IPv4: gratuitous ARP (RFC 5227, section 3; RFC 826), as a request and as a reply, since some
// switches and stacks learn from one form only. IPv6: unsolicited neighbour advertisement to all
// nodes with the override flag (RFC 4861, section 7.2.6). Frames go out of one interface through
// AF_PACKET; nothing is received. Repeating them over time is the caller's timer.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <cstdint>
#include <string>
#include <vector>

namespace shoal::kernel {

// Pure: the Ethernet frames that announce `ip` at `mac`; two for IPv4, one for IPv6.
std::vector<std::string> announcement_frames(const IpAddress& ip, const MacAddress& mac);

class Announcer {
public:
  // netns_fd -1: the calling thread's own namespace.
  static Result<Announcer> open(int netns_fd, std::uint32_t link, const MacAddress& mac);
  // Never blocks: a full queue is kUnavailable, a link that is down kUnavailable too.
  Result<> announce(const IpAddress& ip);

private:
  Announcer(UniqueFd socket, std::uint32_t link, const MacAddress& mac)
      : socket_(std::move(socket)), link_(link), mac_(mac) {}
  UniqueFd socket_;
  std::uint32_t link_;
  MacAddress mac_;
};

}  // namespace shoal::kernel
