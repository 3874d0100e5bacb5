// SPDX-License-Identifier: Apache-2.0
// Prober: SWIM's failure detector. In each interval one member is pinged, in an order that reaches
// all of them; silent ones are pinged through helpers; who stays silent is suspected. Lifeguard's
// local health stretches the intervals while this host's own probes go wrong, and a helper's nack
// tells a silent target from a deaf prober. Dead members are dialled now and then, so that
// partitions heal.
#pragma once

#include "agent/gossip/core/context.h"
#include "agent/gossip/core/membership.h"

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace shoal::gossip {

class Prober {
public:
  Prober(Context& context, Membership& membership, std::function<std::uint64_t()> summary);

  void start();
  void on_ping(const SocketAddress& from, const std::string& sender, const Ping& ping);
  void on_ack(const Ack& ack);
  void on_ping_request(const SocketAddress& from, const PingRequest& request);
  void on_nack(const std::string& sender, const Nack& nack);
  void on_refused(const SocketAddress& to);
  // Its suspicion was news: this host looks for itself next, to confirm or to help it refute.
  void probe_soon(const std::string& name);

  void on_probe_timer();
  void on_timeout_timer();
  void on_relay_timer(std::uint64_t sequence);
  void on_dead_probe_timer();
  // This host stood still: the probe under way proves nothing.
  void void_probe();

private:
  struct Probe {
    std::string target;
    SocketAddress address;
    std::uint64_t sequence = 0;
    bool acked = false;
    bool indirect = false;  // helpers were asked
    bool refused = false;
    std::set<std::string> helpers;
    std::set<std::string> nacks;
  };
  struct Relay {
    SocketAddress asker;
    std::uint64_t asker_sequence = 0;
    SocketAddress target;
    std::uint64_t timer = 0;
  };

  Duration stretched(milliseconds base) const;
  std::optional<std::string> next_target();
  void send_ping(const Node& target, std::uint64_t sequence);
  void reply(const SocketAddress& to, const Message& message);
  void ask_helpers();
  void fail_probe();

  Context& ctx_;
  Membership& membership_;
  std::function<std::uint64_t()> summary_;
  std::vector<std::string> order_;  // of this round, from the back
  std::deque<std::string> soon_;
  std::optional<Probe> probe_;
  std::uint64_t timeout_timer_ = 0;
  std::map<std::uint64_t, Relay> relays_;  // by our sequence
};

}  // namespace shoal::gossip
