// SPDX-License-Identifier: Apache-2.0
// get: lists, single objects and watches; the server renders tables, with kubectl's columns.
#include "agent/cli/commands.h"
#include "agent/cli/manifest.h"
#include "agent/cli/output.h"
#include "agent/cli/selection.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::cli {
namespace {

namespace json = boost::json;

constexpr std::string_view kTableAccept =
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
constexpr std::size_t kWatchLineBytesMax = 16 << 20;

bool is_table_output(const std::string& output) { return output.empty() || output == "wide"; }

std::string name_of(const json::value& object) {
  boost::system::error_code error;
  const json::value* name = object.find_pointer("/metadata/name", error);
  return name ? cell(*name) : "";
}

// Lists may come without apiVersion and kind on their items; scripts want them.
json::array items_of(const json::value& list, const Kind& kind) {
  json::array out;
  const json::value* items = list.is_object() ? list.get_object().if_contains("items") : nullptr;
  if (!items || !items->is_array())
    return out;
  for (json::value item : items->get_array()) {
    if (item.is_object() && !item.get_object().contains("kind")) {
      json::object typed{{"apiVersion", kind.api_version}, {"kind", kind.kind}};
      for (const auto& field : item.get_object())
        typed.emplace(field.key(), field.value());
      item = std::move(typed);
    }
    out.push_back(std::move(item));
  }
  return out;
}

class Get {
public:
  Get(const Context& context, const GetOptions& options)
      : context_(context), options_(options), ns_(options.all_namespaces ? "" : options.ns) {}

  Exit run() {
    const Selection selection = SHOAL_TRY(parse_selection(options_.what));
    if (!selection.names.empty() && (options_.all_namespaces || !options_.selector.empty()))
      return fail(Errc::kInvalid, "a name goes with neither -A nor -l");
    if (options_.watch)
      return watch(selection);
    return is_table_output(options_.output) ? tables(selection) : documents(selection);
  }

private:
  Result<json::value> fetch(const std::string& target, std::string_view accept) const {
    const Response response =
        SHOAL_TRY(context_.client.send({.target = target, .accept = std::string(accept)}));
    return parse_body(response);
  }

  std::string list_target(const Kind& kind) const {
    return kind.path(ns_) + query({{"labelSelector", options_.selector}});
  }

  Exit tables(const Selection& selection) {
    const bool many =
        selection.names.empty() ? selection.kinds.size() > 1 : selection.names.size() > 1;
    bool any = false;
    const auto print = [&](const Kind& kind, const std::string& target) -> Result<> {
      const json::value value = SHOAL_TRY(fetch(target, kTableAccept));
      const TextTable table = SHOAL_TRY(from_server_table(
          value, options_.output == "wide", options_.all_namespaces && kind.namespaced));
      if (table.empty())
        return {};
      if (any && selection.names.empty())
        context_.streams.out("\n");
      // Names of one kind share one header.
      const bool same_kind = any && !selection.names.empty() && last_ == &kind;
      context_.streams.out(table.str(!options_.no_headers && !same_kind));
      any = true;
      last_ = &kind;
      return {};
    };
    std::optional<Error> first;
    for (const auto& [kind, name] : selection.names) {
      auto printed = print(*kind, kind->path(ns_, name));
      if (!printed && many)
        context_.streams.err(fmt::format("shoal: {}\n", printed.error().message()));
      if (!printed && !first)
        first = std::move(printed).error();
    }
    if (first && many)
      return exit_code_of(*first);
    if (first)
      return fail(std::move(*first));
    if (selection.names.empty())
      for (const Kind* kind : selection.kinds)
        SHOAL_TRY(print(*kind, list_target(*kind)));
    if (!any)
      context_.streams.err(options_.all_namespaces || !selection.kinds.front()->namespaced
                               ? "No resources found\n"
                               : fmt::format("No resources found in {} namespace.\n", options_.ns));
    return 0;
  }

  Exit documents(const Selection& selection) {
    json::array found;
    for (const auto& [kind, name] : selection.names)
      found.push_back(SHOAL_TRY(fetch(kind->path(ns_, name), "application/json")));
    if (selection.names.empty())
      for (const Kind* kind : selection.kinds)
        for (json::value& item :
             items_of(SHOAL_TRY(fetch(list_target(*kind), "application/json")), *kind))
          found.push_back(std::move(item));
    if (options_.output == "name") {
      for (const json::value& object : found)
        print_name(object);
      return 0;
    }
    json::value out;
    if (selection.names.size() == 1)
      out = std::move(found[0]);
    else
      out = json::object{{"apiVersion", "v1"},
                         {"kind", "List"},
                         {"metadata", json::object{{"resourceVersion", ""}}},
                         {"items", std::move(found)}};
    print_document(out);
    return 0;
  }

  void print_document(const json::value& value) const {
    context_.streams.out(options_.output == "json" ? to_pretty_json(value) : to_yaml(value));
  }

  void print_name(const json::value& object) const {
    std::string kind = "object";
    if (object.is_object())
      if (auto found = find_kind(text_at(object.get_object(), "kind")))
        kind = (*found)->full_name();
    context_.streams.out(fmt::format("{}/{}\n", kind, name_of(object)));
  }

  // A list, then its changes from that revision on.
  Exit watch(const Selection& selection) {
    if (selection.kinds.size() > 1 || selection.names.size() > 1)
      return fail(Errc::kInvalid, "-w watches one kind or one object");
    const Kind& kind = selection.names.empty() ? *selection.kinds[0] : *selection.names[0].first;
    const std::string field =
        selection.names.empty() ? "" : fmt::format("metadata.name={}", selection.names[0].second);
    const bool table = is_table_output(options_.output);
    const std::string accept(table ? kTableAccept : "application/json");
    const json::value list = SHOAL_TRY(fetch(
        kind.path(ns_) + query({{"labelSelector", options_.selector}, {"fieldSelector", field}}),
        accept));
    header_ = !options_.no_headers;
    if (table)
      SHOAL_TRY(print_rows(list, kind));
    else
      for (const json::value& item : items_of(list, kind))
        options_.output == "name" ? print_name(item) : print_document(item);
    boost::system::error_code error;
    const json::value* revision = list.find_pointer("/metadata/resourceVersion", error);
    const std::string target =
        kind.path(ns_) + query({{"watch", "true"},
                                {"labelSelector", options_.selector},
                                {"fieldSelector", field},
                                {"resourceVersion", revision ? cell(*revision) : ""}});
    return follow(kind, {.target = target, .accept = accept});
  }

  Exit follow(const Kind& kind, const Request& request) {
    std::string pending;
    Result<> state;
    const auto on_bytes = [&](std::string_view bytes) {
      pending += bytes;
      std::size_t newline;
      while (state && (newline = pending.find('\n')) != std::string::npos) {
        state = on_event(std::string_view(pending).substr(0, newline), kind);
        pending.erase(0, newline + 1);
      }
      if (state && pending.size() > kWatchLineBytesMax)
        state = fail(Errc::kExhausted, "an event is larger than can be kept");
      return state.has_value();
    };
    const Response response = SHOAL_TRY(context_.client.stream(request, on_bytes));
    if (!response.ok())
      return fail(to_error(read_refusal(response)));
    SHOAL_TRY(std::move(state));
    return 0;
  }

  Result<> on_event(std::string_view line, const Kind& kind) {
    if (line.empty())
      return {};
    boost::system::error_code error;
    const json::value event = json::parse(json::string_view(line.data(), line.size()), error);
    const json::value* object =
        error || !event.is_object() ? nullptr : event.get_object().if_contains("object");
    if (!object)
      return fail(Errc::kCorrupt, "an event of the watch cannot be read");
    const std::string type = text_at(event.get_object(), "type");
    if (type == "ERROR")
      return fail(Errc::kUnavailable,
                  fmt::format("the watch ended: {}; begin it anew",
                              object->is_object() ? text_at(object->get_object(), "message") : ""));
    if (type == "BOOKMARK")
      return {};
    if (is_table_output(options_.output))
      return print_rows(*object, kind);
    options_.output == "name" ? print_name(*object) : print_document(*object);
    return {};
  }

  Result<> print_rows(const json::value& value, const Kind& kind) {
    const TextTable table = SHOAL_TRY(from_server_table(
        value, options_.output == "wide", options_.all_namespaces && kind.namespaced));
    if (table.empty())
      return {};
    context_.streams.out(table.str(header_));
    header_ = false;
    return {};
  }

  const Context& context_;
  const GetOptions& options_;
  std::string ns_;
  const Kind* last_ = nullptr;
  bool header_ = true;
};

}  // namespace

Exit run_get(const Context& context, const GetOptions& options) {
  return Get(context, options).run();
}

// The object as YAML in kubectl's order of interest, then what happened to it.
Exit run_describe(const Context& context, const GetOptions& options) {
  const Selection selection = SHOAL_TRY(parse_selection(options.what));
  if (selection.names.empty())
    return fail(Errc::kInvalid, "describe needs a name: KIND NAME or KIND/NAME");
  for (const auto& [kind, name] : selection.names) {
    const Response response =
        SHOAL_TRY(context.client.send({.target = kind->path(options.ns, name)}));
    json::value object = SHOAL_TRY(parse_body(response));
    boost::system::error_code error;
    if (json::value* annotations = object.find_pointer("/metadata/annotations", error);
        annotations && annotations->is_object())
      annotations->get_object().erase("kubectl.kubernetes.io/last-applied-configuration");
    context.streams.out(to_yaml(object));
    const json::value* uid = object.find_pointer("/metadata/uid", error);
    const Kind* events = *find_kind("events");
    const std::string target =
        events->path(kind->namespaced ? options.ns : "") +
        query({{"fieldSelector", fmt::format("involvedObject.name={},involvedObject.uid={}", name,
                                             uid ? cell(*uid) : "")}});
    const Response answer =
        SHOAL_TRY(context.client.send({.target = target, .accept = std::string(kTableAccept)}));
    if (!answer.ok())
      continue;
    const json::value rows = SHOAL_TRY(parse_body(answer));
    const TextTable table = SHOAL_TRY(from_server_table(rows, false, false));
    context.streams.out(table.empty() ? "\nEvents: none\n" : "\nEvents:\n" + table.str());
  }
  return 0;
}

}  // namespace shoal::cli
