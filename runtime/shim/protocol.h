// SPDX-License-Identifier: Apache-2.0
// The protocol between shoald and a pod's shoal-shim, spoken over `<pod dir>/shim.sock`.
//
// Transport: AF_UNIX SOCK_SEQPACKET, one message a packet, at most kMessageBytesMax. A message is a
// header of 16 bytes (u16 magic, u16 version, u16 type, u16 zero, u32 seq, u32 payload length) and
// a payload. All integers are little-endian; a string is u32 length and bytes, a list u32 count and
// elements. File descriptors (exec's stdio, the pod's network namespace in the answer to kState)
// travel as SCM_RIGHTS beside the message.
//
// Versions: fields are only ever appended, and a decoder ignores bytes behind those it knows, so a
// new agent talks to shims that were started before its upgrade. kProtocolVersion rises only when
// that is not enough; a shim answers any other version with kUnsupported.
//
// Requests are answered by kReply with the same seq, perhaps much later (create waits for the OCI
// runtime). A connection that sent kSubscribe gets the pod's state in the reply, and from then on
// an event for each change of a container. An event carries the whole state of the container, so a
// lost one is made good by the next look.
//
// Decoders take bytes from another process: they return kCorrupt and never read past the end.
// The static shim uses this header too: no fmt, no iostream.
#pragma once

#include "netplane/base/result.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime::shim {

inline constexpr std::uint16_t kProtocolVersion = 1;
inline constexpr std::uint16_t kMagic = 0x4853;  // "SH" on the wire
inline constexpr std::size_t kHeaderBytes = 16;
inline constexpr std::size_t kMessageBytesMax = 128 * 1024;
inline constexpr std::uint32_t kListItemsMax = 4096;
inline constexpr std::size_t kContainersMax = 64;     // records of a pod, exited ones included
inline constexpr std::size_t kContainerNameMax = 63;  // a DNS label
inline constexpr std::size_t kErrorTextMax = 4096;
inline constexpr std::uint64_t kLogFileBytesDefault = 10U << 20;
inline constexpr std::uint32_t kLogFilesDefault = 5;
inline constexpr std::uint32_t kLogFilesMax = 64;

enum class MessageType : std::uint16_t {
  kState = 1,      // -> PodState and, as an fd, the pod's network namespace
  kSubscribe = 2,  // -> PodState, then events
  kCreate = 3,     // CreateRequest -> ContainerState, once it runs
  kSignal = 4,     // SignalRequest
  kStop = 5,       // StopRequest; answered at once, the exit comes as an event
  kRemove = 6,     // ContainerRef; the container must have exited
  kExec = 7,       // ExecRequest and three fds -> ExecResult, when the command has ended
  kShutdown = 8,   // kills every container, answers when all have ended, exits
  kEnter = 9,      // EnterRequest and its fds -> ExecResult, when the command has ended
  kAttach = 10,    // AttachRequest and its fds -> ExecResult, when the container has ended
  kResize = 11,    // ResizeRequest, of a container that has a terminal
  // As kCreate, of a container with an open standard input or a terminal: a shim that knows neither
  // does not know this, either.
  kCreateOpen = 12,
  // As these, of a container without a pid namespace of its own: whose shim ends what it leaves.
  kCreateShared = 13,
  kReply = 100,
  kEvent = 101,  // ContainerState
};

enum class ContainerPhase : std::uint8_t { kCreating = 1, kRunning = 2, kExited = 3 };

struct ContainerRef {
  std::string name;           // as in the pod spec: a DNS label
  std::uint32_t attempt = 0;  // how often it had been started before: the restart count
  auto operator<=>(const ContainerRef&) const = default;
};
// The OCI runtime's id for it, also the last part of its cgroup path: "name-attempt".
std::string container_id(const ContainerRef& ref);
bool is_container_name(std::string_view name);

struct ContainerState {
  ContainerRef ref;
  ContainerPhase phase = ContainerPhase::kCreating;
  std::int32_t pid = 0;            // of its first process; kept after its end
  std::uint64_t start_ticks = 0;   // of that process (see ProcessId)
  std::int64_t started_at_ns = 0;  // wall clock; 0: not yet
  std::int64_t finished_at_ns = 0;
  std::int32_t exit_code = 0;  // 128 + signal when a signal ended it
  std::int32_t signal = 0;
  bool oom_killed = false;
  std::uint64_t log_errors = 0;  // lines that could not be written (the disk is full, say)
  std::uint64_t sandbox_id = 0;  // of the shim that ran it; 0: a shim older than this field
  std::string message;           // what it left in its termination log; in PodState perhaps cut
  bool enterable = false;        // kEnter works: its bundle has an ExecPlan, its shim reads those
  bool operator==(const ContainerState&) const = default;
};

// `<log folder>/<attempt>.state`: an event message with the container's state. The shim has it on
// disk before it tells anybody that the container runs, and again that it has ended: what became of
// a container is known when its shim, the agent and the boot are gone. No such file: it never ran.
std::string container_record_name(std::uint32_t attempt);
std::string encode_container_record(const ContainerState& state);
Result<ContainerState> decode_container_record(std::string_view bytes);
inline constexpr std::size_t kContainerRecordBytesMax = 8192;
inline constexpr std::size_t kTerminationBytesMax = 4096;      // the end of the file
inline constexpr std::size_t kTerminationTailBytesMax = 2048;  // of the output, in its place
inline constexpr std::size_t kTerminationTailLinesMax = 80;
inline constexpr std::size_t kStateMessagesBytesMax = 64 * 1024;  // of all in one PodState

struct PodState {
  std::int32_t shim_pid = 0;
  std::uint64_t shim_start_ticks = 0;
  std::vector<ContainerState> containers;
  std::uint64_t sandbox_id = 0;  // of this boot's this shim; 0: it is older than this field
  bool operator==(const PodState&) const = default;
};

struct CreateRequest {
  ContainerRef ref;
  std::string bundle;   // folder that holds config.json, absolute
  std::string log_dir;  // gets <attempt>.log, absolute
  std::uint64_t log_file_bytes_max = kLogFileBytesDefault;
  std::uint32_t log_files_max = kLogFilesDefault;  // the current one included
  std::uint32_t timeout_ms = 30'000;               // for the OCI runtime
  std::string termination_log;                     // the file, on the host; empty: none
  bool termination_from_log = false;  // the end of its output, if it failed and left none
  bool open_stdin = false;            // a pipe, or the terminal's input; else /dev/null
  bool stdin_once = false;            // see AttachRequest
  bool terminal = false;              // as the bundle's config.json says
  bool shares_pids = false;           // it has no pid namespace of its own
  bool operator==(const CreateRequest&) const = default;
};

// In the pod's folder: a link to the pid namespace that its containers share, if they do, for the
// OCI runtime.
inline constexpr const char* kPidNamespaceName = "pid-namespace";

struct SignalRequest {
  ContainerRef ref;
  std::int32_t signal = 0;
  bool operator==(const SignalRequest&) const = default;
};

struct StopRequest {
  ContainerRef ref;
  std::int32_t signal = 15;
  std::uint32_t grace_ms = 30'000;  // then SIGKILL; a second stop may only shorten it
  bool operator==(const StopRequest&) const = default;
};

inline constexpr int kExecFds = 3;  // stdin, stdout, stderr
struct ExecRequest {
  ContainerRef ref;
  std::string process;           // the OCI `process` object, JSON: args, env, user, limits
  std::uint32_t timeout_ms = 0;  // 0: none. Closing the connection ends the command too
  bool operator==(const ExecRequest&) const = default;
};

// A further process of a container, by the shim itself: it enters the container's namespaces and
// cgroups and becomes what the container's ExecPlan says. What goes wrong on the way is written to
// the command's standard error, and it ends with 126, or 127 where there is no such program.
struct EnterRequest {
  ContainerRef ref;
  std::vector<std::string> args;
  std::uint32_t timeout_ms = 0;  // 0: none. Closing the connection ends the command too
  // The command gets a terminal of the container's own, and the other end of it is sent as
  // SCM_RIGHTS, with one byte, over the socket that came as the only fd. Else: three fds, as kExec.
  bool terminal = false;
  std::uint16_t rows = 0;  // of the terminal; 0: not known
  std::uint16_t columns = 0;
  bool operator==(const EnterRequest&) const = default;
};

// The streams of the container's first process, from now on. Beside it come the fds of those that
// are wanted, in this order: of a pipe that the container's input is read from, and of those that
// its output is written to. What is not read in time is waited for by nobody: beyond a bound
// (attachments.h) the answer is kExhausted. The end of the pipe for input is no end of the
// container's, but with stdin_once and without a terminal. Closing the connection detaches.
struct AttachRequest {
  ContainerRef ref;
  bool input = false;
  bool output = false;
  bool error = false;  // with a terminal there is nothing on it
  bool operator==(const AttachRequest&) const = default;
};

struct ResizeRequest {
  ContainerRef ref;
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
  bool operator==(const ResizeRequest&) const = default;
};

// What a further process of a container is, beside its arguments: a file of the container's bundle,
// written before the container is created.
struct ExecPlan {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;
  std::string cwd;                 // in the container
  std::string env;                 // "NAME=VALUE", a NUL behind each
  std::uint64_t capabilities = 0;  // by number: bounding, permitted and effective set
  bool no_new_privileges = true;
  std::int32_t oom_score_adj = 0;
  bool has_oom_score_adj = false;
  std::uint64_t nofile = 0;          // soft and hard limit
  std::vector<std::string> cgroups;  // v1 folders to join, those that exist
  std::string cgroup2;               // the folder to join; empty: none
  std::string seccomp;               // struct sock_filter[]; empty: none
  std::uint32_t seccomp_flags = 0;   // of seccomp(2)
  bool operator==(const ExecPlan&) const = default;
};
inline constexpr const char* kExecPlanName = "exec.plan";
inline constexpr std::size_t kExecPlanBytesMax = 8U << 20;

struct ExecResult {
  std::int32_t exit_code = 0;
  bool timed_out = false;
  bool operator==(const ExecResult&) const = default;
};

struct Reply {
  bool ok = true;
  Errc code = Errc::kInternal;  // when not ok
  std::string message;
  std::string body;  // the encoded result when ok
  bool operator==(const Reply&) const = default;
};

struct Header {
  std::uint16_t version = kProtocolVersion;
  MessageType type{};
  std::uint32_t seq = 0;
};
struct Message {
  Header header;
  std::string_view payload;  // into the bytes that were decoded
};
std::string encode_message(MessageType type, std::uint32_t seq, std::string_view payload);
// Checks magic and length, not the version: the receiver decides what it answers to a foreign one.
Result<Message> decode_message(std::string_view bytes);

std::string encode(const ContainerRef& value);
std::string encode(const ContainerState& value);
std::string encode(const PodState& value);
std::string encode(const CreateRequest& value);
std::string encode(const SignalRequest& value);
std::string encode(const StopRequest& value);
std::string encode(const ExecRequest& value);
std::string encode(const EnterRequest& value);
std::string encode(const AttachRequest& value);
std::string encode(const ResizeRequest& value);
std::string encode(const ExecPlan& value);
std::string encode(const ExecResult& value);
std::string encode(const Reply& value);
// decode<T>(payload), for each of the above.
template <class T>
Result<T> decode(std::string_view payload) = delete;
template <>
Result<ContainerRef> decode(std::string_view payload);
template <>
Result<ContainerState> decode(std::string_view payload);
template <>
Result<PodState> decode(std::string_view payload);
template <>
Result<CreateRequest> decode(std::string_view payload);
template <>
Result<SignalRequest> decode(std::string_view payload);
template <>
Result<StopRequest> decode(std::string_view payload);
template <>
Result<ExecRequest> decode(std::string_view payload);
template <>
Result<EnterRequest> decode(std::string_view payload);
template <>
Result<AttachRequest> decode(std::string_view payload);
template <>
Result<ResizeRequest> decode(std::string_view payload);
template <>
Result<ExecPlan> decode(std::string_view payload);
template <>
Result<ExecResult> decode(std::string_view payload);
template <>
Result<Reply> decode(std::string_view payload);

}  // namespace shoal::runtime::shim
