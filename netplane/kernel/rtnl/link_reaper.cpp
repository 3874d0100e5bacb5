// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/rtnl/link_reaper.h"

#include "netplane/kernel/rtnl/rtnl.h"

#include <cerrno>
#include <chrono>
#include <fmt/format.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>

namespace shoal::kernel {

LinkReaper::~LinkReaper() {
  if (!helper_.joinable())
    return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  helper_.join();
}

Result<> LinkReaper::start() {
  if (helper_.joinable())
    return {};
  sender_.emplace(SHOAL_TRY(NlSocket::open(netns_fd_)));
  monitor_.emplace(SHOAL_TRY(NlSocket::open(netns_fd_, RTNLGRP_LINK)));
  finished_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!finished_)
    return fail_errno("eventfd");
  try {
    helper_ = std::thread([this] { work(); });
  } catch (const std::system_error& error) {
    return fail_errno(error.code().value(), "start the thread that deletes links");
  }
  return {};
}

void LinkReaper::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty())
      return;
    const Request next = queue_.front();
    Outcome outcome{next.ticket, std::nullopt};
    queue_.pop_front();
    lock.unlock();
    ifinfomsg header{};
    header.ifi_index = static_cast<int>(next.index);
    NlMessage request(RTM_DELLINK, 0);
    request.header(header);
    if (auto deleted = sender_->transact(request); !deleted)
      outcome.error = std::move(deleted).error();
    lock.lock();
    outcomes_.push_back(std::move(outcome));
    if (outcomes_.size() > kQueueMax)
      outcomes_.pop_front();
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(finished_.get(), &one, sizeof(one));
  }
}

std::optional<LinkReaper::Outcome> LinkReaper::take_outcome(std::uint64_t ticket) {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t n = ::read(finished_.get(), &count, sizeof(count));
  const std::lock_guard lock(mutex_);
  std::optional<Outcome> found;
  for (Outcome& outcome : outcomes_)
    if (outcome.ticket == ticket)
      found = std::move(outcome);
  outcomes_.clear();  // the others were answered by their notification
  return found;
}

bool LinkReaper::heard_of_removal(std::uint32_t index) {
  bool heard = false;
  alignas(nlmsghdr) char buffer[16384];
  for (;;) {
    const ssize_t n = ::recv(monitor_->fd(), buffer, sizeof(buffer), MSG_DONTWAIT);
    // ENOBUFS: notifications were lost; the helper's own answer will do.
    if (n <= 0)
      return heard;
    auto left = static_cast<int>(n);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer); nlmsg_ok(header, left);
         header = nlmsg_next(header, &left)) {
      if (header->nlmsg_type != RTM_DELLINK)
        continue;
      const auto* info = static_cast<const ifinfomsg*>(nlmsg_data(header));
      // A bridge tells of a port that leaves by the same message, in its own family.
      if (info->ifi_family == AF_UNSPEC && info->ifi_index == static_cast<int>(index))
        heard = true;
    }
  }
}

Result<> LinkReaper::wait_until_gone(const Request& request) {
  const auto deadline = std::chrono::steady_clock::now() + kRtnlTimeout;
  for (;;) {
    if (heard_of_removal(request.index))
      return {};
    if (auto outcome = take_outcome(request.ticket)) {
      if (outcome->error)
        return fail(std::move(*outcome->error));
      return {};
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0)
      return fail(Errc::kTimeout, fmt::format("not gone after {} ms", kRtnlTimeout.count()));
    pollfd fds[2] = {{monitor_->fd(), POLLIN, 0}, {finished_.get(), POLLIN, 0}};
    if (::poll(fds, 2, static_cast<int>(left.count())) < 0 && errno != EINTR)
      return fail_errno("wait for a link to go");
  }
}

Result<> LinkReaper::remove(std::uint32_t index) {
  SHOAL_TRY(start());
  heard_of_removal(0);  // what is old news
  const Request request{++tickets_, index};
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() >= kQueueMax)
      return fail(Errc::kUnavailable,
                  fmt::format("{} links are waiting to be deleted; try again", kQueueMax));
    queue_.push_back(request);
  }
  wake_.notify_one();
  return wait_until_gone(request);
}

}  // namespace shoal::kernel
