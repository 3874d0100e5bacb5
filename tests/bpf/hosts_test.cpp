// SPDX-License-Identifier: Apache-2.0
// Real packets through whole hosts: see net_box.h for the network.
#include "tests/bpf/net_box.h"

#include <cerrno>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace shoal::bpftest {
namespace {

// Everything that this kernel has, and nothing that it could lack: the fallbacks carry the same
// traffic.
class HostsTest : public testing::TestWithParam<std::tuple<bool, Family>> {
protected:
  static kernel::Features allowed(bool fallbacks) {
    if (!fallbacks)
      return {};
    return {.tcx = false,
            .redirect_peer = false,
            .redirect_neigh = false,
            .set_retval = false,
            .sk_storage = false,
            .coarse_clock = false};
  }

  NetBox net{std::get<1>(GetParam()), allowed(std::get<0>(GetParam()))};
  const Places& places = net.places;
  Server poda{"poda", "poda", 8080};
  Server podb{"podb", "podb", 8080};

  // "poda 198.18.0.101:", whatever the port.
  static std::string answer_of(const std::string& pod, const IpAddress& asker) {
    std::string out = pod + " " + SocketAddress{asker, 0}.to_string();
    out.pop_back();
    return out;
  }
  UniqueFd udp() const { return udp_socket(domain_of(places.vip)); }

  std::string drops() {
    std::string out;
    for (Host* host : {net.h1.get(), net.h2.get()}) {
      const auto counts = host->maps().drops().value();
      for (const auto& count : counts)
        if (count.packets != 0)
          out += fmt::format("{} {} {}\n", host == net.h1.get() ? "h1" : "h2", count.name,
                             count.packets);
    }
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(
    Kernel, HostsTest, testing::Combine(testing::Bool(), testing::Values(Family::kV4, Family::kV6)),
    [](const auto& which) {
      return std::string(std::get<1>(which.param) == Family::kV4 ? "V4" : "V6") +
             (std::get<0>(which.param) ? "Fallbacks" : "AsItIs");
    });

TEST_P(HostsTest, OutsideClientReachesBackendsOnBothHostsThroughTheVip) {
  NetBox::in_client([&] {
    net.ring({1});
    Answer answer = tcp_ask(places.vip);
    EXPECT_EQ(answer.error, 0) << drops();
    EXPECT_THAT(answer.text, testing::StartsWith(answer_of("poda", places.client)));
    net.ring({2});
    answer = tcp_ask(places.vip);  // over the overlay, and straight back
    EXPECT_EQ(answer.error, 0) << drops();
    EXPECT_THAT(answer.text, testing::StartsWith(answer_of("podb", places.client)));
    UniqueFd fd = udp();
    answer = udp_ask(fd.get(), places.vip);
    EXPECT_EQ(answer.error, 0) << drops();
    EXPECT_EQ(answer.peer, places.vip.to_string());
    EXPECT_THAT(answer.text, testing::StartsWith(answer_of("podb", places.client)));
  });
  EXPECT_EQ(drops(), "");
}

TEST_P(HostsTest, OpenConnectionsKeepTheirBackendAndNewOnesMove) {
  NetBox::in_client([&] {
    int error = 0;
    net.ring({1});
    UniqueFd on_a = tcp_connect(places.vip, &error);
    net.ring({2});
    UniqueFd on_b = tcp_connect(places.vip, &error);
    for (const std::vector<model::BackendId>& slots :
         {std::vector<model::BackendId>{1}, {2, 1}, {2}, {1, 1, 2}}) {
      net.ring(slots);
      EXPECT_THAT(exchange(on_a.get()).text, testing::StartsWith("poda "));
      EXPECT_THAT(exchange(on_b.get()).text, testing::StartsWith("podb "));
    }
    net.ring({2});
    EXPECT_THAT(tcp_ask(places.vip).text, testing::StartsWith("podb "));
  });
}

TEST_P(HostsTest, RefusalsAreImmediate) {
  NetBox::in_client([&] {
    EXPECT_EQ(tcp_ask(places.vip).error, ECONNREFUSED);  // no backend
    EXPECT_EQ(tcp_ask({places.vip.ip, 81}).error, ECONNREFUSED);
    UniqueFd fd = udp();
    const int on = 1;
    setsockopt(fd.get(), IPPROTO_IP, IP_RECVERR, &on, sizeof(on));
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof(on));
    EXPECT_EQ(udp_ask(fd.get(), places.vip).error, ECONNREFUSED);
  });
}

TEST_P(HostsTest, BackendWhosePodIsGoneResetsTheConnection) {
  NetBox::in_client([&] {
    net.ring({2});
    int error = 0;
    UniqueFd fd = tcp_connect(places.vip, &error);
    ASSERT_EQ(error, 0);
    EXPECT_EQ(exchange(fd.get()).error, 0);
    ASSERT_TRUE(net.h2->maps().delete_pod(places.pod_b.ip));
    EXPECT_EQ(exchange(fd.get()).error, ECONNRESET);
  });
  // On a busy machine the question is sent again before the reset is there.
  EXPECT_THAT(drops(), testing::MatchesRegex("h2 STALE_BACKEND [0-9]+\n"));
}

// A pod's sockets are not below a hooked cgroup here: tc balances.
TEST_P(HostsTest, PodsReachPodsAndServices) {
  in_netns("poda", [&] {
    Answer answer = tcp_ask(places.pod_b);
    EXPECT_EQ(answer.error, 0) << drops();
    EXPECT_THAT(answer.text, testing::StartsWith(answer_of("podb", places.pod_a.ip)));
    net.ring({2});
    answer = tcp_ask(places.cluster);
    EXPECT_EQ(answer.error, 0) << drops();
    EXPECT_THAT(answer.text, testing::StartsWith(answer_of("podb", places.pod_a.ip)));
    EXPECT_EQ(answer.peer, places.cluster.to_string());
    net.ring({});
    EXPECT_EQ(tcp_ask(places.cluster).error, ECONNREFUSED);
    UniqueFd fd = udp();
    net.ring({2});
    answer = udp_ask(fd.get(), places.cluster);
    EXPECT_EQ(answer.error, 0) << drops();
    EXPECT_EQ(answer.peer, places.cluster.to_string());
  });
  EXPECT_EQ(drops(), "h1 NO_BACKEND 1\n");
}

TEST_P(HostsTest, HostsReachPodsHereAndElsewhere) {
  in_netns("h1", [&] {
    EXPECT_THAT(tcp_ask(places.pod_a).text, testing::StartsWith("poda "));
    Answer answer = tcp_ask(places.pod_b);
    EXPECT_EQ(answer.error, 0) << drops();
    EXPECT_THAT(answer.text, testing::StartsWith(answer_of("podb", places.self_a)));
  });
  in_netns("h2", [&] {
    EXPECT_THAT(tcp_ask(places.pod_a).text, testing::StartsWith(answer_of("poda", places.self_b)));
  });
}

TEST_P(HostsTest, TakeoverOfTheVipKeepsConnections) {
  int error = 0;
  NetBox::in_client([&] {
    net.ring({1, 2});
    std::vector<UniqueFd> open;
    for (int i = 0; i < 16; ++i)
      open.push_back(tcp_connect(places.vip, &error));
    std::vector<std::string> before;
    for (const UniqueFd& fd : open)
      before.push_back(exchange(fd.get()).text);
    // The other host announces; the client's neighbour entry is what a gratuitous ARP would change.
    ASSERT_TRUE(net.h1->maps().put_vips(std::array{kernel::VipWrite{places.vip.ip, {false}}}));
    ASSERT_TRUE(net.h2->maps().put_vips(std::array{kernel::VipWrite{places.vip.ip, {true}}}));
    sh("ip neigh flush dev eth0");
    sh("ip -6 neigh flush dev eth0");
    for (std::size_t i = 0; i < open.size(); ++i) {
      Answer after = exchange(open[i].get());
      EXPECT_EQ(after.error, 0) << drops();
      EXPECT_EQ(after.text, before[i]);
    }
    EXPECT_EQ(tcp_ask(places.vip).error, 0);
  });
}

TEST_P(HostsTest, BulkBytesSurviveTheOverlayBothWays) {
  NetBox::in_client([&] {
    net.ring({2});
    int error = 0;
    UniqueFd fd = tcp_connect(places.vip, &error);
    ASSERT_EQ(error, 0);
    timeval wait{2, 0};
    setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    // The server reads everything and answers each read; what matters is that nothing stalls on
    // packet sizes.
    const std::string chunk(64 * 1024, 'x');
    std::size_t sent = 0;
    char buffer[65536];
    for (int i = 0; i < 64; ++i) {
      ssize_t n = send(fd.get(), chunk.data(), chunk.size(), MSG_NOSIGNAL);
      ASSERT_GT(n, 0) << "after " << sent << " bytes";
      sent += static_cast<std::size_t>(n);
      while (recv(fd.get(), buffer, sizeof(buffer), MSG_DONTWAIT) > 0) {
      }
    }
    EXPECT_GT(sent, 1'000'000U);
  });
}

// Longer than any link carries: in fragments there and back, through a backend here and on the
// other host. The first datagram may be lost, for the client has to be told how much the overlay
// carries.
TEST_P(HostsTest, DatagramsInFragmentsAreAnswered) {
  constexpr std::size_t kBytes = 5000;
  NetBox::in_client([&] {
    for (const bool here : {true, false}) {
      net.ring({here ? 1U : 2U});
      UniqueFd fd = udp();
      Answer answer = udp_ask(fd.get(), places.vip, kBytes);
      if (answer.error != 0) {
        EXPECT_THAT(drops(), testing::HasSubstr("h1 TOO_BIG "));
        answer = udp_ask(fd.get(), places.vip, kBytes);
      }
      EXPECT_EQ(answer.error, 0) << drops();
      EXPECT_EQ(answer.peer, places.vip.to_string());
      EXPECT_EQ(answer.text.size(), kBytes);
      EXPECT_THAT(answer.text,
                  testing::StartsWith(answer_of(here ? "poda" : "podb", places.client)));
    }
  });
}

// A packet that may not be fragmented and that the overlay does not carry: the client's kernel
// hears how large it may be.
TEST_P(HostsTest, ThePathMtuOfARemoteBackendIsLearned) {
  const bool v4 = places.vip.ip.is_v4();
  NetBox::in_client([&] {
    net.ring({2});
    UniqueFd fd = udp();
    const int probe = v4 ? IP_PMTUDISC_DO : IPV6_PMTUDISC_DO;
    ASSERT_EQ(setsockopt(fd.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6,
                         v4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER, &probe, sizeof(probe)),
              0);
    ASSERT_EQ(connect_fd(fd.get(), places.vip), 0);
    const std::string large(1500 - (v4 ? 28 : 48), '?');
    ASSERT_EQ(send(fd.get(), large.data(), large.size(), 0), static_cast<ssize_t>(large.size()));
    char byte = 0;
    timeval wait{2, 0};
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    EXPECT_EQ(recv(fd.get(), &byte, 1, 0), -1);
    EXPECT_EQ(errno, EMSGSIZE) << drops();
    int mtu = 0;
    socklen_t bytes = sizeof(mtu);
    ASSERT_EQ(
        getsockopt(fd.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MTU : IPV6_MTU, &mtu, &bytes),
        0);
    EXPECT_EQ(mtu, 1450);
    const std::string fits(1450 - (v4 ? 28 : 48), '?');
    ASSERT_EQ(send(fd.get(), fits.data(), fits.size(), 0), static_cast<ssize_t>(fits.size()));
    EXPECT_EQ(recv(fd.get(), &byte, 1, 0), 1) << drops();
  });
  EXPECT_EQ(drops(), "h1 TOO_BIG 1\n");
}

// A pod that nobody listens in says so, and to the client it is the service that does.
TEST_P(HostsTest, APodsPortUnreachableReachesTheClient) {
  for (const bool here : {true, false}) {
    const SocketAddress& pod = here ? places.pod_a : places.pod_b;
    for (Host* host : {net.h1.get(), net.h2.get()}) {
      const bool local = here == (host == net.h1.get());
      host->backend(3, SocketAddress{pod.ip, 9}.to_string(),
                    {.generation = 5,
                     .epoch = here ? 1U : 2U,
                     .local = local,
                     .node = local ? IpAddress() : ip(here ? "198.18.0.11" : "198.18.0.12")});
    }
    net.ring({3});
    NetBox::in_client([&] {
      UniqueFd fd = udp();
      ASSERT_EQ(connect_fd(fd.get(), places.vip), 0);
      ASSERT_EQ(send(fd.get(), "?", 1, 0), 1);
      char byte = 0;
      timeval wait{2, 0};
      setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
      EXPECT_EQ(recv(fd.get(), &byte, 1, 0), -1);
      EXPECT_EQ(errno, ECONNREFUSED) << drops();
    });
  }
  EXPECT_EQ(drops(), "");
}

TEST_P(HostsTest, AgentRestartUnderLoadLosesNothing) {
  net.ring({1, 2});
  std::atomic<bool> stop{false};
  std::atomic<int> asked{0}, failed{0};
  std::thread load([&] {
    NetBox::in_client([&] {
      while (!stop) {
        failed += tcp_ask(places.vip).error == 0 ? 0 : 1;
        ++asked;
      }
    });
  });
  for (int restart = 0; restart < 3; ++restart) {
    in_netns("h1", [&] {
      net.h1->reopen();
      ASSERT_TRUE(net.h1->loader().attach_uplink(ifindex_of("eth0")));
      ASSERT_TRUE(net.h1->loader().attach_overlay(ifindex_of("shoal-vxlan")));
      ASSERT_TRUE(net.h1->loader().attach_pod(ifindex_of("pa")));
    });
  }
  while (asked < 50)
    std::this_thread::yield();
  stop = true;
  load.join();
  EXPECT_EQ(failed, 0) << "of " << asked << "\n" << drops();
}

}  // namespace
}  // namespace shoal::bpftest
