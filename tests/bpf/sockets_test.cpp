// SPDX-License-Identifier: Apache-2.0
// The socket hooks, with real sockets of a process in a cgroup that this test makes. Network:
// net_box.h.
#include "tests/bpf/chi_square.h"
#include "tests/bpf/net_box.h"

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace shoal::bpftest {
namespace {

const SocketAddress kClusterIp = at("10.96.0.10:80");
const SocketAddress kPodA = at("10.244.1.5:8080");

// A cgroup2 folder with this process in it, for as long as it lives.
class Cgroup {
public:
  Cgroup() {
    for (const char* root : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
      struct statfs fs{};
      if (statfs(root, &fs) == 0 && static_cast<std::uint64_t>(fs.f_type) == CGROUP2_SUPER_MAGIC)
        root_ = root;
    }
    EXPECT_FALSE(root_.empty()) << "no cgroup2 is mounted";
    std::string name = root_ / "shoal-test-XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
    enter(path_);
  }
  ~Cgroup() {
    enter(root_);
    EXPECT_EQ(rmdir(path_.c_str()), 0);
  }
  const std::filesystem::path& path() const { return path_; }

private:
  static void enter(const std::filesystem::path& cgroup) {
    std::ofstream procs(cgroup / "cgroup.procs");
    procs << 0 << std::flush;
    EXPECT_TRUE(procs.good()) << cgroup;
  }
  std::filesystem::path root_, path_;
};

class SocketsTest : public testing::Test {
protected:
  void SetUp() override { hook(*net.h1); }
  void hook(Host& host) {
    auto attached = host.loader().attach_cgroup(cgroup.path());
    ASSERT_TRUE(attached) << attached.error().message();
  }
  // The host's own processes and those of its pods meet the same hooks.
  static void everywhere(const std::function<void()>& f) {
    for (const char* netns : {"h1", "poda"}) {
      SCOPED_TRACE(netns);
      in_netns(netns, f);
    }
  }

  Cgroup cgroup;
  NetBox net;
  Server poda{"poda", "poda", 8080};
  Server podb{"podb", "podb", 8080};
};

TEST_F(SocketsTest, ConnectGoesToABackendAndThePeerIsTheService) {
  everywhere([&] {
    net.ring({2});
    Answer answer = tcp_ask(kClusterIp);
    EXPECT_EQ(answer.error, 0);
    EXPECT_EQ(answer.peer, "10.96.0.10:80");
    EXPECT_THAT(answer.text, testing::StartsWith("podb "));
    net.ring({1});  // for the pod: itself, which works, since the packet never leaves it
    answer = tcp_ask(kClusterIp);
    EXPECT_EQ(answer.peer, "10.96.0.10:80");
    EXPECT_THAT(answer.text, testing::StartsWith("poda "));
    answer = tcp_ask(kPodA);
    EXPECT_EQ(answer.peer, "10.244.1.5:8080");
  });
  const model::ServiceIndex service = 1;
  EXPECT_EQ(net.h1->maps().service_stats({&service, 1}).value()[0].connects, 4U);
}

TEST_F(SocketsTest, LoadBalancerAddressIsTranslatedAtConnectToo) {
  net.ring({2});
  everywhere([&] {
    Answer answer = tcp_ask(at("198.18.100.1:80"));
    EXPECT_EQ(answer.peer, "198.18.100.1:80");
    EXPECT_THAT(answer.text, testing::StartsWith("podb "));
  });
}

TEST_F(SocketsTest, MappedAddressOnAnIpv6Socket) {
  net.ring({2});
  everywhere([&] {
    Answer answer = tcp_ask(kClusterIp, AF_INET6);
    EXPECT_EQ(answer.error, 0);
    EXPECT_EQ(answer.peer, "10.96.0.10:80");
    EXPECT_THAT(answer.text, testing::StartsWith("podb "));
    net.ring({});
    EXPECT_EQ(tcp_ask(kClusterIp, AF_INET6).error, ECONNREFUSED);
    net.ring({2});
  });
}

TEST_F(SocketsTest, RefusedAtOnceAndTheSameSocketMayTryAgain) {
  everywhere([&] {
    net.ring({});
    EXPECT_EQ(tcp_ask(kClusterIp).error, ECONNREFUSED);
    EXPECT_EQ(tcp_ask(at("10.96.0.10:81")).error, ECONNREFUSED);
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(80);
    to.sin_addr.s_addr = htonl(kClusterIp.ip.v4_host_order());
    auto connect_again = [&] {
      return connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0 ? 0 : errno;
    };
    EXPECT_EQ(connect_again(), ECONNREFUSED);
    net.h1->backend(7, "10.244.2.7:9", {.generation = 5, .epoch = 1, .node = ip("198.18.0.12")});
    net.ring({7});  // nobody listens there: the backend itself refuses
    EXPECT_EQ(connect_again(), ECONNREFUSED);
    net.ring({2});
    EXPECT_EQ(connect_again(), 0);
    EXPECT_EQ(peer_of(fd.get()), "10.96.0.10:80");
    EXPECT_THAT(exchange(fd.get()).text, testing::StartsWith("podb "));
  });
}

TEST_F(SocketsTest, UnconnectedDatagramsStayWithTheirBackendWhileItLives) {
  everywhere([&] {
    UniqueFd fd = udp_socket();
    net.h1->backend(2, "10.244.2.7:8080", {.generation = 5, .epoch = 1, .node = ip("198.18.0.12")});
    net.ring({2});
    Answer answer = udp_ask(fd.get(), kClusterIp);
    EXPECT_EQ(answer.error, 0);
    EXPECT_EQ(answer.peer, "10.96.0.10:80");
    net.ring({1});
    EXPECT_THAT(udp_ask(fd.get(), kClusterIp).text, testing::StartsWith("podb "));
    UniqueFd other = udp_socket();
    EXPECT_THAT(udp_ask(other.get(), kClusterIp).text, testing::StartsWith("poda "));
    const kernel::BackendWrite gone{2, {.epoch = 1, .valid = false}};
    ASSERT_TRUE(net.h1->maps().put_backends({&gone, 1}));
    answer = udp_ask(fd.get(), kClusterIp);
    EXPECT_THAT(answer.text, testing::StartsWith("poda "));
    EXPECT_EQ(answer.peer, "10.96.0.10:80");
    net.ring({});
    EXPECT_EQ(udp_ask(udp_socket().get(), kClusterIp).error, ECONNREFUSED);
    EXPECT_EQ(udp_ask(fd.get(), kPodA).peer, "10.244.1.5:8080");
  });
}

TEST_F(SocketsTest, ConnectedDatagramSocketForgetsTheServiceWhenItConnectsElsewhere) {
  net.ring({1});
  in_netns("h1", [&] {
    UniqueFd fd = udp_socket();
    for (const SocketAddress& to : {kClusterIp, kPodA, kClusterIp}) {
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(to.port);
      address.sin_addr.s_addr = htonl(to.ip.v4_host_order());
      ASSERT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
      EXPECT_EQ(peer_of(fd.get()), to.to_string());
      Answer answer = exchange(fd.get());
      EXPECT_THAT(answer.text, testing::StartsWith("poda "));
    }
  });
}

TEST_F(SocketsTest, PicksFollowTheRing) {
  constexpr int kConnects = 20'000;
  std::vector<model::BackendId> slots;
  std::vector<double> shares;
  std::vector<model::BackendId> ids;
  for (model::BackendId id = 10; id < 20; ++id) {
    net.h1->backend(id, fmt::format("10.244.2.7:{}", 9000 + id),
                    {.generation = 5, .epoch = 1, .node = ip("198.18.0.12")});
    const std::size_t n = id < 15 ? 18 : 2;  // 90 to 10, five backends each
    slots.insert(slots.end(), n, id);
    shares.push_back(static_cast<double>(n) / 100);
    ids.push_back(id);
  }
  net.h1->ring(1, slots, 100);
  in_netns("h1", [&] {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(80);
    address.sin_addr.s_addr = htonl(kClusterIp.ip.v4_host_order());
    UniqueFd fd = udp_socket();  // connecting a datagram socket picks, and sends nothing
    for (int i = 0; i < kConnects; ++i)
      ASSERT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  });
  std::vector<std::uint64_t> seen;
  const auto counters = net.h1->maps().backend_stats(ids).value();
  for (const kernel::BackendStats& stats : counters)
    seen.push_back(stats.connects);
  EXPECT_LT(chi_square(seen, shares), chi_square_limit(shares.size() - 1))
      << testing::PrintToString(seen);
}

// Affinity is to a network namespace: all sockets of a pod are one client, and the host is another.
TEST_F(SocketsTest, AffinityKeepsANamespacesConnectionsTogether) {
  net.h1->frontend(kClusterIp.to_string(), L4Proto::kTcp, {.inside = 1, .affinity_s = 60});
  net.h1->frontend(kClusterIp.to_string(), L4Proto::kUdp, {.inside = 1, .affinity_s = 60});
  net.ring({2});
  in_netns("poda", [&] { EXPECT_THAT(tcp_ask(kClusterIp).text, testing::StartsWith("podb ")); });
  net.ring({1});
  in_netns("poda", [&] {
    for (int i = 0; i < 5; ++i)
      EXPECT_THAT(tcp_ask(kClusterIp).text, testing::StartsWith("podb "));
    EXPECT_THAT(udp_ask(udp_socket().get(), kClusterIp).text, testing::StartsWith("podb "));
  });
  in_netns("h1", [&] { EXPECT_THAT(tcp_ask(kClusterIp).text, testing::StartsWith("poda ")); });
  net.h1->backend(2, "10.244.2.7:8080",
                  {.generation = 5, .epoch = 1, .node = ip("198.18.0.12"), .draining = true});
  in_netns("poda", [&] { EXPECT_THAT(tcp_ask(kClusterIp).text, testing::StartsWith("poda ")); });
}

TEST_F(SocketsTest, HooksMoveToANewProgramAndGoAway) {
  net.ring({2});
  net.h1->reopen();
  hook(*net.h1);
  in_netns("h1", [&] { EXPECT_EQ(tcp_ask(kClusterIp).peer, "10.96.0.10:80"); });
  ASSERT_TRUE(net.h1->loader().detach_cgroup());
  ASSERT_TRUE(net.h1->loader().detach_cgroup());
  in_netns("h1", [&] { EXPECT_NE(tcp_ask(kClusterIp).error, 0); });
  EXPECT_EQ(net.h1->loader().attach_cgroup("/run").error().code(), Errc::kInvalid);
}

TEST_F(SocketsTest, FallbacksWithoutSocketStorageAndWithoutErrno) {
  ASSERT_TRUE(net.h1->loader().detach_cgroup());
  kernel::Features allowed;
  allowed.sk_storage = allowed.set_retval = false;
  Host old("old", allowed);
  hook(old);
  old.backend(1, kPodA.to_string(), {.generation = 5, .epoch = 1, .local = true});
  old.frontend(kClusterIp.to_string(), L4Proto::kTcp, 1, false);
  in_netns("h1", [&] {
    EXPECT_EQ(tcp_ask(kClusterIp).error, EPERM);
    old.ring(1, {1}, 0);
    Answer answer = tcp_ask(kClusterIp);
    EXPECT_EQ(answer.error, 0);
    EXPECT_EQ(answer.peer, "10.96.0.10:80");
  });
}

}  // namespace
}  // namespace shoal::bpftest
