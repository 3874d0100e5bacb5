// SPDX-License-Identifier: Apache-2.0
// Connections one after the other, each told in full: how it ended and how long that took, what
// both ends are called, what was answered. For tests that ask about a path, not about a load.
#include "tests/bench/loadgen/connection.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace loadgen {
namespace {

using NameCall = int (*)(int, sockaddr*, socklen_t*);

std::string name_by(NameCall call, int fd) {
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  char text[INET_ADDRSTRLEN];
  if (call(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      !::inet_ntop(AF_INET, &address.sin_addr, text, sizeof(text)))
    return "";
  return std::string(text) + ":" + std::to_string(ntohs(address.sin_port));
}

struct Told {
  std::string outcome;
  std::string peer;
  std::string self;
  std::string body;
};

// False: not in time.
bool wait_until(int fd, short what, Nanos deadline) {
  pollfd wait{fd, what, 0};
  const Nanos left = deadline - now_ns();
  return left > 0 && ::poll(&wait, 1, static_cast<int>((left + 999'999) / 1'000'000)) == 1;
}

std::string exchange(int fd, const Target& to, const std::string& path, Nanos deadline,
                     Told& told) {
  if (!wait_until(fd, POLLOUT, deadline))
    return "timeout";
  int error = 0;
  socklen_t size = sizeof(error);
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0)
    return failure_of_errno(error);
  told.peer = name_by(::getpeername, fd);
  told.self = name_by(::getsockname, fd);
  const std::string request = http_request(to, path, true);
  if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size()))
    return failure_of_errno(errno);
  std::string response;
  char buffer[8192];
  while (response.size() < kResponseBytesMax) {
    if (!wait_until(fd, POLLIN, deadline))
      return "timeout";
    const ssize_t got = ::recv(fd, buffer, sizeof(buffer), 0);
    if (got < 0)
      return failure_of_errno(errno);
    if (got == 0)
      break;
    response.append(buffer, static_cast<std::size_t>(got));
  }
  const std::size_t end_of_head = response.find("\r\n\r\n");
  if (end_of_head == std::string::npos)
    return "closed";
  told.body = response.substr(end_of_head + 4);
  return "ok";
}

Told connect_once(const Target& to, const std::string& path, Nanos deadline) {
  Told told;
  const int fd = connect_nonblocking(to);
  if (fd < 0) {
    told.outcome = failure_of_errno(-fd);
    return told;
  }
  told.outcome = exchange(fd, to, path, deadline, told);
  ::close(fd);
  return told;
}

}  // namespace

int run_connect(const ConnectOptions& options) {
  bool all_well = true;
  for (std::int64_t round = 0; round < options.count; round++) {
    for (const Target& to : options.to) {
      const Nanos began = now_ns();
      const Told told = connect_once(to, options.path, began + options.timeout);
      all_well &= told.outcome == "ok";
      std::printf("{\"type\":\"connect\",\"to\":%s,\"outcome\":%s,\"ms\":%.3f,\"peer\":%s,"
                  "\"self\":%s,\"body\":%s}\n",
                  json_quote(to.text).c_str(), json_quote(told.outcome).c_str(),
                  static_cast<double>(now_ns() - began) / 1e6, json_quote(told.peer).c_str(),
                  json_quote(told.self).c_str(), json_quote(told.body).c_str());
    }
  }
  return all_well ? 0 : 1;
}

}  // namespace loadgen
