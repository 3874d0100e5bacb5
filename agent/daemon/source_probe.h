// SPDX-License-Identifier: Apache-2.0
// SourceProbe: sends the datagrams that source_verdicts.h judges, and hands it those of the others.
//
// They go to the peers' gossip ports, sealed as gossip is, by a raw socket: the two of a round
// differ in their source address only. The foreign one is the first of the load balancer's pool
// that this host does not announce: a network may take what leads to a host from that host alone.
// Without such, the underlay address of a third host; without either nothing is sent. IPv6 follows
// IPv4. Once a second, to kProbedMax peers at most, in turn.
//
// A host sends whatever its own mode is: the others want to know. Threading: the loop thread.
#pragma once

#include "agent/daemon/source_verdicts.h"
#include "agent/gossip/net/gossip.h"
#include "netplane/apply/raw_udp.h"
#include "netplane/base/clock.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace shoal::daemon {

inline constexpr std::chrono::seconds kSourceProbeInterval{1};
inline constexpr std::size_t kProbedMax = 32;
inline constexpr std::uint64_t kPoolLookMax = 256;  // addresses of a pool that are looked at

// Pure. What `peer` is sent from, besides this host's own address.
std::optional<IpAddress> foreign_source(const std::vector<IpPrefix>& pools,
                                        const std::vector<gossip::Member>& members,
                                        std::string_view self, std::string_view peer,
                                        const std::vector<IpAddress>& announced);

// What a datagram says.
struct SourceWord {
  std::string sender;
  SourceRound round;
  bool foreign = false;
  bool operator==(const SourceWord&) const = default;
};
std::string encode(const SourceWord& word);
std::optional<SourceWord> decode_source_word(std::string_view text);

class SourceProbe {
public:
  // changed: the verdict about that host is another one.
  struct Inputs {
    std::vector<IpPrefix> pools;
    std::function<std::vector<IpAddress>()> announced;  // by this host, now
    std::function<std::set<std::string>()> hosts;       // of the cluster, known to gossip or not
    std::function<void(const std::string&)> changed;
  };
  SourceProbe(boost::asio::io_context& loop, gossip::Gossip& gossip, const Clock& clock,
              Inputs inputs);
  ~SourceProbe() { *alive_ = false; }
  SourceProbe(const SourceProbe&) = delete;
  SourceProbe& operator=(const SourceProbe&) = delete;

  // `presumed`: hosts that an earlier agent reached by SNAT. kPermission and the like: nothing can
  // be sent, and the others' datagrams are judged all the same.
  Result<> start(const std::set<std::string>& presumed);
  const SourceVerdicts& verdicts() const { return verdicts_; }
  // Live hosts but this one, with what is known of each; by name.
  std::vector<std::pair<std::string, SourceVerdict>> peers() const;

private:
  void arm();
  void tick();
  void probe(const gossip::Member& peer, const std::vector<gossip::Member>& members);
  void on_word(std::string_view text);

  gossip::Gossip& gossip_;
  const Clock& clock_;
  Inputs inputs_;
  boost::asio::steady_timer timer_;
  std::optional<kernel::RawUdp> socket_;
  SourceVerdicts verdicts_;
  std::uint64_t round_ = 0;
  std::string last_;  // of the peers that were sent something
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace shoal::daemon
