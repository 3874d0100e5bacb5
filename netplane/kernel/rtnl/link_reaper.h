// SPDX-License-Identifier: Apache-2.0
// LinkReaper: deletes links without waiting for the kernel's grace periods. Private to rtnl/.
//
// The kernel handles RTM_DELLINK within the sender's system call, which takes some 20 ms; the link
// is out of reach, and everybody has been told so, after half a millisecond. So a helper thread
// sends, and the caller listens for the notification. Threading: remove() is called by one thread
// at a time; the helper is started by the first call and ended by the destructor, which waits for
// what is under way.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"
#include "netplane/kernel/rtnl/nl_socket.h"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

namespace shoal::kernel {

class LinkReaper {
public:
  static constexpr std::size_t kQueueMax = 1024;

  explicit LinkReaper(int netns_fd) : netns_fd_(netns_fd) {}
  LinkReaper(const LinkReaper&) = delete;
  LinkReaper& operator=(const LinkReaper&) = delete;
  ~LinkReaper();

  // When it returns the link is gone for every observer. kNotFound: it was not there. `netns_fd`
  // outlives this.
  Result<> remove(std::uint32_t index);

private:
  struct Request {
    std::uint64_t ticket = 0;
    std::uint32_t index = 0;
  };
  struct Outcome {
    std::uint64_t ticket = 0;
    std::optional<Error> error;
  };

  Result<> start();
  void work();
  Result<> wait_until_gone(const Request& request);
  std::optional<Outcome> take_outcome(std::uint64_t ticket);
  bool heard_of_removal(std::uint32_t index);  // reads all notifications that have come

  int netns_fd_;
  std::optional<NlSocket> sender_;   // the helper's
  std::optional<NlSocket> monitor_;  // the caller's
  UniqueFd finished_;                // eventfd: an outcome is there
  std::thread helper_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::uint64_t tickets_ = 0;
  std::deque<Request> queue_;     // guarded by mutex_
  std::deque<Outcome> outcomes_;  // guarded by mutex_; at most kQueueMax, older ones go
  bool stopping_ = false;         // guarded by mutex_
};

}  // namespace shoal::kernel
