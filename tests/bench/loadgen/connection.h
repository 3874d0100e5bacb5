// SPDX-License-Identifier: Apache-2.0
// One HTTP exchange on its own connection: connect, request, response, close. Driven by epoll
// events.
#pragma once

#include "tests/bench/loadgen/loadgen.h"

namespace loadgen {

inline constexpr std::size_t kResponseBytesMax = 64 * 1024;

class Exchange {
public:
  enum class State { kConnecting, kReading, kDone, kFailed };

  // Begins at once; registers with the epoll under `tag`. The body must have "KEY=VALUE"; key must
  // outlive this.
  Exchange(int epoll, std::uint64_t tag, const Target& to, const std::string& request, Nanos due,
           Nanos deadline, std::string_view key = "version");
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  State on_event(std::uint32_t events);
  void time_out() { fail("timeout"); }

  State state() const { return state_; }
  const std::string& failure() const {
    return failure_;
  }  // "refused", "reset", "timeout", "closed", "http"
  const std::string& value() const { return value_; }  // of "KEY=..." in the body
  Nanos due() const { return due_; }
  Nanos deadline() const { return deadline_; }

private:
  State fail(std::string kind);
  State send_request();
  State read_response();
  State finish();

  int epoll_;
  int fd_ = -1;
  std::uint64_t tag_;
  const std::string& request_;
  Nanos due_;
  Nanos deadline_;
  State state_ = State::kConnecting;
  std::string response_;
  std::string failure_;
  std::string_view key_;
  std::string value_;
};

std::string failure_of_errno(int error);
int connect_nonblocking(const Target& to);  // the fd, or -errno
std::string http_request(const Target& to, const std::string& path, bool close);

}  // namespace loadgen
