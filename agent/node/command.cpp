// SPDX-License-Identifier: Apache-2.0
#include "agent/node/command.h"

#include "netplane/base/fs.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::node {
namespace {

namespace json = boost::json;

constexpr std::size_t kSpecBytesMax = 4 << 20;

// The OCI process object of the container, with other arguments.
Result<std::string> process_of(const std::filesystem::path& bundle,
                               const std::vector<std::string>& args) {
  const std::string text = SHOAL_TRY(read_file(bundle / "config.json", kSpecBytesMax));
  boost::system::error_code error;
  json::value spec = json::parse(text, error);
  json::object* process = error || !spec.is_object() || !spec.as_object().if_contains("process")
                              ? nullptr
                              : spec.as_object()["process"].if_object();
  if (!process)
    return fail(Errc::kCorrupt,
                fmt::format("{} has no process", (bundle / "config.json").string()));
  (*process)["terminal"] = false;  // it has the files that it is given
  json::array& words = (*process)["args"].emplace_array();
  for (const std::string& arg : args)
    words.emplace_back(arg);
  return json::serialize(*process);
}

std::uint32_t timeout_ms(const CommandRequest& request) {
  return static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(request.timeout.count(), 0, UINT32_MAX));
}

}  // namespace

Result<runtime::ExecSession>
start_command(const ActionTarget& target, const CommandRequest& request, std::span<const int> fds) {
  if (target.enterable) {
    runtime::shim::EnterRequest enter{target.ref, request.args, timeout_ms(request)};
    enter.terminal = request.terminal;
    enter.rows = request.rows;
    enter.columns = request.columns;
    return runtime::ExecSession::enter(target.shim, enter, fds);
  }
  if (request.terminal)
    return fail(Errc::kUnsupported, "this container was started by an earlier build of Shoal, "
                                    "which had no terminals: restart it first");
  const runtime::shim::ExecRequest exec{
      target.ref, SHOAL_TRY(process_of(target.bundle, request.args)), timeout_ms(request)};
  return runtime::ExecSession::start(target.shim, exec, fds[0], fds[1], fds[2]);
}

}  // namespace shoal::node
