// SPDX-License-Identifier: Apache-2.0
// Members: which hosts are alive, as this host's membership protocol sees it at one moment. A
// value: the gossip shell makes a new one whenever it changes. Names are node names.
//
// "Not alive" is a verdict (suspicion is over), never a mere lack of news; a host that membership
// has not heard of since this agent started has no entry at all.
#pragma once

#include "netplane/base/clock.h"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::view {

struct Member {
  bool alive = false;
  MonoTime since;  // when this host saw it come into this state
  bool operator==(const Member&) const = default;
};

class Members {
public:
  void set(std::string node, Member member) { by_name_.insert_or_assign(std::move(node), member); }
  void erase(std::string_view node);
  const Member* find(std::string_view node) const;
  bool alive(std::string_view node) const;
  std::vector<std::string> live() const;  // sorted
  const std::map<std::string, Member, std::less<>>& all() const { return by_name_; }
  bool operator==(const Members&) const = default;

private:
  std::map<std::string, Member, std::less<>> by_name_;
};

}  // namespace shoal::view
