// SPDX-License-Identifier: Apache-2.0
// Claims: names of which each is one thread's at a time; the others wait until it lets go. A thread
// that holds some never waits for another, or two could wait for each other.
#pragma once

#include "netplane/base/result.h"

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace shoal::runtime {

class Claims {
public:
  // Given back when it goes.
  class Hold {
  public:
    Hold(Hold&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), name_(std::move(other.name_)) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold();

  private:
    friend class Claims;
    Hold(Claims* owner, std::string name) : owner_(owner), name_(std::move(name)) {}
    Claims* owner_;
    std::string name_;
  };

  // Nothing: it is somebody else's.
  std::optional<Hold> try_claim(const std::string& name);
  bool taken(const std::string& name) const;
  void wait_free(const std::string& name) const;
  // Waits for it to become this thread's; `look` is called every so often, and its error ends the
  // wait.
  Result<Hold> claim(const std::string& name, const std::function<Result<>()>& look,
                     std::chrono::milliseconds every);

private:
  mutable std::mutex mutex_;
  mutable std::condition_variable freed_;
  std::set<std::string> taken_;
};

}  // namespace shoal::runtime
