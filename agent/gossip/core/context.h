// SPDX-License-Identifier: Apache-2.0
// Context: what the parts of the core share while one input is handled.
#pragma once

#include "agent/gossip/core/config.h"
#include "agent/gossip/core/effects.h"
#include "agent/gossip/core/message.h"
#include "agent/gossip/core/stats.h"
#include "agent/gossip/core/timers.h"
#include "netplane/base/random.h"

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::gossip {

struct Context {
  ProtocolConfig config;
  Random& random;
  Timers timers;
  Stats stats;
  // Of the present input.
  MonoTime now;
  Effects* out = nullptr;
  // Lifeguard's local health multiplier: how far this host should distrust its own probes.
  unsigned health = 0;

  void worsen_health(unsigned by) { health = std::min(health + by, config.health_max); }
  void improve_health() { health -= health > 0 ? 1 : 0; }

  std::uint64_t arm(TimerKind kind, Duration after, std::string subject = {},
                    std::uint64_t number = 0) {
    return timers.arm(Timer{kind, std::move(subject), number, now + after}, *out);
  }
  // Out of line: inlined, g++ 12 sees uninitialised members of the variant's other alternatives.
  void notify(Effect effect);
  void send_datagram(const SocketAddress& to, std::string bytes);
  void send_stream(const SocketAddress& to, std::string bytes);
  // Encoded messages to one peer: in a few datagrams when they fit, by stream otherwise.
  void send(const SocketAddress& to, std::span<const std::string> messages);
};

// Fills datagrams with encoded messages.
class DatagramBuilder {
public:
  explicit DatagramBuilder(const ProtocolConfig& config);
  bool add(std::string_view message);  // false: no room, nothing was added
  bool empty() const { return bytes_.size() == header_bytes_; }
  std::size_t room() const { return bytes_max_ - bytes_.size(); }
  std::string take();  // what was built; the builder starts anew

private:
  std::string header_;
  std::string bytes_;
  std::size_t header_bytes_;
  std::size_t bytes_max_;
};

// At most `count` different elements in random order. All of them may be disturbed.
template <class T>
void choose(std::vector<T>& from, std::size_t count, Random& random) {
  count = std::min(count, from.size());
  for (std::size_t i = 0; i < count; ++i)
    std::swap(from[i], from[i + random.below(from.size() - i)]);
  from.resize(count);
}

}  // namespace shoal::gossip
