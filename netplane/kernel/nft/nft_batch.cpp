// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/nft/nft_batch.h"

#include "netplane/kernel/rtnl/netns.h"

#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <optional>
#include <sys/socket.h>
#include <sys/time.h>

namespace shoal::kernel {
namespace {

constexpr timeval kTimeout{5, 0};

Error nft_error(int sys_errno, std::string_view what) {
  Error error = Error::from_errno(sys_errno, fmt::format("nftables: {}", what));
  if (sys_errno == EOPNOTSUPP || sys_errno == EPROTONOSUPPORT || sys_errno == ENOPROTOOPT)
    return std::move(error).with_code(Errc::kUnsupported);
  return error;
}

void append_padded(std::string& bytes, const nlmsghdr* message) {
  bytes.append(reinterpret_cast<const char*>(message), message->nlmsg_len);
  bytes.resize(MNL_ALIGN(bytes.size()), '\0');
}

}  // namespace

NftBatch::NftBatch() : scratch_(kMessageBytesMax) {
  append_padded(bytes_, nftnl_batch_begin(scratch_.data(), 0));
  what_.push_back("begin a transaction");
}

void NftBatch::add(std::uint16_t type, std::uint16_t flags, std::string what,
                   const std::function<void(nlmsghdr*)>& fill, std::uint16_t family) {
  nlmsghdr* message = nftnl_nlmsg_build_hdr(scratch_.data(), type, family, flags,
                                            static_cast<std::uint32_t>(what_.size()));
  fill(message);
  SHOAL_ASSERT(message->nlmsg_len <= kMessageBytesMax);
  last_ = bytes_.size();
  append_padded(bytes_, message);
  what_.push_back(std::move(what));
}

Result<NftSocket> NftSocket::open(int netns_fd) {
  std::optional<NetnsScope> scope;
  if (netns_fd >= 0)
    scope.emplace(SHOAL_TRY(NetnsScope::enter(netns_fd)));
  MnlPtr socket(mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC));
  if (!socket)
    return fail(nft_error(errno, "open nfnetlink (is nf_tables in this kernel?)"));
  if (mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return fail(nft_error(errno, "bind nfnetlink"));
  if (::setsockopt(mnl_socket_get_fd(socket.get()), SOL_SOCKET, SO_RCVTIMEO, &kTimeout,
                   sizeof(kTimeout)) != 0)
    return fail(nft_error(errno, "set a receive timeout"));
  return NftSocket(std::move(socket));
}

Result<> NftSocket::commit(NftBatch batch) {
  if (batch.what_.size() == 1)
    return {};  // nothing in it
  // Refusals are told in any case; that there was none, by the last message's acknowledgement.
  reinterpret_cast<nlmsghdr*>(batch.bytes_.data() + batch.last_)->nlmsg_flags |= NLM_F_ACK;
  const auto last = static_cast<std::uint32_t>(batch.what_.size() - 1);
  append_padded(batch.bytes_, nftnl_batch_end(batch.scratch_.data(), last + 1));
  const int fd = mnl_socket_get_fd(socket_.get());
  // A batch goes in one piece; every message of it may be refused.
  const int send_bytes = static_cast<int>(batch.bytes_.size()) * 2;
  const int receive_bytes = static_cast<int>(batch.what_.size()) * 2048 + 65'536;
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_bytes, sizeof(send_bytes));
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive_bytes, sizeof(receive_bytes));
  if (mnl_socket_sendto(socket_.get(), batch.bytes_.data(), batch.bytes_.size()) < 0)
    return fail(nft_error(errno, "send a transaction"));

  std::optional<Error> first_error;
  bool done = false;
  alignas(nlmsghdr) char buffer[65'536];
  while (!done && !first_error) {
    const ssize_t n = mnl_socket_recvfrom(socket_.get(), buffer, sizeof(buffer));
    if (n < 0)
      return fail(nft_error(errno == EAGAIN ? ETIMEDOUT : errno, "wait for a transaction"));
    int left = static_cast<int>(n);
    for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer);
         mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
      if (message->nlmsg_type != NLMSG_ERROR)
        continue;
      const auto* verdict = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(message));
      const std::size_t at = message->nlmsg_seq;
      done = done || at == last;
      if (verdict->error != 0 && !first_error)
        first_error =
            nft_error(-verdict->error, at < batch.what_.size() ? batch.what_[at] : "commit");
    }
  }
  if (!first_error)
    return {};
  // Nothing of this transaction may be taken for an answer to the next one.
  while (::recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0) {
  }
  return fail(std::move(*first_error));
}

Result<bool> NftSocket::dump_once(nlmsghdr* request, std::string_view what,
                                  const std::function<void(const nlmsghdr*)>& each) {
  request->nlmsg_seq = ++sequence_;
  if (mnl_socket_sendto(socket_.get(), request, request->nlmsg_len) < 0)
    return fail(nft_error(errno, what));
  bool consistent = true;
  alignas(nlmsghdr) char buffer[65'536];
  for (;;) {
    const ssize_t n = mnl_socket_recvfrom(socket_.get(), buffer, sizeof(buffer));
    if (n < 0)
      return fail(nft_error(errno == EAGAIN ? ETIMEDOUT : errno, what));
    int left = static_cast<int>(n);
    for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer);
         mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
      if (message->nlmsg_seq != sequence_)
        continue;  // of a dump that was given up
      consistent = consistent && (message->nlmsg_flags & NLM_F_DUMP_INTR) == 0;
      if (message->nlmsg_type == NLMSG_DONE)
        return consistent;
      if (message->nlmsg_type == NLMSG_ERROR) {
        const auto* verdict = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(message));
        return fail(nft_error(-verdict->error, what));
      }
      each(message);
    }
  }
}

Result<> NftSocket::dump(std::uint16_t type, std::uint16_t family, std::string_view what,
                         const std::function<void(nlmsghdr*)>& fill,
                         const std::function<void()>& restart,
                         const std::function<void(const nlmsghdr*)>& each) {
  for (int tries = 0; tries < kDumpTriesMax; ++tries) {
    alignas(nlmsghdr) char buffer[1024] = {};
    nlmsghdr* request = nftnl_nlmsg_build_hdr(buffer, type, family, NLM_F_DUMP, 0);
    if (fill)
      fill(request);
    restart();
    if (SHOAL_TRY(dump_once(request, what, each)))
      return {};
  }
  return fail(
      Errc::kUnavailable,
      fmt::format("nftables: {}: the ruleset changed during {} attempts", what, kDumpTriesMax));
}

}  // namespace shoal::kernel
