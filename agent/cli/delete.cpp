// SPDX-License-Identifier: Apache-2.0
// delete: by name, by selector or by manifest; waits until the objects are gone.
#include "agent/cli/commands.h"
#include "agent/cli/manifest.h"
#include "agent/cli/output.h"
#include "agent/cli/selection.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::cli {
namespace {

namespace json = boost::json;

struct Target {
  const Kind* kind;
  std::string ns;
  std::string name;
  std::string uid;  // set once deleted
  std::string title() const { return fmt::format("{} \"{}\"", kind->full_name(), name); }
};

std::string at(const json::value& value, std::string_view pointer) {
  boost::system::error_code error;
  const json::value* found =
      value.find_pointer(json::string_view(pointer.data(), pointer.size()), error);
  return found && found->is_string() ? cell(*found) : "";
}

Result<std::vector<Target>> targets_of(const Context& context, const DeleteOptions& options) {
  std::vector<Target> out;
  const std::string ns = options.ns.value_or("default");
  if (!options.files.empty()) {
    std::vector<Document> documents = SHOAL_TRY(read_manifests(options.files));
    for (auto it = documents.rbegin(); it != documents.rend();
         ++it) {  // what came last may need what came first
      const std::string api = at(it->object, "/apiVersion");
      const Kind* kind =
          SHOAL_TRY_WRAP(find_manifest_kind(api, at(it->object, "/kind")), it->where("kind"));
      const std::string own = at(it->object, "/metadata/namespace");
      const std::string name = at(it->object, "/metadata/name");
      if (name.empty())
        return fail(Errc::kInvalid,
                    fmt::format("{}: metadata.name is missing", it->where("metadata")));
      out.push_back({kind, own.empty() ? ns : own, name, ""});
    }
    return out;
  }
  const Selection selection = SHOAL_TRY(parse_selection(options.what));
  for (const auto& [kind, name] : selection.names)
    out.push_back({kind, ns, name, ""});
  if (!out.empty())
    return out;
  if (options.selector.empty())
    return fail(Errc::kInvalid, "delete needs names, or -l with a selector");
  for (const Kind* kind : selection.kinds) {
    const Response response = SHOAL_TRY(context.client.send(
        {.target = kind->path(ns) + query({{"labelSelector", options.selector}})}));
    const json::value list = SHOAL_TRY(parse_body(response));
    if (const json::value* items =
            list.is_object() ? list.get_object().if_contains("items") : nullptr;
        items && items->is_array())
      for (const json::value& item : items->get_array())
        out.push_back({kind, ns, at(item, "/metadata/name"), ""});
  }
  return out;
}

Result<Response> ask(const Context& context, const Target& target, const DeleteOptions& options) {
  json::object body{
      {"apiVersion", "v1"}, {"kind", "DeleteOptions"}, {"propagationPolicy", "Background"}};
  if (options.grace_s)
    body["gracePeriodSeconds"] = *options.grace_s;
  return context.client.send({.method = "DELETE",
                              .target = target.kind->path(target.ns, target.name),
                              .body = json::serialize(body)});
}

// Watches one object until the life that was deleted is over.
Result<> wait_gone(const Context& context, const Target& target) {
  const std::string field = fmt::format("metadata.name={}", target.name);
  const std::string path = target.kind->path(target.ns);
  const Response response =
      SHOAL_TRY(context.client.send({.target = path + query({{"fieldSelector", field}})}));
  const json::value list = SHOAL_TRY(parse_body(response));
  const std::string present = at(list, "/items/0/metadata/uid");
  if (present.empty() || present != target.uid)
    return {};
  const Request watch{
      .target = path + query({{"watch", "true"},
                              {"fieldSelector", field},
                              {"resourceVersion", at(list, "/metadata/resourceVersion")}})};
  std::string pending;
  bool gone = false;
  const auto on_bytes = [&](std::string_view bytes) {
    pending += bytes;
    std::size_t newline;
    while (!gone && (newline = pending.find('\n')) != std::string::npos) {
      boost::system::error_code error;
      const json::value event = json::parse(json::string_view(pending.data(), newline), error);
      gone = !error && (at(event, "/type") == "DELETED" || at(event, "/type") == "ERROR");
      pending.erase(0, newline + 1);
    }
    return !gone;
  };
  const Response watched = SHOAL_TRY(context.client.stream(watch, on_bytes));
  if (!watched.ok())
    return fail(to_error(read_refusal(watched)));
  return {};
}

}  // namespace

Exit run_delete(const Context& context, const DeleteOptions& options) {
  std::vector<Target> targets = SHOAL_TRY(targets_of(context, options));
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
    target.uid = at(answer, "/metadata/uid");
    if (target.uid.empty())
      target.uid = at(answer, "/details/uid");
    pending.push_back(target);
  }
  if (targets.empty())
    context.streams.err("No resources found\n");
  if (options.wait)
    for (const Target& target : pending)
      SHOAL_TRY_WRAP(wait_gone(context, target),
                     fmt::format("wait until {} is gone", target.title()));
  return code;
}

}  // namespace shoal::cli
