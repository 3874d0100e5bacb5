// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/sd_notify.h"

#include "netplane/base/strings.h"
#include "netplane/base/unique_fd.h"

#include <cstdlib>
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace shoal::daemon {

void sd_notify(std::string_view state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (!path || (path[0] != '/' && path[0] != '@'))
    return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t length = std::strlen(path);
  if (length >= sizeof(address.sun_path))
    return;
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@')
    address.sun_path[0] = '\0';  // an abstract socket
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (fd)
    ::sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
             reinterpret_cast<const sockaddr*>(&address),
             static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
}

std::optional<std::chrono::microseconds> sd_watchdog_interval() {
  const char* usec = std::getenv("WATCHDOG_USEC");
  const char* pid = std::getenv("WATCHDOG_PID");
  if (!usec || (pid && parse_uint(pid) != static_cast<std::uint64_t>(::getpid())))
    return std::nullopt;
  const auto value = parse_uint(usec);
  if (!value || *value == 0)
    return std::nullopt;
  return std::chrono::microseconds(*value / 2);
}

void Watchdog::start() {
  const auto interval = sd_watchdog_interval();
  if (!interval)
    return;
  timer_.expires_after(*interval);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error)
      return;
    sd_notify("WATCHDOG=1");
    start();
  });
}

}  // namespace shoal::daemon
