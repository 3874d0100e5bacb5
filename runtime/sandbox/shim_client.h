// SPDX-License-Identifier: Apache-2.0
// ShimClient: one pod's shim, as the agent sees it. It holds no connection: each call makes its
// own, so calls from several threads never wait for each other. Calls block up to their timeout:
// worker threads only. ShimEvents is the one long-lived connection: an fd for the agent's loop and
// a decoder that never blocks.
//
// Errors: kNotFound when no shim listens there (it died: see sweep_sandbox in sandbox.h), kTimeout,
// and what the shim answered otherwise (kExists, kConflict, kIo with the OCI runtime's own words,
// ...).
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"
#include "runtime/shim/protocol.h"

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace shoal::runtime {

inline constexpr std::chrono::milliseconds kShimCallTimeout{5'000};
// Above the shim's own for the OCI runtime and the clearing away after it, so that its answer says
// what went wrong.
inline constexpr std::chrono::milliseconds kShimCreateTimeout{45'000};
inline constexpr std::size_t kShimEventsPerTake = 64;

struct ShimFacts {
  shim::PodState state;
  UniqueFd netns;  // the pod's network namespace
};

class ShimClient {
public:
  explicit ShimClient(std::filesystem::path socket) : socket_(std::move(socket)) {}

  Result<ShimFacts> state(std::chrono::milliseconds timeout = kShimCallTimeout) const;
  // Returns once the container's process runs. kUnsupported: its standard input, terminal or pid
  // namespace is more than the shim, of an earlier build, knows of.
  Result<shim::ContainerState> create(const shim::CreateRequest& request,
                                      std::chrono::milliseconds timeout = kShimCreateTimeout) const;
  Result<> signal(const shim::ContainerRef& ref, int signal) const;
  // SIGTERM or another signal now, SIGKILL after the grace. Does not wait for the end.
  Result<> stop(const shim::ContainerRef& ref, int signal, std::chrono::milliseconds grace) const;
  Result<> remove(const shim::ContainerRef& ref,
                  std::chrono::milliseconds timeout = kShimCallTimeout) const;
  // Kills every container and ends the shim; returns when all have ended.
  Result<> shutdown(std::chrono::milliseconds timeout = kShimCallTimeout) const;

  const std::filesystem::path& socket() const { return socket_; }

private:
  std::filesystem::path socket_;
};

// A command inside a container, under way. The fds given are duplicated into the shim: close yours
// after start. Destroying it before the end kills the command.
class ExecSession {
public:
  static Result<ExecSession> start(const std::filesystem::path& socket,
                                   const shim::ExecRequest& request, int stdin_fd, int stdout_fd,
                                   int stderr_fd);
  // The same by the shim itself, in a container that is enterable: fds are standard input, output
  // and error, or with a terminal the one socket that it comes over (receive_terminal()).
  static Result<ExecSession> enter(const std::filesystem::path& socket,
                                   const shim::EnterRequest& request, std::span<const int> fds);
  // The streams of a container that runs, whose end is the session's: fds are those that the
  // request asks for, see AttachRequest. Destroying it detaches.
  static Result<ExecSession> attach(const std::filesystem::path& socket,
                                    const shim::AttachRequest& request, std::span<const int> fds);
  // Of the terminal of the container that this is attached to. Waits for no answer.
  Result<> resize(std::uint16_t rows, std::uint16_t columns);
  int fd() const { return fd_.get(); }  // readable when the command has ended
  // Never blocks; empty while the command runs.
  Result<std::optional<shim::ExecResult>> poll();
  Result<shim::ExecResult> wait(std::chrono::milliseconds timeout);

private:
  explicit ExecSession(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
  shim::ContainerRef attached_;  // to this; no name: a command
};

// Our end of a command's terminal, from the other end of the socket that it was started with; never
// blocks. kNotFound: the command ended without one (what went wrong is in the shim's log).
Result<UniqueFd> receive_terminal(int socket, std::chrono::milliseconds timeout = kShimCallTimeout);

struct ExecOutput {
  int exit_code = 0;
  bool timed_out = false;
  std::string out;
  std::string err;
};
// The whole of a short command. Output above output_bytes_max is read and dropped. timeout bounds
// the call, the request's own timeout_ms the command.
Result<ExecOutput> exec_and_collect(const std::filesystem::path& socket,
                                    const shim::ExecRequest& request,
                                    std::chrono::milliseconds timeout, std::string_view input = {},
                                    std::size_t output_bytes_max = 1 << 20);
Result<ExecOutput> exec_and_collect(const std::filesystem::path& socket,
                                    const shim::EnterRequest& request,
                                    std::chrono::milliseconds timeout, std::string_view input = {},
                                    std::size_t output_bytes_max = 1 << 20);

class ShimEvents {
public:
  static Result<ShimEvents> subscribe(const std::filesystem::path& socket,
                                      std::chrono::milliseconds timeout = kShimCallTimeout);
  int fd() const { return fd_.get(); }
  const shim::PodState& initial() const { return initial_; }  // as of the subscription
  // The states that arrived, oldest first, at most kShimEventsPerTake. An error is final
  // (kNotFound: the shim is gone).
  Result<std::vector<shim::ContainerState>> take();

private:
  UniqueFd fd_;
  shim::PodState initial_;
};

}  // namespace shoal::runtime
