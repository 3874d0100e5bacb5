// SPDX-License-Identifier: Apache-2.0
// What a probe or a hook does, as the pod's spec has it, and one run of it: a command in the
// container by way of the pod's shim, or a request from the host, as the kubelet makes it. A server
// that is bound to 127.0.0.1 fails here as it does elsewhere.
//
// Threading: the loop. A run is bounded by its timeout, and then its command is killed.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"
#include "runtime/probe/probe.h"
#include "runtime/shim/protocol.h"

#include <boost/asio/io_context.hpp>
#include <boost/json/object.hpp>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace shoal::node {

struct ContainerPort;

inline constexpr std::size_t kProbeOutputMax = 10 * 1024;  // of a command, as in Kubernetes

struct Action {
  enum class Kind : std::uint8_t { kExec, kHttp, kTcp, kGrpc, kSleep };
  Kind kind = Kind::kTcp;
  std::vector<std::string> command;
  std::string host;        // empty: the pod's address
  std::uint16_t port = 0;  // named ports are resolved
  bool tls = false;        // the certificate is not looked at
  std::string path;
  std::vector<runtime::HttpHeader> headers;
  std::string service;  // of kGrpc
  std::chrono::seconds sleep{0};
  bool operator==(const Action&) const = default;
};

// The one action that a probe or a hook holds; `what` names it in errors.
Result<Action> read_action(const boost::json::object& handler,
                           const std::vector<ContainerPort>& ports, std::string_view what);

// Where a container's actions go.
struct ActionTarget {
  IpAddress ip;
  std::filesystem::path shim;    // socket
  std::filesystem::path bundle;  // of the running attempt
  runtime::shim::ContainerRef ref;
  bool enterable = false;  // ContainerState's
};

struct ActionResult {
  bool ok = false;
  std::string message;   // of one that failed, in Kubernetes' words
  bool unknown = false;  // it could not be run: of the container that says nothing
};

class ActionRun {
public:
  // done is called once, from the loop, never from within this call.
  ActionRun(boost::asio::io_context& loop, const Action& action, const ActionTarget& target,
            std::chrono::milliseconds timeout, std::function<void(ActionResult)> done);
  ~ActionRun();  // nothing is called afterwards; its command is killed
  ActionRun(const ActionRun&) = delete;
  ActionRun& operator=(const ActionRun&) = delete;

  struct Run;

private:
  std::shared_ptr<Run> run_;
};

}  // namespace shoal::node
