// SPDX-License-Identifier: Apache-2.0
// Two hosts with a pod each and a client outside, as network namespaces on a bridge, with real
// sockets.
//
//              [ client .101 ]
//                    |
//      ------- br0 in `switch` -------  198.18.0.0/24
//          |                       |
//   [ h1 .11  announces ]    [ h2 .12 ]
//     | pa    \-- vxlan 4789 --/   | pb
//   [ poda 10.244.1.5 ]      [ podb 10.244.2.7 ]
#pragma once

#include "netplane/base/unique_fd.h"
#include "tests/bpf/host.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>

namespace shoal::bpftest {

// Answers every TCP connection and every datagram on a port with its name, and says who asked:
// "poda 198.18.0.101".
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
UniqueFd tcp_connect(const SocketAddress& to, int* error, int family = 0);
std::string peer_of(int fd);
Answer tcp_ask(const SocketAddress& to, int family = 0);
Answer exchange(int fd);                          // on an open TCP connection: one more question
Answer udp_ask(int fd, const SocketAddress& to);  // unconnected
UniqueFd udp_socket();

class NetBox {
public:
  explicit NetBox(const kernel::Features& allowed = {});
  ~NetBox();
  static void in_client(const std::function<void()>& f) { in_netns("client", f); }
  // Both hosts know the service's backends; `slots` is the ring of both.
  void ring(const std::vector<model::BackendId>& slots);

  std::unique_ptr<Host> h1, h2;
  std::uint32_t block = 0;

private:
  void make_host(const std::string& name, const std::string& underlay, const std::string& pod_name,
                 const std::string& device, const std::string& pod_ip);
  void program(Host& host, const std::string& name, const std::string& device, bool first);
};

}  // namespace shoal::bpftest
