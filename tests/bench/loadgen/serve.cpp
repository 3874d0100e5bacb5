// SPDX-License-Identifier: Apache-2.0
// The smallest server that benches can measure a path with (no fork a request), and its round-trip
// client.
#include "tests/bench/loadgen/connection.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace loadgen {
namespace {

std::string answer_with(const std::string& body, bool keep_alive) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) +
         (keep_alive ? "\r\n\r\n" : "\r\nConnection: close\r\n\r\n") + body;
}

std::string body_for(const ServeOptions& options, int fd) {
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  char text[INET_ADDRSTRLEN] = "";
  ::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size);
  ::inet_ntop(AF_INET, &address.sin_addr, text, sizeof(text));
  return options.body.substr(0, options.body.find('\n')) + " client=" + text + "\n";
}

// One connection after the other, with as few calls as there can be: for a client that has one at a
// time, what is measured is the path.
[[noreturn]] void serve_serially(int listener, const std::string& answer) {
  char buffer[4096];
  for (;;) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0)
      continue;
    if (::recv(fd, buffer, sizeof(buffer), 0) > 0)
      ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
    ::close(fd);
  }
}

}  // namespace

int run_serve(const ServeOptions& options) {
  const int blocking = options.serial ? 0 : SOCK_NONBLOCK;
  const int listener = ::socket(AF_INET, SOCK_STREAM | blocking | SOCK_CLOEXEC, 0);
  const int one = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(options.port);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(listener, 4096) != 0)
    die("listen on port " + std::to_string(options.port));
  socklen_t size = sizeof(address);
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  std::printf("{\"type\":\"serving\",\"port\":%u}\n", unsigned{ntohs(address.sin_port)});
  std::fflush(stdout);
  const std::string same_for_all = answer_with(options.body, options.keep_alive);
  if (options.serial)
    serve_serially(listener, same_for_all);
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{EPOLLIN, {.fd = listener}};
  ::epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    epoll_event events[256];
    const int n = ::epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < n; i++) {
      const int fd = events[i].data.fd;
      if (fd == listener) {
        int accepted = 0;
        while ((accepted = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >=
               0) {
          ::setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
          epoll_event read{EPOLLIN, {.fd = accepted}};
          ::epoll_ctl(epoll, EPOLL_CTL_ADD, accepted, &read);
        }
        continue;
      }
      // Requests are small and come in one piece; what they say does not matter.
      char buffer[4096];
      const ssize_t got = ::recv(fd, buffer, sizeof(buffer), 0);
      if (got < 0 && errno == EAGAIN)
        continue;
      if (got > 0) {
        const std::string answer = options.show_client
                                       ? answer_with(body_for(options, fd), options.keep_alive)
                                       : same_for_all;
        ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
      }
      if (got <= 0 || !options.keep_alive)
        ::close(fd);
    }
  }
}

int run_round_trip(const RoundTripOptions& options) {
  const int fd = connect_nonblocking(options.to);
  if (fd < 0)
    die("connect: " + failure_of_errno(-fd));
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  pollfd wait{fd, POLLOUT, 0};
  if (::poll(&wait, 1, static_cast<int>(options.timeout / 1'000'000)) != 1)
    die("connect: timeout");
  const std::string request = http_request(options.to, "/", false);
  Tally tally;
  tally.name = "all";
  tally.began = now_ns();
  wait.events = POLLIN;
  char buffer[8192];
  const Nanos end = tally.began + options.duration;
  Nanos due = tally.began;
  for (std::int64_t i = 0; options.duration ? due < end : i < options.count; i++) {
    const bool sent = ::send(fd, request.data(), request.size(), MSG_NOSIGNAL) ==
                      static_cast<ssize_t>(request.size());
    if (!sent || ::poll(&wait, 1, static_cast<int>(options.timeout / 1'000'000)) != 1 ||
        ::recv(fd, buffer, sizeof(buffer), 0) <= 0) {
      tally.fail("broken", due);
      break;
    }
    const Nanos now = now_ns();
    tally.succeed("any", now - due);
    due = now;
  }
  ::close(fd);
  std::printf("%s\n", tally.to_json("summary", now_ns()).c_str());
  return tally.failed ? 1 : 0;
}

}  // namespace loadgen
