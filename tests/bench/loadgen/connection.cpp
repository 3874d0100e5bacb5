// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/loadgen/connection.h"

#include <cerrno>
#include <cstring>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace loadgen {

std::string failure_of_errno(int error) {
  switch (error) {
  case ECONNREFUSED:
    return "refused";
  case ECONNRESET:
  case EPIPE:
    return "reset";
  case ETIMEDOUT:
    return "timeout";
  case ENETUNREACH:
  case EHOSTUNREACH:
    return "unreachable";
  case EADDRNOTAVAIL:
    return "no local port";
  default:
    return std::strerror(error);
  }
}

int connect_nonblocking(const Target& to) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return -errno;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to.address), sizeof(to.address)) != 0 &&
      errno != EINPROGRESS) {
    const int error = errno;
    ::close(fd);
    return -error;
  }
  return fd;
}

std::string http_request(const Target& to, const std::string& path, bool close) {
  return "GET " + path + " HTTP/1.1\r\nHost: " + to.text + "\r\n" +
         (close ? "Connection: close\r\n\r\n" : "\r\n");
}

Exchange::Exchange(int epoll, std::uint64_t tag, const Target& to, const std::string& request,
                   Nanos due, Nanos deadline, std::string_view key)
    : epoll_(epoll), tag_(tag), request_(request), due_(due), deadline_(deadline), key_(key) {
  const int fd = connect_nonblocking(to);
  if (fd < 0) {
    fail(failure_of_errno(-fd));
    return;
  }
  fd_ = fd;
  epoll_event event{EPOLLOUT, {.u64 = tag_}};
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd_, &event) != 0)
    fail("epoll");
}

Exchange::~Exchange() {
  if (fd_ >= 0)
    ::close(fd_);
}

Exchange::State Exchange::fail(std::string kind) {
  failure_ = std::move(kind);
  return state_ = State::kFailed;
}

Exchange::State Exchange::on_event(std::uint32_t) {
  if (state_ == State::kConnecting)
    return send_request();
  if (state_ == State::kReading)
    return read_response();
  return state_;
}

Exchange::State Exchange::send_request() {
  int error = 0;
  socklen_t size = sizeof(error);
  if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0)
    return fail(failure_of_errno(error));
  // A request fits an empty send buffer whole.
  if (::send(fd_, request_.data(), request_.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request_.size()))
    return fail(failure_of_errno(errno));
  epoll_event event{EPOLLIN, {.u64 = tag_}};
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd_, &event);
  return state_ = State::kReading;
}

Exchange::State Exchange::read_response() {
  char buffer[8192];
  for (;;) {
    const ssize_t n = ::recv(fd_, buffer, sizeof(buffer), 0);
    if (n == 0)
      return finish();
    if (n < 0)
      return errno == EAGAIN ? state_ : fail(failure_of_errno(errno));
    if (response_.size() + static_cast<std::size_t>(n) > kResponseBytesMax)
      return fail("too large");
    response_.append(buffer, static_cast<std::size_t>(n));
  }
}

Exchange::State Exchange::finish() {
  if (response_.empty())
    return fail("closed");
  if (!response_.starts_with("HTTP/1.") || response_.size() < 12 ||
      response_.compare(9, 3, "200") != 0)
    return fail("http");
  const std::string wanted = std::string(key_) + "=";
  const std::size_t at = response_.find(wanted);
  if (at == std::string::npos)
    return fail("no " + std::string(key_));
  const std::size_t begin = at + wanted.size();
  value_ = response_.substr(begin, response_.find_first_of(" \r\n", begin) - begin);
  return state_ = State::kDone;
}

}  // namespace loadgen
