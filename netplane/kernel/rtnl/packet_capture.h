// SPDX-License-Identifier: Apache-2.0
// PacketCapture: copies of what one link of a network namespace sends and receives.
//
// An AF_PACKET socket (packet(7)) that is bound to the link. It sees packets before the programs
// and filters of what comes in, and after those of what goes out; also what another link's program
// put into this one with bpf_redirect_peer(), which the other end of the veth never sees. Large
// packets of segmentation offload are seen as they are handed over, whole.
//
// The kernel queues at most kCaptureQueueBytes; what comes while the queue is full is dropped for
// the capture alone, and counted. Nothing blocks. Threading: one thread at a time; the socket
// belongs to its namespace, whichever thread reads it.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace shoal::kernel {

inline constexpr std::uint32_t kSnaplenMin = 64;
inline constexpr std::uint32_t kSnaplenMax = 262'144;         // as tcpdump's
inline constexpr std::uint32_t kCaptureQueueBytes = 8 << 20;  // as the kernel counts them

struct CaptureFilter {
  std::uint32_t snaplen = kSnaplenMax;  // bytes kept of each packet; asserted to be in the bounds
  // Only TCP and UDP from or to it: IPv4 with any options, first fragments; IPv6 without extension
  // headers.
  std::optional<std::uint16_t> port;
};

struct CapturedPacket {
  std::int64_t time_ns = 0;  // since 1970, UTC
  // From the Ethernet header on; an 802.1Q tag stands where it is on the wire. Good until the next
  // call.
  std::span<const std::uint8_t> bytes;
  std::uint32_t original_bytes = 0;  // before it was cut to the snaplen
  bool checksum_left = false;        // for the device to fill in: it is not right yet
};

class PacketCapture {
public:
  // kNotFound: the namespace has no such link.
  static Result<PacketCapture> open(int netns_fd, std::string_view link,
                                    const CaptureFilter& filter);
  int fd() const { return socket_.get(); }  // readable when a packet waits, or the link has gone
  // Nothing: no packet waits. kUnavailable, once: the link is down or gone; what came before it can
  // still be read.
  Result<std::optional<CapturedPacket>> next();
  // No more packets are taken; those that were can still be read.
  Result<> stop();
  // Packets that found the queue full, since the beginning.
  Result<std::uint64_t> dropped();

private:
  PacketCapture(UniqueFd socket, std::uint32_t snaplen);

  UniqueFd socket_;
  std::uint32_t snaplen_;
  std::vector<std::uint8_t> buffer_;  // room for a tag, then the packet
  std::uint64_t dropped_ = 0;
};

}  // namespace shoal::kernel
