// SPDX-License-Identifier: Apache-2.0
// Server: the shim's one loop: connections of agents, the containers' pipes, SIGCHLD. See
// protocol.h. A peer that does not read its answers is disconnected, so the loop never waits for
// one. One thread. Part of the static shim.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"
#include "runtime/shim/options.h"
#include "runtime/shim/protocol.h"
#include "runtime/shim/supervisor.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace shoal::runtime::shim {

inline constexpr std::size_t kConnectionsMax = 96;

class Server final : public Outlet {
public:
  // Takes a listening SEQPACKET socket and a signalfd for SIGCHLD and SIGTERM, both non-blocking.
  static Result<std::unique_ptr<Server>> make(const Options& options, const Holder& holder,
                                              UniqueFd listener, UniqueFd signals);
  // Until a shutdown is done.
  void run();

  void reply(const ReplyTo& to, const Reply& reply) override;
  void publish(const ContainerState& state) override;
  bool watch(int fd, std::uint64_t tag) override;
  bool watch_attached(int fd, std::uint64_t tag, bool readable, bool writable) override;
  void unwatch(int fd) override;

private:
  struct Connection {
    std::uint64_t id;
    UniqueFd fd;
    bool subscribed = false;
    bool broken = false;  // closed at the end of the round
  };
  Server() = default;
  void accept();
  void receive(std::uint64_t id);
  void dispatch(Connection& connection, const Message& message, UniqueFd (&fds)[kExecFds]);
  void send(Connection& connection, std::string_view message, int fd = -1);
  void reply_state(Connection& connection, std::uint32_t seq);
  void close_broken();
  Connection* find(std::uint64_t id);

  UniqueFd epoll_;
  UniqueFd listener_;
  UniqueFd signals_;
  std::unique_ptr<Supervisor> supervisor_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::uint64_t next_connection_ = 1;
};

}  // namespace shoal::runtime::shim
