// SPDX-License-Identifier: Apache-2.0
#include "agent/metrics/metrics.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <filesystem>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <unistd.h>

namespace shoal::metrics {
namespace {

// The names that Prometheus' own client libraries use.
std::vector<Family> process_families() {
  std::vector<Family> families;
  const auto gauge = [&](std::string name, std::string help, double value, Kind kind) {
    families.push_back({std::move(name), std::move(help), kind, {{{}, value}}});
  };
  const auto stat = read_file("/proc/self/stat", 4096);
  if (stat && stat->rfind(')') != std::string::npos) {
    const auto fields = split(std::string_view(*stat).substr(stat->rfind(')') + 2), ' ');
    const auto field = [&](std::size_t number) {
      return static_cast<double>(
          number - 3 < fields.size() ? parse_uint(fields[number - 3]).value_or(0) : 0);
    };
    const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
    const auto page = static_cast<double>(::sysconf(_SC_PAGESIZE));
    gauge("process_cpu_seconds_total", "User and system CPU time spent.",
          (field(14) + field(15)) / ticks, Kind::kCounter);
    gauge("process_resident_memory_bytes", "Resident memory.", field(24) * page, Kind::kGauge);
    gauge("process_virtual_memory_bytes", "Virtual memory.", field(23), Kind::kGauge);
    gauge("process_threads", "Threads.", field(20), Kind::kGauge);
  }
  std::error_code ignored;
  const auto fds = std::distance(std::filesystem::directory_iterator("/proc/self/fd", ignored),
                                 std::filesystem::directory_iterator());
  gauge("process_open_fds", "Open file descriptors.", static_cast<double>(fds), Kind::kGauge);
  return families;
}

prometheus::MetricFamily convert(Family&& family) {
  prometheus::MetricFamily out;
  out.name = std::move(family.name);
  out.help = std::move(family.help);
  out.type = family.kind == Kind::kCounter ? prometheus::MetricType::Counter
                                           : prometheus::MetricType::Gauge;
  for (Sample& sample : family.samples) {
    prometheus::ClientMetric metric;
    for (auto& [name, value] : sample.labels)
      metric.label.push_back({std::move(name), std::move(value)});
    metric.counter.value = sample.value;
    metric.gauge.value = sample.value;
    out.metric.push_back(std::move(metric));
  }
  return out;
}

}  // namespace

std::string Metrics::render() const {
  std::vector<prometheus::MetricFamily> families;
  for (Family& family : process_families())
    families.push_back(convert(std::move(family)));
  for (const Collector& collect : collectors_)
    for (Family& family : collect())
      families.push_back(convert(std::move(family)));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace shoal::metrics
