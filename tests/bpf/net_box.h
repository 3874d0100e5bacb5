// SPDX-License-Identifier: Apache-2.0
// Two hosts with a pod each and a client outside, as network namespaces on a bridge, with real
// sockets. Everything has addresses of both families; the service has those of one.
//
//              [ client .101 ]
//                    |
//      ------- br0 in `switch` -------  198.18.0.0/24, 2001:db8:18::/64
//          |                       |
//   [ h1 .11  announces ]    [ h2 .12 ]
//     | pa    \-- vxlan 4789 --/   | pb       (over IPv4)
//   [ poda ]                 [ podb ]
//   10.244.1.5               10.244.2.7
//   fd00:10:244:1::5         fd00:10:244:2::7
#pragma once

#include "netplane/base/unique_fd.h"
#include "tests/bpf/host.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>

namespace shoal::bpftest {

// Answers every TCP connection and every datagram on a port with its name, and says who asked:
// "poda 198.18.0.101". The answer to a datagram is as long as the question, if that is longer.
class Server {
public:
  Server(const std::string& netns, std::string name, std::uint16_t port);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

private:
  void serve();
  std::string name_;
  UniqueFd tcp_, udp_, stop_;
  std::thread thread_;
};

struct Answer {
  int error = 0;     // errno of connect, send or receive; 0: answered
  std::string text;  // what the server said
  std::string peer;  // getpeername, or where the datagram came from
};

// A connected TCP socket; invalid with errno in *error when it was refused or timed out (2 s).
// `family` 0: the address's own; AF_INET6 with an IPv4 address: mapped.
UniqueFd tcp_connect(const SocketAddress& to, int* error, int family = 0);
std::string peer_of(int fd);
Answer tcp_ask(const SocketAddress& to, int family = 0);
Answer exchange(int fd);  // on an open TCP connection: one more question
// Unconnected; a question of so many bytes.
Answer udp_ask(int fd, const SocketAddress& to, std::size_t bytes = 1);
int connect_fd(int fd, const SocketAddress& to);  // errno, or 0
int domain_of(const SocketAddress& address);      // AF_INET or AF_INET6
UniqueFd udp_socket(int family);

struct Places {
  SocketAddress vip, cluster, pod_a, pod_b;
  IpAddress client, self_a, self_b;
};
const Places& places_of(Family family);

class NetBox {
public:
  explicit NetBox(Family family, const kernel::Features& allowed = {});
  ~NetBox();
  static void in_client(const std::function<void()>& f) { in_netns("client", f); }
  // Both hosts know the service's backends; `slots`, each as often as fits, is the ring of both
  // (none: it refuses), which remembers the one before.
  void ring(const std::vector<model::BackendId>& slots);

  const Places& places;
  std::unique_ptr<Host> h1, h2;
  std::uint32_t block = 0;

private:
  // A name, the last of the host's addresses, its pod's name, device and addresses.
  struct Plot {
    std::string name, last, pod_name, device, pod_ip, pod_ip6;
  };
  void make_host(const Plot& plot);
  void program(Host& host, const std::string& name, const std::string& device, bool first);
};

}  // namespace shoal::bpftest
