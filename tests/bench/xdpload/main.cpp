// SPDX-License-Identifier: Apache-2.0
// What a packet costs the XDP program, and the floor under it: BPF_PROG_TEST_RUN of either behind
// rewind.bpf.c, on maps as an agent fills them. scripts/bench xdp runs it in a lab host, once for
// each side of a round.
//
//   shoal-xdpload BPFFS UPLINK OVERLAY shoal|floor CASE ...      CASE:
//   4|6:steady|syn:FLOWS:SERVICES
//
// Prints {"CASE": ns, ...}. Every packet must have been sent on, by the verdict and by the
// service's own counters: an error says so instead.
#include "bpf/abi/shoal_abi.h"
#include "netplane/base/strings.h"
#include "netplane/base/unique_fd.h"
#include "netplane/kernel/bpf/data_maps.h"
#include "netplane/kernel/bpf/loader.h"
#include "tests/bench/xdpload/rewind.h"

#include <algorithm>
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cstdio>
#include <cstring>
#include <floor.skel.h>
#include <fmt/format.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <map>
#include <memory>
#include <net/if.h>
#include <rewind.skel.h>
#include <sched.h>
#include <string>
#include <time.h>
#include <utility>
#include <vector>

namespace {

using namespace shoal;

constexpr unsigned kHosts = 50;
constexpr unsigned kBackends = 10;  // of a service
constexpr unsigned kSlots = 100 * kBackends;
constexpr unsigned kServicesMax = 8192;
constexpr unsigned kFlowsMax = 1U << 20;
constexpr int kRepeats = 200'000;
constexpr int kRuns = 7;
constexpr std::uint16_t kVipPort = 80;
constexpr std::size_t kOuterBytes = 50;

struct Case {
  std::string name;
  bool v6 = false, syn = false;
  unsigned flows = 0, services = 0;
};

Result<Case> parse_case(std::string_view text) {
  const auto parts = split(text, ':');
  Case out{.name = std::string(text)};
  if (parts.size() == 4) {
    out.v6 = parts[0] == "6";
    out.syn = parts[1] == "syn";
    out.flows = static_cast<unsigned>(parse_uint(parts[2], kFlowsMax).value_or(0));
    out.services = static_cast<unsigned>(parse_uint(parts[3], kServicesMax).value_or(0));
  }
  if (out.flows == 0 || (out.flows & (out.flows - 1)) != 0 || out.services == 0)
    return fail(Errc::kInvalid,
                fmt::format("\"{}\" is no CASE, as in 4:steady:65536:5000 (the number "
                            "of flows is a power of two, of at most {})",
                            text, kFlowsMax));
  return out;
}

IpAddress address(bool v6, const char* v4_base, const char* v6_base, unsigned number) {
  return IpAddress::parse(v6 ? v6_base : v4_base)->plus(number);
}
IpAddress vip(bool v6, unsigned service) {
  return address(v6, "198.19.0.0", "2001:db8:64::", service);
}
IpAddress node(unsigned host) { return IpAddress::parse("198.18.0.100")->plus(host % kHosts); }

// ---- what an agent would write ------------------------------------------------------------------

Result<> fill(kernel::DataMaps& maps, bool v6, unsigned services) {
  std::vector<kernel::BackendWrite> backends;
  std::vector<kernel::FrontendWrite> frontends;
  std::vector<kernel::VipWrite> vips;
  const unsigned first_service = v6 ? kServicesMax : 0;
  constexpr unsigned kBlocks = (kSlots + model::kRingBlockSlots - 1) / model::kRingBlockSlots;
  std::vector<model::BackendId> slots(std::size_t{kBlocks} * model::kRingBlockSlots);
  for (unsigned s = 0; s < services; s++) {
    const unsigned service = first_service + s + 1;
    for (unsigned b = 0; b < kBackends; b++) {
      const model::BackendId id = (service - 1) * kBackends + b + 1;
      model::BackendEntry entry{.generation = 1, .epoch = 1, .node = node(id)};
      entry.ip = address(v6, "10.128.0.0", "fd10:244::", id);
      entry.port = 8080;
      backends.push_back({id, entry});
    }
    for (unsigned slot = 0; slot < kSlots; slot++)
      slots[slot] = (service - 1) * kBackends + (slot * 7 + slot / kBackends) % kBackends + 1;
    const std::uint32_t block = (service - 1) * kBlocks;
    SHOAL_TRY(maps.put_ring_blocks(block, slots));
    SHOAL_TRY(maps.switch_ring(service, {block, kSlots}));
    frontends.push_back(
        {{vip(v6, s), kVipPort, L4Proto::kTcp}, {.inside = service, .outside = service}});
    vips.push_back({vip(v6, s), {true}});
  }
  SHOAL_TRY(maps.put_backends(backends));
  SHOAL_TRY(maps.put_frontends(frontends));
  return maps.put_vips(vips);
}

// ---- the frame ----------------------------------------------------------------------------------

template <class T>
void put(rewind_plan& plan, std::size_t at, const T& value) {
  std::memcpy(plan.frame + at, &value, sizeof(value));
}

// Of flow 0, as a client's: a SYN with Linux' MSS, or a segment in mid-connection. Nobody here
// looks at its checksum.
rewind_plan plan_of(const Case& c, const MacAddress& uplink) {
  rewind_plan plan{};
  const std::size_t tcp_at = ETH_HLEN + (c.v6 ? sizeof(ipv6hdr) : sizeof(iphdr));
  const std::size_t l4_bytes = sizeof(tcphdr) + 12;
  const IpAddress from = address(c.v6, "192.0.0.0", "2001:db8:1::", 0), to = vip(c.v6, 0);
  put(plan, 0, uplink.bytes());
  if (c.v6) {
    put(plan, 12, htons(ETH_P_IPV6));
    ipv6hdr ip{};
    ip.version = 6;
    ip.payload_len = htons(l4_bytes);
    ip.nexthdr = IPPROTO_TCP;
    ip.hop_limit = 60;
    std::memcpy(&ip.saddr, from.bytes().data(), 16);
    std::memcpy(&ip.daddr, to.bytes().data(), 16);
    put(plan, ETH_HLEN, ip);
  } else {
    put(plan, 12, htons(ETH_P_IP));
    iphdr ip{};
    ip.version = 4;
    ip.ihl = 5;
    ip.tot_len = htons(sizeof(iphdr) + l4_bytes);
    ip.frag_off = htons(0x4000);
    ip.ttl = 60;
    ip.protocol = IPPROTO_TCP;
    ip.saddr = htonl(from.v4_host_order());
    ip.daddr = htonl(to.v4_host_order());
    put(plan, ETH_HLEN, ip);
  }
  tcphdr tcp{};
  tcp.dest = htons(kVipPort);
  tcp.doff = c.syn ? 8 : 5;
  tcp.syn = c.syn;
  tcp.ack = !c.syn;
  put(plan, tcp_at, tcp);
  if (c.syn)
    put(plan, tcp_at + sizeof(tcp),
        std::array<std::uint8_t, 12>{2, 4, 0x05, 0xb4, 4, 2, 1, 1, 1, 1, 1, 1});
  plan.bytes = static_cast<__u32>(tcp_at + l4_bytes);
  plan.flow_mask = c.flows - 1;
  plan.services = c.services;
  plan.is_syn = c.syn;
  return plan;
}

// ---- running ------------------------------------------------------------------------------------

double cpu_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

// ns a packet of one run.
Result<double> run(int prog_fd, const rewind_plan& plan, std::uint32_t ifindex, int repeats) {
  std::vector<std::uint8_t> out(256);
  xdp_md ctx{};
  ctx.data_end = plan.bytes;
  ctx.ingress_ifindex = ifindex;
  bpf_test_run_opts opts{};
  opts.sz = sizeof(opts);
  opts.data_in = plan.frame;
  opts.data_size_in = plan.bytes;
  opts.data_out = out.data();
  opts.data_size_out = static_cast<__u32>(out.size());
  opts.ctx_in = &ctx;
  opts.ctx_size_in = sizeof(ctx);
  opts.repeat = repeats;
  const double began = cpu_ns();
  if (const int rc = bpf_prog_test_run_opts(prog_fd, &opts); rc != 0)
    return fail_errno(-rc, "BPF_PROG_TEST_RUN");
  const double ns = (cpu_ns() - began) / repeats;
  if (opts.retval != XDP_TX)
    return fail(Errc::kInternal,
                fmt::format("the last packet's verdict is {}, not XDP_TX", opts.retval));
  const std::uint8_t pick[] = {0x02, 'd'};
  if (opts.data_size_out != plan.bytes + kOuterBytes ||
      std::memcmp(out.data() + kOuterBytes, pick, sizeof(pick)) != 0)
    return fail(Errc::kInternal, "the last packet was sent without the overlay's headers");
  return ns;
}

struct RewindDelete {
  void operator()(rewind_bpf* skeleton) const { rewind_bpf__destroy(skeleton); }
};
struct FloorDelete {
  void operator()(floor_bpf* skeleton) const { floor_bpf__destroy(skeleton); }
};

class Bench {
public:
  Result<> open(const std::string& bpffs, const char* uplink, const char* overlay) {
    kernel::LoaderOptions options;
    options.root = bpffs;
    options.hash_seed = 0x5ea5'1de5'90a7'0001;
    options.sizes.services = 2 * kServicesMax + 1;
    options.sizes.backends = 2 * kServicesMax * kBackends + 1;
    options.sizes.ring_blocks = 2 * kServicesMax * (kSlots / model::kRingBlockSlots + 1);
    options.sizes.flows = kFlowsMax;
    loader_ = SHOAL_TRY(kernel::Loader::open(options));
    maps_ = SHOAL_TRY(loader_->maps());
    uplink_ = if_nametoindex(uplink);
    SHOAL_TRY(loader_->attach_overlay(if_nametoindex(overlay)));
    SHOAL_TRY(loader_->attach_xdp(uplink_, *IpAddress::parse("198.18.0.11"), 4789));
    rewind_.reset(rewind_bpf__open_and_load());
    if (!rewind_)
      return fail_errno("load rewind");
    floor_.reset(floor_bpf__open());
    if (!floor_)
      return fail_errno("open floor");
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, floor_->obj) {
      const auto pin = loader_->maps_folder() / bpf_map__name(map);
      if (bpf_map__is_internal(map))
        continue;
      const UniqueFd fd(bpf_obj_get(pin.c_str()));
      if (!fd || bpf_map__reuse_fd(map, fd.get()) != 0)
        return fail_errno("share " + pin.string());
    }
    if (floor_bpf__load(floor_.get()) != 0)
      return fail_errno("load floor");
    return {};
  }

  Result<double> measure(bool floor, const Case& c) {
    const __u32 zero = 0;
    SHOAL_TRY(have_services(c));
    const int tested = floor ? bpf_program__fd(floor_->progs.shoal_floor) : program("shoal_xdp");
    if (bpf_map_update_elem(bpf_map__fd(rewind_->maps.tested), &zero, &tested, BPF_ANY) != 0)
      return fail_errno("choose the program");
    shoal_config config{};
    const UniqueFd fd(bpf_obj_get((loader_->maps_folder() / "shoal_config").c_str()));
    if (!fd || bpf_map_lookup_elem(fd.get(), &zero, &config) != 0)
      return fail_errno("read shoal_config");
    MacAddress::Bytes mac;
    std::memcpy(mac.data(), config.uplink_mac, mac.size());
    const rewind_plan plan = plan_of(c, MacAddress::from_bytes(mac));
    if (bpf_map_update_elem(bpf_map__fd(rewind_->maps.plan), &zero, &plan, BPF_ANY) != 0)
      return fail_errno("write the plan");
    const int outer = bpf_program__fd(c.v6 ? rewind_->progs.rewind6 : rewind_->progs.rewind4);
    const std::uint64_t before = SHOAL_TRY(packets());
    // Every flow once; then they are known, as far as anybody keeps them.
    const int warm = static_cast<int>(std::max(c.flows, 100'000U));
    (void)SHOAL_TRY(run(outer, plan, uplink_, warm));
    std::vector<double> each;
    for (int i = 0; i < kRuns; i++)
      each.push_back(SHOAL_TRY(run(outer, plan, uplink_, kRepeats)));
    const std::uint64_t sent = SHOAL_TRY(packets()) - before;
    const auto expected = static_cast<std::uint64_t>(warm) + std::uint64_t{kRuns} * kRepeats;
    if (sent != expected)
      return fail(Errc::kInternal, fmt::format("{} of {} packets were balanced", sent, expected));
    std::ranges::nth_element(each, each.begin() + kRuns / 2);
    return each[kRuns / 2];
  }

private:
  Result<> have_services(const Case& c) {
    if (filled_[c.v6] < c.services)
      SHOAL_TRY(fill(*maps_, c.v6, c.services));
    filled_[c.v6] = std::max(filled_[c.v6], c.services);
    return {};
  }
  Result<std::uint64_t> packets() const {
    std::vector<model::ServiceIndex> all(2 * kServicesMax);
    for (std::uint32_t i = 0; i < all.size(); i++)
      all[i] = i + 1;
    std::uint64_t sum = 0;
    for (const kernel::ServiceStats& stats : SHOAL_TRY(maps_->service_stats(all)))
      sum += stats.packets;
    return sum;
  }
  int program(std::string_view name) const {
    for (const kernel::ProgramInfo& info : loader_->programs())
      if (info.name == name)
        return info.fd;
    return -1;
  }

  std::unique_ptr<kernel::Loader> loader_;
  std::unique_ptr<kernel::DataMaps> maps_;
  std::unique_ptr<rewind_bpf, RewindDelete> rewind_;
  std::unique_ptr<floor_bpf, FloorDelete> floor_;
  std::uint32_t uplink_ = 0;
  std::map<bool, unsigned> filled_;
};

Result<std::string> measure_all(char** argv, int argc) {
  std::vector<Case> cases;
  for (int i = 5; i < argc; i++)
    cases.push_back(SHOAL_TRY(parse_case(argv[i])));
  // What the services of one case need is there for all: their number is the largest asked for.
  Bench bench;
  SHOAL_TRY(bench.open(argv[1], argv[2], argv[3]));
  std::string out;
  for (const Case& c : cases)
    out +=
        fmt::format("{}\"{}\": {:.2f}", out.empty() ? "" : ", ", c.name,
                    SHOAL_TRY_WRAP(bench.measure(std::string_view(argv[4]) == "floor", c), c.name));
  return "{" + out + "}";
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view side = argc > 4 ? argv[4] : "";
  if (argc < 6 || (side != "shoal" && side != "floor")) {
    std::fputs("usage: shoal-xdpload BPFFS UPLINK OVERLAY shoal|floor CASE ...\n", stderr);
    return 2;
  }
  const auto measured = measure_all(argv, argc);
  const auto removed = kernel::remove_data_plane(argv[1]);
  if (!measured || !removed) {
    std::fprintf(stderr, "shoal-xdpload: %s\n",
                 (measured ? removed.error() : measured.error()).message().c_str());
    return 1;
  }
  std::puts(measured->c_str());
  return 0;
}
