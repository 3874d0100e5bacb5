// SPDX-License-Identifier: Apache-2.0
// Sockets of a namespace of the test's own, seen and ended.
#include "netplane/kernel/diag/sock_diag.h"

#include "netplane/kernel/rtnl/netns.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace shoal::kernel {
namespace {

constexpr int kWaitMs = 20'000;  // reached only when something is wrong

sockaddr_in6 address(const char* ip, std::uint16_t port) {
  sockaddr_in6 out{};
  out.sin6_family = AF_INET6;
  out.sin6_port = htons(port);
  EXPECT_EQ(::inet_pton(AF_INET6, ip, &out.sin6_addr), 1);
  return out;
}

UniqueFd open_socket(int family, int type) {
  UniqueFd fd(::socket(family, type | SOCK_CLOEXEC, 0));
  EXPECT_TRUE(fd);
  return fd;
}

// The next call's error; 0: the other side closed it, or there is data.
int error_of(const UniqueFd& fd) {
  pollfd waits{fd.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&waits, 1, kWaitMs), 1);
  char byte = 0;
  return ::recv(fd.get(), &byte, 1, 0) < 0 ? errno : 0;
}

class SockDiagTest : public testing::Test {
protected:
  void SetUp() override {
    netns_ = std::move(*create_netns());
    const auto rtnl = std::move(*open_rtnl(netns_.get()));
    ASSERT_TRUE(rtnl->set_link_up(rtnl->link("lo")->index, true));
    diag_ = std::move(*open_sock_diag(netns_.get()));
  }
  // A TCP connection between two sockets of the namespace, the accepted one an IPv6 socket whatever
  // it speaks. `to`: an IPv6 address, IPv4-mapped ones too.
  struct Pair {
    UniqueFd client, server;
  };
  Pair connect(const char* to) const {
    const auto scope = NetnsScope::enter(netns_.get());
    const UniqueFd listener = open_socket(AF_INET6, SOCK_STREAM);
    const int off = 0;
    ::setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    sockaddr_in6 any = address("::", 7000);
    const int on = 1;
    ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    EXPECT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&any), sizeof(any)), 0);
    EXPECT_EQ(::listen(listener.get(), 4), 0);
    Pair out;
    out.client = open_socket(AF_INET6, SOCK_STREAM);
    sockaddr_in6 there = address(to, 7000);
    EXPECT_EQ(::connect(out.client.get(), reinterpret_cast<sockaddr*>(&there), sizeof(there)), 0);
    out.server = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_TRUE(out.server);
    return out;
  }
  std::vector<ConnectedSocket> list(L4Proto proto) const {
    std::vector<ConnectedSocket> out;
    EXPECT_TRUE(diag_->each(proto, -1, [&](const ConnectedSocket& socket, auto storage) {
      EXPECT_TRUE(storage.empty());
      out.push_back(socket);
    }));
    return out;
  }
  static ConnectedSocket with_local_port(const std::vector<ConnectedSocket>& all,
                                         std::uint16_t port) {
    const auto found = std::ranges::find_if(
        all, [&](const ConnectedSocket& socket) { return socket.local.port == port; });
    EXPECT_NE(found, all.end());
    return found == all.end() ? ConnectedSocket() : *found;
  }

  UniqueFd netns_;
  std::unique_ptr<SockDiag> diag_;
};

TEST_F(SockDiagTest, ThisKernelClosesSockets) { EXPECT_TRUE(*can_destroy_sockets()); }

TEST_F(SockDiagTest, AnIdleConnectionIsResetForItsOtherSide) {
  for (const char* to : {"::1", "::ffff:127.0.0.1"}) {
    const Pair pair = connect(to);
    const auto all = list(L4Proto::kTcp);
    ASSERT_EQ(all.size(), 2U) << to;
    const ConnectedSocket server = with_local_port(all, 7000);
    EXPECT_EQ(server.local.ip.is_v4(), to[2] == 'f') << server.local.to_string();
    const ConnectedSocket client = with_local_port(all, server.remote.port);
    EXPECT_EQ(client.remote, server.local);
    std::uint64_t cookie = 0;
    socklen_t bytes = sizeof(cookie);
    ASSERT_EQ(::getsockopt(pair.server.get(), SOL_SOCKET, SO_COOKIE, &cookie, &bytes), 0);
    EXPECT_EQ(server.cookie, cookie);

    EXPECT_TRUE(*diag_->destroy(server));
    EXPECT_EQ(error_of(pair.client), ECONNRESET);
    EXPECT_EQ(error_of(pair.server), ECONNABORTED);
    EXPECT_TRUE(list(L4Proto::kTcp).empty());
    EXPECT_FALSE(*diag_->destroy(server)) << "it is gone";
  }
}

TEST_F(SockDiagTest, ClosingTheClientsSideResetsTheServers) {
  const Pair pair = connect("::1");
  const auto all = list(L4Proto::kTcp);
  EXPECT_TRUE(*diag_->destroy(with_local_port(all, with_local_port(all, 7000).remote.port)));
  EXPECT_EQ(error_of(pair.server), ECONNRESET);
  EXPECT_EQ(error_of(pair.client), ECONNABORTED);
}

TEST_F(SockDiagTest, AHalfClosedConnectionIsStillOne) {
  const Pair pair = connect("::1");
  ASSERT_EQ(::shutdown(pair.client.get(), SHUT_WR), 0);
  EXPECT_EQ(error_of(pair.server), 0);
  EXPECT_TRUE(*diag_->destroy(with_local_port(list(L4Proto::kTcp), 7000)));
  EXPECT_EQ(error_of(pair.client), ECONNRESET);
}

TEST_F(SockDiagTest, ConnectedDatagramSocketsAreSeenAndClosed) {
  const auto make = [this](int family) {
    const auto scope = NetnsScope::enter(netns_.get());
    UniqueFd fd = open_socket(family, SOCK_DGRAM);
    sockaddr_in6 v6 = address("::1", 53);
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(53);
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(family == AF_INET ? ::connect(fd.get(), reinterpret_cast<sockaddr*>(&v4), sizeof(v4))
                                : ::connect(fd.get(), reinterpret_cast<sockaddr*>(&v6), sizeof(v6)),
              0);
    return fd;
  };
  const UniqueFd v4 = make(AF_INET), v6 = make(AF_INET6);
  const UniqueFd unconnected = [this] {
    const auto scope = NetnsScope::enter(netns_.get());
    return open_socket(AF_INET, SOCK_DGRAM);
  }();
  const auto all = list(L4Proto::kUdp);
  ASSERT_EQ(all.size(), 2U);
  for (const ConnectedSocket& socket : all) {
    EXPECT_EQ(socket.remote.port, 53);
    EXPECT_TRUE(*diag_->destroy(socket));
  }
  EXPECT_EQ(error_of(v4), ECONNABORTED);
  EXPECT_EQ(error_of(v6), ECONNABORTED);
  EXPECT_TRUE(list(L4Proto::kTcp).empty());
}

TEST_F(SockDiagTest, NamespacesOfOtherProcessesAreFoundOnceEach) {
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const char byte = ::unshare(CLONE_NEWNET) == 0 ? 'y' : 'n';
    if (::write(ready[1], &byte, 1) == 1)
      ::pause();
    ::_exit(0);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  const UniqueFd theirs = std::move(*open_netns_of(child));
  std::vector<std::uint64_t> seen;
  EXPECT_TRUE(for_each_netns([&](int netns) { seen.push_back(*netns_inode(netns)); }));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.front(), *netns_inode(open_current_netns()->get()));
  EXPECT_EQ(std::ranges::count(seen, *netns_inode(theirs.get())), 1);
  std::ranges::sort(seen);
  EXPECT_EQ(std::ranges::adjacent_find(seen), seen.end());
}

}  // namespace
}  // namespace shoal::kernel
