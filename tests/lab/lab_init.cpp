// SPDX-License-Identifier: Apache-2.0
// lab_init: process 1 of a lab host, and of the lab's sandbox. It holds the namespaces and reaps
// orphans; it forwards nothing and never ends by itself. Its death, by SIGKILL from outside or
// SIGTERM, takes every process of its pid namespace along. Static, so that an idle host costs next
// to nothing. Arguments are for people reading `ps`.
#include <cerrno>
#include <csignal>
#include <sys/wait.h>

int main() {
  sigset_t waited;
  sigemptyset(&waited);
  sigaddset(&waited, SIGCHLD);
  sigaddset(&waited, SIGTERM);
  sigprocmask(SIG_SETMASK, &waited, nullptr);
  for (;;) {
    // Before the wait, too: children may have ended before the mask was set.
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    const int signal = sigwaitinfo(&waited, nullptr);
    if (signal == SIGTERM)
      return 0;
    if (signal < 0 && errno != EINTR)
      return 1;
  }
}
