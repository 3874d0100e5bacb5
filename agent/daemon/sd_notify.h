// SPDX-License-Identifier: Apache-2.0
// sd_notify(3) without libsystemd: datagrams to $NOTIFY_SOCKET. A no-op where nobody listens.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <optional>
#include <string_view>

namespace shoal::daemon {

// E.g. "READY=1\nSTATUS=serving 3 pods", "STOPPING=1", "WATCHDOG=1".
void sd_notify(std::string_view state);

// How often WATCHDOG=1 is due (half of WATCHDOG_USEC), when this process is watched.
std::optional<std::chrono::microseconds> sd_watchdog_interval();

// Tells the service manager that the loop turns, from its start() until it goes. Every loop that
// shoald stands in needs one: a daemon that is watched and says nothing is killed.
class Watchdog {
public:
  explicit Watchdog(boost::asio::io_context& loop) : timer_(loop) {}
  void start();

private:
  boost::asio::steady_timer timer_;
};

}  // namespace shoal::daemon
