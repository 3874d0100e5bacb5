// SPDX-License-Identifier: Apache-2.0
// A new build takes over from one whose maps were others: everything arrives, also when it is
// killed on the way, wherever that is.
#include "netplane/kernel/bpf/bpf_maps.h"
#include "tests/bpf/former.h"
#include "tests/bpf/host.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <csignal>
#include <former.skel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace shoal::bpftest {
namespace {

constexpr std::uint32_t kDropsBefore = 7;
constexpr const char* kDump =
    R"(backend      1 10.244.1.5:8080 gen=7 epoch=3 local
backend      2 10.244.2.7:8081 gen=9 epoch=5 node=198.18.0.12 draining
backend      3 free epoch=4
frontend 10.96.0.10:80/TCP service=2 north-south affinity=300s restricted entries
host 198.18.0.11 :: stack-backends
node 10.244.1.0/24 self
node 10.244.2.0/24 via=198.18.0.12
pod 10.244.1.5 ifindex=12 gen=7 mac=02:00:00:00:aa:05 host_mac=02:00:00:00:bb:05
ring      2 slots=100 first_block=500 1*64 2*36
source-range service=2 198.18.0.0/24
vip 10.96.0.10 announced
)";

shoal_addr addr_of(const std::string& text) {
  shoal_addr out{};
  std::memcpy(out.b, ip(text.c_str()).bytes().data(), sizeof(out.b));
  return out;
}

int cpus() { return libbpf_num_possible_cpus(); }

// The former build: its maps pinned as it left them, and its program at the hooks.
class Former {
public:
  explicit Former(std::filesystem::path root) : root_(std::move(root)) {
    std::filesystem::create_directories(root_ / "links");
    std::filesystem::create_directories(root_ / "v3");
    skeleton_ = former_bpf__open();
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, skeleton_->obj) {
      if (bpf_map__is_internal(map))
        continue;
      EXPECT_EQ(bpf_map__set_pin_path(map, (root_ / "v3" / bpf_map__name(map)).c_str()), 0);
    }
    if (const int rc = former_bpf__load(skeleton_); rc != 0) {
      std::fprintf(stderr, "load the former maps: %s\n", std::strerror(-rc));
      std::exit(1);
    }
    fill();
  }
  ~Former() { former_bpf__destroy(skeleton_); }
  Former(const Former&) = delete;
  Former& operator=(const Former&) = delete;

  int program() const { return bpf_program__fd(skeleton_->progs.shoal_pod); }

  template <class K, class V>
  void put(bpf_map* map, const K& key, const V& value) {
    EXPECT_EQ(bpf_map_update_elem(bpf_map__fd(map), &key, &value, BPF_ANY), 0)
        << bpf_map__name(map) << ": " << std::strerror(errno);
  }
  // What the pod answers to that client is the VIP's.
  void reply(std::uint16_t client_port) {
    const former_flow_key key{.dir = SHOAL_FLOW_REVERSE,
                              .proto = IPPROTO_TCP,
                              .dport = htons(client_port),
                              .sport = htons(8080),
                              .pad = 0,
                              .daddr = addr_of("198.18.0.101"),
                              .saddr = addr_of("10.244.1.5")};
    put(skeleton_->maps.shoal_flows, key,
        former_flow{.seen_s = 50, .addr = addr_of("10.96.0.10"), .port = htons(80)});
  }
  void flow(std::uint16_t client_port, std::uint32_t backend, std::uint32_t seen_s) {
    const former_flow_key key{.dir = SHOAL_FLOW_FORWARD,
                              .proto = IPPROTO_TCP,
                              .dport = htons(80),
                              .sport = htons(client_port),
                              .pad = 0,
                              .daddr = addr_of("10.96.0.10"),
                              .saddr = addr_of("198.18.0.101")};
    const former_flow value{.gone = 77,
                            .seen_s = seen_s,
                            .epoch = 3,
                            .backend = backend,
                            .service = 2,
                            .addr = addr_of("10.244.1.5"),
                            .node = 0,
                            .port = htons(8080),
                            .flags = SHOAL_FLOW_OPEN,
                            .generation = 7};
    put(skeleton_->maps.shoal_flows, key, value);
  }
  // Every CPU has counted so much for service 2.
  void counted(std::uint64_t packets) {
    put_per_cpu(
        skeleton_->maps.shoal_service_stats, 2,
        former_service_stats{.gone = 1, .bytes = 100 * packets, .packets = packets, .connects = 2});
  }

private:
  template <class V>
  void put_per_cpu(bpf_map* map, __u32 index, const V& value) {
    const std::vector<V> values(static_cast<std::size_t>(cpus()), value);
    EXPECT_EQ(bpf_map_update_elem(bpf_map__fd(map), &index, values.data(), BPF_ANY), 0);
  }

  void fill() {
    const auto& maps = skeleton_->maps;
    former_config config{.gone = 1,
                         .self = {addr_of("198.18.0.11"), {}},
                         .flags = SHOAL_CONFIG_STACK_BACKENDS,
                         .overlay_ifindex = 9,
                         .hash_seed = 5,
                         .pod_net6 = {},
                         .abi_version = FORMER_VERSION,
                         .gone_too = 1};
    put(maps.shoal_config, __u32{0}, config);
    put(maps.shoal_frontends, shoal_frontend_key{addr_of("10.96.0.10"), htons(80), IPPROTO_TCP, 0},
        former_frontend{.flags = SHOAL_FE_RESTRICTED,
                        .gone = {1, 2, 3},
                        .affinity_s = 300,
                        .pad = 0,
                        .outside = 2,
                        .inside = 2});
    put(maps.shoal_source_ranges, shoal_source_key{32 + 96 + 24, 2, addr_of("198.18.0.0")},
        __u32{1});
    put(maps.shoal_vips, addr_of("10.96.0.10"), shoal_vip{SHOAL_VIP_ANNOUNCED});
    put(maps.shoal_ring_refs, __u32{2}, SHOAL_RING_REF(500, 100));
    former_ring_block ones{}, twos{};
    std::fill(std::begin(ones.backend), std::end(ones.backend), 1);
    std::fill(std::begin(twos.backend), std::end(twos.backend), 2);
    put(maps.shoal_ring_blocks, __u32{500}, ones);
    put(maps.shoal_ring_blocks, __u32{501}, twos);
    put(maps.shoal_backends, __u32{1},
        former_backend{.generation = 7,
                       .flags = SHOAL_BE_VALID | SHOAL_BE_LOCAL,
                       .port = htons(8080),
                       .epoch = 3,
                       .node = 0,
                       .addr = addr_of("10.244.1.5")});
    put(maps.shoal_backends, __u32{2},
        former_backend{.generation = 9,
                       .flags = SHOAL_BE_VALID | SHOAL_BE_DRAINING,
                       .port = htons(8081),
                       .epoch = 5,
                       .node = inet_addr("198.18.0.12"),
                       .addr = addr_of("10.244.2.7")});
    put(maps.shoal_backends, __u32{3}, former_backend{.epoch = 4});
    put(maps.shoal_pods, addr_of("10.244.1.5"),
        former_pod{.host_mac = {2, 0, 0, 0, 0xbb, 5},
                   .mac = {2, 0, 0, 0, 0xaa, 5},
                   .ifindex = 12,
                   .generation = 7});
    put(maps.shoal_nodes, shoal_node_key{120, addr_of("10.244.1.0")}, shoal_node{});
    put(maps.shoal_nodes, shoal_node_key{120, addr_of("10.244.2.0")},
        shoal_node{.node = inet_addr("198.18.0.12"), .flags = 0});
    put(maps.shoal_peers, inet_addr("198.18.0.12"), __u32{1});
    for (std::uint16_t port = 1; port <= 1000; ++port)
      flow(port, 1, 50);
    put(maps.shoal_affinity, shoal_affinity_key{addr_of("198.18.0.101"), 2, SHOAL_AFFINITY_ADDRESS},
        former_affinity{.seen_s = 50, .gone = 1, .epoch = 5, .backend = 2});
    counted(10);
    put_per_cpu(maps.shoal_drops, 1, std::uint64_t{kDropsBefore});
  }

  std::filesystem::path root_;
  former_bpf* skeleton_ = nullptr;
};

class MigrationTest : public testing::Test {
protected:
  MigrationTest() {
    options_.root = sandbox() / "migration";
    options_.sizes = small_sizes();
    sandbox();
    if (ifindex_of("vm1") == 0)
      sh("ip link add vm1 type veth peer name vm1peer");
    device_ = ifindex_of("vm1");
  }
  ~MigrationTest() override { EXPECT_TRUE(kernel::remove_data_plane(options_.root)); }

  std::filesystem::path pin(const char* side) const {
    return options_.root / "links" / fmt::format("tcx-{}-{}", device_, side);
  }

  void begin(bool tcx = true) {
    EXPECT_TRUE(kernel::remove_data_plane(options_.root));
    former_ = std::make_unique<Former>(options_.root);
    kernel::Links links(options_.root / "links", tcx);
    ASSERT_TRUE(links.attach_tc(device_, kernel::TcSide::kIngress, former_->program()));
  }

  // The loader's program is at the hook, and not the former one or a stand-in.
  void expect_new_program(const kernel::Loader& loader) {
    kernel::Links links(options_.root / "links", loader.features().tcx);
    const auto hooked = links.hooked().value();
    ASSERT_EQ(hooked.size(), 1U);
    for (const kernel::ProgramInfo& program : loader.programs()) {
      if (program.name != "shoal_pod")
        continue;
      bpf_prog_info info{};
      __u32 bytes = sizeof(info);
      ASSERT_EQ(bpf_obj_get_info_by_fd(program.fd, &info, &bytes), 0);
      EXPECT_EQ(hooked[0].program_id, info.id);
    }
  }

  void expect_all(const kernel::Loader& loader, std::uint64_t packets_a_cpu) {
    const auto maps = loader.maps().value();
    EXPECT_EQ(kernel::dump(maps->read().value()), kDump);
    EXPECT_THAT(kernel::violations(maps->read().value()), testing::IsEmpty());
    const std::vector<kernel::Flow> flows = maps->flows(10'000).value();
    ASSERT_GE(flows.size(), 1000U);
    for (const kernel::Flow& flow : flows) {
      EXPECT_EQ(flow.destination.to_string(), "10.96.0.10:80");
      EXPECT_EQ(flow.translated.to_string(), "10.244.1.5:8080");
      EXPECT_EQ(flow.epoch, 3U);
      EXPECT_EQ(flow.generation, 7U);
      EXPECT_EQ(flow.service, 2U);
    }
    const auto affinity = maps->find_affinity(2, ip("198.18.0.101")).value();
    ASSERT_TRUE(affinity);
    EXPECT_EQ(affinity->backend, 2U);
    EXPECT_EQ(affinity->epoch, 5U);
    const model::ServiceIndex two[] = {2};
    const auto n = static_cast<std::uint64_t>(cpus());
    EXPECT_EQ(maps->service_stats(two).value()[0],
              (kernel::ServiceStats{.connects = 2 * n,
                                    .packets = packets_a_cpu * n,
                                    .bytes = 100 * packets_a_cpu * n}));
    EXPECT_EQ(maps->drops().value()[0].packets, kDropsBefore * n);
  }

  void expect_swept(const kernel::Loader& loader) {
    std::vector<std::string> left = kernel::list_data_plane(options_.root).value();
    const std::string current = loader.maps_folder().filename().string() + "/shoal_";
    std::erase_if(left, [&](const std::string& name) {
      return name.starts_with(current) && !name.ends_with("handover");
    });
    EXPECT_THAT(left, testing::ElementsAre(testing::MatchesRegex("links/tcx?-[0-9]+-ingress")));
    EXPECT_FALSE(std::filesystem::exists(options_.root / "v3"));
    EXPECT_FALSE(std::filesystem::exists(options_.root / "next"));
  }

  kernel::LoaderOptions options_;
  std::uint32_t device_ = 0;
  std::unique_ptr<Former> former_;
};

TEST_F(MigrationTest, EveryEntryArrivesInTheNewLayout) {
  for (const bool tcx : {true, false}) {
    options_.allowed.tcx = tcx;
    begin(tcx);
    auto loader = kernel::Loader::open(options_);
    ASSERT_TRUE(loader) << loader.error().message();
    EXPECT_THAT((*loader)->losses(),
                testing::ElementsAre(testing::AllOf(testing::HasSubstr("shoal_sk"),
                                                    testing::HasSubstr("show the backend"))));
    auto taken = (*loader)->take_over();
    ASSERT_TRUE(taken) << taken.error().message();
    expect_all(**loader, 10);
    expect_new_program(**loader);
    expect_swept(**loader);
    // And then there is nothing to do.
    const auto folder = (*loader)->maps_folder();
    auto again = kernel::Loader::open(options_);
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_EQ((*again)->maps_folder(), folder);
    EXPECT_THAT((*again)->losses(), testing::IsEmpty());
    ASSERT_TRUE((*again)->take_over());
    expect_all(**again, 10);
  }
}

TEST_F(MigrationTest, WhatFormerProgramsWriteUntilTheTurnArrivesToo) {
  begin();
  // Flows by the port of their client: one that the former programs see again, one that they make,
  // and one that both have: the newer one counts.
  options_.on_step = [&](std::string_view step) {
    if (step != "turning")
      return;
    former_->counted(17);
    former_->flow(1, 1, 60);
    former_->flow(2001, 1, 60);
  };
  auto loader = kernel::Loader::open(options_);
  ASSERT_TRUE(loader) << loader.error().message();
  ASSERT_TRUE((*loader)->take_over());
  expect_all(**loader, 17);
  const auto maps = (*loader)->maps().value();
  EXPECT_EQ(maps->flows(10'000).value().size(), 1001U);
  const auto idle = [&](std::uint16_t port) {
    return maps->find_flow({L4Proto::kTcp, {ip("198.18.0.101"), port}, {ip("10.96.0.10"), 80}})
        .value()
        .value()
        .idle_s;
  };
  EXPECT_NEAR(idle(2) - idle(1), 10, 1);
  EXPECT_NEAR(idle(2) - idle(2001), 10, 1);
}

// The verdict of whatever is at the hook; today's program has no such pod there, and drops.
TEST_F(MigrationTest, HooksChangeAtOnceAndRepliesGoToWhoKnowsThem) {
  for (const bool tcx : {true, false}) {
    options_.allowed.tcx = tcx;
    begin(tcx);
    former_->reply(40001);
    const auto at_hook = [&](const Frame& frame) {
      const auto hooked = kernel::Links(options_.root / "links", tcx).hooked().value();
      const UniqueFd program(bpf_prog_get_fd_by_id(hooked.at(0).program_id));
      bpf_test_run_opts run{};
      run.sz = sizeof(run);
      run.data_in = frame.data();
      run.data_size_in = static_cast<__u32>(frame.size());
      EXPECT_EQ(bpf_prog_test_run_opts(program.get(), &run), 0);
      return static_cast<int>(run.retval);
    };
    const Frame known = tcp(at("10.244.1.5:8080"), at("198.18.0.101:40001"), kAck).frame();
    const Frame late = tcp(at("10.244.1.5:8080"), at("198.18.0.101:40002"), kAck).frame();
    const Frame asks = tcp(at("10.244.1.5:5000"), at("10.96.0.10:80"), kSyn).frame();
    std::vector<std::string> seen;
    options_.on_step = [&](std::string_view step) {
      if (step == "turned")
        former_->reply(40002);  // by a former program that was at work
      if (step == "turning" || step == "turned" || step == "lower sets removed")
        for (const Frame& frame : {known, late, asks})
          seen.push_back(fmt::format("{}: {}", step, at_hook(frame)));
    };
    auto loader = kernel::Loader::open(options_);
    ASSERT_TRUE(loader) << loader.error().message();
    ASSERT_TRUE((*loader)->take_over());
    EXPECT_THAT(seen, testing::ElementsAre("turning: 3", "turning: 3", "turning: 3",  //
                                           "turned: 2", "turned: 3", "turned: 2",     //
                                           "lower sets removed: 2", "lower sets removed: 2",
                                           "lower sets removed: 2"));
    const auto flows = (*loader)->maps().value()->flows(10'000).value();
    EXPECT_EQ(std::ranges::count_if(flows, &kernel::Flow::reverse), 2);
  }
}

// Killed at each step in turn, and taken up by an agent that is not.
TEST_F(MigrationTest, AnEndAtAnyStepLosesNothing) {
  int steps = 0;
  for (bool killed = true; killed; ++steps) {
    begin();
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      int left = steps;
      options_.on_step = [&](std::string_view) {
        if (left-- == 0)
          kill(getpid(), SIGKILL);
      };
      auto loader = kernel::Loader::open(options_);
      _exit(loader && (*loader)->take_over() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    killed = WIFSIGNALED(status);
    ASSERT_TRUE(killed || WEXITSTATUS(status) == 0);
    SCOPED_TRACE(fmt::format("killed at step {}", steps));
    auto loader = kernel::Loader::open(options_);
    ASSERT_TRUE(loader) << loader.error().message();
    auto taken = (*loader)->take_over();
    ASSERT_TRUE(taken) << taken.error().message();
    expect_all(**loader, 10);
    if (killed)  // otherwise there was nothing to take over
      expect_new_program(**loader);
    expect_swept(**loader);
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_GT(steps, 25);
}

TEST_F(MigrationTest, AnotherVersionsMeaningIsNotTakenOver) {
  begin();
  const UniqueFd config(bpf_obj_get((options_.root / "v3/shoal_config").c_str()));
  const __u32 zero = 0;
  former_config theirs{};
  ASSERT_EQ(bpf_map_lookup_elem(config.get(), &zero, &theirs), 0);
  theirs.abi_version = 1;
  ASSERT_EQ(bpf_map_update_elem(config.get(), &zero, &theirs, BPF_ANY), 0);
  auto loader = kernel::Loader::open(options_);
  ASSERT_TRUE(loader) << loader.error().message();
  EXPECT_THAT((*loader)->losses(),
              testing::ElementsAre(testing::HasSubstr("all maps were made anew")));
  EXPECT_EQ(kernel::dump((*loader)->maps().value()->read().value()), "");
  // The former programs go on until the agent says so.
  EXPECT_TRUE(std::filesystem::exists(options_.root / "v3/shoal_flows"));
  ASSERT_TRUE((*loader)->take_over());
  EXPECT_TRUE((*loader)->maps().value()->flows(10).value().empty());
  expect_new_program(**loader);
  expect_swept(**loader);
}

}  // namespace
}  // namespace shoal::bpftest
