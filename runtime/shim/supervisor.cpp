// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/supervisor.h"

#include "runtime/shim/group_kill.h"
#include "runtime/shim/sys.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace shoal::runtime::shim {
namespace {

// What a container wrote, on its way into the log. One for the program: the loop has one thread.
char g_output[kLogBatchBytes];

// The OCI runtime's own words: its log, on one line.
std::string runtime_error(const Options& options, const std::string& error_file, int status) {
  std::string text = read_small_file(error_file, kErrorTextMax);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' '))
    text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  if (text.empty())
    text = "ended with " + std::to_string(exit_code_of(status));
  return options.oci_runtime + ": " + text;
}

bool is_absolute(const std::string& path) { return !path.empty() && path.front() == '/'; }

// FNV-1a: another shim of the same pod, or of another boot, has another id.
std::uint64_t id_of(std::string_view boot_id, pid_t pid, std::uint64_t start_ticks) {
  std::uint64_t hash = 14695981039346656037U;
  for (const char c :
       std::string(boot_id) + " " + std::to_string(pid) + " " + std::to_string(start_ticks))
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  return hash == 0 ? 1 : hash;
}

void keep_end(std::string& tail, std::string_view more) {
  more = more.substr(more.size() - std::min(more.size(), kTerminationTailBytesMax));
  const std::size_t keep = std::min(tail.size(), kTerminationTailBytesMax - more.size());
  tail.erase(0, tail.size() - keep);
  tail.append(more);
}

// Every direct child, whoever it is: with a subreaper no process of the pod can hide from this.
void kill_children() { kill_children_of(::getpid()); }

}  // namespace

Supervisor::Supervisor(const Options& options, const Holder& holder, Outlet& outlet)
    : options_(options), outlet_(outlet), holder_(holder), attachments_(outlet) {
  self_start_ticks_ = start_ticks(::getpid());
  boot_id_ = read_small_file("/proc/sys/kernel/random/boot_id", 64);
  while (!boot_id_.empty() && boot_id_.back() == '\n')
    boot_id_.pop_back();
  sandbox_id_ = id_of(boot_id_, ::getpid(), self_start_ticks_);
  write_record();
}

Supervisor::~Supervisor() = default;

PodState Supervisor::state() const {
  PodState pod;
  pod.shim_pid = ::getpid();
  pod.shim_start_ticks = self_start_ticks_;
  pod.sandbox_id = sandbox_id_;
  for (const auto& container : containers_)
    pod.containers.push_back(container->state);
  if (!pod.containers.empty())
    for (ContainerState& container : pod.containers)
      container.message.resize(
          std::min(container.message.size(), kStateMessagesBytesMax / pod.containers.size()));
  return pod;
}

Supervisor::Container* Supervisor::find(const ContainerRef& ref) {
  for (const auto& container : containers_)
    if (container->state.ref == ref)
      return container.get();
  return nullptr;
}

Result<Supervisor::Container*> Supervisor::find_running(const ContainerRef& ref) {
  Container* container = find(ref);
  if (container == nullptr)
    return fail(Errc::kNotFound, "container " + container_id(ref) + " is not known here");
  if (!container->runs())
    return fail(Errc::kConflict, "container " + container_id(ref) + " does not run");
  return container;
}

void Supervisor::fail_reply(const ReplyTo& to, const Error& error) {
  Reply reply;
  reply.ok = false;
  reply.code = error.code();
  reply.message = error.message();
  if (reply.message.size() > kErrorTextMax)
    reply.message.resize(kErrorTextMax);
  outlet_.reply(to, reply);
}

std::vector<std::string> Supervisor::runtime_args(const std::string& error_file) const {
  std::vector<std::string> args{options_.oci_runtime, "--root", options_.pod_dir + "/oci"};
  if (!error_file.empty())
    args.insert(args.end(), {"--log", error_file});
  return args;
}

std::string Supervisor::leaf_to_join(const std::string& id) const {
  // On pure v2 the OCI runtime makes and joins the leaf itself.
  return options_.hybrid ? options_.cgroup2_leaf(id) : std::string();
}

// ---- create

Result<> Supervisor::check_create(const CreateRequest& request) {
  if (shutdown_to_ || terminating_)
    return fail(Errc::kCancelled, "the pod is being shut down");
  if (!is_container_name(request.ref.name))
    return fail(Errc::kInvalid, "a container's name must be a DNS label");
  if (!is_absolute(request.bundle) || !is_absolute(request.log_dir))
    return fail(Errc::kInvalid, "bundle and log folder must be absolute paths");
  for (const auto& container : containers_) {
    if (container->state.ref == request.ref)
      return fail(Errc::kExists, "container " + container_id(request.ref) + " exists");
    if (container->state.ref.name == request.ref.name &&
        container->state.phase != ContainerPhase::kExited)
      return fail(Errc::kConflict,
                  "container " + container_id(container->state.ref) + " still runs");
  }
  if (containers_.size() >= kContainersMax || operations_.size() >= kOperationsMax)
    return fail(Errc::kExhausted, "too many containers in one pod; remove those that have exited");
  if (request.shares_pids && options_.cgroup2.empty() && options_.freezer_v1.empty())
    return fail(Errc::kUnavailable,
                "a container without a pid namespace of its own leaves processes behind, and this "
                "host has nothing to end them by: mount cgroup2, or the freezer of cgroup v1");
  return {};
}

void Supervisor::create(const ReplyTo& to, const CreateRequest& request) {
  if (auto started = start_create(to, request); !started)
    fail_reply(to, started.error());
}

// What the container's streams are, for the OCI runtime: ends are its, to be closed once it runs.
Result<> Supervisor::open_streams(Container& container, Spawn& run, UniqueFd (&ends)[kExecFds]) {
  if (container.terminal) {
    container.console = SHOAL_TRY(Console::listen(container.bundle));
    run.argv.insert(run.argv.end(), {"--console-socket", container.console.path()});
    run.extra_fd = container.console.folder();
    return {};
  }
  int fds[2];
  if (container.open_stdin) {
    if (::pipe2(fds, O_CLOEXEC) != 0)
      return fail_errno("make a pipe for the container's input");
    ends[0] = UniqueFd(fds[0]);
    attachments_.add_input(container.state.ref, UniqueFd(fds[1]), container.stdin_once);
  }
  for (int i = 0; i < 2; ++i) {
    if (::pipe2(fds, O_CLOEXEC) != 0)
      return fail_errno("make a pipe for the container's output");
    container.pipes[i] = UniqueFd(fds[0]);
    ends[i + 1] = UniqueFd(fds[1]);
    ::fcntl(fds[0], F_SETFL, O_NONBLOCK);
    if (!outlet_.watch(fds[0], container.tag + static_cast<std::uint64_t>(i)))
      return fail_errno("watch the container's output");
  }
  run.stdin_fd = ends[0].get();
  run.stdout_fd = ends[1].get();
  run.stderr_fd = ends[2].get();
  return {};
}

// The container runs: its terminal has been sent.
Result<> Supervisor::take_terminal(Container& container) {
  UniqueFd terminal = SHOAL_TRY(container.console.take());
  container.console = Console();
  ::fcntl(terminal.get(), F_SETFL, O_NONBLOCK);
  // Of its own, for the epoll set: one end waits to be read from, the other to be written to.
  UniqueFd input(container.open_stdin ? ::fcntl(terminal.get(), F_DUPFD_CLOEXEC, 3) : -1);
  if (container.open_stdin && !input)
    return fail_errno("duplicate the container's terminal");
  if (!outlet_.watch(terminal.get(), container.tag))
    return fail_errno("watch the container's terminal");
  container.pipes[0] = std::move(terminal);
  if (input)  // who is attached to a terminal leaves it as it is
    attachments_.add_input(container.state.ref, std::move(input), false);
  return {};
}

Result<> Supervisor::start_runtime(Container& container, Spawn run, const ReplyTo& to,
                                   const CreateRequest& request) {
  UniqueFd ends[kExecFds];
  SHOAL_TRY(open_streams(container, run, ends));
  run.argv.push_back(container_id(request.ref));
  Operation op{OpKind::kCreate, SHOAL_TRY(spawn(run)), to,
               request.ref,     request.bundle,        mono_ms() + request.timeout_ms};
  operations_.push_back(std::move(op));
  return {};
}

Result<> Supervisor::start_create(const ReplyTo& to, const CreateRequest& request) {
  SHOAL_TRY(check_create(request));
  auto container = std::make_unique<Container>();
  container->state.ref = request.ref;
  container->state.sandbox_id = sandbox_id_;
  container->tag = next_tag_;
  next_tag_ += 2;
  container->log =
      SHOAL_TRY(LogWriter::open(request.log_dir, request.ref.attempt, request.log_file_bytes_max,
                                std::min(request.log_files_max, kLogFilesMax)));
  container->termination_log = request.termination_log;
  container->keep_tail = request.termination_from_log;
  container->bundle = request.bundle;
  container->state.enterable = ::access((request.bundle + "/" + kExecPlanName).c_str(), R_OK) == 0;
  container->record = request.log_dir + "/" + container_record_name(request.ref.attempt);
  container->terminal = request.terminal;
  container->open_stdin = request.open_stdin;
  container->stdin_once = request.stdin_once;
  container->shares_pids = request.shares_pids;
  const std::string id = container_id(request.ref);
  const std::string error_file = request.bundle + "/oci.log";
  ::unlink(error_file.c_str());
  Spawn run;
  run.cgroup2_leaf = leaf_to_join(id);
  run.hide_mount = hidden_mount();
  run.error_file = error_file;
  run.argv = runtime_args(error_file);
  run.argv.insert(run.argv.end(), {"run", "--detach", "--bundle", request.bundle, "--pid-file",
                                   request.bundle + "/oci.pid"});
  if (auto started = start_runtime(*container, std::move(run), to, request); !started) {
    attachments_.forget(request.ref);
    return started;
  }
  containers_.push_back(std::move(container));
  return {};
}

void Supervisor::create_ended(const Operation& op, int status) {
  Container* container = find(op.ref);
  SHOAL_ASSERT(container != nullptr);
  if (op.timed_out)
    return give_up(
        op, Error(Errc::kTimeout, options_.oci_runtime + ": did not start the container in time"));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return give_up(op, Error(Errc::kIo, runtime_error(options_, op.bundle + "/oci.log", status)));
  const auto pid = static_cast<pid_t>(
      std::strtol(read_small_file(op.bundle + "/oci.pid", 32).c_str(), nullptr, 10));
  if (pid <= 1)
    return give_up(op, Error(Errc::kCorrupt, options_.oci_runtime + ": wrote no pid file"));

  if (container->terminal)
    if (auto taken = take_terminal(*container); !taken)
      return give_up(op, std::move(taken).error());

  ContainerState& state = container->state;
  state.phase = ContainerPhase::kRunning;
  state.pid = pid;
  state.start_ticks = start_ticks(pid);
  state.started_at_ns = wall_ns();
  save_state(*container);
  write_record();
  outlet_.publish(state);
  Reply reply;
  reply.body = encode(state);
  outlet_.reply(op.to, reply);
  if (const auto early = early_exit(pid))
    first_process_ended(*container, *early);
}

// Of a process that ended before we knew that it was ours.
std::optional<int> Supervisor::early_exit(pid_t pid) {
  for (std::size_t i = 0; i < early_exits_.size(); ++i)
    if (early_exits_[i].pid == pid) {
      const int status = early_exits_[i].status;
      early_exits_.erase(early_exits_.begin() + static_cast<std::ptrdiff_t>(i));
      return status;
    }
  // Waited for, and so many others ended meanwhile that its end was forgotten.
  if (start_ticks(pid) == 0)
    return SIGKILL;
  return std::nullopt;
}

// Clears away what a run that was cut short left behind. Answered after that: who tries again finds
// the name free.
void Supervisor::give_up(const Operation& op, Error error) {
  const std::string id = container_id(op.ref);
  kill_group(group_of(id));
  Spawn run;
  run.argv = runtime_args(op.bundle + "/oci.cleanup.log");
  run.argv.insert(run.argv.end(), {"delete", "--force", id});
  run.hide_mount = hidden_mount();
  Operation cleanup{OpKind::kCleanup, -1, op.to, op.ref, {}, mono_ms() + kCleanupMs};
  cleanup.failure = std::move(error);
  if (auto pid = spawn(run)) {
    cleanup.pid = *pid;
    operations_.push_back(std::move(cleanup));
  } else {
    cleanup_ended(cleanup);
  }
}

void Supervisor::cleanup_ended(const Operation& op) {
  if (options_.hybrid)
    ::rmdir(options_.cgroup2_leaf(container_id(op.ref)).c_str());
  forget(op.ref);
  fail_reply(op.to, *op.failure);
}

// ---- signal, stop, remove

void Supervisor::signal(const ReplyTo& to, const SignalRequest& request) {
  auto container = find_running(request.ref);
  if (!container)
    return fail_reply(to, container.error());
  if (request.signal <= 0 || request.signal > 64)
    return fail_reply(to, Error(Errc::kInvalid, "no such signal"));
  // Ours and not reaped yet, so the pid cannot be anybody else's.
  ::kill((*container)->state.pid, request.signal);
  outlet_.reply(to, Reply{});
}

void Supervisor::stop(const ReplyTo& to, const StopRequest& request) {
  Container* container = find(request.ref);
  if (container != nullptr &&
      (container->first_ended || container->state.phase == ContainerPhase::kExited))
    return outlet_.reply(to, Reply{});
  auto running = find_running(request.ref);
  if (!running)
    return fail_reply(to, running.error());
  if (request.signal <= 0 || request.signal > 64)
    return fail_reply(to, Error(Errc::kInvalid, "no such signal"));
  const std::int64_t kill_at = mono_ms() + request.grace_ms;
  if (container->kill_at_ms == 0)
    ::kill(container->state.pid, request.signal);
  if (container->kill_at_ms == 0 || kill_at < container->kill_at_ms)
    container->kill_at_ms = kill_at;
  outlet_.reply(to, Reply{});
  on_time();  // a grace of 0 kills now
}

void Supervisor::remove(const ReplyTo& to, const ContainerRef& ref) {
  Container* container = find(ref);
  if (container == nullptr)
    return fail_reply(
        to, Error(Errc::kNotFound, "container " + container_id(ref) + " is not known here"));
  if (container->state.phase != ContainerPhase::kExited)
    return fail_reply(to, Error(Errc::kConflict,
                                "container " + container_id(ref) + " still runs; stop it first"));
  if (operations_.size() >= kOperationsMax)
    return fail_reply(to, Error(Errc::kExhausted, "too many operations at once"));
  Spawn run;
  run.argv = runtime_args(options_.pod_dir + "/oci.remove.log");
  run.argv.insert(run.argv.end(), {"delete", "--force", container_id(ref)});
  run.hide_mount = hidden_mount();
  auto pid = spawn(run);
  if (!pid)
    return fail_reply(to, pid.error());
  operations_.push_back({OpKind::kRemove, *pid, to, ref, {}, mono_ms() + 30'000});
}

void Supervisor::remove_ended(const Operation& op, int status) {
  const std::string id = container_id(op.ref);
  if (op.timed_out || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return fail_reply(
        op.to,
        Error(Errc::kIo, runtime_error(options_, options_.pod_dir + "/oci.remove.log", status)));
  if (options_.hybrid)
    ::rmdir(options_.cgroup2_leaf(id).c_str());
  forget(op.ref);
  outlet_.reply(op.to, Reply{});
}

// ---- children

void Supervisor::reap() {
  for (;;) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid < 0 && errno == EINTR)
      continue;
    if (pid <= 0)
      break;
    child_ended(pid, status);
  }
  check_shutdown();
}

void Supervisor::child_ended(pid_t pid, int status) {
  for (std::size_t i = 0; i < operations_.size(); ++i) {
    if (operations_[i].pid != pid)
      continue;
    Operation op = std::move(operations_[i]);
    operations_.erase(operations_.begin() + static_cast<std::ptrdiff_t>(i));
    switch (op.kind) {
    case OpKind::kCreate:
      return create_ended(op, status);
    case OpKind::kRemove:
      return remove_ended(op, status);
    case OpKind::kEntering:
      return helper_ended(std::move(op), status);
    case OpKind::kExec:
    case OpKind::kEntered:
      return exec_ended(op, status);
    case OpKind::kCleanup:
      return cleanup_ended(op);
    }
  }
  if (holder_.pid == pid)
    return holder_ended();
  for (const auto& container : containers_)
    if (container->runs() && container->state.pid == pid)
      return first_process_ended(*container, status);
  // An orphan, or a container's first process or a command that has not been reported yet.
  const bool coming = std::any_of(operations_.begin(), operations_.end(), [](const Operation& op) {
    return op.kind == OpKind::kCreate || op.kind == OpKind::kEntering;
  });
  if (!coming)
    return early_exits_.clear();
  if (early_exits_.size() >= kEarlyExitsMax)
    early_exits_.erase(early_exits_.begin());
  early_exits_.push_back({pid, status});
}

ProcessGroup Supervisor::group_of(const std::string& id) const {
  if (!options_.cgroup2.empty() || options_.freezer_v1.empty())
    return {options_.cgroup2_leaf(id), {}};
  return {{}, options_.freezer_v1 + "/" + options_.pod_cgroup + "/" + id};
}

// Where it was the first one of a pid namespace, the kernel has ended the others.
void Supervisor::first_process_ended(Container& container, int status) {
  if (!container.shares_pids)
    return container_ended(container, status);
  container.first_ended = status;
  container.kill_at_ms = 0;
  container.give_up_at_ms = mono_ms() + kLeftoversWaitMs;
  end_leftovers(container);
}

void Supervisor::end_leftovers(Container& container) {
  const std::int64_t now = mono_ms();
  if (!kill_group(group_of(container_id(container.state.ref)))) {
    if (now < container.give_up_at_ms) {
      container.killed_at_ms = now;
      return;
    }
    std::fprintf(stderr, "shoal-shim: a process of container %s does not die\n",
                 container_id(container.state.ref).c_str());
  }
  container_ended(container, *container.first_ended);
}

// The kernel has ended all that was in the namespace, and gives it no further process.
void Supervisor::holder_ended() {
  holder_ = {};
  for (const auto& container : containers_)
    if (container->first_ended && container->state.phase == ContainerPhase::kRunning)
      container_ended(*container, *container->first_ended);
  if (shutdown_to_)
    return;
  std::fputs("shoal-shim: the first process of the pod was killed, and all others with it\n",
             stderr);
  finished_ = true;
}

void Supervisor::container_ended(Container& container, int status) {
  // None of its processes is left, so the pipes hold all that was ever written.
  for (const Stream stream : {Stream::kStdout, Stream::kStderr})
    read_output(container, stream, true);
  ContainerState& state = container.state;
  state.phase = ContainerPhase::kExited;
  state.finished_at_ns = wall_ns();
  state.exit_code = exit_code_of(status);
  state.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  state.oom_killed = state.exit_code != 0 && was_oom_killed(container_id(state.ref));
  state.log_errors = container.log->errors();
  state.message = last_words(container);
  std::string().swap(container.tail);
  container.log.reset();
  container.kill_at_ms = 0;
  container.look_at_ms = 0;
  container.first_ended.reset();
  save_state(container);
  write_record();
  outlet_.publish(state);
  attachments_.container_ended(state.ref, state.exit_code);
}

std::string Supervisor::last_words(const Container& container) {
  if (container.termination_log.empty())
    return {};
  std::string text = read_file_end(container.termination_log, kTerminationBytesMax);
  if (!text.empty() || !container.keep_tail || container.state.exit_code == 0)
    return text;
  std::size_t at = container.tail.size();
  // The newline at the end closes the last line and begins none.
  for (std::size_t lines = 0; lines <= kTerminationTailLinesMax && at > 0; ++lines) {
    const std::size_t newline = at < 2 ? std::string::npos : container.tail.rfind('\n', at - 2);
    if (newline == std::string::npos || lines == kTerminationTailLinesMax)
      return lines == kTerminationTailLinesMax ? container.tail.substr(at) : container.tail;
    at = newline + 1;
  }
  return container.tail;
}

bool Supervisor::was_oom_killed(const std::string& id) const {
  const std::string file =
      options_.memory_v1.empty()
          ? options_.cgroup2_leaf(id) + "/memory.events"
          : options_.memory_v1 + "/" + options_.pod_cgroup + "/" + id + "/memory.oom_control";
  const std::string text = read_small_file(file, 4096);
  const std::size_t at = text.find("oom_kill ");
  return at != std::string::npos && std::strtoull(text.c_str() + at + 9, nullptr, 10) > 0;
}

// ---- output

void Supervisor::on_output(std::uint64_t tag) {
  for (const auto& container : containers_)
    if (container->tag == (tag & ~std::uint64_t{1})) {
      read_output(*container, (tag & 1) == 0 ? Stream::kStdout : Stream::kStderr, false);
      return;
    }
}

// False once the stream has ended.
bool Supervisor::read_output(Container& container, Stream stream, bool to_the_end) {
  UniqueFd& pipe = container.pipes[static_cast<int>(stream)];
  std::size_t taken = 0;
  while (pipe) {
    const ssize_t n = ::read(pipe.get(), g_output, sizeof(g_output));
    if (n < 0 && errno == EINTR)
      continue;
    if (n > 0) {
      container.log->write(stream, {g_output, static_cast<std::size_t>(n)}, wall_ns());
      attachments_.write(container.state.ref, stream, {g_output, static_cast<std::size_t>(n)});
      if (container.keep_tail)
        keep_end(container.tail, {g_output, static_cast<std::size_t>(n)});
      taken += static_cast<std::size_t>(n);
      if (!to_the_end)
        return true;
      if (taken < kDrainBytesMax)
        continue;
    } else if (n < 0 && errno == EAGAIN && !to_the_end) {
      return true;
    } else if (n < 0 && errno == EIO && container.terminal && !to_the_end) {
      // No process has it open at the moment; one may again.
      outlet_.unwatch(pipe.get());
      container.look_at_ms = mono_ms() + kTerminalLookMs;
      return true;
    }
    container.log->finish(stream, wall_ns());
    pipe.reset();  // also leaves the epoll set
  }
  return false;
}

// ---- the rest

void Supervisor::forget(const ContainerRef& ref) {
  attachments_.forget(ref);
  std::erase_if(containers_, [&](const auto& container) { return container->state.ref == ref; });
  write_record();
}

// A full disk must not hold the pod up: an attempt whose record is lost counts, once its shim is
// gone, as one that never ran.
void Supervisor::save_state(const Container& container) {
  if (!save_file(container.record, encode_container_record(container.state)))
    std::perror(("shoal-shim: write " + container.record).c_str());
}

void Supervisor::write_record() const {
  std::string text = "boot " + boot_id_ + "\nshim " + std::to_string(::getpid()) + " " +
                     std::to_string(self_start_ticks_) + "\n";
  if (holder_.pid != 0)  // ended like a container's
    text += std::string("container ") + kPidNamespaceName + " " + std::to_string(holder_.pid) +
            " " + std::to_string(holder_.start_ticks) + "\n";
  for (const auto& container : containers_)
    if (container->runs())
      text += "container " + container_id(container->state.ref) + " " +
              std::to_string(container->state.pid) + " " +
              std::to_string(container->state.start_ticks) + "\n";
  replace_file(options_.pod_dir + "/shim.state", text);
}

void Supervisor::shutdown(const ReplyTo& to) {
  if (shutdown_to_)
    return fail_reply(to, Error(Errc::kConflict, "the pod is being shut down already"));
  shutdown_to_ = to;
  shutdown_by_ms_ = mono_ms() + kShutdownMs;
  kill_children();
  check_shutdown();
}

void Supervisor::terminate() {
  terminating_ = true;
  for (const auto& container : containers_) {
    if (!container->runs() || container->kill_at_ms != 0)
      continue;
    ::kill(container->state.pid, SIGTERM);
    container->kill_at_ms = mono_ms() + kTerminateGraceMs;
  }
}

void Supervisor::check_shutdown() {
  if (finished_)
    return;
  if (!shutdown_to_ && !terminating_)
    return;
  if (!shutdown_to_) {
    terminate();  // also what has been created meanwhile
    // Runs of the OCI runtime that are under way are ended by the host, or by the sweep after it.
    finished_ = std::ranges::none_of(containers_, [](const auto& container) {
      return container->state.phase == ContainerPhase::kRunning;
    });
    return;
  }
  siginfo_t info{};
  const bool childless =
      ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD;
  if (childless) {
    finished_ = true;
    outlet_.reply(*shutdown_to_, Reply{});
  } else if (mono_ms() >= shutdown_by_ms_) {
    finished_ = true;
    fail_reply(*shutdown_to_, Error(Errc::kTimeout, "a process of the pod does not die"));
  } else {
    kill_children();  // those that the first round's victims left to us
  }
}

int Supervisor::wait_ms() const {
  std::int64_t next = INT64_MAX;
  for (const auto& container : containers_) {
    for (const std::int64_t at : {container->kill_at_ms, container->look_at_ms})
      if (at > 0)
        next = std::min(next, at);
    if (container->first_ended)
      next = std::min(next, container->killed_at_ms + kLeftoversLookMs);
  }
  for (const Operation& op : operations_)
    if (op.deadline_ms > 0)
      next = std::min(next, op.deadline_ms);
  if (shutdown_to_)
    next = std::min(next, std::min(shutdown_by_ms_, mono_ms() + 20));
  if (next == INT64_MAX)
    return -1;
  return static_cast<int>(std::clamp<std::int64_t>(next - mono_ms(), 0, 60'000));
}

void Supervisor::on_time() {
  const std::int64_t now = mono_ms();
  for (const auto& container : containers_)
    if (container->look_at_ms > 0 && now >= container->look_at_ms) {
      container->look_at_ms = 0;
      (void)outlet_.watch(container->pipes[0].get(), container->tag);
    }
  for (const auto& container : containers_)
    if (container->kill_at_ms > 0 && now >= container->kill_at_ms && container->runs()) {
      ::kill(container->state.pid, SIGKILL);  // the others die with it
      container->kill_at_ms = now + 1000;
    }
  for (const auto& container : containers_)
    if (container->first_ended && now >= container->killed_at_ms + kLeftoversLookMs)
      end_leftovers(*container);
  for (Operation& op : operations_)
    if (op.deadline_ms > 0 && now >= op.deadline_ms) {
      if (op.kind == OpKind::kExec && op.timed_out)
        ::kill(-op.pid, SIGKILL);
      else
        end_command(op);
      op.timed_out = true;
      op.deadline_ms = now + 1000;
    }
  check_shutdown();
}

}  // namespace shoal::runtime::shim
