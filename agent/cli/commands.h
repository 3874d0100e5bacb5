// SPDX-License-Identifier: Apache-2.0
// The commands of `shoal`: each takes its options, talks through a Client and prints to the given
// streams. What it returns is the exit code; an Error is printed by main as one line.
//
// Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 shoald is not reachable; 4 what was
// named does not exist; `exec` and `attach` give the command's own.
#pragma once

#include "agent/cli/client.h"
#include "agent/cli/kinds.h"
#include "netplane/base/result.h"

#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace shoal::cli {

inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnreachable = 3;
inline constexpr int kExitNotFound = 4;
int exit_code_of(const Error& error);

// Where a command writes; strings in tests.
class Streams {
public:
  virtual ~Streams() = default;
  virtual void out(std::string_view text) = 0;   // results
  virtual void err(std::string_view text) = 0;   // progress, warnings, complaints
  virtual bool closed() const { return false; }  // nobody takes results any more
};

struct Context {
  const Client& client;
  Streams& streams;
};
using Exit = Result<int>;

// ---- objects
struct ApplyOptions {
  std::vector<std::string> files;
  std::optional<std::string> ns;
  bool dry_run = false;
  std::string output;  // "", "json", "yaml", "name"
};
Exit run_apply(const Context& context, const ApplyOptions& options);

struct GetOptions {
  std::vector<std::string> what;  // KIND[,KIND] [NAME...] or KIND/NAME...
  std::string ns = "default";
  bool all_namespaces = false;
  std::string selector;
  std::string output;  // "", "wide", "json", "yaml", "name"
  bool watch = false;
  bool no_headers = false;
};
Exit run_get(const Context& context, const GetOptions& options);
Exit run_describe(const Context& context, const GetOptions& options);

struct DeleteOptions {
  std::vector<std::string> what;
  std::vector<std::string> files;
  std::optional<std::string> ns;
  std::string selector;
  std::optional<std::int64_t> grace_s;
  bool wait = true;
  bool ignore_not_found = false;
};
Exit run_delete(const Context& context, const DeleteOptions& options);

// ---- what nodes and pods use
struct TopOptions {
  std::string name;  // empty: all
  std::string ns = "default";
  bool all_namespaces = false;
  std::string selector;
  bool containers = false;  // a row for each
  std::string sort_by;      // "", "cpu", "memory"
  bool no_headers = false;
};
Exit run_top_nodes(const Context& context, const TopOptions& options);
Exit run_top_pods(const Context& context, const TopOptions& options);

// ---- nodes
// No new pods for it, and it hands its load balancer addresses to others; or again as before.
Exit run_cordon(const Context& context, const std::string& node, bool unschedulable);
struct DrainOptions {
  std::string node;
  bool force = false;  // pods without a controller too
  std::optional<std::int64_t> grace_s;
};
// Cordons it, deletes its pods and waits until they are gone.
Exit run_drain(const Context& context, const DrainOptions& options);

// ---- pods
struct LogsOptions {
  std::string pod;
  std::string ns = "default";
  std::string container;
  bool follow = false;
  bool previous = false;
  bool timestamps = false;
  std::optional<std::int64_t> tail;
};
Exit run_logs(const Context& context, const LogsOptions& options);

struct ExecOptions {
  std::string pod;
  std::string ns = "default";
  std::string container;
  std::vector<std::string> command;
  bool stdin_open = false;
  bool tty = false;
  int input = 0;  // what is read with stdin_open
};
Exit run_exec(const Context& context, const ExecOptions& options);

struct AttachOptions {
  std::string pod;
  std::string ns = "default";
  std::string container;
  bool stdin_open = false;
  bool tty = false;
};
// Gives the container's exit code when that ends.
Exit run_attach(const Context& context, const AttachOptions& options);

struct CopyOptions {
  std::string source;  // PATH, POD:PATH or NAMESPACE/POD:PATH; one of the two is in a pod
  std::string target;
  std::string ns = "default";
  std::string container;
};
Exit run_copy(const Context& context, const CopyOptions& options);

struct CaptureOptions {
  std::string pod;
  std::string ns = "default";
  std::string file;  // "" and "-": standard output, which must be no terminal
  std::optional<std::uint64_t> count;
  std::optional<std::uint64_t> duration_s;
  std::optional<std::uint64_t> port;
  std::uint64_t snaplen = 262'144;
};
// SIGINT and SIGTERM end the capture, and what was taken is written; a second one ends the command.
Exit run_capture(const Context& context, const CaptureOptions& options);

// ---- this host and its cluster; json: print what shoald answered
Exit run_init(const Context& context, bool json);
Exit run_join(const Context& context, const std::string& address, const std::string& token,
              bool json);
Exit run_members(const Context& context, bool json);
Exit run_status(const Context& context, bool json);
Exit run_token_create(const Context& context, std::optional<std::uint64_t> ttl_s, bool json);
Exit run_dump(const Context& context);

// ---- looking into the live data plane of this host
// Waits until the next look of --follow is due; false: no more. main's waits a second.
using Pause = std::function<bool()>;
struct DropsOptions {
  bool all = false;  // reasons that nothing was dropped for too
  bool follow = false;
  bool json = false;
};
Exit run_drops(const Context& context, const DropsOptions& options, const Pause& pause);

inline constexpr std::size_t kFollowFlowsDefault = 65'536;  // compared from look to look
struct FlowsOptions {
  std::string ns = "default";
  std::string service;  // NAME or NAMESPACE/NAME
  std::string pod;
  std::optional<std::uint64_t> limit;
  bool follow = false;
  bool json = false;
};
Exit run_flows(const Context& context, const FlowsOptions& options, const Pause& pause);

struct TraceOptions {
  std::string ns = "default";
  std::string from;  // POD, NAMESPACE/POD, "host", "outside", "outside:IP"
  std::string to;    // ADDR:PORT, ADDR:PORT/udp
  std::optional<std::uint16_t> source_port;
  bool json = false;
};
Exit run_trace(const Context& context, const TraceOptions& options);
Exit run_service_list(const Context& context, bool json);
Exit run_service_show(const Context& context, const std::string& ns, const std::string& name,
                      bool json);
// ---- images of this host
struct ImageOptions {
  std::string name;
  std::string destination;  // of a push; empty: the name
  std::string credentials;  // a file with user:password or a docker config; "-": standard input
};
Exit run_image_pull(const Context& context, const ImageOptions& options, bool json);
Exit run_image_push(const Context& context, const ImageOptions& options, bool json);
struct BuildOptions {
  std::string name;
  std::string folder = ".";
  std::string file;                    // empty: Containerfile or Dockerfile in the folder
  std::vector<std::string> arguments;  // "NAME=VALUE"
  std::vector<std::string> buildah;    // flags that are handed on as they are
};
Exit run_image_build(const Context& context, const BuildOptions& options, bool json);
Exit run_image_load(const Context& context, const std::string& path, const std::string& name,
                    bool json);
Exit run_image_list(const Context& context, bool json);
Exit run_image_remove(const Context& context, const std::vector<std::string>& references,
                      bool json);

// "1d12h30m15s" in seconds.
Result<std::uint64_t> parse_duration(std::string_view text);

}  // namespace shoal::cli
