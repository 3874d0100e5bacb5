// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/rtnl/raw_udp.h"

#include "netplane/kernel/rtnl/packet_bytes.h"

#include <cerrno>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace shoal::kernel {
namespace {

constexpr std::size_t kIpHeaderBytes = 20;
constexpr std::size_t kUdpHeaderBytes = 8;
constexpr std::size_t kChecksumAt = kIpHeaderBytes + 6;
constexpr char kTtl = 64;

}  // namespace

std::string udp_packet(const SocketAddress& from, const SocketAddress& to,
                       std::string_view payload) {
  SHOAL_ASSERT(from.ip.is_v4() && to.ip.is_v4());
  const std::size_t udp_bytes = kUdpHeaderBytes + payload.size();
  std::string out;
  put16(out, 0x4500);
  put16(out, kIpHeaderBytes + udp_bytes);
  put32(out, 0);  // identification; may be split
  out.push_back(kTtl);
  out.push_back(IPPROTO_UDP);
  put16(out, 0);
  put32(out, from.ip.v4_host_order());
  put32(out, to.ip.v4_host_order());
  put16(out, from.port);
  put16(out, to.port);
  put16(out, udp_bytes);
  put16(out, 0);
  out += payload;
  // The pseudo header: both addresses, the protocol and the length.
  const std::uint32_t sum = folded(sum_of(std::string_view(out).substr(12)) + IPPROTO_UDP +
                                   static_cast<std::uint32_t>(udp_bytes));
  const std::uint32_t checksum =
      sum == 0xffff ? sum : ~sum & 0xffff;  // 0 would say that it has none
  out[kChecksumAt] = static_cast<char>(checksum >> 8);
  out[kChecksumAt + 1] = static_cast<char>(checksum & 0xff);
  return out;
}

Result<RawUdp> RawUdp::open() {
  UniqueFd fd(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW));
  if (!fd)
    return fail_errno("open a raw socket");
  return RawUdp(std::move(fd));
}

Result<> RawUdp::send(const SocketAddress& from, const SocketAddress& to,
                      std::string_view payload) {
  const std::string packet = udp_packet(from, to, payload);
  sockaddr_in there{};
  there.sin_family = AF_INET;
  there.sin_addr.s_addr = htonl(to.ip.v4_host_order());
  ssize_t sent = 0;
  do
    sent = ::sendto(socket_.get(), packet.data(), packet.size(), MSG_NOSIGNAL,
                    reinterpret_cast<const sockaddr*>(&there), sizeof(there));
  while (sent < 0 && errno == EINTR);
  if (sent >= 0)
    return {};
  const int error = errno;
  return fail(
      Error::from_errno(error, fmt::format("send from {} to {}", from.to_string(), to.to_string()))
          .with_code(Errc::kUnavailable));
}

}  // namespace shoal::kernel
