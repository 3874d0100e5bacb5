// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/usage_views.h"

#include <boost/json.hpp>

namespace shoal::daemon {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

node::HostUse use() {
  node::HostUse out;
  out.at = WallTime(1'767'225'600s);
  out.window = 15s + 64ms;
  out.host = node::Use{329'087'452, 2'748'180 * 1024ULL};
  out.pods = {{"default", "web", "u1", {{"main", {0, 4096}}, {"side", {12, 1500}}}}};
  return out;
}

TEST(UsageViews, NodeMetrics) {
  store::Object node;
  node.name = "h1";
  node.body = json::parse(R"({"metadata":{"name":"h1","labels":{"a":"b"}}})").as_object();
  EXPECT_EQ(json::serialize(node_metrics(node, use())),
            R"({"kind":"NodeMetrics","apiVersion":"metrics.k8s.io/v1beta1",)"
            R"("metadata":{"name":"h1","creationTimestamp":"2026-01-01T00:00:00Z",)"
            R"("labels":{"a":"b"}},"timestamp":"2026-01-01T00:00:00Z","window":"15.064s",)"
            R"("usage":{"cpu":"329087452n","memory":"2748180Ki"}})");
  node::HostUse unknown = use();
  unknown.host.reset();
  EXPECT_TRUE(node_metrics(node, unknown).is_null());
}

TEST(UsageViews, PodMetrics) {
  EXPECT_EQ(json::serialize(pod_metrics(use().pods[0], nullptr, use()).at("containers")),
            R"([{"name":"main","usage":{"cpu":"0","memory":"4Ki"}},)"
            R"({"name":"side","usage":{"cpu":"12n","memory":"1Ki"}}])");
}

TEST(UsageViews, FiltersByNamespaceLabelsAndFields) {
  const json::object labels = json::parse(R"({"app":"web"})").as_object();
  const auto takes = [&](std::string_view ns, std::string_view selector, std::string_view fields) {
    const auto filter = read_usage_filter(ns, selector, fields);
    EXPECT_TRUE(filter);
    return filter && filter->takes("default", "p", &labels);
  };
  EXPECT_TRUE(takes("", "", ""));
  EXPECT_TRUE(takes("default", "app=web", "metadata.name=p,metadata.namespace!=other"));
  EXPECT_FALSE(takes("other", "", ""));
  EXPECT_FALSE(takes("", "app!=web", ""));
  EXPECT_FALSE(takes("", "", "metadata.name!=p"));
  EXPECT_EQ(read_usage_filter("", "a in", "").error().code(), Errc::kInvalid);
  EXPECT_EQ(read_usage_filter("", "", "spec.nodeName=h1").error().code(), Errc::kInvalid);
}

TEST(UsageViews, ListsOfHostsAreOne) {
  const auto item = [](const char* ns, const char* name) {
    return json::object{{"metadata", {{"namespace", ns}, {"name", name}}}};
  };
  std::vector<std::string> warnings;
  const json::object list =
      merge_usage("PodMetricsList", {item("b", "x"), item("a", "z")},
                  {{"h2", json::serialize(json::object{{"items", {item("a", "y")}}})},
                   {"h3", "{"},
                   {"h4", R"({"items":[1]})"}},
                  warnings);
  std::string order;
  for (const json::value& value : list.at("items").as_array())
    order += std::string(api::find_string(value.as_object(), "metadata.name"));
  EXPECT_EQ(order, "yzx");
  EXPECT_EQ(list.at("kind"), "PodMetricsList");
  EXPECT_THAT(warnings,
              testing::ElementsAre("the answer of host h3 cannot be read, and is left out",
                                   "the answer of host h4 cannot be read, and is left out"));
}

runtime::GroupStats counted(std::uint64_t cpu_ns) {
  runtime::GroupStats out;
  out.cpu_ns = cpu_ns;
  out.memory = runtime::MemoryStats{100, 90, 80, 7, 1, 1000};
  out.pids = 3;
  return out;
}

node::HostSample sample(MonoTime at, std::uint64_t cpu_ns) {
  node::HostSample out;
  out.at = at;
  out.host = counted(cpu_ns);
  node::PodSample pod;
  pod.ns = "default";
  pod.name = "web";
  pod.uid = "u1";
  pod.at = at;
  pod.stats = counted(cpu_ns);
  pod.containers.push_back({"main", "main-0", {}, counted(cpu_ns)});
  pod.links.push_back({"eth0", 1, 2, 3, 4, 5, 6, 7, 8});
  out.pods.push_back(std::move(pod));
  return out;
}

TEST(UsageViews, SummaryIsTheKubelets) {
  SummaryFacts facts;
  facts.node = "h1";
  facts.base = std::make_shared<node::HostSample>(sample(MonoTime(1s), 0));
  facts.last = std::make_shared<node::HostSample>(sample(MonoTime(3s), 1'000'000'000));
  facts.disks["u1"].use.writable["main"] = {4096, 2};
  facts.disks["u1"].use.volumes["data"] = {8192, 3};
  facts.disk = images::DiskUse{1000, 400, 100, 90};
  const json::object summary = stats_summary(facts);
  const auto at = [&](const char* pointer) {
    boost::system::error_code error;
    const json::value* found = json::value(summary).find_pointer(pointer, error);
    return found ? json::serialize(*found) : "-";
  };
  EXPECT_EQ(at("/node/nodeName"), R"("h1")");
  EXPECT_EQ(at("/node/cpu/usageNanoCores"), "500000000");
  EXPECT_EQ(at("/node/memory/workingSetBytes"), "90");
  EXPECT_EQ(at("/node/fs/usedBytes"), "600");
  EXPECT_EQ(at("/pods/0/podRef/uid"), R"("u1")");
  EXPECT_EQ(at("/pods/0/containers/0/cpu/usageCoreNanoSeconds"), "1000000000");
  EXPECT_EQ(at("/pods/0/containers/0/memory/availableBytes"), "910");
  EXPECT_EQ(at("/pods/0/containers/0/memory/majorPageFaults"), "1");
  EXPECT_EQ(at("/pods/0/containers/0/rootfs/usedBytes"), "4096");
  EXPECT_EQ(at("/pods/0/network/rxBytes"), "1");
  EXPECT_EQ(at("/pods/0/network/interfaces/0/txDropped"), "8");
  EXPECT_EQ(at("/pods/0/volume/0/usedBytes"), "8192");
  EXPECT_EQ(at("/pods/0/ephemeral-storage/inodesUsed"), "5");
  EXPECT_EQ(at("/pods/0/process_stats/process_count"), "3");
}

TEST(UsageViews, PrometheusHasCadvisorsNames) {
  std::map<std::string, metrics::Family> by_name;
  for (metrics::Family& family : usage_families(sample(MonoTime(1s), 2'500'000'000)))
    by_name.emplace(family.name, family);
  const metrics::Sample& cpu = by_name.at("container_cpu_usage_seconds_total").samples.at(0);
  EXPECT_EQ(cpu.value, 2.5);
  EXPECT_THAT(cpu.labels, testing::ElementsAre(testing::Pair("namespace", "default"),
                                               testing::Pair("pod", "web"),
                                               testing::Pair("container", "main")));
  EXPECT_EQ(by_name.at("container_memory_working_set_bytes").samples.at(0).value, 90);
  EXPECT_EQ(by_name.at("container_memory_failures_total").samples.size(), 2U);
  const metrics::Sample& sent =
      by_name.at("container_network_transmit_packets_dropped_total").samples.at(0);
  EXPECT_EQ(sent.value, 8);
  EXPECT_EQ(sent.labels.at(2).second, "eth0");
  EXPECT_FALSE(by_name.contains("container_fs_reads_bytes_total"));
}

}  // namespace
}  // namespace shoal::daemon
