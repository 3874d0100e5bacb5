// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/claims.h"

namespace shoal::runtime {

Claims::Hold::~Hold() {
  if (!owner_)
    return;
  {
    const std::lock_guard guard(owner_->mutex_);
    owner_->taken_.erase(name_);
  }
  owner_->freed_.notify_all();
}

std::optional<Claims::Hold> Claims::try_claim(const std::string& name) {
  const std::lock_guard guard(mutex_);
  if (!taken_.insert(name).second)
    return std::nullopt;
  return Hold(this, name);
}

bool Claims::taken(const std::string& name) const {
  const std::lock_guard guard(mutex_);
  return taken_.contains(name);
}

void Claims::wait_free(const std::string& name) const {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [&] { return !taken_.contains(name); });
}

Result<Claims::Hold> Claims::claim(const std::string& name, const std::function<Result<>()>& look,
                                   std::chrono::milliseconds every) {
  for (;;) {
    if (auto hold = try_claim(name))
      return std::move(*hold);
    SHOAL_TRY(look());
    std::unique_lock lock(mutex_);
    freed_.wait_for(lock, every, [&] { return !taken_.contains(name); });
  }
}

}  // namespace shoal::runtime
