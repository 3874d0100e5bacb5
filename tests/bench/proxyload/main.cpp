// SPDX-License-Identifier: Apache-2.0
// From objects to the kernel: what an agent does with its replica when it starts on a host whose
// maps are empty, and when one backend changes afterwards. One JSON document on standard output.
//
//   shoal-proxyload UNDERLAY BPFFS SERVICES BACKENDS CHANGES
//
// SERVICES Services of one TCP port, each with an EndpointSlice of BACKENDS endpoints on 50 other
// hosts, in a view as the replica fills it. Timed: the view's objects -> desired state -> plan ->
// maps (cold_ms), then CHANGES times an endpoint becomes not ready or ready again (change_ms,
// each), and CHANGES times a Service comes (create_ms: first the
// Service, then its EndpointSlice, as controllers write them) and goes again (delete_ms). Loading
// the programs and making the maps is not in cold_ms (open_ms). All of it is removed from the
// kernel again at the end.
#include "agent/desired/desired.h"
#include "netplane/apply/data_plane.h"
#include "netplane/base/clock.h"
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "netplane/kernel/bpf/loader.h"
#include "netplane/kernel/nft/nft_service_table.h"
#include "tests/fakes/objects.h"

#include <boost/json.hpp>
#include <chrono>
#include <cstdio>
#include <fmt/format.h>
#include <string>
#include <time.h>
#include <vector>

namespace {

using namespace shoal;
namespace json = boost::json;

constexpr unsigned kHosts = 50;
constexpr unsigned kRingSlotsPerBackend = 128;
constexpr unsigned kSpareServices = 32;  // that come and go; what went waits for its grace

double ms_since(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began)
      .count();
}

double cpu_ms() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

std::string address(unsigned base, unsigned number) {
  const unsigned ip = base + number;
  return fmt::format("{}.{}.{}.{}", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
}
std::string host_name(unsigned number) { return fmt::format("n{}", number); }

json::object service(unsigned number) {
  const std::string ip = address(0x0a600000U, number + 1);  // 10.96.0.0/14
  return fakes::json_object(fmt::format(
      R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"s{}"}},"spec":{{"type":"ClusterIP",
          "clusterIP":"{}","clusterIPs":["{}"],"ports":[{{"port":80,"targetPort":8080}}]}}}})",
      number, ip, ip));
}

// Endpoint i of service n is a pod of host (n + i) % kHosts: each host has its own /16
// of 10.128/10.
json::object slice(unsigned number, unsigned backends, unsigned unready) {
  json::array endpoints;
  for (unsigned i = 0; i < backends; i++) {
    const unsigned host = (number + i) % kHosts;
    const unsigned pod = (number * backends + i) / kHosts + 1;
    endpoints.push_back(
        json::object{{"addresses", json::array{address(0x0a800000U + (host << 16), pod)}},
                     {"nodeName", host_name(host)},
                     {"conditions", json::object{{"ready", i != unready}}}});
  }
  return {{"apiVersion", "discovery.k8s.io/v1"},
          {"kind", "EndpointSlice"},
          {"metadata", json::object{{"name", fmt::format("s{}-1", number)},
                                    {"labels", json::object{{"kubernetes.io/service-name",
                                                             fmt::format("s{}", number)}}}}},
          {"addressType", "IPv4"},
          {"endpoints", std::move(endpoints)},
          {"ports", json::array{json::object{{"name", ""}, {"port", 8080}, {"protocol", "TCP"}}}}};
}

struct Arguments {
  IpAddress underlay;
  std::string bpffs;
  unsigned services = 0, backends = 0, changes = 0;
  apply::ProxyMode proxy = apply::ProxyMode::kEbpf;
};

unsigned status_kib(std::string_view field) {
  const auto text = read_file("/proc/self/status", 1 << 16);
  if (text)
    for (const std::string_view line : split(*text, '\n'))
      if (line.starts_with(field)) {
        const auto words = split(trim(line.substr(field.size())), ' ');
        return static_cast<unsigned>(parse_uint(words[0]).value_or(0));
      }
  return 0;
}

Result<json::object> measure(const Arguments& args) {
  const SystemClock clock;
  fakes::TestView test;
  view::Members members;
  const std::string self = "self";
  test.put(fakes::node(self, "10.250.0.0/24", args.underlay.to_string()));
  members.set(self, {true, clock.now()});
  for (unsigned host = 0; host < kHosts; host++) {
    test.put(fakes::node(host_name(host), address(0x0a800000U + (host << 16), 0) + "/16",
                         address(0xc6120064U, host)));
    members.set(host_name(host), {true, clock.now()});
  }
  const unsigned none = args.backends;
  for (unsigned i = 0; i < args.services; i++) {
    test.put(service(i));
    test.put(slice(i, args.backends, none));
  }

  apply::Config config;
  config.node_name = self;
  config.underlay = args.underlay;
  config.proxy = args.proxy;
  config.bpffs = args.bpffs;
  config.hash_seed = 1;
  config.socket_hooks = false;  // the maps are the matter
  const unsigned slots = args.backends * kRingSlotsPerBackend;
  config.sizes.services = std::max(config.sizes.services, args.services + 1024);
  config.sizes.frontends = std::max(config.sizes.frontends, args.services + 1024);
  config.sizes.vips = std::max(config.sizes.vips, args.services + 1024);
  config.sizes.backends = std::max(config.sizes.backends, args.services * args.backends + 16'384);
  config.sizes.ring_blocks = std::max(
      config.sizes.ring_blocks, args.services * (slots / model::kRingBlockSlots + 2) + 16'384);
  const auto opening = std::chrono::steady_clock::now();
  auto data_plane = SHOAL_TRY(apply::open_data_plane(config, clock));
  const double open_ms = ms_since(opening);
  const unsigned rss_before = status_kib("VmRSS:");

  desired::Builder builder(test.view, {.self = self,
                                       .cluster_cidrs = {*IpPrefix::parse("10.96.0.0/14"),
                                                         *IpPrefix::parse("10.128.0.0/9")}});
  const auto subscription =
      test.view.subscribe([&](const view::Change& change) { builder.on_change(change); });
  const auto apply_all = [&]() -> Result<apply::ApplyReport> {
    const desired::Computed& computed = builder.build(members);
    std::optional<std::span<const std::size_t>> changed;
    if (builder.changed())
      changed = *builder.changed();
    apply::ApplyReport report = data_plane->apply(computed.desired, true, changed);
    if (!report.ok())
      return fail(std::move(report.errors.front().error).wrap(report.errors.front().object));
    return report;
  };
  const double cpu_began = cpu_ms();
  const auto began = std::chrono::steady_clock::now();
  const desired::Computed& computed = builder.build(members);
  const double desired_ms = ms_since(began);
  const apply::ApplyReport report = data_plane->apply(computed.desired, true);
  if (!report.ok())
    return fail(Errc::kInternal, report.errors.front().object);
  const double cold_ms = ms_since(began);
  const double cold_cpu_ms = cpu_ms() - cpu_began;
  if (computed.desired.services.size() != args.services)
    return fail(Errc::kInternal, fmt::format("{} services", computed.desired.services.size()));

  json::array changes;
  for (unsigned i = 0; i < args.changes; i++) {
    // The view's own work is part of a change; making the object is not.
    const auto object =
        fakes::make_object(slice(i % args.services, args.backends, i % args.backends), 2);
    const auto since = std::chrono::steady_clock::now();
    test.put(object);
    const apply::ApplyReport change = SHOAL_TRY(apply_all());
    changes.push_back(ms_since(since));
    if (change.operations == 0)
      return fail(Errc::kInternal, "a change changed nothing");
  }
  json::array creations, deletions;
  const auto timed_apply = [&](auto put) -> Result<double> {
    const auto since = std::chrono::steady_clock::now();
    put();
    const apply::ApplyReport change = SHOAL_TRY(apply_all());
    if (change.operations == 0)
      return fail(Errc::kInternal, "a Service that came or went changed nothing");
    return ms_since(since);
  };
  for (unsigned i = 0; i < args.changes; i++) {
    const unsigned number = args.services + i % kSpareServices;
    const auto object = fakes::make_object(service(number), 3);
    const auto endpoints = fakes::make_object(slice(number, args.backends, none), 3);
    double took = SHOAL_TRY(timed_apply([&] { test.put(object); }));
    took += SHOAL_TRY(timed_apply([&] { test.put(endpoints); }));
    creations.push_back(took);
    deletions.push_back(SHOAL_TRY(timed_apply([&] {
      test.remove(view::kServices, "default", object->name);
      test.remove(view::kEndpointSlices, "default", endpoints->name);
    })));
  }
  return json::object{{"open_ms", open_ms},
                      {"cold_ms", cold_ms},
                      {"cold_cpu_ms", cold_cpu_ms},
                      {"desired_ms", desired_ms},
                      {"operations", report.operations},
                      {"change_ms", std::move(changes)},
                      {"create_ms", std::move(creations)},
                      {"delete_ms", std::move(deletions)},
                      {"rss_kib", status_kib("VmRSS:")},
                      {"rss_before_kib", rss_before}};
}

Result<> remove_all(const Arguments& args) {
  if (args.proxy == apply::ProxyMode::kEbpf)
    return kernel::remove_data_plane(args.bpffs);
  return SHOAL_TRY(kernel::open_nft_service_table())->remove();
}

}  // namespace

int main(int argc, char** argv) {
  Arguments args;
  const auto number = [&](int at) {
    return argc > at ? static_cast<unsigned>(parse_uint(argv[at]).value_or(0)) : 0U;
  };
  const auto underlay = IpAddress::parse(argc > 1 ? argv[1] : "");
  if (!underlay || argc < 7 || number(3) == 0 || number(4) == 0 || number(4) > 1000) {
    std::fputs("usage: shoal-proxyload UNDERLAY BPFFS SERVICES BACKENDS CHANGES ebpf|nftables\n",
               stderr);
    return 2;
  }
  const bool nftables = std::string_view(argv[6]) == "nftables";
  args = Arguments{*underlay, argv[2],
                   number(3), number(4),
                   number(5), nftables ? apply::ProxyMode::kNftables : apply::ProxyMode::kEbpf};
  const auto measured = measure(args);
  const auto removed = remove_all(args);
  if (!measured || !removed) {
    std::fprintf(stderr, "shoal-proxyload: %s\n",
                 (measured ? removed.error() : measured.error()).message().c_str());
    return 1;
  }
  std::puts(json::serialize(*measured).c_str());
  return 0;
}
