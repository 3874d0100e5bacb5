// SPDX-License-Identifier: Apache-2.0
// NftServiceTable: the service proxy and the pods' guard of a host without BPF, as the nftables
// table `inet shoal-services`; every change is one transaction over libmnl and libnftnl, and costs
// what it touches.
//
//   chain prerouting (nat, dstnat), output (nat, dstnat)
//     a connection's first packet: its address, protocol and port in @inside4 or @outside4 lead to
//     the chain of a service; those of an address in @vips4 that lead nowhere are refused
//   chain svc/NS/NAME/PORT/PROTO
//     with affinity: the backend that @clients4 remembers, while it is one of @members4
//     a pool by weight (numgen), a place in it evenly (numgen), what lies there (@places4): dnat
//   chain ranges/NS/...   loadBalancerSourceRanges, before the service's chain
//   chain postrouting (nat, before srcnat)
//     a connection that was balanced becomes this host's own where a reply would not come back: a
//     pod that was led to itself, and clients from outside whose backend is elsewhere
//   chain forward (filter)   refuses what is left for @vips4; holds the MSS to the route's
//   chain guard (filter, raw prerouting)
//     drops what pods send from addresses that are not theirs, and overlay packets of strangers
// and the same for IPv6. Between the first two kinds of chains and postrouting, connections to
// services are told by one bit of the packet's mark, kNftMark, which is cleared again.
//
// The overlay's frames are addressed to one MAC on every host (SHOAL_OVERLAY_MAC of bpf/abi), and
// no device may have it: senders would look like echoes of the receiver. Table `netdev
// shoal-overlay` makes such frames the host's own as they come in.
//
// Each rule names in its comment what it was made from and its place in its chain, so that a rule
// that somebody removes, adds or changes shows. Threading: one thread at a time.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"
#include "netplane/model/nft_services.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::kernel {

inline constexpr std::string_view kNftServiceTable = "shoal-services";
inline constexpr std::string_view kNftOverlayTable = "shoal-overlay";
inline constexpr std::uint32_t kNftMark = 0x2000;

struct NftCount {
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;
};

// What the rules have counted. A service's chain counts anew when it is written anew.
struct NftCounts {
  std::map<std::string, std::uint64_t> connections;  // by service chain: first packets led there
  std::map<std::string, std::uint64_t> refused;      // by service chain: for want of a backend
  std::uint64_t no_backend = 0;
  std::uint64_t no_frontend = 0;
  std::uint64_t source_range = 0;
  std::uint64_t spoofed = 0;
  std::uint64_t stranger = 0;  // overlay packets of no member host
};

class NftServiceTable {
public:
  virtual ~NftServiceTable() = default;
  // All of it or nothing.
  virtual Result<> commit(const model::NftChange& change) = 0;
  virtual Result<model::NftHeld> read() = 0;
  virtual Result<NftCounts> counts() = 0;
  // Takes frames to `mac` that come in on that device, which must be there, for the host's own.
  // True when it had to be made.
  virtual Result<bool> accept_overlay(std::string_view device, const MacAddress& mac) = 0;
  virtual Result<bool> present() = 0;  // either table
  virtual Result<> remove() = 0;       // both; none is success
};

// In that namespace; -1: the calling thread's own. clients: how many session affinity remembers.
Result<std::unique_ptr<NftServiceTable>> open_nft_service_table(std::uint32_t clients = 65'536,
                                                                int netns_fd = -1);

}  // namespace shoal::kernel
