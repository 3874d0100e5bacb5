// SPDX-License-Identifier: Apache-2.0
// Child processes, bounded in time and output; and the identity of a process that survives pid
// reuse.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace shoal {

struct RunOptions {
  std::chrono::milliseconds timeout{
      10'000};  // then SIGKILL to the child's process group and kTimeout
  std::size_t output_bytes_max = 1
                                 << 20;  // of stdout and stderr each; the rest is read and dropped
  std::string input;                     // given on stdin, then closed
  std::vector<std::string> env;          // "K=V"; empty: inherit
  std::string cwd;
  std::function<int()>
      in_child;  // after fork, before exec: async-signal-safe calls only; errno or 0
};

struct RunOutput {
  int exit_code = 0;  // 128 + signal when a signal ended it
  std::string out;
  std::string err;
};

// Runs argv[0] (looked up in PATH) and waits. An exit code other than 0 is a value here, not an
// error. The child gets no descriptor but its three streams.
Result<RunOutput> run_process(const std::vector<std::string>& argv, const RunOptions& options = {});

// The same, and a non-zero exit is an error that carries the last line of stderr.
Result<std::string> run_checked(const std::vector<std::string>& argv,
                                const RunOptions& options = {});

// A process by pid and start time (field 22 of /proc/PID/stat, in clock ticks since boot).
struct ProcessId {
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;
  bool operator==(const ProcessId&) const = default;
};
Result<ProcessId> identify_process(pid_t pid);
// A pidfd for exactly that process; kNotFound when it is gone, also when its pid was reused.
Result<UniqueFd> open_pidfd(const ProcessId& id);
Result<> signal_pidfd(int pidfd, int signal);  // kNotFound when it has ended since

// The kernel's random id of this boot.
Result<std::string> boot_id();

}  // namespace shoal
