// SPDX-License-Identifier: Apache-2.0
// cordon, uncordon, drain: taking a host out of service without anybody noticing.
#include "agent/cli/commands.h"
#include "agent/cli/deletion.h"
#include "agent/cli/output.h"
#include "agent/cli/selection.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::cli {
namespace {

namespace json = boost::json;

bool is_unschedulable(const json::value& node) {
  boost::system::error_code error;
  const json::value* value = node.find_pointer("/spec/unschedulable", error);
  return value && value->is_bool() && value->get_bool();
}

bool has_controller(const json::value& pod) {
  boost::system::error_code error;
  const json::value* owners = pod.find_pointer("/metadata/ownerReferences", error);
  if (!owners || !owners->is_array())
    return false;
  return std::any_of(
      owners->get_array().begin(), owners->get_array().end(), [](const json::value& owner) {
        const json::value* marked =
            owner.is_object() ? owner.get_object().if_contains("controller") : nullptr;
        return marked && marked->is_bool() && marked->get_bool();
      });
}

Result<std::vector<Target>> pods_to_remove(const Context& context, const DrainOptions& options) {
  const Kind* pods = SHOAL_TRY(find_kind("pods"));
  const std::string field = fmt::format("spec.nodeName={}", options.node);
  const Response response = SHOAL_TRY(
      context.client.send({.target = pods->path("") + query({{"fieldSelector", field}})}));
  const json::value list = SHOAL_TRY(parse_body(response));
  boost::system::error_code error;
  const json::value* items = list.find_pointer("/items", error);
  std::vector<Target> out;
  std::vector<std::string> lonely;
  if (items && items->is_array())
    for (const json::value& pod : items->get_array()) {
      const std::string ns = text_in(pod, "/metadata/namespace");
      const std::string name = text_in(pod, "/metadata/name");
      const std::string phase = text_in(pod, "/status/phase");
      if (phase != "Succeeded" && phase != "Failed" && !has_controller(pod))
        lonely.push_back(ns + "/" + name);
      out.push_back({pods, ns, name, ""});
    }
  if (!lonely.empty() && !options.force)
    return fail(Errc::kConflict,
                fmt::format("node {} has pods that nothing would make again elsewhere: {}; it is "
                            "cordoned, and nothing was deleted (--force deletes them)",
                            options.node, fmt::join(lonely, ", ")));
  return out;
}

}  // namespace

Exit run_cordon(const Context& context, const std::string& name, bool unschedulable) {
  const Kind* nodes = SHOAL_TRY(find_kind("nodes"));
  const std::string path = nodes->path("", name);
  const json::value node = SHOAL_TRY(parse_body(SHOAL_TRY(context.client.send({.target = path}))));
  const std::string_view what = unschedulable ? "cordoned" : "uncordoned";
  if (is_unschedulable(node) == unschedulable) {
    context.streams.out(fmt::format("node/{} already {}\n", name, what));
    return 0;
  }
  const json::object patch{
      {"spec", json::object{{"unschedulable", unschedulable ? json::value(true) : json::value()}}}};
  SHOAL_TRY(
      parse_body(SHOAL_TRY(context.client.send({.method = "PATCH",
                                                .target = path,
                                                .body = json::serialize(patch),
                                                .content_type = "application/merge-patch+json"}))));
  context.streams.out(fmt::format("node/{} {}\n", name, what));
  return 0;
}

Exit run_drain(const Context& context, const DrainOptions& options) {
  SHOAL_TRY(run_cordon(context, options.node, true));
  std::vector<Target> targets = SHOAL_TRY(pods_to_remove(context, options));
  DeleteOptions deletion;
  deletion.grace_s = options.grace_s;
  deletion.ignore_not_found = true;
  const int code = SHOAL_TRY(delete_targets(context, std::move(targets), deletion));
  if (code == 0)
    context.streams.out(fmt::format("node/{} drained\n", options.node));
  return code;
}

}  // namespace shoal::cli
