// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/rtnl/packet_capture.h"

#include "netplane/kernel/rtnl/netns.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>

namespace shoal::kernel {
namespace {

constexpr std::size_t kTagBytes = 4;                           // 802.1Q: TPID and TCI
constexpr std::size_t kMacsBytes = std::size_t{2} * ETH_ALEN;  // what stands before a tag

// ---- classic BPF: what is returned is how much of the packet is kept

constexpr sock_filter statement(unsigned code, std::uint32_t k) {
  return {static_cast<__u16>(code), 0, 0, k};
}

// From the instruction `at` on to `yes` or `no`.
constexpr sock_filter jump(unsigned code, std::uint32_t k, unsigned at, unsigned yes, unsigned no) {
  return {static_cast<__u16>(BPF_JMP | code | BPF_K), static_cast<__u8>(yes - at - 1),
          static_cast<__u8>(no - at - 1), k};
}

std::vector<sock_filter> whole_filter(std::uint32_t snaplen) {
  return {statement(BPF_RET | BPF_K, snaplen)};
}

std::vector<sock_filter> port_filter(std::uint32_t snaplen, std::uint16_t port) {
  constexpr unsigned kHalf = BPF_LD | BPF_H | BPF_ABS;
  constexpr unsigned kByte = BPF_LD | BPF_B | BPF_ABS;
  constexpr unsigned kV4 = 9;
  constexpr unsigned kDrop = 20;
  constexpr unsigned kKeep = 21;
  constexpr std::uint32_t kFragmentOffset = 0x1fff;
  return {
      statement(kHalf, 12),  // EtherType
      jump(BPF_JEQ, ETH_P_IPV6, 1, 2, kV4),
      statement(kByte, 20),  // IPv6: next header
      jump(BPF_JEQ, IPPROTO_TCP, 3, 5, 4),
      jump(BPF_JEQ, IPPROTO_UDP, 4, 5, kDrop),
      statement(kHalf, 54),  // source port
      jump(BPF_JEQ, port, 6, kKeep, 7),
      statement(kHalf, 56),  // destination port
      jump(BPF_JEQ, port, 8, kKeep, kDrop),
      jump(BPF_JEQ, ETH_P_IP, kV4, 10, kDrop),
      statement(kByte, 23),  // IPv4: protocol
      jump(BPF_JEQ, IPPROTO_TCP, 11, 13, 12),
      jump(BPF_JEQ, IPPROTO_UDP, 12, 13, kDrop),
      statement(kHalf, 20),
      jump(BPF_JSET, kFragmentOffset, 14, kDrop, 15),
      statement(BPF_LDX | BPF_B | BPF_MSH, 14),       // X = length of the IPv4 header
      statement(BPF_LD | BPF_H | BPF_IND, ETH_HLEN),  // source port
      jump(BPF_JEQ, port, 17, kKeep, 18),
      statement(BPF_LD | BPF_H | BPF_IND, ETH_HLEN + 2),  // destination port
      jump(BPF_JEQ, port, 19, kKeep, kDrop),
      statement(BPF_RET | BPF_K, 0),
      statement(BPF_RET | BPF_K, snaplen),
  };
}

Result<> attach_filter(int fd, std::vector<sock_filter> code) {
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) != 0)
    return fail_errno("attach a filter to a packet socket");
  return {};
}

Result<> set_option(int fd, int level, int name, int value, std::string_view what) {
  if (::setsockopt(fd, level, name, &value, sizeof(value)) != 0)
    return fail_errno(fmt::format("{} of a packet socket", what));
  return {};
}

// What the kernel says beside a packet.
struct Beside {
  std::int64_t time_ns = 0;
  tpacket_auxdata aux{};
};

Beside read_beside(msghdr& message) {
  constexpr std::int64_t kNsPerS = 1'000'000'000;
  Beside out;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
      timespec at{};
      std::memcpy(&at, CMSG_DATA(c), sizeof(at));
      out.time_ns = at.tv_sec * kNsPerS + at.tv_nsec;
    } else if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA) {
      std::memcpy(&out.aux, CMSG_DATA(c), sizeof(out.aux));
    }
  }
  return out;
}

}  // namespace

PacketCapture::PacketCapture(UniqueFd socket, std::uint32_t snaplen)
    : socket_(std::move(socket)), snaplen_(snaplen), buffer_(kTagBytes + snaplen) {}

Result<PacketCapture> PacketCapture::open(int netns_fd, std::string_view link,
                                          const CaptureFilter& filter) {
  SHOAL_ASSERT(filter.snaplen >= kSnaplenMin && filter.snaplen <= kSnaplenMax);
  const auto scope = SHOAL_TRY(NetnsScope::enter(netns_fd));
  const unsigned index = ::if_nametoindex(std::string(link).c_str());
  if (index == 0)
    return fail_errno(fmt::format("look up link {}", link));
  // Protocol 0: nothing comes in before the filter is there.
  UniqueFd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket)
    return fail_errno("open a packet socket");
  SHOAL_TRY(attach_filter(socket.get(), filter.port ? port_filter(filter.snaplen, *filter.port)
                                                    : whole_filter(filter.snaplen)));
  // The kernel doubles it.
  SHOAL_TRY(set_option(socket.get(), SOL_SOCKET, SO_RCVBUFFORCE, kCaptureQueueBytes / 2,
                       "set the queue"));
  SHOAL_TRY(set_option(socket.get(), SOL_SOCKET, SO_TIMESTAMPNS, 1, "switch on the times"));
  SHOAL_TRY(set_option(socket.get(), SOL_PACKET, PACKET_AUXDATA, 1, "switch on the details"));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(index);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return fail_errno(fmt::format("bind a packet socket to link {}", link));
  return PacketCapture(std::move(socket), filter.snaplen);
}

Result<std::optional<CapturedPacket>> PacketCapture::next() {
  iovec into{buffer_.data() + kTagBytes, snaplen_};
  alignas(cmsghdr) std::array<char, 256> control;
  msghdr message{};
  message.msg_iov = &into;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t n = 0;
  do
    n = ::recvmsg(socket_.get(), &message, 0);
  while (n < 0 && errno == EINTR);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
    return std::optional<CapturedPacket>();
  if (n < 0 && (errno == ENETDOWN || errno == ENODEV || errno == ENXIO))
    return fail(Error(Errc::kUnavailable, "the link is down or gone", errno));
  if (n < 0)
    return fail_errno("receive from a packet socket");
  const Beside beside = read_beside(message);
  std::span<std::uint8_t> bytes(buffer_.data() + kTagBytes, static_cast<std::size_t>(n));
  CapturedPacket packet{
      .time_ns = beside.time_ns,
  };
  packet.original_bytes = std::max(beside.aux.tp_len, static_cast<std::uint32_t>(n));
  packet.checksum_left = (beside.aux.tp_status & TP_STATUS_CSUMNOTREADY) != 0;
  if ((beside.aux.tp_status & TP_STATUS_VLAN_VALID) != 0 && bytes.size() >= kMacsBytes) {
    const std::uint16_t tpid =
        htons((beside.aux.tp_status & TP_STATUS_VLAN_TPID_VALID) != 0 ? beside.aux.tp_vlan_tpid
                                                                      : ETH_P_8021Q);
    const std::uint16_t tci = htons(beside.aux.tp_vlan_tci);
    std::memmove(buffer_.data(), bytes.data(), kMacsBytes);
    std::memcpy(buffer_.data() + kMacsBytes, &tpid, sizeof(tpid));
    std::memcpy(buffer_.data() + kMacsBytes + sizeof(tpid), &tci, sizeof(tci));
    bytes = std::span(buffer_).first(std::min<std::size_t>(bytes.size() + kTagBytes, snaplen_));
    packet.original_bytes += kTagBytes;
  }
  packet.bytes = bytes;
  return std::optional(packet);
}

Result<> PacketCapture::stop() { return attach_filter(socket_.get(), whole_filter(0)); }

Result<std::uint64_t> PacketCapture::dropped() {
  tpacket_stats stats{};
  socklen_t size = sizeof(stats);
  if (::getsockopt(socket_.get(), SOL_PACKET, PACKET_STATISTICS, &stats, &size) != 0)
    return fail_errno("read the statistics of a packet socket");
  dropped_ += stats.tp_drops;  // reading clears them
  return dropped_;
}

}  // namespace shoal::kernel
