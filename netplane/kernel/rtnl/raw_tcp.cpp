// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/rtnl/raw_tcp.h"

#include "netplane/kernel/rtnl/packet_bytes.h"

#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace shoal::kernel {
namespace {

constexpr std::size_t kTcpHeaderBytes = 20;
constexpr std::size_t kIpv4HeaderBytes = 20;
constexpr std::size_t kChecksumAt = 16;  // in the TCP header
constexpr char kTtl = 64;

// As it lies in a header of its own family.
std::string wire(const IpAddress& ip) {
  const auto& bytes = ip.bytes();
  return {bytes.begin() + (ip.is_v4() ? 12 : 0), bytes.end()};
}

std::string ip_header(const IpAddress& from, const IpAddress& to) {
  std::string out;
  if (from.is_v4()) {
    put16(out, 0x4500);
    put16(out, kIpv4HeaderBytes + kTcpHeaderBytes);
    put32(out, 0);
    out.push_back(kTtl);
    out.push_back(IPPROTO_TCP);
    put16(out, 0);
  } else {
    put32(out, 0x60000000);
    put16(out, kTcpHeaderBytes);
    out.push_back(IPPROTO_TCP);
    out.push_back(kTtl);
  }
  return out + wire(from) + wire(to);
}

}  // namespace

std::string ack_packet(const SocketAddress& from, const SocketAddress& to, std::uint32_t sequence,
                       std::uint32_t acknowledged) {
  SHOAL_ASSERT(from.ip.family() == to.ip.family());
  std::string tcp;
  put16(tcp, from.port);
  put16(tcp, to.port);
  put32(tcp, sequence);
  put32(tcp, acknowledged);
  put16(tcp, 0x5010);  // five words of header, ACK
  put16(tcp, 0);       // window: it takes nothing
  put32(tcp, 0);       // checksum, urgent pointer
  // With the pseudo header: both addresses, the protocol and the length.
  const std::uint32_t sum = folded(sum_of(tcp) + sum_of(wire(from.ip)) + sum_of(wire(to.ip)) +
                                   IPPROTO_TCP + kTcpHeaderBytes);
  tcp[kChecksumAt] = static_cast<char>(~sum >> 8 & 0xff);
  tcp[kChecksumAt + 1] = static_cast<char>(~sum & 0xff);
  return ip_header(from.ip, to.ip) + tcp;
}

Result<std::unique_ptr<RawTcp>> RawTcp::open() {
  constexpr int kType = SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK;
  UniqueFd v4(::socket(AF_INET, kType, IPPROTO_RAW));
  if (!v4)
    return fail_errno("open a raw socket");
  UniqueFd v6(::socket(AF_INET6, kType, IPPROTO_RAW));
  if (!v6 && errno != EAFNOSUPPORT)
    return fail_errno("open a raw socket of IPv6");
  return std::unique_ptr<RawTcp>(new RawTcp(std::move(v4), std::move(v6)));
}

Result<> RawTcp::send_ack(const SocketAddress& from, const SocketAddress& to,
                          std::uint32_t sequence, std::uint32_t acknowledged) {
  const std::string packet = ack_packet(from, to, sequence, acknowledged);
  sockaddr_storage there{};
  socklen_t bytes = 0;
  if (to.ip.is_v4()) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(there);
    v4.sin_family = AF_INET;
    v4.sin_addr.s_addr = htonl(to.ip.v4_host_order());
    bytes = sizeof(v4);
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(there);  // raw: the port is 0
    v6.sin6_family = AF_INET6;
    std::memcpy(&v6.sin6_addr, to.ip.bytes().data(), sizeof(v6.sin6_addr));
    bytes = sizeof(v6);
  }
  ssize_t sent = 0;
  do
    sent = ::sendto((to.ip.is_v4() ? v4_ : v6_).get(), packet.data(), packet.size(), MSG_NOSIGNAL,
                    reinterpret_cast<const sockaddr*>(&there), bytes);
  while (sent < 0 && errno == EINTR);
  if (sent >= 0)
    return {};
  const int error = errno;
  return fail(
      Error::from_errno(error, fmt::format("send from {} to {}", from.to_string(), to.to_string()))
          .with_code(Errc::kUnavailable));
}

}  // namespace shoal::kernel
