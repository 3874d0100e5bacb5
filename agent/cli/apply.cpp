// SPDX-License-Identifier: Apache-2.0
// apply: everything is validated by the server (dryRun=All) before the first write; a failure after
// that says what was written.
#include "agent/cli/commands.h"
#include "agent/cli/manifest.h"
#include "agent/cli/output.h"
#include "agent/cli/patch.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <set>

namespace shoal::cli {
namespace {

namespace json = boost::json;

enum class Action : std::uint8_t { kCreate, kPatch, kNothing };

struct Item {
  Document document;
  const Kind* kind = nullptr;
  std::string ns;
  std::string name;
  Action action = Action::kNothing;
  Request request;  // without dryRun
  json::value result;

  std::string title() const { return fmt::format("{}/{}", kind->full_name(), name); }
};

std::string string_in(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && value->is_string()
             ? std::string(value->get_string().data(), value->get_string().size())
             : "";
}

// Which object a document is about. Errors carry the document's line.
Result<Item> identify(Document document, const std::optional<std::string>& ns_asked) {
  Item item;
  const auto wrong = [&](std::string_view field, Error error) {
    return fail(std::move(error).wrap(fmt::format("{}: {}", document.where(field), field)));
  };
  const std::string api_version = string_in(document.object, "apiVersion");
  const std::string kind = string_in(document.object, "kind");
  if (api_version.empty())
    return wrong("apiVersion", Error(Errc::kInvalid, "is missing"));
  if (kind.empty())
    return wrong("kind", Error(Errc::kInvalid, "is missing"));
  auto found = find_manifest_kind(api_version, kind);
  if (!found)
    return wrong("kind", std::move(found).error());
  item.kind = *found;
  json::value* metadata = document.object.if_contains("metadata");
  if (!metadata || !metadata->is_object())
    return wrong("metadata", Error(Errc::kInvalid, "is missing or no object"));
  item.name = string_in(metadata->get_object(), "name");
  if (item.name.empty())
    return wrong("metadata.name", Error(Errc::kInvalid, "is missing: apply needs a name"));
  if (item.kind->namespaced) {
    item.ns = string_in(metadata->get_object(), "namespace");
    if (!item.ns.empty() && ns_asked && *ns_asked != item.ns)
      return wrong(
          "metadata.namespace",
          Error(Errc::kInvalid, fmt::format("is {}, but -n asks for {}", item.ns, *ns_asked)));
    if (item.ns.empty())
      item.ns = ns_asked.value_or("default");
    metadata->get_object()["namespace"] = item.ns;
  }
  item.document = std::move(document);
  return item;
}

Result<std::vector<Item>> identify_all(std::vector<Document> documents,
                                       const std::optional<std::string>& ns) {
  std::vector<Item> items;
  std::set<std::string> seen;
  for (Document& document : documents) {
    Item item = SHOAL_TRY(identify(std::move(document), ns));
    if (!seen.insert(item.kind->path(item.ns, item.name)).second)
      return fail(Errc::kInvalid,
                  fmt::format("{}: {} appears twice", item.document.where(""), item.title()));
    items.push_back(std::move(item));
  }
  // What the others live in comes first.
  std::ranges::stable_partition(items,
                                [](const Item& item) { return item.kind->kind == "Namespace"; });
  return items;
}

// Warnings begin with the path of what they are about, as in "spec.replicas: ...".
std::string_view field_of_warning(std::string_view warning) {
  return warning.substr(0, std::min(warning.find(": "), warning.find(' ')));
}

// Looks at the live object and decides what to send.
Result<> decide(const Client& client, Item& item) {
  const Response live = SHOAL_TRY(client.send({.target = item.kind->path(item.ns, item.name)}));
  if (live.status == 404) {
    item.action = Action::kCreate;
    item.request = {.method = "POST",
                    .target = item.kind->path(item.ns),
                    .body = json::serialize(with_last_applied(item.document.object))};
    return {};
  }
  json::value value = SHOAL_TRY(parse_body(live));
  if (!value.is_object())
    return fail(Errc::kCorrupt, "shoald's answer is no object");
  const json::object last = SHOAL_TRY_WRAP(last_applied(value.get_object()), item.title());
  const json::object patch = three_way_patch(last, item.document.object, value.get_object());
  item.action = patch.empty() ? Action::kNothing : Action::kPatch;
  item.request = {.method = "PATCH",
                  .target = item.kind->path(item.ns, item.name),
                  .body = json::serialize(patch),
                  .content_type = "application/merge-patch+json"};
  item.result = std::move(value);
  return {};
}

class Apply {
public:
  Apply(const Context& context, const ApplyOptions& options)
      : context_(context), options_(options) {}

  Exit run() {
    std::vector<Document> documents = SHOAL_TRY(read_manifests(options_.files));
    items_ = SHOAL_TRY(identify_all(std::move(documents), options_.ns));
    for (const Item& item : items_)
      if (item.kind->kind == "Namespace")
        namespaces_.insert(item.name);
    for (Item& item : items_)
      SHOAL_TRY(decide(context_.client, item));
    if (!SHOAL_TRY(validate()))
      return kExitFailed;
    if (!options_.dry_run)
      if (const int code = SHOAL_TRY(write()); code != 0)
        return code;
    print();
    return 0;
  }

private:
  Result<Response> send(Item& item, bool dry) {
    Request request = item.request;
    if (dry)
      request.target += "?dryRun=All";
    Response response = SHOAL_TRY(context_.client.send(request));
    for (const std::string& warning : response.warnings)
      if (warned_.insert(warning).second)
        context_.streams.err(fmt::format("Warning: {}: {}\n",
                                         item.document.where(field_of_warning(warning)), warning));
    return response;
  }

  // False when anything is wrong; all of it has been told then.
  Result<bool> validate() {
    std::size_t wrong = 0;
    for (Item& item : items_) {
      if (item.action == Action::kNothing)
        continue;
      const Response response = SHOAL_TRY(send(item, true));
      if (response.ok()) {
        if (options_.dry_run)
          item.result = SHOAL_TRY(parse_body(response));
        continue;
      }
      const Refusal refusal = read_refusal(response);
      // Its namespace comes with this very apply.
      if (refusal.code == 404 && namespaces_.contains(item.ns))
        continue;
      ++wrong;
      for (const std::string& line : at_lines(refusal, item.document))
        context_.streams.err(line + "\n");
    }
    if (wrong > 0)
      context_.streams.err(
          fmt::format("{} of {} objects refused; nothing was written\n", wrong, items_.size()));
    return wrong == 0;
  }

  Result<int> write() {
    for (std::size_t i = 0; i < items_.size(); ++i) {
      Item& item = items_[i];
      if (item.action == Action::kNothing)
        continue;
      auto response = send(item, false);
      if (response && response->ok()) {
        item.result = SHOAL_TRY(parse_body(*response));
        continue;
      }
      tell_partial(i);
      if (!response)
        return fail(std::move(response).error().wrap(item.title()));
      for (const std::string& line : at_lines(read_refusal(*response), item.document))
        context_.streams.err(line + "\n");
      return kExitFailed;
    }
    return 0;
  }

  void tell_partial(std::size_t failed) const {
    std::vector<std::string> written;
    std::vector<std::string> left;
    for (std::size_t i = 0; i < items_.size(); ++i)
      if (items_[i].action != Action::kNothing)
        (i < failed ? written : left).push_back(items_[i].title());
    context_.streams.err(
        fmt::format("written: {}\nnot written: {}\n",
                    written.empty() ? "nothing" : fmt::format("{}", fmt::join(written, ", ")),
                    fmt::join(left, ", ")));
  }

  void print() const {
    if (options_.output == "json" || options_.output == "yaml") {
      json::value out;
      if (items_.size() == 1) {
        out = items_[0].result;
      } else {
        json::array list;
        for (const Item& item : items_)
          list.push_back(item.result);
        out = json::object{{"apiVersion", "v1"}, {"kind", "List"}, {"items", std::move(list)}};
      }
      context_.streams.out(options_.output == "json" ? to_pretty_json(out) : to_yaml(out));
      return;
    }
    for (const Item& item : items_) {
      const std::string_view done = item.action == Action::kCreate  ? "created"
                                    : item.action == Action::kPatch ? "configured"
                                                                    : "unchanged";
      context_.streams.out(
          options_.output == "name"
              ? fmt::format("{}\n", item.title())
              : fmt::format("{} {}{}\n", item.title(), done, options_.dry_run ? " (dry run)" : ""));
    }
  }

  const Context& context_;
  const ApplyOptions& options_;
  std::vector<Item> items_;
  std::set<std::string> namespaces_;
  std::set<std::string> warned_;
};

}  // namespace

Exit run_apply(const Context& context, const ApplyOptions& options) {
  return Apply(context, options).run();
}

}  // namespace shoal::cli
