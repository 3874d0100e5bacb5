// SPDX-License-Identifier: Apache-2.0
// The first process of a container whose start is measured: says by one datagram when it began to
// run, then waits to be told to end. CLOCK_MONOTONIC is the same in every container of a machine.
#include "tests/bench/loadgen/connection.h"

#include <cerrno>
#include <csignal>
#include <sys/socket.h>
#include <unistd.h>

namespace loadgen {

int run_hello(const HelloOptions& options, Nanos began) {
  sigset_t end;
  sigemptyset(&end);
  sigaddset(&end, SIGTERM);
  sigaddset(&end, SIGINT);
  sigprocmask(SIG_BLOCK, &end, nullptr);  // process 1 of a pid namespace has no default action
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const std::string message = options.text + " " + std::to_string(began);
  if (fd < 0 || ::sendto(fd, message.data(), message.size(), 0,
                         reinterpret_cast<const sockaddr*>(&options.to.address),
                         sizeof(options.to.address)) < 0)
    die("hello to " + options.to.text + ": " + failure_of_errno(errno));
  ::close(fd);
  int signal = 0;
  sigwait(&end, &signal);
  return 0;
}

}  // namespace loadgen
