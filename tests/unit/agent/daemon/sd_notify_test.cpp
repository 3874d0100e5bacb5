// SPDX-License-Identifier: Apache-2.0
// What a service manager hears: datagrams at a socket of the test's own.
#include "agent/daemon/sd_notify.h"

#include <cstdlib>
#include <cstring>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace shoal::daemon {
namespace {

class SdNotifyTest : public ::testing::Test {
protected:
  SdNotifyTest() {
    name = fmt::format("@shoal-sd-notify-{}", ::getpid());
    fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name.data() + 1, name.size() - 1);
    EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address),
                     static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())),
              0);
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
  }
  ~SdNotifyTest() override {
    for (const char* variable : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
      ::unsetenv(variable);
    ::close(fd);
  }
  std::string hear() {
    pollfd poll_fd{fd, POLLIN, 0};
    if (::poll(&poll_fd, 1, 10'000) != 1)
      return "silence";
    char text[256];
    const ssize_t n = ::recv(fd, text, sizeof(text), 0);
    return {text, static_cast<std::size_t>(std::max<ssize_t>(n, 0))};
  }
  bool is_silent() {
    pollfd poll_fd{fd, POLLIN, 0};
    return ::poll(&poll_fd, 1, 0) == 0;
  }
  std::string name;
  int fd = -1;
};

TEST_F(SdNotifyTest, SaysWhatItIsGiven) {
  sd_notify("READY=1\nSTATUS=well");
  EXPECT_EQ(hear(), "READY=1\nSTATUS=well");
  ::unsetenv("NOTIFY_SOCKET");
  sd_notify("READY=1");  // nobody listens: fine
  EXPECT_TRUE(is_silent());
}

TEST_F(SdNotifyTest, TheWatchdogHearsFromALoopThatTurns) {
  ::setenv("WATCHDOG_USEC", "20000", 1);
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  boost::asio::io_context loop;
  Watchdog watchdog(loop);
  watchdog.start();
  for (int i = 0; i < 3; ++i) {
    loop.run_one();
    EXPECT_EQ(hear(), "WATCHDOG=1");
  }
  EXPECT_TRUE(is_silent());  // and from none that does not
}

TEST_F(SdNotifyTest, WhoIsNotWatchedSaysNothing) {
  for (const auto& [usec, pid] : {std::pair<const char*, std::string>{"0", ""},
                                  {"nonsense", ""},
                                  {"20000", std::to_string(::getppid())}}) {
    ::setenv("WATCHDOG_USEC", usec, 1);
    if (!pid.empty())
      ::setenv("WATCHDOG_PID", pid.c_str(), 1);
    boost::asio::io_context loop;
    Watchdog watchdog(loop);
    watchdog.start();
    EXPECT_EQ(loop.run(), 0U) << usec;
  }
}

}  // namespace
}  // namespace shoal::daemon
