// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/news.h"

namespace shoal::gossip {

void News::add(std::string_view name) {
  remove(name);
  told_.emplace(name, 0U);
  order_.emplace(0U, name);
}

void News::remove(std::string_view name) {
  const auto found = told_.find(name);
  if (found == told_.end())
    return;
  order_.erase({found->second, found->first});
  told_.erase(found);
}

void News::told(std::string_view name, unsigned times, unsigned limit) {
  const auto found = told_.find(name);
  if (found == told_.end())
    return;
  const unsigned sum = found->second + times;
  if (sum >= limit) {
    remove(name);
    return;
  }
  order_.erase({found->second, found->first});
  found->second = sum;
  order_.emplace(sum, found->first);
}

}  // namespace shoal::gossip
