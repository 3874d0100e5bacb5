// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/net_box.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
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

// Many commands by one process: `ip` costs more to start than to run. netns: empty for this one.
void ip_batch(const std::string& netns, const std::string& lines) {
  std::vector<std::string> argv = {"ip"};
  if (!netns.empty())
    argv.insert(argv.end(), {"-n", netns});
  argv.insert(argv.end(), {"-batch", "-"});
  RunOptions options;
  options.input = lines;
  const auto done = run_checked(argv, options);
  ASSERT_TRUE(done) << netns << ":\n" << lines << done.error().message();
}

void set_sysctls(const std::string& netns, const std::vector<std::pair<std::string, int>>& values) {
  in_netns(netns, [&] {
    for (const auto& [name, value] : values) {
      std::ofstream file("/proc/sys/net/" + name);
      file << value << std::flush;
      EXPECT_TRUE(file.good()) << name;
    }
  });
}

// Addresses are good at once: nobody else is here to have them.
void no_address_detection(const std::string& netns) {
  set_sysctls(netns, {{"ipv6/conf/default/accept_dad", 0}, {"ipv6/conf/all/accept_dad", 0}});
}

MacAddress mac_of(const std::string& netns, const std::string& device) {
  ifreq request{};
  device.copy(request.ifr_name, IFNAMSIZ - 1);
  in_netns(netns, [&] {
    const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(ioctl(fd.get(), SIOCGIFHWADDR, &request), 0) << netns << " " << device;
  });
  MacAddress::Bytes bytes;
  std::memcpy(bytes.data(), request.ifr_hwaddr.sa_data, bytes.size());
  return MacAddress::from_bytes(bytes);
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
  if (send(fd, "?", 1, MSG_NOSIGNAL) != 1) {
    out.error = errno;
    return out;
  }
  if (!readable(fd)) {
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
  ip_batch("", "netns add switch\nnetns add client\nnetns add h1\nnetns add h2\nnetns add poda\n"
               "netns add podb\n");
  for (const char* name : {"client", "h1", "h2", "poda", "podb"})
    no_address_detection(name);
  ip_batch("", "link add eth0 netns client type veth peer name client netns switch\n"
               "link add eth0 netns h1 type veth peer name h1 netns switch\n"
               "link add eth0 netns h2 type veth peer name h2 netns switch\n"
               "link add pa mtu 1450 netns h1 type veth peer name eth0 mtu 1450 netns poda\n"
               "link add pb mtu 1450 netns h2 type veth peer name eth0 mtu 1450 netns podb\n");
  ip_batch("switch", "link add br0 type bridge\nlink set br0 up\nlink set client master br0 up\n"
                     "link set h1 master br0 up\nlink set h2 master br0 up\n");
  ip_batch("client", "link set lo up\nlink set eth0 up\n"
                     "addr add 198.18.0.101/24 dev eth0\naddr add 2001:db8:18::101/64 dev eth0\n"
                     "route add 198.18.100.0/24 dev eth0\nroute add 2001:db8:64::/64 dev eth0\n");
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
  ip_batch("", "netns del poda\nnetns del podb\nnetns del h1\nnetns del h2\nnetns del client\n"
               "netns del switch\n");
}

void NetBox::make_host(const Plot& plot) {
  set_sysctls(plot.name, {{"ipv4/ip_forward", 1}, {"ipv6/conf/all/forwarding", 1}});
  const std::string host =
      fmt::format("link set lo up\nlink set eth0 up\n"
                  "addr add 198.18.0.{last}/24 dev eth0\n"
                  "addr add 2001:db8:18::{last}/64 dev eth0\n"
                  "link add shoal-vxlan mtu 1450 type vxlan external dstport 4789\n"
                  "link set shoal-vxlan arp off up\n"
                  "route add 10.244.0.0/16 dev shoal-vxlan\n"
                  "route add fd00:10:244::/48 dev shoal-vxlan\n"
                  "link set {device} up\n"
                  "route add {ip}/32 dev {device}\n"
                  "route add {ip6}/128 dev {device}\n"
                  "addr add 169.254.1.1/32 dev {device}\n",
                  fmt::arg("last", plot.last), fmt::arg("device", plot.device),
                  fmt::arg("ip", plot.pod_ip), fmt::arg("ip6", plot.pod_ip6));
  ip_batch(plot.name, host);
  const std::string pod = fmt::format("link set lo up\nlink set eth0 up\n"
                                      "addr add {}/32 dev eth0\naddr add {}/128 dev eth0\n"
                                      "route add 169.254.1.1 dev eth0\n"
                                      "route add default via 169.254.1.1\n"
                                      // nobody's: the program answers
                                      "route add default via fe80::1 dev eth0\n",
                                      plot.pod_ip, plot.pod_ip6);
  ip_batch(plot.pod_name, pod);
}

void NetBox::program(Host& host, const std::string& name, const std::string& device, bool first) {
  in_netns(name, [&] {
    const std::uint32_t veth = ifindex_of(device);
    ASSERT_TRUE(host.loader().attach_uplink(ifindex_of("eth0")));
    ASSERT_TRUE(host.loader().attach_overlay(ifindex_of("shoal-vxlan")));
    ASSERT_TRUE(host.loader().attach_pod(veth));
    ASSERT_TRUE(host.maps().put_pod(
        first ? places.pod_a.ip : places.pod_b.ip,
        {veth, 5, mac_of(first ? "poda" : "podb", "eth0"), mac_of(name, device)}));
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
