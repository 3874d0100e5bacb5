// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/net_box.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace shoal::bpftest {
namespace {

constexpr int kWait_ms = 2000;
constexpr std::size_t kDatagramBytesMax = 16384;

// An address as connect(2) takes it; AF_INET6 gives an IPv4 address in its mapped form.
socklen_t to_sockaddr(const SocketAddress& address, int family, sockaddr_storage* out) {
  *out = {};
  if (family == AF_INET6) {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(out);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(address.port);
    std::memcpy(&v6->sin6_addr, address.ip.bytes().data(), 16);
    return sizeof(*v6);
  }
  auto* v4 = reinterpret_cast<sockaddr_in*>(out);
  v4->sin_family = AF_INET;
  v4->sin_port = htons(address.port);
  v4->sin_addr.s_addr = htonl(address.ip.v4_host_order());
  return sizeof(*v4);
}

std::string from_sockaddr(const sockaddr_storage& address) {
  SocketAddress out;
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    out = {IpAddress::v4(ntohl(v4.sin_addr.s_addr)), ntohs(v4.sin_port)};
  } else {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    IpAddress::Bytes bytes;
    std::memcpy(bytes.data(), &v6.sin6_addr, 16);
    out = {IpAddress::from_bytes(bytes), ntohs(v6.sin6_port)};
  }
  return out.to_string();
}

int own_domain(int fd) {
  int domain = 0;
  socklen_t bytes = sizeof(domain);
  EXPECT_EQ(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes), 0);
  return domain;
}

// Addresses are good at once: nobody else is here to have them.
void add_netns(const std::string& name) {
  sh("ip netns add " + name);
  sh("ip netns exec " + name +
     " sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0");
}

bool readable(int fd) {
  pollfd p{fd, POLLIN, 0};
  return poll(&p, 1, kWait_ms) == 1;
}

}  // namespace

// ---- sockets
// -------------------------------------------------------------------------------------

Server::Server(const std::string& netns, std::string name, std::uint16_t port)
    : name_(std::move(name)) {
  in_netns(netns, [&] {
    sockaddr_storage any;
    const socklen_t bytes = to_sockaddr({IpAddress(), port}, AF_INET6, &any);
    tcp_.reset(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    udp_.reset(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const int on = 1, off = 0;
    for (const UniqueFd* fd : {&tcp_, &udp_})  // both families
      setsockopt(fd->get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    setsockopt(tcp_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    EXPECT_EQ(bind(tcp_.get(), reinterpret_cast<sockaddr*>(&any), bytes), 0);
    EXPECT_EQ(bind(udp_.get(), reinterpret_cast<sockaddr*>(&any), bytes), 0);
    EXPECT_EQ(listen(tcp_.get(), 128), 0);
  });
  stop_.reset(eventfd(0, EFD_CLOEXEC));
  thread_ = std::thread([this] { serve(); });
}

Server::~Server() {
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

// One question, one answer, as often as asked; a connection stays open until its client closes it.
void Server::serve() {
  std::vector<UniqueFd> connections;
  for (;;) {
    std::vector<pollfd> fds = {
        {stop_.get(), POLLIN, 0}, {tcp_.get(), POLLIN, 0}, {udp_.get(), POLLIN, 0}};
    for (const UniqueFd& c : connections)
      fds.push_back({c.get(), POLLIN, 0});
    poll(fds.data(), fds.size(), -1);
    if (fds[0].revents != 0)
      return;
    char buffer[kDatagramBytesMax];
    sockaddr_storage from;
    for (std::size_t i = fds.size() - 1; i >= 3; --i) {
      if (fds[i].revents == 0)
        continue;
      const ssize_t n = recv(fds[i].fd, buffer, sizeof(buffer), 0);
      socklen_t bytes = sizeof(from);
      if (n <= 0 || getpeername(fds[i].fd, reinterpret_cast<sockaddr*>(&from), &bytes) != 0) {
        connections.erase(connections.begin() + static_cast<std::ptrdiff_t>(i - 3));
        continue;
      }
      const std::string text = name_ + " " + from_sockaddr(from);
      (void)send(fds[i].fd, text.data(), text.size(), MSG_NOSIGNAL);
    }
    if (fds[1].revents != 0)
      connections.emplace_back(accept4(tcp_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fds[2].revents != 0) {
      socklen_t bytes = sizeof(from);
      const ssize_t n = recvfrom(udp_.get(), buffer, sizeof(buffer), 0,
                                 reinterpret_cast<sockaddr*>(&from), &bytes);
      if (n >= 0) {
        std::string text = name_ + " " + from_sockaddr(from);
        text.resize(std::max(text.size(), static_cast<std::size_t>(n)), ' ');
        sendto(udp_.get(), text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&from), bytes);
      }
    }
  }
}

UniqueFd tcp_connect(const SocketAddress& to, int* error, int family) {
  const int af = family != 0 ? family : domain_of(to);
  UniqueFd fd(socket(af, SOCK_STREAM | SOCK_CLOEXEC, 0));
  timeval wait{kWait_ms / 1000, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
  sockaddr_storage address;
  const socklen_t bytes = to_sockaddr(to, af, &address);
  *error = connect(fd.get(), reinterpret_cast<sockaddr*>(&address), bytes) == 0 ? 0 : errno;
  if (*error != 0)
    fd.reset();
  return fd;
}

std::string peer_of(int fd) {
  sockaddr_storage address;
  socklen_t bytes = sizeof(address);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &bytes) != 0)
    return std::strerror(errno);
  return from_sockaddr(address);
}

Answer exchange(int fd) {
  Answer out;
  char buffer[256];
  out.peer = peer_of(fd);
  if (send(fd, "?", 1, MSG_NOSIGNAL) != 1 || !readable(fd)) {
    out.error = ETIMEDOUT;
    return out;
  }
  const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
  if (n <= 0)
    out.error = n == 0 ? ECONNRESET : errno;
  else
    out.text.assign(buffer, static_cast<std::size_t>(n));
  return out;
}

Answer tcp_ask(const SocketAddress& to, int family) {
  int error = 0;
  UniqueFd fd = tcp_connect(to, &error, family);
  if (!fd)
    return {.error = error, .text = {}, .peer = {}};
  return exchange(fd.get());
}

int domain_of(const SocketAddress& address) { return address.ip.is_v4() ? AF_INET : AF_INET6; }

UniqueFd udp_socket(int family) { return UniqueFd(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)); }

int connect_fd(int fd, const SocketAddress& to) {
  sockaddr_storage address;
  const socklen_t bytes = to_sockaddr(to, own_domain(fd), &address);
  return connect(fd, reinterpret_cast<sockaddr*>(&address), bytes) == 0 ? 0 : errno;
}

Answer udp_ask(int fd, const SocketAddress& to, std::size_t question_bytes) {
  Answer out;
  char buffer[kDatagramBytesMax];
  const std::string question(question_bytes, '?');
  sockaddr_storage address;
  socklen_t bytes = to_sockaddr(to, own_domain(fd), &address);
  if (sendto(fd, question.data(), question.size(), 0, reinterpret_cast<sockaddr*>(&address),
             bytes) < 0) {
    out.error = errno;
    return out;
  }
  if (!readable(fd)) {
    out.error = ETIMEDOUT;
    return out;
  }
  bytes = sizeof(address);
  const ssize_t n =
      recvfrom(fd, buffer, sizeof(buffer), 0, reinterpret_cast<sockaddr*>(&address), &bytes);
  if (n < 0) {
    out.error = errno;
    return out;
  }
  out.text.assign(buffer, static_cast<std::size_t>(n));
  out.peer = from_sockaddr(address);
  return out;
}

// ---- the network
// ---------------------------------------------------------------------------------

const Places& places_of(Family family) {
  static const Places kV4{.vip = at("198.18.100.1:80"),
                          .cluster = at("10.96.0.10:80"),
                          .pod_a = at("10.244.1.5:8080"),
                          .pod_b = at("10.244.2.7:8080"),
                          .client = ip("198.18.0.101"),
                          .self_a = ip("198.18.0.11"),
                          .self_b = ip("198.18.0.12")};
  static const Places kV6{.vip = at("[2001:db8:64::1]:80"),
                          .cluster = at("[fd00:96::10]:80"),
                          .pod_a = at("[fd00:10:244:1::5]:8080"),
                          .pod_b = at("[fd00:10:244:2::7]:8080"),
                          .client = ip("2001:db8:18::101"),
                          .self_a = ip("2001:db8:18::11"),
                          .self_b = ip("2001:db8:18::12")};
  return family == Family::kV4 ? kV4 : kV6;
}

NetBox::NetBox(Family family, const kernel::Features& allowed) : places(places_of(family)) {
  sandbox();
  sh("ip netns add switch");
  sh("ip -n switch link add br0 type bridge");
  sh("ip -n switch link set br0 up");
  add_netns("client");
  sh("ip link add eth0 netns client type veth peer name client netns switch");
  sh("ip -n switch link set client master br0 up");
  sh("ip -n client link set lo up");
  sh("ip -n client link set eth0 up");
  sh("ip -n client addr add 198.18.0.101/24 dev eth0");
  sh("ip -n client addr add 2001:db8:18::101/64 dev eth0");
  sh("ip -n client route add 198.18.100.0/24 dev eth0");
  sh("ip -n client route add 2001:db8:64::/64 dev eth0");
  make_host({"h1", "11", "poda", "pa", "10.244.1.5", "fd00:10:244:1::5"});
  make_host({"h2", "12", "podb", "pb", "10.244.2.7", "fd00:10:244:2::7"});
  h1 = std::make_unique<Host>("h1", allowed);
  h2 = std::make_unique<Host>("h2", allowed);
  program(*h1, "h1", "pa", true);
  program(*h2, "h2", "pb", false);
}

NetBox::~NetBox() {
  h1.reset();
  h2.reset();
  for (const char* name : {"poda", "podb", "h1", "h2", "client", "switch"})
    sh(std::string("ip netns del ") + name);
}

void NetBox::make_host(const Plot& plot) {
  const std::string& name = plot.name;
  const std::string& device = plot.device;
  const std::string& pod = plot.pod_name;
  add_netns(name);
  sh("ip link add eth0 netns " + name + " type veth peer name " + name + " netns switch");
  sh("ip -n switch link set " + name + " master br0 up");
  sh("ip -n " + name + " link set lo up");
  sh("ip -n " + name + " link set eth0 up");
  sh("ip -n " + name + " addr add 198.18.0." + plot.last + "/24 dev eth0");
  sh("ip -n " + name + " addr add 2001:db8:18::" + plot.last + "/64 dev eth0");
  sh("ip netns exec " + name + " sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
  sh("ip -n " + name + " link add shoal-vxlan mtu 1450 type vxlan external dstport 4789");
  sh("ip -n " + name + " link set shoal-vxlan arp off up");
  sh("ip -n " + name + " route add 10.244.0.0/16 dev shoal-vxlan");
  sh("ip -n " + name + " route add fd00:10:244::/48 dev shoal-vxlan");
  add_netns(pod);
  sh("ip -n " + name + " link add " + device +
     " mtu 1450 type veth peer name eth0 mtu 1450 netns " + pod);
  sh("ip -n " + name + " link set " + device + " up");
  sh("ip -n " + name + " route add " + plot.pod_ip + "/32 dev " + device);
  sh("ip -n " + name + " route add " + plot.pod_ip6 + "/128 dev " + device);
  sh("ip -n " + name + " addr add 169.254.1.1/32 dev " + device);
  sh("ip -n " + pod + " link set lo up");
  sh("ip -n " + pod + " link set eth0 up");
  sh("ip -n " + pod + " addr add " + plot.pod_ip + "/32 dev eth0");
  sh("ip -n " + pod + " addr add " + plot.pod_ip6 + "/128 dev eth0");
  sh("ip -n " + pod + " route add 169.254.1.1 dev eth0");
  sh("ip -n " + pod + " route add default via 169.254.1.1");
  sh("ip -n " + pod + " route add default via fe80::1 dev eth0");  // nobody's: the program answers
}

void NetBox::program(Host& host, const std::string& name, const std::string& device, bool first) {
  in_netns(name, [&] {
    const std::uint32_t veth = ifindex_of(device);
    ASSERT_TRUE(host.loader().attach_uplink(ifindex_of("eth0")));
    ASSERT_TRUE(host.loader().attach_overlay(ifindex_of("shoal-vxlan")));
    ASSERT_TRUE(host.loader().attach_pod(veth));
    auto out = run_checked({"ip", "-n", name, "-br", "link", "show", device});
    ASSERT_TRUE(out);
    auto in_pod = run_checked({"ip", "-n", first ? "poda" : "podb", "-br", "link", "show", "eth0"});
    auto mac_in = [](const std::string& line) {
      const std::size_t at = line.find(':');
      return mac(line.substr(at - 2, 17).c_str());
    };
    ASSERT_TRUE(host.maps().put_pod(first ? places.pod_a.ip : places.pod_b.ip,
                                    {veth, 5, mac_in(*in_pod), mac_in(*out)}));
  });
  const unsigned bits = places.pod_a.ip.is_v4() ? 24 : 64;
  const IpPrefix cidr_a = IpPrefix::containing(places.pod_a.ip, bits),
                 cidr_b = IpPrefix::containing(places.pod_b.ip, bits);
  const IpAddress a = ip("198.18.0.11"), b = ip("198.18.0.12");
  ASSERT_TRUE(host.maps().put_node(first ? cidr_a : cidr_b, {}));
  ASSERT_TRUE(host.maps().put_node(first ? cidr_b : cidr_a, {first ? b : a}));
  host.backend(1, places.pod_a.to_string(),
               {.generation = 5, .epoch = 1, .local = first, .node = first ? IpAddress() : a});
  host.backend(2, places.pod_b.to_string(),
               {.generation = 5, .epoch = 1, .local = !first, .node = first ? b : IpAddress()});
  for (L4Proto proto : {L4Proto::kTcp, L4Proto::kUdp}) {
    host.frontend(places.vip.to_string(), proto, 1, true, first);
    host.frontend(places.cluster.to_string(), proto, 1, false);
  }
}

void NetBox::ring(const std::vector<model::BackendId>& slots) {
  std::vector<model::BackendId> whole(model::kRingBlockSlots);
  for (std::size_t i = 0; !slots.empty() && i < whole.size(); i++)
    whole[i] = slots[i * slots.size() / whole.size()];
  for (Host* host : {h1.get(), h2.get()}) {
    if (block == 0)
      host->ring(1, whole, block);
    else
      host->change_ring(1, whole, block);
  }
  block += 1 + model::kSlotFormer;
}

}  // namespace shoal::bpftest
