// SPDX-License-Identifier: Apache-2.0
// One stream as fast as it goes, and what it cost: each end counts the CPU time of its own process,
// which on a path that begins and ends on one CPU is all the work there is, the kernel's included.
#include "tests/bench/loadgen/connection.h"

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <memory>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace loadgen {
namespace {

constexpr std::size_t kChunkBytes = 64 << 10;

Nanos cpu_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

void be_patient(int fd, Nanos timeout) {
  const timeval patience{timeout / 1'000'000'000, timeout % 1'000'000'000 / 1000};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));  // connect's, too
}

// Reads to the end and says so: "BYTES CPU_NS\n".
void drain(int fd, char* chunk) {
  const Nanos cpu_began = cpu_ns();
  std::int64_t bytes = 0;
  for (;;) {
    const ssize_t got = ::recv(fd, chunk, kChunkBytes, 0);
    if (got == 0)
      break;
    if (got < 0)
      return;
    bytes += got;
  }
  char told[64];
  const int size = std::snprintf(told, sizeof(told), "%lld %lld\n", static_cast<long long>(bytes),
                                 static_cast<long long>(cpu_ns() - cpu_began));
  ::send(fd, told, static_cast<std::size_t>(size), MSG_NOSIGNAL);
}

}  // namespace

int run_sink(const SinkOptions& options) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int one = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(options.port);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(listener, 16) != 0)
    die("listen on port " + std::to_string(options.port) + ": " + failure_of_errno(errno));
  socklen_t size = sizeof(address);
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  std::printf("{\"type\":\"serving\",\"port\":%u}\n", unsigned{ntohs(address.sin_port)});
  std::fflush(stdout);
  const auto chunk = std::make_unique<char[]>(kChunkBytes);
  for (;;) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0)
      continue;
    be_patient(fd, options.timeout);
    drain(fd, chunk.get());
    ::close(fd);
  }
}

int run_stream(const StreamOptions& options) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    die("socket: " + failure_of_errno(errno));
  be_patient(fd, options.timeout);
  const auto chunk = std::make_unique<char[]>(kChunkBytes);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&options.to.address),
                sizeof(options.to.address)) != 0)
    die("connect to " + options.to.text + ": " +
        (errno == EINPROGRESS ? "timeout" : failure_of_errno(errno)));
  const Nanos cpu_began = cpu_ns();
  const Nanos began = now_ns();
  while (now_ns() < began + options.duration)
    if (::send(fd, chunk.get(), kChunkBytes, MSG_NOSIGNAL) <= 0)
      die("send: " + (errno == EAGAIN ? "timeout" : failure_of_errno(errno)));
  ::shutdown(fd, SHUT_WR);
  // The answer comes in one piece, once all of the stream has been read.
  char told[64] = "";
  const ssize_t got = ::recv(fd, told, sizeof(told) - 1, 0);
  const Nanos cpu = cpu_ns() - cpu_began;
  const Nanos took = now_ns() - began;
  long long bytes = 0;
  long long sink_cpu = 0;
  if (got <= 0 || std::sscanf(told, "%lld %lld", &bytes, &sink_cpu) != 2 || bytes <= 0)
    die(options.to.text + ": no sink has answered");
  ::close(fd);
  std::printf("{\"type\":\"stream\",\"seconds\":%.6f,\"bytes\":%lld,\"cpu_ns\":%lld,"
              "\"sink_cpu_ns\":%lld}\n",
              static_cast<double>(took) / 1e9, bytes, static_cast<long long>(cpu), sink_cpu);
  return 0;
}

}  // namespace loadgen
