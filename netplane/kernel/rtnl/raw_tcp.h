// SPDX-License-Identifier: Apache-2.0
// RawTcp: sends single TCP segments from any source address, of both families. Nothing is received,
// and nothing blocks.
//
// What it is for: a connection that neither end of is on this host, but that this host led, is to
// end. Only who has the connection knows the sequence numbers that a reset must carry (RFC 5961).
// So each end is asked: an acknowledgement that is out of any window is answered by one that is
// right (RFC 9293, 3.10.7.4), and as nobody here has the connection any more, that answer is
// answered by a reset with the right numbers.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <cstdint>
#include <memory>
#include <string>

namespace shoal::kernel {

// Pure: an IP packet (RFC 791, RFC 8200) with a bare acknowledgement (RFC 9293), and its TCP
// checksum; the IPv4 header's is left to the kernel, as are length and identification. Both
// addresses are of one family.
std::string ack_packet(const SocketAddress& from, const SocketAddress& to, std::uint32_t sequence,
                       std::uint32_t acknowledged);

class RawTcp {
public:
  static Result<std::unique_ptr<RawTcp>> open();  // in the calling thread's network namespace
  // By the route to `to`, whatever `from` is. kUnavailable: there is none, or no room.
  Result<> send_ack(const SocketAddress& from, const SocketAddress& to, std::uint32_t sequence,
                    std::uint32_t acknowledged);

private:
  RawTcp(UniqueFd v4, UniqueFd v6) : v4_(std::move(v4)), v6_(std::move(v6)) {}
  UniqueFd v4_;
  UniqueFd v6_;
};

}  // namespace shoal::kernel
