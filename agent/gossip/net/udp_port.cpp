// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/net/udp_port.h"

#include "agent/gossip/net/endpoint.h"

#include <array>
#include <boost/asio/ip/udp.hpp>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <utility>

namespace shoal::gossip {
namespace {

namespace asio = boost::asio;
using asio::ip::udp;
using boost::system::error_code;

constexpr int kBatchMax = 64;           // datagrams a turn of the loop
constexpr int kErrorsMax = 16;          // ICMP messages a turn
constexpr int kReceiveBytes = 4 << 20;  // of the socket's buffer: a pause of the loop loses nothing
constexpr std::size_t kPacketBytesMax = 2048;  // larger than any of ours: what is longer is not

socklen_t size_of(const sockaddr_storage& address) {
  return address.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

}  // namespace

struct UdpPort::Impl : std::enable_shared_from_this<Impl> {
  explicit Impl(asio::io_context& io) : socket(io) {}

  void wait() {
    socket.async_wait(udp::socket::wait_read, [self = shared_from_this()](error_code error) {
      if (error || !self->socket.is_open())
        return;
      self->drain();
      if (self->socket.is_open())
        self->wait();
    });
  }

  void drain() {
    std::array<char, kPacketBytesMax> buffer;
    for (int n = 0; n < kBatchMax && socket.is_open(); ++n) {
      sockaddr_storage from{};
      socklen_t from_bytes = sizeof(from);
      const ssize_t got =
          ::recvfrom(socket.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC,
                     reinterpret_cast<sockaddr*>(&from), &from_bytes);
      if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        break;
      if (got >= 0 && static_cast<std::size_t>(got) <= buffer.size())
        on_datagram(address_of(from), {buffer.data(), static_cast<std::size_t>(got)});
      // Anything else is a datagram too long to be ours, or an ICMP error; the queue holds those.
    }
    drain_errors();
  }

  void drain_errors() {
    for (int n = 0; n < kErrorsMax && socket.is_open(); ++n) {
      sockaddr_storage to{};
      std::array<char, 512> control;
      msghdr message{};
      message.msg_name = &to;
      message.msg_namelen = sizeof(to);
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      if (::recvmsg(socket.native_handle(), &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
        return;
      if (is_refusal(message))
        on_refused(address_of(to));
    }
  }

  static bool is_refusal(msghdr& message) {
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      const bool is_error = (c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) ||
                            (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR);
      if (is_error)
        return reinterpret_cast<const sock_extended_err*>(CMSG_DATA(c))->ee_errno == ECONNREFUSED;
    }
    return false;
  }

  static SocketAddress address_of(const sockaddr_storage& address) {
    udp::endpoint endpoint;
    std::memcpy(endpoint.data(), &address, size_of(address));
    return from_endpoint(endpoint);
  }

  udp::socket socket;
  OnDatagram on_datagram;
  OnRefused on_refused;
};

UdpPort::UdpPort(asio::io_context& io, OnDatagram on_datagram, OnRefused on_refused)
    : impl_(std::make_shared<Impl>(io)) {
  impl_->on_datagram = std::move(on_datagram);
  impl_->on_refused = std::move(on_refused);
}

UdpPort::~UdpPort() { close(); }

Result<> UdpPort::bind(const SocketAddress& address) {
  const auto endpoint = to_endpoint<udp::endpoint>(address);
  udp::socket& s = impl_->socket;
  error_code error;
  s.open(endpoint.protocol(), error);
  if (!error)
    s.bind(endpoint, error);
  if (error) {
    error_code ignored;
    s.close(ignored);
    return fail(
        Error::from_errno(error.value(), fmt::format("gossip: bind UDP {}", address.to_string())));
  }
  // Best effort: without them there are more losses under load, and later suspicion.
  const int bytes = kReceiveBytes;
  if (::setsockopt(s.native_handle(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0)
    (void)::setsockopt(s.native_handle(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
  const int on = 1;
  if (address.ip.is_v4())
    (void)::setsockopt(s.native_handle(), SOL_IP, IP_RECVERR, &on, sizeof(on));
  else
    (void)::setsockopt(s.native_handle(), SOL_IPV6, IPV6_RECVERR, &on, sizeof(on));
  impl_->wait();
  return {};
}

SocketAddress UdpPort::local_address() const {
  error_code ignored;
  return from_endpoint(impl_->socket.local_endpoint(ignored));
}

bool UdpPort::send(const SocketAddress& to, std::string_view bytes) {
  if (!impl_->socket.is_open())
    return false;
  const auto endpoint = to_endpoint<udp::endpoint>(to);
  // An ICMP error of an earlier datagram is reported on the next call, whatever that one is for.
  for (int attempt = 0; attempt < 3; ++attempt) {
    const ssize_t sent = ::sendto(impl_->socket.native_handle(), bytes.data(), bytes.size(),
                                  MSG_DONTWAIT | MSG_NOSIGNAL, endpoint.data(),
                                  static_cast<socklen_t>(endpoint.size()));
    if (sent >= 0)
      return true;
    if (errno != ECONNREFUSED && errno != EHOSTUNREACH && errno != EINTR)
      return false;
  }
  return false;
}

void UdpPort::drain() {
  if (impl_->socket.is_open())
    impl_->drain();
}

void UdpPort::close() {
  error_code ignored;
  impl_->socket.close(ignored);
}

}  // namespace shoal::gossip
