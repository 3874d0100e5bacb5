// SPDX-License-Identifier: Apache-2.0
// AntiEntropy: two members compare all that they hold, members and origins, and each gets what it
// lacks. Begun by a ping whose summary differs, and by joining. Also keeps the seeds.
#pragma once

#include "agent/gossip/core/context.h"
#include "agent/gossip/core/membership.h"
#include "agent/gossip/core/replication.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::gossip {

class AntiEntropy {
public:
  AntiEntropy(Context& context, Membership& membership, Replication& replication);

  std::uint64_t summary() const;
  void join(std::span<const SocketAddress> seeds);
  void on_join_timer();
  // A ping's sender holds this.
  void compare(const SocketAddress& from, std::uint64_t their_summary);
  void on_sync(const std::string& sender, const Sync& sync);

private:
  std::vector<std::string> complete_sync() const;  // encoded messages
  void answer_members(const std::string& sender, const Sync& sync, Sync& reply);
  void answer_origins(const std::string& sender, const Sync& sync, Sync& reply);

  Context& ctx_;
  Membership& membership_;
  Replication& replication_;
  std::vector<SocketAddress> seeds_;
  unsigned join_tries_ = 0;
  std::uint64_t join_timer_ = 0;
  MonoTime next_sync_;
};

}  // namespace shoal::gossip
