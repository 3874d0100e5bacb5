// SPDX-License-Identifier: Apache-2.0
// Connect, request, response, close: one at a time, with blocking calls, so that what is measured
// is the path and not an event loop. The server closes first: the client's ports are free again at
// once.
#include "tests/bench/loadgen/connection.h"

#include <cerrno>
#include <cstdio>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace loadgen {
namespace {

constexpr std::size_t kExpectedRequests = 1 << 20;
constexpr std::int64_t kFailuresInARowMax = 100;  // a path that is down is not worth a whole window

// "" when all went well, else what did not.
std::string exchange(int fd, const CrrOptions& options, const std::string& request) {
  const timeval patience{options.timeout / 1'000'000'000, options.timeout % 1'000'000'000 / 1000};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));  // connect's, too
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&options.to.address),
                sizeof(options.to.address)) != 0)
    return errno == EINPROGRESS ? "timeout" : failure_of_errno(errno);
  if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size()))
    return failure_of_errno(errno);
  char buffer[4096];
  std::string response;
  for (;;) {
    const ssize_t n = ::recv(fd, buffer, sizeof(buffer), 0);
    if (n < 0)
      return errno == EAGAIN ? "timeout" : failure_of_errno(errno);
    if (n == 0)
      break;
    response.append(buffer, static_cast<std::size_t>(n));
    if (response.size() > kResponseBytesMax)
      return "too large";
  }
  if (response.empty())
    return "closed";
  return response.starts_with("HTTP/1.1 200") ? "" : "http";
}

}  // namespace

int run_crr(const CrrOptions& options) {
  const std::string request = http_request(options.to, "/", true);
  Tally tally;
  tally.name = "all";
  tally.latency_us.reserve(kExpectedRequests);
  tally.began = now_ns();
  const Nanos end = tally.began + options.duration;
  std::int64_t failures_in_a_row = 0;
  Nanos now = tally.began;
  while (now < end && failures_in_a_row < kFailuresInARowMax) {
    const Nanos due = now;
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
      die("socket: " + failure_of_errno(errno));
    const std::string failure = exchange(fd, options, request);
    ::close(fd);
    now = now_ns();
    if (failure.empty()) {
      tally.succeed("any", now - due);
      failures_in_a_row = 0;
    } else {
      tally.fail(failure, due);
      failures_in_a_row++;
    }
  }
  std::printf("%s\n", tally.to_json("summary", now).c_str());
  return tally.failed ? 1 : 0;
}

}  // namespace loadgen
