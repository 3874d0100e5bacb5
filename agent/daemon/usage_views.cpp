// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/usage_views.h"

#include "agent/node/pod_plan.h"
#include "agent/view/facts.h"

#include <algorithm>
#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::daemon {
namespace {

namespace json = boost::json;

constexpr std::string_view kApiVersion = "metrics.k8s.io/v1beta1";

json::object usage(const node::Use& use) {
  return {{"cpu", use.cpu_nanocores ? fmt::format("{}n", use.cpu_nanocores) : "0"},
          {"memory", fmt::format("{}Ki", use.memory_bytes / 1024)}};
}

std::string window_text(const node::HostUse& use) {
  return node::go_duration(std::chrono::duration_cast<std::chrono::milliseconds>(use.window));
}

json::object metrics_object(std::string_view kind, json::object metadata,
                            const json::object* labels, const node::HostUse& use) {
  metadata["creationTimestamp"] = rfc3339(use.at);
  if (labels && !labels->empty())
    metadata["labels"] = *labels;
  return {{"kind", kind},
          {"apiVersion", kApiVersion},
          {"metadata", std::move(metadata)},
          {"timestamp", rfc3339(use.at)},
          {"window", window_text(use)}};
}

std::pair<std::string, std::string> sort_key(const json::value& item) {
  const json::object& object = item.get_object();
  return {std::string(api::find_string(object, "metadata.namespace")),
          std::string(api::find_string(object, "metadata.name"))};
}

}  // namespace

bool UsageFilter::takes(std::string_view of_ns, std::string_view name,
                        const json::object* of_labels) const {
  if ((!ns.empty() && ns != of_ns) || !labels.matches(of_labels))
    return false;
  return std::ranges::all_of(fields, [&](const api::FieldRequirement& field) {
    return ((field.field == "metadata.name" ? name : of_ns) == field.value) != field.negate;
  });
}

Result<UsageFilter> read_usage_filter(std::string_view ns, std::string_view labels,
                                      std::string_view fields) {
  UsageFilter out;
  out.ns = ns;
  if (!labels.empty())
    out.labels = SHOAL_TRY_WRAP(api::LabelSelector::parse(labels), "labelSelector");
  if (!fields.empty())
    out.fields = SHOAL_TRY_WRAP(api::parse_field_selector(fields), "fieldSelector");
  for (const api::FieldRequirement& field : out.fields)
    if (field.field != "metadata.name" && field.field != "metadata.namespace")
      return fail(Errc::kInvalid, fmt::format("field label not supported: {}; metrics know "
                                              "metadata.name and metadata.namespace",
                                              field.field));
  return out;
}

json::value node_metrics(const store::Object& node, const node::HostUse& use) {
  if (!use.host)
    return nullptr;
  json::object out = metrics_object("NodeMetrics", {{"name", node.name}}, view::labels(node), use);
  out["usage"] = usage(*use.host);
  return out;
}

json::object pod_metrics(const node::PodUse& pod, const json::object* labels,
                         const node::HostUse& use) {
  json::object out =
      metrics_object("PodMetrics", {{"name", pod.name}, {"namespace", pod.ns}}, labels, use);
  json::array containers;
  for (const node::ContainerUse& container : pod.containers)
    containers.push_back(json::object{{"name", container.name}, {"usage", usage(container.use)}});
  out["containers"] = std::move(containers);
  return out;
}

json::object merge_usage(std::string_view kind, json::array own,
                         const std::vector<std::pair<std::string, std::string>>& answers,
                         std::vector<std::string>& warnings) {
  json::array items = std::move(own);
  for (const auto& [host, body] : answers) {
    boost::system::error_code error;
    json::value parsed = json::parse(body, error);
    const json::array* list =
        !error && parsed.is_object() ? api::find_array(parsed.get_object(), "items") : nullptr;
    if (!list || !std::ranges::all_of(*list, [](const json::value& v) { return v.is_object(); })) {
      warnings.push_back(
          fmt::format("the answer of host {} cannot be read, and is left out", host));
      continue;
    }
    items.insert(items.end(), list->begin(), list->end());
  }
  std::ranges::stable_sort(items, {}, sort_key);
  return {{"kind", kind},
          {"apiVersion", kApiVersion},
          {"metadata", json::object()},
          {"items", std::move(items)}};
}

// ---- Prometheus

namespace {

using metrics::Family;
using metrics::Kind;
using Labels = std::vector<std::pair<std::string, std::string>>;

double number(std::uint64_t value) { return static_cast<double>(value); }

class Families {
public:
  void add(const char* name, const char* help, Kind kind, const Labels& labels, double value) {
    auto it = std::ranges::find(out_, name, &Family::name);
    if (it == out_.end())
      it = out_.insert(out_.end(), Family{name, help, kind, {}});
    it->samples.push_back({labels, value});
  }
  void container(const node::ContainerSample& container, const Labels& labels) {
    const runtime::GroupStats& stats = container.stats;
    if (stats.cpu_ns)
      add("container_cpu_usage_seconds_total", "CPU time that the container has used.",
          Kind::kCounter, labels, number(*stats.cpu_ns) / 1e9);
    if (stats.memory) {
      const runtime::MemoryStats& memory = *stats.memory;
      add("container_memory_usage_bytes", "Memory, all that is counted, caches included.",
          Kind::kGauge, labels, number(memory.usage_bytes));
      add("container_memory_working_set_bytes", "Memory without inactive file caches.",
          Kind::kGauge, labels, number(memory.working_set_bytes));
      add("container_memory_rss", "Anonymous memory.", Kind::kGauge, labels,
          number(memory.rss_bytes));
      Labels faults = labels;
      faults.emplace_back("failure_type", "pgfault");
      add("container_memory_failures_total", "Page faults.", Kind::kCounter, faults,
          number(memory.page_faults));
      faults.back().second = "pgmajfault";
      add("container_memory_failures_total", "Page faults.", Kind::kCounter, faults,
          number(memory.major_page_faults));
    }
    if (stats.pids)
      add("container_threads", "Processes and threads.", Kind::kGauge, labels, number(*stats.pids));
    if (stats.io) {
      add("container_fs_reads_bytes_total", "Bytes read from devices.", Kind::kCounter, labels,
          number(stats.io->read_bytes));
      add("container_fs_writes_bytes_total", "Bytes written to devices.", Kind::kCounter, labels,
          number(stats.io->write_bytes));
    }
  }
  void link(const runtime::LinkStats& link, const Labels& labels) {
    const auto counter = [&](const char* name, const char* help, std::uint64_t value) {
      add(name, help, Kind::kCounter, labels, number(value));
    };
    counter("container_network_receive_bytes_total", "Bytes that came in.", link.rx_bytes);
    counter("container_network_receive_packets_total", "Packets that came in.", link.rx_packets);
    counter("container_network_receive_errors_total", "Errors on the way in.", link.rx_errors);
    counter("container_network_receive_packets_dropped_total", "Packets dropped on the way in.",
            link.rx_dropped);
    counter("container_network_transmit_bytes_total", "Bytes that went out.", link.tx_bytes);
    counter("container_network_transmit_packets_total", "Packets that went out.", link.tx_packets);
    counter("container_network_transmit_errors_total", "Errors on the way out.", link.tx_errors);
    counter("container_network_transmit_packets_dropped_total", "Packets dropped on the way out.",
            link.tx_dropped);
  }
  std::vector<Family> take() { return std::move(out_); }

private:
  std::vector<Family> out_;
};

}  // namespace

std::vector<Family> usage_families(const node::HostSample& sample) {
  Families out;
  for (const node::PodSample& pod : sample.pods) {
    const Labels labels{{"namespace", pod.ns}, {"pod", pod.name}};
    for (const node::ContainerSample& container : pod.containers) {
      Labels mine = labels;
      mine.emplace_back("container", container.name);
      out.container(container, mine);
    }
    for (const runtime::LinkStats& link : pod.links) {
      Labels mine = labels;
      mine.emplace_back("interface", link.name);
      out.link(link, mine);
    }
  }
  return out.take();
}

}  // namespace shoal::daemon
