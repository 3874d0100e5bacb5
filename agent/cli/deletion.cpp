// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/deletion.h"

#include "agent/cli/output.h"
#include "agent/cli/selection.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::cli {
namespace {

namespace json = boost::json;

Result<Response> ask(const Context& context, const Target& target, const DeleteOptions& options) {
  json::object body{
      {"apiVersion", "v1"}, {"kind", "DeleteOptions"}, {"propagationPolicy", "Background"}};
  if (options.grace_s)
    body["gracePeriodSeconds"] = *options.grace_s;
  return context.client.send({.method = "DELETE",
                              .target = target.kind->path(target.ns, target.name),
                              .body = json::serialize(body)});
}

std::string path_of_one(const Target& target, std::string_view revision) {
  const std::string field = fmt::format("metadata.name={}", target.name);
  const std::string path = target.kind->path(target.ns);
  return revision.empty() ? path + query({{"fieldSelector", field}})
                          : path + query({{"watch", "true"},
                                          {"fieldSelector", field},
                                          {"resourceVersion", std::string(revision)}});
}

// Until something happens that may be the end of it: it goes, or the watch does.
Result<> watch_one(const Context& context, const Target& target, std::string_view revision) {
  std::string pending;
  bool news = false;
  const auto on_bytes = [&](std::string_view bytes) {
    pending += bytes;
    std::size_t newline;
    while (!news && (newline = pending.find('\n')) != std::string::npos) {
      boost::system::error_code error;
      const json::value event = json::parse(json::string_view(pending.data(), newline), error);
      news = error || text_in(event, "/type") == "DELETED" || text_in(event, "/type") == "ERROR";
      pending.erase(0, newline + 1);
    }
    return !news;
  };
  const Response watched =
      SHOAL_TRY(context.client.stream({.target = path_of_one(target, revision)}, on_bytes));
  if (!watched.ok())
    return fail(to_error(read_refusal(watched)));
  return {};
}

// Until the life that was deleted is over, as a list says: a watch may end for other reasons.
Result<> wait_gone(const Context& context, const Target& target) {
  for (;;) {
    const Response response = SHOAL_TRY(context.client.send({.target = path_of_one(target, "")}));
    if (!response.ok())
      return fail(to_error(read_refusal(response)));
    const json::value list = SHOAL_TRY(parse_body(response));
    const std::string present = text_in(list, "/items/0/metadata/uid");
    if (present.empty() || present != target.uid)
      return {};
    SHOAL_TRY(watch_one(context, target, text_in(list, "/metadata/resourceVersion")));
  }
}

}  // namespace

std::string Target::title() const { return fmt::format("{} \"{}\"", kind->full_name(), name); }

std::string text_in(const json::value& value, std::string_view pointer) {
  boost::system::error_code error;
  const json::value* found =
      value.find_pointer(json::string_view(pointer.data(), pointer.size()), error);
  return found && found->is_string() ? cell(*found) : "";
}

Exit delete_targets(const Context& context, std::vector<Target> targets,
                    const DeleteOptions& options) {
  int code = 0;
  std::vector<Target> pending;
  for (Target& target : targets) {
    const Response response = SHOAL_TRY(ask(context, target, options));
    if (response.status == 404 && options.ignore_not_found)
      continue;
    if (!response.ok()) {
      const Error error = to_error(read_refusal(response));
      context.streams.err(fmt::format("shoal: {}\n", error.message()));
      code = code == 0 ? exit_code_of(error) : code;
      continue;
    }
    context.streams.out(fmt::format("{} deleted\n", target.title()));
    // The answer is the object as it goes, or a Status with its uid.
    const json::value answer = SHOAL_TRY(parse_body(response));
    target.uid = text_in(answer, "/metadata/uid");
    if (target.uid.empty())
      target.uid = text_in(answer, "/details/uid");
    pending.push_back(std::move(target));
  }
  if (options.wait)
    for (const Target& target : pending)
      SHOAL_TRY_WRAP(wait_gone(context, target),
                     fmt::format("wait until {} is gone", target.title()));
  return code;
}

}  // namespace shoal::cli
