// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/runtime/image/fake_registry.h"

#include "netplane/base/fs.h"
#include "netplane/base/process.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace shoal::testing_images {
namespace {

constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nConnection: close\r\n";

bool readable(int fd, int timeout_ms) {
  pollfd p{fd, POLLIN, 0};
  return ::poll(&p, 1, timeout_ms) > 0;
}

}  // namespace

FakeRegistry::FakeRegistry() {
  (void)run_checked({"ip", "link", "set", "lo", "up"});
  listen_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(at);
  if (::bind(listen_, reinterpret_cast<sockaddr*>(&at), size) == 0 && ::listen(listen_, 16) == 0 &&
      ::getsockname(listen_, reinterpret_cast<sockaddr*>(&at), &size) == 0)
    port_ = ntohs(at.sin_port);
  thread_ = std::thread([this] { run(); });
}

FakeRegistry::~FakeRegistry() {
  stop_ = true;
  thread_.join();
  for (std::thread& connection : connections_)
    connection.join();
  ::close(listen_);
}

std::string FakeRegistry::host() const { return fmt::format("127.0.0.1:{}", port_); }

void FakeRegistry::serve(const std::string& path, std::string body, std::string type, Fault fault) {
  const std::lock_guard guard(mutex_);
  answers_.insert_or_assign(path, Answer{std::move(body), std::move(type), fault});
}

void FakeRegistry::require(const std::string& basic) {
  const std::lock_guard guard(mutex_);
  required_ = basic;
}

std::vector<std::string> FakeRegistry::asked() {
  const std::lock_guard guard(mutex_);
  return std::exchange(asked_, {});
}

void FakeRegistry::run() {
  while (!stop_) {
    if (!readable(listen_, 50))
      continue;
    const int fd = ::accept4(listen_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0)
      connections_.emplace_back([this, fd] {
        answer(fd);
        ::close(fd);
      });
  }
}

void FakeRegistry::answer(int fd) {
  std::string head;
  while (head.find("\r\n\r\n") == std::string::npos) {
    char buffer[4096];
    const ssize_t n = readable(fd, 5000) ? ::read(fd, buffer, sizeof(buffer)) : 0;
    if (n <= 0 || buffer[0] == 0x16)  // TLS is not spoken here
      return;
    head.append(buffer, static_cast<std::size_t>(n));
  }
  const std::size_t from = head.find(' ') + 1;
  const std::string path = head.substr(from, head.find(' ', from) - from);
  Answer found;
  bool known = path == "/v2/";
  bool refused = false;
  {
    const std::lock_guard guard(mutex_);
    refused = !required_.empty() && head.find("Basic " + required_ + "\r\n") == std::string::npos;
    if (!known)
      asked_.push_back(path);
    if (const auto it = answers_.find(path); it != answers_.end()) {
      found = it->second;
      known = true;
    }
  }
  if (refused) {
    (void)write_all(fd, "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nWWW-Authenticate: Basic "
                        "realm=\"test\"\r\nContent-Length: 0\r\n\r\n");
    return;
  }
  if (!known) {
    (void)write_all(fd, "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Type: "
                        "application/json\r\n\r\n{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\","
                        "\"message\":\"manifest unknown\"}]}");
    return;
  }
  std::string answer(kOk);
  if (!found.type.empty())
    answer += "Content-Type: " + found.type + "\r\n";
  if (found.fault == Fault::kNone)
    answer += fmt::format("Content-Length: {}\r\n", found.body.size());
  // A hanging one has sent half when it stops.
  const std::size_t part = found.fault == Fault::kHang ? found.body.size() / 2 : found.body.size();
  (void)write_all(fd, answer + "\r\n" + found.body.substr(0, part));
  const std::string more(1 << 20, 'x');
  while (found.fault != Fault::kNone && !stop_) {
    if (found.fault == Fault::kEndless && !write_all(fd, more))
      return;
    if (found.fault == Fault::kHang && readable(fd, 50))
      return;  // the other side has gone
  }
}

}  // namespace shoal::testing_images
