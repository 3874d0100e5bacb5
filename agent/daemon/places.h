// SPDX-License-Identifier: Apache-2.0
// Places: how many of one kind may run at once.
#pragma once

#include <cstddef>
#include <memory>

namespace shoal::daemon {

class Places {
public:
  explicit Places(std::size_t max) : max_(max) {}
  // Given back when it is dropped, which may be after this object's end; null when all are taken.
  std::shared_ptr<void> take() {
    if (*taken_ == max_)
      return nullptr;
    ++*taken_;
    return {taken_.get(), [taken = taken_](void*) { --*taken; }};
  }
  std::size_t max() const { return max_; }

private:
  std::size_t max_;
  std::shared_ptr<std::size_t> taken_ = std::make_shared<std::size_t>(0);
};

}  // namespace shoal::daemon
