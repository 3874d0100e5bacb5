// SPDX-License-Identifier: Apache-2.0
#include "runtime/sandbox/shim_client.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <span>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

using namespace std::chrono;
using SteadyTime = steady_clock::time_point;

constexpr std::uint32_t kSessionSeq = 1;
constexpr std::uint32_t kResizeSeq = 2;

Result<UniqueFd> connect_shim(const std::filesystem::path& path) {
  // By way of the folder's fd: the whole path may be longer than sun_path.
  const UniqueFd folder(::open(path.parent_path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder)
    return fail_errno(fmt::format("open {}", path.parent_path().string()));
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd)
    return fail_errno("make a socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name =
      fmt::format("/proc/self/fd/{}/{}", folder.get(), path.filename().string());
  if (name.size() >= sizeof(address.sun_path))
    return fail(Errc::kInvalid, fmt::format("{}: the name is too long", path.string()));
  std::memcpy(address.sun_path, name.c_str(), name.size() + 1);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    // Refused: the file is there and nobody listens, so its shim has died.
    if (error == ECONNREFUSED || error == ENOENT)
      return fail(Errc::kNotFound, fmt::format("no shim listens at {}", path.string()));
    return fail_errno(error, fmt::format("connect to {}", path.string()));
  }
  return fd;
}

Result<> wait_for(int fd, short events, SteadyTime deadline) {
  for (;;) {
    const auto left = ceil<milliseconds>(deadline - steady_clock::now());
    pollfd poll_fd{fd, events, 0};
    const int n = ::poll(&poll_fd, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (n > 0)
      return {};
    if (n == 0)
      return fail(Errc::kTimeout, "the shim did not answer in time");
    if (errno != EINTR)
      return fail_errno("wait for the shim");
  }
}

Result<> send_message(int fd, std::string_view message, std::span<const int> fds,
                      SteadyTime deadline) {
  if (message.size() > shim::kMessageBytesMax)
    return fail(Errc::kInvalid,
                fmt::format("a request of {} bytes is more than the shim takes ({})",
                            message.size(), shim::kMessageBytesMax));
  iovec part{const_cast<char*>(message.data()), message.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(shim::kExecFds * sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    SHOAL_ASSERT(fds.size() <= shim::kExecFds);
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  for (;;) {
    if (::sendmsg(fd, &header, MSG_NOSIGNAL) >= 0)
      return {};
    if (errno == EAGAIN)
      SHOAL_TRY(wait_for(fd, POLLOUT, deadline));
    else if (errno == EPIPE || errno == ECONNRESET)
      return fail(Errc::kNotFound, "the shim has ended");
    else if (errno != EINTR)
      return fail_errno("send to the shim");
  }
}

struct Packet {
  std::string bytes;
  UniqueFd fd;  // the one that may come along
};

// Nothing: none is there yet.
Result<std::optional<Packet>> receive(int fd) {
  Packet packet;
  packet.bytes.resize(shim::kMessageBytesMax);
  iovec part{packet.bytes.data(), packet.bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  ssize_t n;
  do
    n = ::recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n < 0 && errno == EAGAIN)
    return std::nullopt;
  if (n == 0 || (n < 0 && errno == ECONNRESET))
    return fail(Errc::kNotFound, "the shim has ended");
  if (n < 0)
    return fail_errno("receive from the shim");
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c))
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int))) {
      int received;
      std::memcpy(&received, CMSG_DATA(c), sizeof(int));
      packet.fd = UniqueFd(received);
    }
  if ((header.msg_flags & MSG_TRUNC) != 0)
    return fail(Errc::kCorrupt, "the shim sent too long a message");
  packet.bytes.resize(static_cast<std::size_t>(n));
  return packet;
}

Result<std::string> open_reply(std::string_view bytes) {
  const shim::Message message = SHOAL_TRY(shim::decode_message(bytes));
  if (message.header.type != shim::MessageType::kReply)
    return fail(Errc::kCorrupt, "the shim answered out of turn");
  shim::Reply reply = SHOAL_TRY(shim::decode<shim::Reply>(message.payload));
  if (!reply.ok)
    return fail(reply.code, std::move(reply.message));
  return std::move(reply.body);
}

struct Answer {
  std::string body;
  UniqueFd fd;
};

Result<Answer> receive_reply(int fd, SteadyTime deadline) {
  for (;;) {
    auto packet = SHOAL_TRY(receive(fd));
    if (packet)
      return Answer{SHOAL_TRY(open_reply(packet->bytes)), std::move(packet->fd)};
    SHOAL_TRY(wait_for(fd, POLLIN, deadline));
  }
}

Result<Answer> call(const std::filesystem::path& path, shim::MessageType type,
                    std::string_view payload, milliseconds timeout) {
  const SteadyTime deadline = steady_clock::now() + timeout;
  const UniqueFd fd = SHOAL_TRY(connect_shim(path));
  SHOAL_TRY(send_message(fd.get(), shim::encode_message(type, 1, payload), {}, deadline));
  return receive_reply(fd.get(), deadline);
}

}  // namespace

Result<ShimFacts> ShimClient::state(milliseconds timeout) const {
  Answer answer = SHOAL_TRY(call(socket_, shim::MessageType::kState, {}, timeout));
  ShimFacts facts{SHOAL_TRY(shim::decode<shim::PodState>(answer.body)), std::move(answer.fd)};
  if (!facts.netns)
    return fail(Errc::kCorrupt, "the shim sent no network namespace");
  return facts;
}

Result<shim::ContainerState> ShimClient::create(const shim::CreateRequest& request,
                                                milliseconds timeout) const {
  const bool open = request.open_stdin || request.terminal;
  const auto type = request.shares_pids ? shim::MessageType::kCreateShared
                    : open              ? shim::MessageType::kCreateOpen
                                        : shim::MessageType::kCreate;
  const auto answer = call(socket_, type, encode(request), timeout);
  if (!answer && answer.error().code() == Errc::kUnsupported && type != shim::MessageType::kCreate)
    return fail(
        Errc::kUnsupported,
        fmt::format("{}: this pod's shim was started by an earlier build of Shoal, which "
                    "had neither; delete the pod and make it again",
                    request.shares_pids ? "shareProcessNamespace and hostPID" : "stdin and tty"));
  if (!answer)
    return fail(Error(answer.error()));
  return shim::decode<shim::ContainerState>(answer->body);
}

Result<> ShimClient::signal(const shim::ContainerRef& ref, int signal) const {
  SHOAL_TRY(call(socket_, shim::MessageType::kSignal, encode(shim::SignalRequest{ref, signal}),
                 kShimCallTimeout));
  return {};
}

Result<> ShimClient::stop(const shim::ContainerRef& ref, int signal, milliseconds grace) const {
  const auto grace_ms =
      static_cast<std::uint32_t>(std::clamp<std::int64_t>(grace.count(), 0, UINT32_MAX));
  SHOAL_TRY(call(socket_, shim::MessageType::kStop,
                 encode(shim::StopRequest{ref, signal, grace_ms}), kShimCallTimeout));
  return {};
}

Result<> ShimClient::remove(const shim::ContainerRef& ref, milliseconds timeout) const {
  SHOAL_TRY(call(socket_, shim::MessageType::kRemove, encode(ref), timeout));
  return {};
}

Result<> ShimClient::shutdown(milliseconds timeout) const {
  SHOAL_TRY(call(socket_, shim::MessageType::kShutdown, {}, timeout));
  return {};
}

Result<ExecSession> ExecSession::start(const std::filesystem::path& socket,
                                       const shim::ExecRequest& request, int stdin_fd,
                                       int stdout_fd, int stderr_fd) {
  UniqueFd fd = SHOAL_TRY(connect_shim(socket));
  const int fds[shim::kExecFds] = {stdin_fd, stdout_fd, stderr_fd};
  SHOAL_TRY(send_message(
      fd.get(), shim::encode_message(shim::MessageType::kExec, kSessionSeq, encode(request)), fds,
      steady_clock::now() + kShimCallTimeout));
  return ExecSession(std::move(fd));
}

Result<ExecSession> ExecSession::enter(const std::filesystem::path& socket,
                                       const shim::EnterRequest& request,
                                       std::span<const int> fds) {
  UniqueFd fd = SHOAL_TRY(connect_shim(socket));
  SHOAL_TRY(send_message(
      fd.get(), shim::encode_message(shim::MessageType::kEnter, kSessionSeq, encode(request)), fds,
      steady_clock::now() + kShimCallTimeout));
  return ExecSession(std::move(fd));
}

Result<ExecSession> ExecSession::attach(const std::filesystem::path& socket,
                                        const shim::AttachRequest& request,
                                        std::span<const int> fds) {
  UniqueFd fd = SHOAL_TRY(connect_shim(socket));
  SHOAL_TRY(send_message(
      fd.get(), shim::encode_message(shim::MessageType::kAttach, kSessionSeq, encode(request)), fds,
      steady_clock::now() + kShimCallTimeout));
  ExecSession session(std::move(fd));
  session.attached_ = request.ref;
  return session;
}

Result<> ExecSession::resize(std::uint16_t rows, std::uint16_t columns) {
  const shim::ResizeRequest request{attached_, rows, columns};
  return send_message(fd_.get(),
                      shim::encode_message(shim::MessageType::kResize, kResizeSeq, encode(request)),
                      {}, steady_clock::now());
}

Result<UniqueFd> receive_terminal(int socket, milliseconds timeout) {
  const SteadyTime deadline = steady_clock::now() + timeout;
  for (;;) {
    SHOAL_TRY(wait_for(socket, POLLIN, deadline));
    auto packet = SHOAL_TRY(receive(socket));
    if (!packet)
      continue;
    if (!packet->fd)
      return fail(Errc::kCorrupt, "the shim sent no terminal");
    return std::move(packet->fd);
  }
}

Result<std::optional<shim::ExecResult>> ExecSession::poll() {
  for (;;) {
    auto packet = SHOAL_TRY(receive(fd_.get()));
    if (!packet)
      return std::nullopt;
    if (SHOAL_TRY(shim::decode_message(packet->bytes)).header.seq != kSessionSeq)
      continue;  // of resize()
    auto body = open_reply(packet->bytes);
    if (!body && !attached_.name.empty() && body.error().code() == Errc::kUnsupported)
      return fail(Errc::kUnsupported,
                  fmt::format("container {} was started by an earlier build of Shoal, whose shim "
                              "cannot be attached to: delete the pod and make it again",
                              attached_.name));
    if (!body)
      return fail(std::move(body).error());
    return SHOAL_TRY(shim::decode<shim::ExecResult>(*body));
  }
}

Result<shim::ExecResult> ExecSession::wait(milliseconds timeout) {
  const Answer answer = SHOAL_TRY(receive_reply(fd_.get(), steady_clock::now() + timeout));
  return shim::decode<shim::ExecResult>(answer.body);
}

Result<ShimEvents> ShimEvents::subscribe(const std::filesystem::path& socket,
                                         milliseconds timeout) {
  const SteadyTime deadline = steady_clock::now() + timeout;
  ShimEvents events;
  events.fd_ = SHOAL_TRY(connect_shim(socket));
  SHOAL_TRY(send_message(events.fd_.get(),
                         shim::encode_message(shim::MessageType::kSubscribe, 1, {}), {}, deadline));
  const Answer answer = SHOAL_TRY(receive_reply(events.fd_.get(), deadline));
  events.initial_ = SHOAL_TRY(shim::decode<shim::PodState>(answer.body));
  return events;
}

Result<std::vector<shim::ContainerState>> ShimEvents::take() {
  std::vector<shim::ContainerState> states;
  while (states.size() < kShimEventsPerTake) {
    auto packet = receive(fd_.get());
    if (!packet) {
      if (!states.empty())
        break;  // what came before the end counts; the error comes with the next call
      return fail(std::move(packet).error());
    }
    if (!*packet)
      break;
    const shim::Message message = SHOAL_TRY(shim::decode_message((*packet)->bytes));
    if (message.header.type == shim::MessageType::kEvent)
      states.push_back(SHOAL_TRY(shim::decode<shim::ContainerState>(message.payload)));
  }
  return states;
}

}  // namespace shoal::runtime
