// SPDX-License-Identifier: Apache-2.0
// delete: by name, by selector or by manifest.
#include "agent/cli/commands.h"
#include "agent/cli/deletion.h"
#include "agent/cli/manifest.h"
#include "agent/cli/output.h"
#include "agent/cli/selection.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::cli {
namespace {

namespace json = boost::json;

Result<std::vector<Target>> targets_of(const Context& context, const DeleteOptions& options) {
  std::vector<Target> out;
  const std::string ns = options.ns.value_or("default");
  if (!options.files.empty()) {
    std::vector<Document> documents = SHOAL_TRY(read_manifests(options.files));
    for (auto it = documents.rbegin(); it != documents.rend();
         ++it) {  // what came last may need what came first
      const std::string api = text_in(it->object, "/apiVersion");
      const Kind* kind =
          SHOAL_TRY_WRAP(find_manifest_kind(api, text_in(it->object, "/kind")), it->where("kind"));
      const std::string own = text_in(it->object, "/metadata/namespace");
      const std::string name = text_in(it->object, "/metadata/name");
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
        out.push_back({kind, ns, text_in(item, "/metadata/name"), ""});
  }
  return out;
}

}  // namespace

Exit run_delete(const Context& context, const DeleteOptions& options) {
  std::vector<Target> targets = SHOAL_TRY(targets_of(context, options));
  if (targets.empty())
    context.streams.err("No resources found\n");
  return delete_targets(context, std::move(targets), options);
}

}  // namespace shoal::cli
