// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/announcements.h"

#include <algorithm>

namespace shoal::apply {

void Announcements::use(std::unique_ptr<VipAnnouncer> announcer, std::vector<ObjectError>& errors) {
  const bool moved = announcer_ != nullptr;
  announcer_ = std::move(announcer);
  for (auto& [ip, announcement] : announcements_) {
    if (moved)
      announcement = {clock_.now(), 0};
    if (Result<> done = announcer_->listen_for(ip); !done)
      errors.push_back({"address " + ip.to_string(), std::move(done).error()});
  }
}

void Announcements::known(const IpAddress& ip) {
  announcements_[ip] = {clock_.now() + config_.announce_refresh, config_.announce_repeats + 1};
}

void Announcements::set(const std::set<IpAddress>& wanted, std::vector<ObjectError>& errors) {
  std::erase_if(announcements_, [&](const auto& item) {
    if (wanted.contains(item.first))
      return false;
    announcer_->ignore(item.first);
    return true;
  });
  for (const IpAddress& ip : wanted) {
    announcements_.try_emplace(ip, Announcement{clock_.now(), 0});
    if (Result<> done = announcer_->listen_for(ip); !done)
      errors.push_back({"address " + ip.to_string(), std::move(done).error()});
  }
  send_due(errors);
}

void Announcements::send_due(std::vector<ObjectError>& errors) {
  const MonoTime now = clock_.now();
  const bool refreshes = config_.announce_refresh != Duration::zero();
  for (auto& [ip, announcement] : announcements_) {
    if (announcement.next > now)
      continue;
    if (announcement.sent > config_.announce_repeats && !refreshes) {
      announcement.next = MonoTime::max();
      continue;
    }
    if (Result<> done = announcer_->announce(ip); done) {
      sent_++;
      announcement.sent++;
    } else {
      errors.push_back({"address " + ip.to_string(),
                        std::move(done).error().wrap("tell the LAN that it is here")});
    }
    // A failed one is tried again in the time of the first repeat.
    const unsigned nth = std::max(1U, announcement.sent);
    if (nth <= config_.announce_repeats)
      announcement.next = now + config_.announce_interval * nth;
    else
      announcement.next = refreshes ? now + config_.announce_refresh : MonoTime::max();
  }
}

}  // namespace shoal::apply
