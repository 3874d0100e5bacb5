// SPDX-License-Identifier: Apache-2.0
// grpc-health PORT FILE: a gRPC health server for pods of lab tests. FILE holds the status that is
// answered for the whole server and for the service "web" (1: SERVING); without it nothing is
// answered. Other services are not known.
#include "tests/fakes/grpc_health_server.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

namespace {

constexpr std::size_t kConnectionsMax = 64;

const char* g_file;

shoal::fakes::HealthAnswer answer(std::string_view service) {
  shoal::fakes::HealthAnswer out;
  if (!service.empty() && service != "web") {
    out.grpc_status = 5;
    out.grpc_message = "unknown service";
    return out;
  }
  std::FILE* file = std::fopen(g_file, "re");
  char text[16] = {};
  out.silent = file == nullptr || std::fgets(text, sizeof(text), file) == nullptr;
  if (file != nullptr)
    std::fclose(file);
  out.serving_status = static_cast<int>(std::strtol(text, nullptr, 10));
  return out;
}

struct Connection {
  explicit Connection(int socket) : fd(socket), http(answer) {}
  ~Connection() { ::close(fd); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool flush() {
    const std::string out = http.take_output();
    return out.empty() ||
           ::send(fd, out.data(), out.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(out.size());
  }
  bool serve() {
    char buffer[4096];
    const ssize_t n = ::recv(fd, buffer, sizeof(buffer), 0);
    return n > 0 && http.receive({buffer, static_cast<std::size_t>(n)}) && flush();
  }

  int fd;
  shoal::fakes::GrpcHealthConnection http;
};

int listen_at(const char* port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::strtol(port, nullptr, 10)));
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(fd, 16) != 0) {
    std::perror("grpc-health: listen");
    std::exit(1);
  }
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: grpc-health PORT FILE\n");
    return 2;
  }
  g_file = argv[2];
  const int listener = listen_at(argv[1]);
  std::vector<std::unique_ptr<Connection>> connections;
  for (;;) {  // until it is killed
    std::vector<pollfd> fds{{listener, POLLIN, 0}};
    for (const auto& one : connections)
      fds.push_back({one->fd, POLLIN, 0});
    if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR)
      return 1;
    for (std::size_t i = connections.size(); i-- > 0;)
      if (fds[i + 1].revents != 0 && !connections[i]->serve())
        connections.erase(connections.begin() + static_cast<std::ptrdiff_t>(i));
    if (fds[0].revents == 0)
      continue;
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0)
      continue;
    auto one = std::make_unique<Connection>(fd);
    if (connections.size() < kConnectionsMax && one->flush())
      connections.push_back(std::move(one));
  }
}
