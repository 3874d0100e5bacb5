// SPDX-License-Identifier: Apache-2.0
// Further processes of containers, and who is attached to their first ones.
#include "runtime/shim/enter.h"
#include "runtime/shim/supervisor.h"
#include "runtime/shim/sys.h"

#include <algorithm>
#include <csignal>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace shoal::runtime::shim {
namespace {

// The command that the OCI runtime's exec waits for; the runtime itself while it has not come that
// far.
void kill_exec(pid_t pid) {
  if (!kill_children_of(pid))
    ::kill(-pid, SIGKILL);
}

}  // namespace

void Supervisor::exec(const ReplyTo& to, const ExecRequest& request, UniqueFd (&fds)[kExecFds]) {
  auto container = find_running(request.ref);
  if (!container)
    return fail_reply(to, container.error());
  if (request.process.empty() || !fds[0] || !fds[1] || !fds[2])
    return fail_reply(to, Error(Errc::kInvalid, "exec needs a process and three file descriptors"));
  if (operations_.size() >= kOperationsMax)
    return fail_reply(to, Error(Errc::kExhausted, "too many commands at once in this pod"));
  // Handed to the OCI runtime as a file that has no name.
  const UniqueFd process(::memfd_create("process", MFD_CLOEXEC));
  if (!process || ::write(process.get(), request.process.data(), request.process.size()) !=
                      static_cast<ssize_t>(request.process.size()))
    return fail_reply(to, Error::from_errno("write the process file"));
  const std::string id = container_id(request.ref);
  Spawn run;
  run.argv = runtime_args({});  // what the OCI runtime says goes to the command's stderr
  run.argv.insert(run.argv.end(),
                  {"exec", "--process", "/proc/self/fd/" + std::to_string(process.get()), id});
  run.extra_fd = process.get();
  run.stdin_fd = fds[0].get();
  run.stdout_fd = fds[1].get();
  run.stderr_fd = fds[2].get();
  run.cgroup2_leaf = leaf_to_join(id);
  run.hide_mount = hidden_mount();
  auto pid = spawn(run);
  if (!pid)
    return fail_reply(to, pid.error());
  operations_.push_back({OpKind::kExec,
                         *pid,
                         to,
                         request.ref,
                         {},
                         request.timeout_ms > 0 ? mono_ms() + request.timeout_ms : 0});
}

void Supervisor::enter(const ReplyTo& to, const EnterRequest& request, UniqueFd (&fds)[kExecFds]) {
  auto started = start_enter(request, fds);
  if (!started)
    return fail_reply(to, started.error());
  started->to = to;
  operations_.push_back(std::move(*started));
}

Result<Supervisor::Operation> Supervisor::start_enter(const EnterRequest& request,
                                                      UniqueFd (&fds)[kExecFds]) {
  const Container* container = SHOAL_TRY(find_running(request.ref));
  if (!container->state.enterable)
    return fail(Errc::kUnsupported,
                "container " + container_id(request.ref) + " was made without an exec plan");
  if (request.args.empty() || !fds[0] || (!request.terminal && (!fds[1] || !fds[2])))
    return fail(Errc::kInvalid, "a command needs a name and its files");
  if (operations_.size() >= kOperationsMax)
    return fail(Errc::kExhausted, "too many commands at once in this pod");
  const std::string text =
      read_small_file(container->bundle + "/" + kExecPlanName, kExecPlanBytesMax);
  const ExecPlan plan = SHOAL_TRY(decode<ExecPlan>(text));
  Entering entering =
      SHOAL_TRY(shim::enter(plan, request, container->state.pid, options_.cgroup2, fds));
  Operation op{OpKind::kEntering, entering.helper, {}, request.ref, {}};
  op.deadline_ms = request.timeout_ms > 0 ? mono_ms() + request.timeout_ms : 0;
  op.report = std::move(entering.report);
  return op;
}

void Supervisor::helper_ended(Operation op, int status) {
  pid_t command = 0;
  if (::read(op.report.get(), &command, sizeof(command)) != sizeof(command))
    return exec_ended(op, status);
  op.kind = OpKind::kEntered;
  op.pid = command;
  op.report.reset();
  if (const auto early = early_exit(command))
    return exec_ended(op, *early);
  // Who asked may have gone meanwhile.
  if (op.doomed)
    end_command(op);
  operations_.push_back(std::move(op));
}

// Until the command's pid is known it can only be marked; a helper that is stuck is given up.
void Supervisor::end_command(Operation& op) {
  switch (op.kind) {
  case OpKind::kExec:
    return kill_exec(op.pid);
  case OpKind::kEntering:
    if (op.doomed)
      ::kill(op.pid, SIGKILL);
    op.doomed = true;
    return;
  case OpKind::kEntered:
    ::kill(-op.pid, SIGKILL);
    ::kill(op.pid, SIGKILL);  // it may not lead its session yet
    return;
  default:
    ::kill(-op.pid, SIGKILL);
  }
}

void Supervisor::exec_ended(const Operation& op, int status) {
  ExecResult result;
  result.exit_code = exit_code_of(status);
  result.timed_out = op.timed_out;
  Reply reply;
  reply.body = encode(result);
  outlet_.reply(op.to, reply);
}

void Supervisor::attach(const ReplyTo& to, const AttachRequest& request,
                        UniqueFd (&fds)[kExecFds]) {
  const auto container = find_running(request.ref);
  if (!container)
    return fail_reply(to, container.error());
  if (auto attached = attachments_.attach(to, request, fds); !attached)
    fail_reply(to, attached.error());
}

void Supervisor::resize(const ReplyTo& to, const ResizeRequest& request) {
  const auto container = find_running(request.ref);
  if (!container)
    return fail_reply(to, container.error());
  if (!(*container)->terminal)
    return fail_reply(
        to, Error(Errc::kInvalid, "container " + container_id(request.ref) + " has no terminal"));
  const winsize size{request.rows, request.columns, 0, 0};
  if (::ioctl((*container)->pipes[0].get(), TIOCSWINSZ, &size) != 0)
    return fail_reply(to, Error::from_errno("set the terminal's size"));
  outlet_.reply(to, Reply{});
}

void Supervisor::connection_closed(std::uint64_t connection) {
  attachments_.connection_closed(connection);
  for (Operation& op : operations_)
    if (op.to.connection == connection &&
        (op.kind == OpKind::kExec || op.kind == OpKind::kEntering || op.kind == OpKind::kEntered))
      end_command(op);
}

}  // namespace shoal::runtime::shim
