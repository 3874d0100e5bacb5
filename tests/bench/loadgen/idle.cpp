// SPDX-License-Identifier: Apache-2.0
// Holds connections to an echo server open. Each is proven once by an echo, and again whenever a
// line `check` comes on standard input: a byte is sent on each and must come back. Ends when
// standard input closes.
#include "tests/bench/loadgen/connection.h"

#include <cstdio>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace loadgen {
namespace {

constexpr std::size_t kOpeningMax = 64;  // at once, so that no listen queue overflows

// Opens up to `count` connections; those that fail are left out.
std::vector<int> open_all(const IdleOptions& options) {
  std::vector<int> open;
  std::int64_t begun = 0;
  while (begun < options.count) {
    std::vector<pollfd> batch;
    while (begun < options.count && batch.size() < kOpeningMax) {
      begun++;
      if (const int fd = connect_nonblocking(options.to); fd >= 0)
        batch.push_back({fd, POLLOUT, 0});
    }
    const Nanos deadline = now_ns() + options.timeout;
    std::size_t left = batch.size();
    while (left && now_ns() < deadline) {
      ::poll(batch.data(), batch.size(), 100);
      for (pollfd& p : batch) {
        if (p.fd < 0 || !p.revents)
          continue;
        int error = 0;
        socklen_t size = sizeof(error);
        ::getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error)
          ::close(p.fd);
        else
          open.push_back(p.fd);
        p.fd = -1;
        left--;
      }
    }
    for (const pollfd& p : batch)
      if (p.fd >= 0)
        ::close(p.fd);
  }
  return open;
}

// One byte there and back on each; broken ones become -1. Returns how many are broken in all.
std::int64_t check_all(std::vector<int>& connections, Nanos timeout, char byte) {
  std::vector<pollfd> waiting(connections.size());
  std::size_t left = 0;
  for (std::size_t i = 0; i < connections.size(); i++) {
    int& fd = connections[i];
    if (fd >= 0 && ::send(fd, &byte, 1, MSG_NOSIGNAL) != 1) {
      ::close(fd);
      fd = -1;
    }
    waiting[i] = {fd, POLLIN, 0};
    left += fd >= 0;
  }
  const Nanos deadline = now_ns() + timeout;
  while (left && now_ns() < deadline) {
    ::poll(waiting.data(), waiting.size(), 100);
    for (std::size_t i = 0; i < waiting.size(); i++) {
      if (waiting[i].fd < 0 || !waiting[i].revents)
        continue;
      char got = 0;
      if (::recv(waiting[i].fd, &got, 1, MSG_DONTWAIT) != 1 || got != byte) {
        ::close(connections[i]);
        connections[i] = -1;
      }
      waiting[i].fd = -1;
      left--;
    }
  }
  for (std::size_t i = 0; i < waiting.size(); i++) {
    if (waiting[i].fd >= 0) {
      ::close(connections[i]);
      connections[i] = -1;
    }
  }
  std::int64_t broken = 0;
  for (const int fd : connections)
    broken += fd < 0;
  return broken;
}

}  // namespace

int run_idle(const IdleOptions& options) {
  std::vector<int> connections = open_all(options);
  const std::int64_t opened = static_cast<std::int64_t>(connections.size());
  std::int64_t broken = check_all(connections, options.timeout, 'a');
  std::printf("{\"type\":\"ready\",\"asked\":%lld,\"open\":%lld}\n",
              static_cast<long long>(options.count), static_cast<long long>(opened - broken));
  std::fflush(stdout);
  const std::int64_t broken_at_start = broken;
  char byte = 'b';
  char line[64];
  while (std::fgets(line, sizeof(line), stdin)) {
    if (std::string(line) != "check\n")
      continue;
    broken = check_all(connections, options.timeout, byte);
    byte = byte == 'z' ? 'a' : static_cast<char>(byte + 1);
    std::printf("{\"type\":\"check\",\"broken\":%lld}\n",
                static_cast<long long>(broken - broken_at_start));
    std::fflush(stdout);
  }
  return opened < options.count || broken ? 1 : 0;
}

}  // namespace loadgen
