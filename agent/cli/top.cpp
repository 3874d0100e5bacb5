// SPDX-License-Identifier: Apache-2.0
// top nodes, top pods: what hosts and pods use, from metrics.k8s.io, laid out as kubectl does.
#include "agent/cli/answer.h"
#include "agent/cli/commands.h"
#include "agent/cli/output.h"
#include "agent/cli/selection.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <map>

namespace shoal::cli {
namespace {

namespace json = boost::json;

constexpr std::string_view kMetrics = "/apis/metrics.k8s.io/v1beta1";
constexpr std::string_view kUnknown = "<unknown>";
constexpr std::uint64_t kNano = 1'000'000'000;
constexpr std::uint64_t kMi = 1 << 20;

// A Kubernetes quantity in billionths, as far as metrics and nodes have them; nothing: another
// form.
std::optional<unsigned __int128> nanos_of(std::string_view text) {
  const std::size_t end = text.find_first_not_of("0123456789");
  const auto number = parse_uint(text.substr(0, end));
  const std::string_view suffix = end == std::string_view::npos ? "" : text.substr(end);
  if (!number)
    return std::nullopt;
  constexpr std::pair<std::string_view, std::uint64_t> kScales[] = {
      {"", kNano},         {"n", 1},           {"u", 1000}, {"m", 1'000'000}, {"Ki", kNano << 10},
      {"Mi", kNano << 20}, {"Gi", kNano << 30}};
  for (const auto& [name, scale] : kScales)
    if (name == suffix)
      return static_cast<unsigned __int128>(*number) * scale;
  return std::nullopt;
}

struct Used {
  unsigned __int128 cpu = 0;  // billionths of a CPU
  unsigned __int128 memory = 0;
  void add(const Used& more) {
    cpu += more.cpu;
    memory += more.memory;
  }
};

Used read_resources(const json::object& object, std::string_view key) {
  const json::object& resources = object_at(object, key);
  return {nanos_of(text_at(resources, "cpu")).value_or(0),
          nanos_of(text_at(resources, "memory")).value_or(0)};
}

std::string cpu_text(const Used& used) {  // rounded up, as Kubernetes does
  return fmt::format("{}m",
                     static_cast<std::uint64_t>((used.cpu + kNano / 1000 - 1) / (kNano / 1000)));
}
std::string memory_text(const Used& used) {
  return fmt::format("{}Mi", static_cast<std::uint64_t>(used.memory / kNano / kMi));
}
std::string share_text(unsigned __int128 used, unsigned __int128 have) {
  return have == 0 ? std::string(kUnknown)
                   : fmt::format("{}%", static_cast<std::uint64_t>(used * 100 / have));
}

struct Row {
  std::string ns;
  std::string name;
  std::string container;
  Used used;
  Used group;  // of the pod that the container is in, or the same
  bool known = true;
};

// Containers stay with their pod, which is ranked as a whole.
void sort_rows(std::vector<Row>& rows, const std::string& by) {
  const auto key = [&by](const Used& used) {
    return by == "cpu" ? used.cpu : by == "memory" ? used.memory : 0;
  };
  std::ranges::sort(rows, [&](const Row& a, const Row& b) {
    const auto rank = [&](const Row& row, const Row& other) {
      return std::tuple(key(other.group), std::tie(row.ns, row.name), key(other.used),
                        std::string_view(row.container));
    };
    return rank(a, b) < rank(b, a);
  });
}

// The items of a list, or the one object that was asked for.
Result<json::array> items_of(const Context& context, const std::string& target) {
  const Response response = SHOAL_TRY(context.client.send({.target = target}));
  for (const std::string& warning : response.warnings)
    context.streams.err(fmt::format("Warning: {}\n", warning));
  const json::value body = SHOAL_TRY(parse_body(response));
  const json::object& object = object_of(body);
  return object.contains("items") ? list_at(object, "items") : json::array{body};
}

std::string name_in(const json::object& object) {
  return text_at(object_at(object, "metadata"), "name");
}

}  // namespace

Exit run_top_nodes(const Context& context, const TopOptions& options) {
  const std::string part = options.name.empty() ? "" : "/" + percent_encode(options.name);
  const std::string query_text =
      options.name.empty() ? query({{"labelSelector", options.selector}}) : "";
  const json::array metrics =
      SHOAL_TRY(items_of(context, fmt::format("{}/nodes{}{}", kMetrics, part, query_text)));
  const json::array nodes =
      SHOAL_TRY(items_of(context, fmt::format("/api/v1/nodes{}{}", part, query_text)));
  std::map<std::string, Used> have;
  std::vector<Row> rows;
  for (const json::value& value : nodes) {
    const json::object& node = object_of(value);
    have[name_in(node)] = read_resources(object_at(node, "status"), "allocatable");
    rows.push_back({"", name_in(node), "", {}, {}, false});
  }
  for (const json::value& value : metrics) {
    const json::object& one = object_of(value);
    if (const auto row = std::ranges::find(rows, name_in(one), &Row::name); row != rows.end()) {
      row->used = row->group = read_resources(one, "usage");
      row->known = true;
    }
  }
  sort_rows(rows, options.sort_by);
  // Those of which nothing is known stand last.
  std::ranges::stable_sort(rows, {}, [](const Row& row) { return !row.known; });
  TextTable table({"NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"});
  for (const Row& row : rows) {
    const std::string unknown(kUnknown);
    if (!row.known)
      table.add({row.name, unknown, unknown, unknown, unknown});
    else
      table.add({row.name, cpu_text(row.used), share_text(row.used.cpu, have[row.name].cpu),
                 memory_text(row.used), share_text(row.used.memory, have[row.name].memory)});
  }
  if (table.empty())
    context.streams.err("No resources found\n");
  else
    context.streams.out(table.str(!options.no_headers));
  return 0;
}

Exit run_top_pods(const Context& context, const TopOptions& options) {
  std::string target(kMetrics);
  if (!options.all_namespaces)
    target += "/namespaces/" + percent_encode(options.ns);
  target += "/pods";
  if (options.name.empty())
    target += query({{"labelSelector", options.selector}});
  else
    target += "/" + percent_encode(options.name);
  std::vector<Row> rows;
  for (const json::value& value : SHOAL_TRY(items_of(context, target))) {
    const json::object& pod = object_of(value);
    const std::string ns = text_at(object_at(pod, "metadata"), "namespace");
    std::vector<Row> containers;
    Used all;
    for (const json::value& container : list_at(pod, "containers")) {
      const Used used = read_resources(object_of(container), "usage");
      all.add(used);
      containers.push_back(
          {ns, name_in(pod), text_at(object_of(container), "name"), used, {}, true});
    }
    if (!options.containers)
      containers = {{ns, name_in(pod), "", all, {}, true}};
    for (Row& row : containers) {
      row.group = all;
      rows.push_back(std::move(row));
    }
  }
  sort_rows(rows, options.sort_by);
  std::vector<std::string> header;
  if (options.all_namespaces)
    header.emplace_back("NAMESPACE");
  if (options.containers)
    header.emplace_back("POD");
  for (const char* column : {"NAME", "CPU(cores)", "MEMORY(bytes)"})
    header.emplace_back(column);
  TextTable table(header);
  for (const Row& row : rows) {
    std::vector<std::string> cells;
    if (options.all_namespaces)
      cells.push_back(row.ns);
    cells.push_back(row.name);
    if (options.containers)
      cells.push_back(row.container);
    cells.push_back(cpu_text(row.used));
    cells.push_back(memory_text(row.used));
    table.add(std::move(cells));
  }
  if (!table.empty())
    context.streams.out(table.str(!options.no_headers));
  else if (options.all_namespaces)
    context.streams.err("No resources found\n");
  else
    context.streams.err(fmt::format("No resources found in {} namespace.\n", options.ns));
  return 0;
}

}  // namespace shoal::cli
