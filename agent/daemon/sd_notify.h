// SPDX-License-Identifier: Apache-2.0
// sd_notify(3) without libsystemd: datagrams to $NOTIFY_SOCKET. A no-op where nobody listens.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace shoal::daemon {

// E.g. "READY=1\nSTATUS=serving 3 pods", "STOPPING=1", "WATCHDOG=1".
void sd_notify(std::string_view state);

// How often WATCHDOG=1 is due (half of WATCHDOG_USEC), when this process is watched.
std::optional<std::chrono::microseconds> sd_watchdog_interval();

}  // namespace shoal::daemon
