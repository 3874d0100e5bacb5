// SPDX-License-Identifier: Apache-2.0
// Commands in containers that run: of probes, hooks and `shoal exec`. A command has the container's
// user, environment and limits. It is started by the pod's shim itself; by the OCI runtime where
// the container or its shim were made by an earlier build, and then not with a terminal
// (kUnsupported).
#pragma once

#include "agent/node/action.h"
#include "runtime/sandbox/shim_client.h"

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace shoal::node {

struct CommandRequest {
  std::vector<std::string> args;
  std::chrono::milliseconds timeout{0};  // 0: none
  bool terminal = false;
  std::uint16_t rows = 0;  // of the terminal; 0: not known
  std::uint16_t columns = 0;
};

// fds are standard input, output and error; with a terminal, the one socket that it comes over
// (receive_terminal() in runtime/sandbox/shim_client.h).
Result<runtime::ExecSession> start_command(const ActionTarget& target,
                                           const CommandRequest& request, std::span<const int> fds);

}  // namespace shoal::node
