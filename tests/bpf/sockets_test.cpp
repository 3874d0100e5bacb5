// SPDX-License-Identifier: Apache-2.0
// The socket hooks, with real sockets of a process in a cgroup that this test makes. Network:
// net_box.h.
#include "netplane/base/random.h"
#include "tests/bpf/net_box.h"
#include "tests/bpf/rings.h"

#include <cerrno>
#include <cstdlib>
#include <fmt/format.h>
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

class SocketsTest : public testing::TestWithParam<Family> {
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

  UniqueFd udp() const { return udp_socket(domain_of(places.cluster)); }

  Cgroup cgroup;
  NetBox net{GetParam()};
  const Places& places = net.places;
  Server poda{"poda", "poda", 8080};
  Server podb{"podb", "podb", 8080};
};

INSTANTIATE_TEST_SUITE_P(Ip, SocketsTest, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& which) {
                           return which.param == Family::kV4 ? "V4" : "V6";
                         });

TEST_P(SocketsTest, ConnectGoesToABackendAndThePeerIsTheService) {
  everywhere([&] {
    net.ring({2});
    Answer answer = tcp_ask(places.cluster);
    EXPECT_EQ(answer.error, 0);
    EXPECT_EQ(answer.peer, places.cluster.to_string());
    EXPECT_THAT(answer.text, testing::StartsWith("podb "));
    net.ring({1});  // for the pod: itself, which works, since the packet never leaves it
    answer = tcp_ask(places.cluster);
    EXPECT_EQ(answer.peer, places.cluster.to_string());
    EXPECT_THAT(answer.text, testing::StartsWith("poda "));
    answer = tcp_ask(places.pod_a);
    EXPECT_EQ(answer.peer, places.pod_a.to_string());
  });
  const model::ServiceIndex service = 1;
  EXPECT_EQ(net.h1->maps().service_stats({&service, 1}).value()[0].connects, 4U);
}

TEST_P(SocketsTest, LoadBalancerAddressIsTranslatedAtConnectToo) {
  net.ring({2});
  everywhere([&] {
    Answer answer = tcp_ask(places.vip);
    EXPECT_EQ(answer.peer, places.vip.to_string());
    EXPECT_THAT(answer.text, testing::StartsWith("podb "));
  });
}

// An IPv4 service through a socket of the other family.
using MappedTest = SocketsTest;
INSTANTIATE_TEST_SUITE_P(Ip, MappedTest, testing::Values(Family::kV4),
                         [](const auto&) { return "V4"; });

TEST_P(MappedTest, MappedAddressOnAnIpv6Socket) {
  net.ring({2});
  everywhere([&] {
    Answer answer = tcp_ask(places.cluster, AF_INET6);
    EXPECT_EQ(answer.error, 0);
    EXPECT_EQ(answer.peer, places.cluster.to_string());
    EXPECT_THAT(answer.text, testing::StartsWith("podb "));
    UniqueFd fd = udp_socket(AF_INET6);
    answer = udp_ask(fd.get(), places.cluster);
    EXPECT_EQ(answer.peer, places.cluster.to_string());
    EXPECT_THAT(answer.text, testing::StartsWith("podb "));
    net.ring({});
    EXPECT_EQ(tcp_ask(places.cluster, AF_INET6).error, ECONNREFUSED);
    net.ring({2});
  });
}

TEST_P(SocketsTest, RefusedAtOnceAndTheSameSocketMayTryAgain) {
  everywhere([&] {
    net.ring({});
    EXPECT_EQ(tcp_ask(places.cluster).error, ECONNREFUSED);
    EXPECT_EQ(tcp_ask({places.cluster.ip, 81}).error, ECONNREFUSED);
    UniqueFd fd(socket(domain_of(places.cluster), SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto connect_again = [&] { return connect_fd(fd.get(), places.cluster); };
    EXPECT_EQ(connect_again(), ECONNREFUSED);
    net.h1->backend(7, SocketAddress{places.pod_b.ip, 9}.to_string(),
                    {.generation = 5, .epoch = 1, .node = ip("198.18.0.12")});
    net.ring({7});  // nobody listens there: the backend itself refuses
    EXPECT_EQ(connect_again(), ECONNREFUSED);
    net.ring({2});
    EXPECT_EQ(connect_again(), 0);
    EXPECT_EQ(peer_of(fd.get()), places.cluster.to_string());
    EXPECT_THAT(exchange(fd.get()).text, testing::StartsWith("podb "));
  });
}

TEST_P(SocketsTest, UnconnectedDatagramsStayWithTheirBackendWhileItLives) {
  everywhere([&] {
    UniqueFd fd = udp();
    net.h1->backend(2, places.pod_b.to_string(),
                    {.generation = 5, .epoch = 1, .node = ip("198.18.0.12")});
    net.ring({2});
    Answer answer = udp_ask(fd.get(), places.cluster);
    EXPECT_EQ(answer.error, 0);
    EXPECT_EQ(answer.peer, places.cluster.to_string());
    net.ring({1});
    EXPECT_THAT(udp_ask(fd.get(), places.cluster).text, testing::StartsWith("podb "));
    UniqueFd other = udp();
    EXPECT_THAT(udp_ask(other.get(), places.cluster).text, testing::StartsWith("poda "));
    const kernel::BackendWrite gone{2, {.epoch = 1, .valid = false}};
    ASSERT_TRUE(net.h1->maps().put_backends({&gone, 1}));
    answer = udp_ask(fd.get(), places.cluster);
    EXPECT_THAT(answer.text, testing::StartsWith("poda "));
    EXPECT_EQ(answer.peer, places.cluster.to_string());
    net.ring({});
    EXPECT_EQ(udp_ask(udp().get(), places.cluster).error, ECONNREFUSED);
    EXPECT_EQ(udp_ask(fd.get(), places.pod_a).peer, places.pod_a.to_string());
  });
}

TEST_P(SocketsTest, ConnectedDatagramSocketForgetsTheServiceWhenItConnectsElsewhere) {
  net.ring({1});
  in_netns("h1", [&] {
    UniqueFd fd = udp();
    for (const SocketAddress& to : {places.cluster, places.pod_a, places.cluster}) {
      ASSERT_EQ(connect_fd(fd.get(), to), 0);
      EXPECT_EQ(peer_of(fd.get()), to.to_string());
      Answer answer = exchange(fd.get());
      EXPECT_THAT(answer.text, testing::StartsWith("poda "));
    }
  });
}

TEST_P(SocketsTest, PicksFollowTheWeights) {
  constexpr model::BackendId kFirstId = 10;
  const std::uint64_t seed = SystemRandom().next();
  fmt::print("seed {}\n", seed);
  SeededRandom random(seed);
  for (std::uint32_t i = 0; i < kBackendsMax; ++i)
    net.h1->backend(
        kFirstId + i,
        SocketAddress{places.pod_b.ip, static_cast<std::uint16_t>(9000 + i)}.to_string(),
        {.generation = 5, .epoch = 1, .node = ip("198.18.0.12")});
  for (const Round& round : rounds(random, GetParam() == Family::kV6)) {
    SCOPED_TRACE(fmt::format("seed {}, {} backends", seed, round.backends));
    const WeightedRing ring = random_ring(random, round.backends, kFirstId);
    net.h1->ring(1, ring.slots, 100);
    const auto before = net.h1->maps().backend_stats(ring.ids).value();
    in_netns("h1", [&] {
      UniqueFd fd = udp();  // connecting a datagram socket picks, and sends nothing
      for (std::uint64_t i = 0; i < round.picks; ++i)
        ASSERT_EQ(connect_fd(fd.get(), places.cluster), 0);
    });
    const auto after = net.h1->maps().backend_stats(ring.ids).value();
    std::vector<std::uint64_t> seen;
    for (std::size_t i = 0; i < after.size(); ++i)
      seen.push_back(after[i].connects - before[i].connects);
    expect_picks(ring, seen, round.picks);
  }
}

// Affinity is to a network namespace: all sockets of a pod are one client, and the host is another.
TEST_P(SocketsTest, AffinityKeepsANamespacesConnectionsTogether) {
  net.h1->frontend(places.cluster.to_string(), L4Proto::kTcp, {.inside = 1, .affinity_s = 60});
  net.h1->frontend(places.cluster.to_string(), L4Proto::kUdp, {.inside = 1, .affinity_s = 60});
  net.ring({2});
  in_netns("poda",
           [&] { EXPECT_THAT(tcp_ask(places.cluster).text, testing::StartsWith("podb ")); });
  net.ring({1});
  in_netns("poda", [&] {
    for (int i = 0; i < 5; ++i)
      EXPECT_THAT(tcp_ask(places.cluster).text, testing::StartsWith("podb "));
    EXPECT_THAT(udp_ask(udp().get(), places.cluster).text, testing::StartsWith("podb "));
  });
  in_netns("h1", [&] { EXPECT_THAT(tcp_ask(places.cluster).text, testing::StartsWith("poda ")); });
  net.h1->backend(2, places.pod_b.to_string(),
                  {.generation = 5, .epoch = 1, .node = ip("198.18.0.12"), .draining = true});
  in_netns("poda",
           [&] { EXPECT_THAT(tcp_ask(places.cluster).text, testing::StartsWith("poda ")); });
}

TEST_P(SocketsTest, HooksMoveToANewProgramAndGoAway) {
  net.ring({2});
  net.h1->reopen();
  hook(*net.h1);
  in_netns("h1", [&] { EXPECT_EQ(tcp_ask(places.cluster).peer, places.cluster.to_string()); });
  ASSERT_TRUE(net.h1->loader().detach_cgroup());
  ASSERT_TRUE(net.h1->loader().detach_cgroup());
  in_netns("h1", [&] { EXPECT_NE(tcp_ask(places.cluster).error, 0); });
  EXPECT_EQ(net.h1->loader().attach_cgroup("/run").error().code(), Errc::kInvalid);
}

TEST_P(SocketsTest, FallbacksWithoutSocketStorageAndWithoutErrno) {
  ASSERT_TRUE(net.h1->loader().detach_cgroup());
  kernel::Features allowed;
  allowed.sk_storage = allowed.set_retval = false;
  Host old("old", allowed);
  hook(old);
  old.backend(1, places.pod_a.to_string(), {.generation = 5, .epoch = 1, .local = true});
  old.frontend(places.cluster.to_string(), L4Proto::kTcp, 1, false);
  in_netns("h1", [&] {
    EXPECT_EQ(tcp_ask(places.cluster).error, EPERM);
    old.ring(1, {1}, 0);
    Answer answer = tcp_ask(places.cluster);
    EXPECT_EQ(answer.error, 0);
    EXPECT_EQ(answer.peer, places.cluster.to_string());
  });
}

}  // namespace
}  // namespace shoal::bpftest
