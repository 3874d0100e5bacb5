// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/server.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace shoal::runtime::shim {
namespace {

// What an epoll event is about: the kind in the upper byte, an id below.
enum Kind : std::uint64_t {
  kListener = 0,
  kSignals = 1,
  kConnection = 2,
  kOutput = 3,
  kAttached = 4
};
constexpr std::uint64_t tagged(Kind kind, std::uint64_t id) {
  return (std::uint64_t{kind} << 56) | id;
}
constexpr int kEventsMax = 32;

char g_packet[kMessageBytesMax];

bool add(int epoll, int fd, std::uint64_t data) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = data;
  return ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

// Up to kExecFds descriptors; any more are closed.
void take_fds(msghdr& header, UniqueFd (&fds)[kExecFds]) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
      continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      UniqueFd owned(fd);
      if (i < kExecFds)
        fds[i] = std::move(owned);
    }
  }
}

}  // namespace

Result<std::unique_ptr<Server>> Server::make(const Options& options, const Holder& holder,
                                             UniqueFd listener, UniqueFd signals) {
  std::unique_ptr<Server> server(new Server);
  server->epoll_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  if (!server->epoll_ || !add(server->epoll_.get(), listener.get(), tagged(kListener, 0)) ||
      !add(server->epoll_.get(), signals.get(), tagged(kSignals, 0)))
    return fail_errno("make the epoll set");
  server->listener_ = std::move(listener);
  server->signals_ = std::move(signals);
  server->supervisor_ = std::make_unique<Supervisor>(options, holder, *server);
  return server;
}

void Server::run() {
  while (!supervisor_->finished()) {
    epoll_event events[kEventsMax];
    const int n = ::epoll_wait(epoll_.get(), events, kEventsMax, supervisor_->wait_ms());
    for (int i = 0; i < n; ++i) {
      const std::uint64_t id = events[i].data.u64 & ((std::uint64_t{1} << 56) - 1);
      switch (static_cast<Kind>(events[i].data.u64 >> 56)) {
      case kListener:
        accept();
        break;
      case kSignals: {
        signalfd_siginfo info;
        while (::read(signals_.get(), &info, sizeof(info)) == sizeof(info))
          if (info.ssi_signo == SIGTERM)
            supervisor_->terminate();
        supervisor_->reap();
        break;
      }
      case kConnection:
        receive(id);
        break;
      case kOutput:
        supervisor_->on_output(id);
        break;
      case kAttached:
        supervisor_->attachments().on_ready(id);
        break;
      }
    }
    supervisor_->on_time();
    close_broken();
  }
}

bool Server::watch(int fd, std::uint64_t tag) {
  return add(epoll_.get(), fd, tagged(kOutput, tag));
}

bool Server::watch_attached(int fd, std::uint64_t tag, bool readable, bool writable) {
  if (!readable && !writable) {
    unwatch(fd);
    return true;
  }
  epoll_event event{};
  event.events = (readable ? EPOLLIN : 0U) | (writable ? EPOLLOUT : 0U);
  event.data.u64 = tagged(kAttached, tag);
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) == 0 ||
         (errno == ENOENT && ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0);
}

// Not there: fine.
void Server::unwatch(int fd) { (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void Server::accept() {
  UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd)
    return;
  // The folder is root's alone; this is for a socket that was bind-mounted somewhere it does not
  // belong.
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 ||
      peer.uid != ::geteuid())
    return;
  const std::uint64_t id = next_connection_++;
  if (connections_.size() >= kConnectionsMax ||
      !add(epoll_.get(), fd.get(), tagged(kConnection, id)))
    return;
  auto connection = std::make_unique<Connection>();
  connection->id = id;
  connection->fd = std::move(fd);
  connections_.push_back(std::move(connection));
}

Server::Connection* Server::find(std::uint64_t id) {
  for (const auto& connection : connections_)
    if (connection->id == id)
      return connection.get();
  return nullptr;
}

void Server::receive(std::uint64_t id) {
  Connection* connection = find(id);
  if (connection == nullptr || connection->broken)
    return;
  iovec part{g_packet, sizeof(g_packet)};
  alignas(cmsghdr) char control[CMSG_SPACE(kExecFds * sizeof(int))];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  const ssize_t n = ::recvmsg(connection->fd.get(), &header, MSG_CMSG_CLOEXEC);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  UniqueFd fds[kExecFds];
  if (n > 0)
    take_fds(header, fds);
  auto message = n > 0 ? decode_message({g_packet, static_cast<std::size_t>(n)})
                       : Result<Message>(fail(Errc::kIo, "closed"));
  if (!message || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    connection->broken = true;
    return;
  }
  dispatch(*connection, *message, fds);
}

void Server::dispatch(Connection& connection, const Message& message, UniqueFd (&fds)[kExecFds]) {
  const ReplyTo to{connection.id, message.header.seq};
  const auto refuse = [&](Errc code, std::string text) {
    Reply answer;
    answer.ok = false;
    answer.code = code;
    answer.message = std::move(text);
    reply(to, answer);
  };
  // Decodes, then calls; a request that does not decode is answered, as its frame was whole.
  const auto with = [&]<class T>(std::type_identity<T>, auto&& call) {
    auto request = decode<T>(message.payload);
    if (!request)
      return refuse(request.error().code(), request.error().message());
    call(*request);
  };
  if (message.header.version != kProtocolVersion)
    return refuse(Errc::kUnsupported, "this shim speaks version " +
                                          std::to_string(kProtocolVersion) + " of its protocol");
  switch (message.header.type) {
  case MessageType::kState:
    return reply_state(connection, to.seq);
  case MessageType::kSubscribe:
    connection.subscribed = true;
    return reply_state(connection, to.seq);
  case MessageType::kCreate:
  case MessageType::kCreateOpen:
  case MessageType::kCreateShared:
    return with(std::type_identity<CreateRequest>{}, [&](auto& r) { supervisor_->create(to, r); });
  case MessageType::kSignal:
    return with(std::type_identity<SignalRequest>{}, [&](auto& r) { supervisor_->signal(to, r); });
  case MessageType::kStop:
    return with(std::type_identity<StopRequest>{}, [&](auto& r) { supervisor_->stop(to, r); });
  case MessageType::kRemove:
    return with(std::type_identity<ContainerRef>{}, [&](auto& r) { supervisor_->remove(to, r); });
  case MessageType::kExec:
    return with(std::type_identity<ExecRequest>{}, [&](auto& r) { supervisor_->exec(to, r, fds); });
  case MessageType::kEnter:
    return with(std::type_identity<EnterRequest>{},
                [&](auto& r) { supervisor_->enter(to, r, fds); });
  case MessageType::kAttach:
    return with(std::type_identity<AttachRequest>{},
                [&](auto& r) { supervisor_->attach(to, r, fds); });
  case MessageType::kResize:
    return with(std::type_identity<ResizeRequest>{}, [&](auto& r) { supervisor_->resize(to, r); });
  case MessageType::kShutdown:
    return supervisor_->shutdown(to);
  case MessageType::kReply:
  case MessageType::kEvent:
    break;
  }
  refuse(Errc::kUnsupported, "this shim does not know that request");
}

void Server::reply_state(Connection& connection, std::uint32_t seq) {
  Reply answer;
  answer.body = encode(supervisor_->state());
  const UniqueFd netns(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  send(connection, encode_message(MessageType::kReply, seq, encode(answer)), netns.get());
}

void Server::reply(const ReplyTo& to, const Reply& reply) {
  if (Connection* connection = find(to.connection))
    send(*connection, encode_message(MessageType::kReply, to.seq, encode(reply)));
}

void Server::publish(const ContainerState& state) {
  const std::string message = encode_message(MessageType::kEvent, 0, encode(state));
  for (const auto& connection : connections_)
    if (connection->subscribed)
      send(*connection, message);
}

void Server::send(Connection& connection, std::string_view message, int fd) {
  if (connection.broken)
    return;
  iovec part{const_cast<char*>(message.data()), message.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &fd, sizeof(int));
  }
  ssize_t n;
  do
    n = ::sendmsg(connection.fd.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    connection.broken = true;
}

void Server::close_broken() {
  for (std::size_t i = 0; i < connections_.size();) {
    if (!connections_[i]->broken) {
      ++i;
      continue;
    }
    supervisor_->connection_closed(connections_[i]->id);
    connections_.erase(connections_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

}  // namespace shoal::runtime::shim
