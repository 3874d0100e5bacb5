// SPDX-License-Identifier: Apache-2.0
// The addresses that this host tells the LAN about, and when it does so again: at once, a few times
// with growing pauses, and then at every refresh (Config::announce_*).
#pragma once

#include "netplane/apply/config.h"
#include "netplane/apply/data_plane.h"
#include "netplane/apply/kernel_ports.h"
#include "netplane/base/clock.h"

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

namespace shoal::apply {

class Announcements {
public:
  Announcements(const Config& config, const Clock& clock) : config_(config), clock_(clock) {}

  // Through this one from now on, and all of it anew: the uplink has another MAC.
  void use(std::unique_ptr<VipAnnouncer> announcer, std::vector<ObjectError>& errors);
  // Announced by an earlier agent: repeated in its time, not all at once.
  void known(const IpAddress& ip);
  void set(const std::set<IpAddress>& wanted, std::vector<ObjectError>& errors);
  void send_due(std::vector<ObjectError>& errors);
  std::uint64_t sent() const { return sent_; }

private:
  struct Announcement {
    MonoTime next;
    unsigned sent = 0;
  };

  const Config& config_;
  const Clock& clock_;
  std::unique_ptr<VipAnnouncer> announcer_;
  std::map<IpAddress, Announcement> announcements_;
  std::uint64_t sent_ = 0;
};

}  // namespace shoal::apply
