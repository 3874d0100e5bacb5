// SPDX-License-Identifier: Apache-2.0
// Supervisor: the containers of one pod and the runs of the OCI runtime that are under way for
// them.
//
// It owns every child of the shim. Being a subreaper, the shim also gets the containers' first
// processes once the OCI runtime that made them has ended; nobody else may wait for children. Time
// comes in: mono_ms for deadlines, wall_ns for what people read. One thread, driven by the server's
// loop; nothing here blocks longer than a small file takes.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"
#include "runtime/shim/attachments.h"
#include "runtime/shim/console.h"
#include "runtime/shim/group_kill.h"
#include "runtime/shim/holder.h"
#include "runtime/shim/log_writer.h"
#include "runtime/shim/options.h"
#include "runtime/shim/outlet.h"
#include "runtime/shim/protocol.h"
#include "runtime/shim/spawn.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace shoal::runtime::shim {

inline constexpr std::size_t kOperationsMax = 64;
inline constexpr std::size_t kEarlyExitsMax = 64;
inline constexpr std::size_t kDrainBytesMax = 1 << 20;  // of a pipe, at its container's end
inline constexpr std::int64_t kShutdownMs = 3000;
inline constexpr std::int64_t kCleanupMs = 10'000;  // for the OCI runtime, after a failed creation
// Containers that are still there so long after SIGTERM are killed: less than what a service
// manager waits for at the end of a boot (systemd: 90 s), and what Docker gives by default.
inline constexpr std::int64_t kTerminateGraceMs = 10'000;
// A terminal that no process has open is looked at again so often.
inline constexpr std::int64_t kTerminalLookMs = 500;
// What is left of a container whose first process has ended, where no pid namespace of its own
// ends it: it is killed so often, and waited for no longer than that.
inline constexpr std::int64_t kLeftoversLookMs = 3;
inline constexpr std::int64_t kLeftoversWaitMs = 2000;

class Supervisor {
public:
  // holder: of the pid namespace that the pod's containers share.
  Supervisor(const Options& options, const Holder& holder, Outlet& outlet);
  ~Supervisor();

  PodState state() const;
  void create(const ReplyTo& to, const CreateRequest& request);
  void signal(const ReplyTo& to, const SignalRequest& request);
  void stop(const ReplyTo& to, const StopRequest& request);
  void remove(const ReplyTo& to, const ContainerRef& ref);
  void exec(const ReplyTo& to, const ExecRequest& request, UniqueFd (&fds)[kExecFds]);
  void enter(const ReplyTo& to, const EnterRequest& request, UniqueFd (&fds)[kExecFds]);
  void attach(const ReplyTo& to, const AttachRequest& request, UniqueFd (&fds)[kExecFds]);
  void resize(const ReplyTo& to, const ResizeRequest& request);
  void shutdown(const ReplyTo& to);
  // The host goes down: containers are asked to end, then killed, and then so does the program.
  void terminate();
  void connection_closed(std::uint64_t connection);

  Attachments& attachments() { return attachments_; }
  void on_output(std::uint64_t tag);
  void reap();  // after SIGCHLD
  // Milliseconds until the next deadline; -1: none.
  int wait_ms() const;
  void on_time();
  bool finished() const { return finished_; }  // nothing is left to do: end the program

private:
  enum class OpKind : std::uint8_t { kCreate, kRemove, kExec, kEntering, kEntered, kCleanup };
  struct Operation {
    OpKind kind;
    pid_t pid;
    ReplyTo to;
    ContainerRef ref;
    std::string bundle;
    std::int64_t deadline_ms = 0;  // 0: none
    bool timed_out = false;
    bool doomed = false;           // of kEntering: its command is to be killed
    std::optional<Error> failure;  // of the creation that a kCleanup clears away after
    UniqueFd report;               // of kEntering: the command's pid, when the helper has ended
  };
  struct Container {
    ContainerState state;
    std::optional<LogWriter> log;
    std::string bundle;
    std::string record;     // path of its record, see protocol.h
    UniqueFd pipes[2];      // with a terminal, that and none
    std::uint64_t tag = 0;  // of stdout; stderr has the next one
    bool terminal = false;
    bool open_stdin = false;
    bool stdin_once = false;
    Console console;              // until its terminal is there
    std::int64_t look_at_ms = 0;  // when a terminal that nobody has open is read from again
    std::int64_t kill_at_ms = 0;
    std::string termination_log;
    bool keep_tail = false;
    std::string tail;  // the end of its output, where that is asked for
    bool shares_pids = false;
    std::optional<int> first_ended;  // how its first process did, while others are being killed
    std::int64_t killed_at_ms = 0;   // those others, last
    std::int64_t give_up_at_ms = 0;

    bool runs() const { return state.phase == ContainerPhase::kRunning && !first_ended; }
  };
  struct EarlyExit {
    pid_t pid;
    int status;
  };

  Container* find(const ContainerRef& ref);
  Result<Container*> find_running(const ContainerRef& ref);
  Result<> check_create(const CreateRequest& request);
  Result<> open_streams(Container& container, Spawn& run, UniqueFd (&ends)[kExecFds]);
  Result<> take_terminal(Container& container);
  Result<> start_runtime(Container& container, Spawn run, const ReplyTo& to,
                         const CreateRequest& request);
  Result<> start_create(const ReplyTo& to, const CreateRequest& request);
  void fail_reply(const ReplyTo& to, const Error& error);
  std::vector<std::string> runtime_args(const std::string& error_file) const;
  std::string hidden_mount() const { return options_.hybrid ? options_.cgroup2 : std::string(); }
  std::string leaf_to_join(const std::string& id) const;
  void child_ended(pid_t pid, int status);
  void create_ended(const Operation& op, int status);
  std::optional<int> early_exit(pid_t pid);
  void give_up(const Operation& op, Error error);
  void cleanup_ended(const Operation& op);
  void remove_ended(const Operation& op, int status);
  Result<Operation> start_enter(const EnterRequest& request, UniqueFd (&fds)[kExecFds]);
  void helper_ended(Operation op, int status);
  void exec_ended(const Operation& op, int status);
  static void end_command(Operation& op);
  ProcessGroup group_of(const std::string& id) const;
  void first_process_ended(Container& container, int status);
  void end_leftovers(Container& container);
  void holder_ended();
  void container_ended(Container& container, int status);
  bool read_output(Container& container, Stream stream, bool to_the_end);
  static std::string last_words(const Container& container);
  bool was_oom_killed(const std::string& id) const;
  void forget(const ContainerRef& ref);
  void write_record() const;
  static void save_state(const Container& container);
  void check_shutdown();

  const Options& options_;
  Outlet& outlet_;
  Holder holder_;
  Attachments attachments_;
  std::vector<std::unique_ptr<Container>> containers_;
  std::vector<Operation> operations_;
  std::vector<EarlyExit> early_exits_;
  std::uint64_t next_tag_ = 0;
  std::uint64_t self_start_ticks_ = 0;
  std::uint64_t sandbox_id_ = 0;
  std::string boot_id_;
  bool terminating_ = false;
  std::optional<ReplyTo> shutdown_to_;
  std::int64_t shutdown_by_ms_ = 0;
  bool finished_ = false;
};

}  // namespace shoal::runtime::shim
