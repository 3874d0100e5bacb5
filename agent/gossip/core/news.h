// SPDX-License-Identifier: Apache-2.0
// News: the names of members of whom something is to be told, and how often it was. Names are
// queued and never payloads: what is said is read from the table when it is sent, so that it is
// never stale and there is at most one item a member.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace shoal::gossip {

class News {
public:
  void add(std::string_view name);  // or anew
  void remove(std::string_view name);
  bool contains(std::string_view name) const { return told_.contains(name); }
  bool empty() const { return told_.empty(); }
  // In order, the least told first; visit returns false to stop.
  template <class Visit>
  void for_each(Visit visit) const {
    for (const auto& [told, name] : order_)
      if (!visit(name))
        return;
  }
  // It was told `times`; forgotten once that makes `limit`.
  void told(std::string_view name, unsigned times, unsigned limit);

private:
  std::map<std::string, unsigned, std::less<>> told_;
  std::set<std::pair<unsigned, std::string>> order_;
};

}  // namespace shoal::gossip
