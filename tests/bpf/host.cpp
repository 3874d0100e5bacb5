// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/host.h"

#include "bpf/abi/shoal_abi.h"
#include "netplane/plan/ring_history.h"

#include <bpf/bpf.h>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <span>
#include <sys/mount.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace shoal::bpftest {
namespace {

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "sandbox: %s\n", what.c_str());
  std::exit(1);
}

}  // namespace

const std::filesystem::path& sandbox() {
  static const std::filesystem::path bpffs = [] {
    if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      die("make mounts private: run me inside `unshare --mount --net --pid --fork`");
    if (mount("tmpfs", "/run", "tmpfs", 0, "mode=0755") != 0)
      die("mount a tmpfs on /run");
    mkdir("/run/bpf", 0700);
    if (mount("bpf", "/run/bpf", "bpf", 0, nullptr) != 0)
      die("mount a bpffs");
    return std::filesystem::path("/run/bpf");
  }();
  return bpffs;
}

void sh(const std::string& command) {
  std::vector<std::string> argv;
  std::string word;
  for (char c : command + " ") {
    if (c != ' ')
      word += c;
    else if (!word.empty())
      argv.push_back(std::exchange(word, {}));
  }
  auto out = run_checked(argv);
  ASSERT_TRUE(out) << command << ": " << out.error().message();
}

std::uint32_t ifindex_of(const std::string& device) { return if_nametoindex(device.c_str()); }

void in_netns(const std::string& name, const std::function<void()>& f) {
  std::thread([&] {
    UniqueFd ns(open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC));
    if (!ns || setns(ns.get(), CLONE_NEWNET) != 0) {
      ADD_FAILURE() << "enter namespace " << name;
      return;
    }
    f();
  }).join();
}

kernel::MapSizes small_sizes() {
  return {.services = 64,
          .frontends = 64,
          .vips = 64,
          .backends = 256,
          .ring_blocks = 1200,
          .pods = 64,
          .nodes = 64,
          .flows = 65536,
          .udp_flows = 1024,
          .affinity = 1024,
          .source_ranges = 64};
}

Host::Host(const std::string& name, const kernel::Features& allowed,
           const kernel::MapSizes& sizes) {
  options_.root = sandbox() / name;
  options_.sizes = sizes;
  options_.allowed = allowed;
  options_.hash_seed = 0x5ea5'1de5'90a7'0001;
  reopen();
}

void Host::reopen() {
  maps_.reset();
  loader_.reset();
  auto loader = kernel::Loader::open(options_);
  if (!loader)
    die(loader.error().message());
  loader_ = std::move(*loader);
  auto maps = loader_->maps();
  if (!maps)
    die(maps.error().message());
  maps_ = std::move(*maps);
}

Host::~Host() {
  maps_.reset();
  loader_.reset();
  auto removed = kernel::remove_data_plane(options_.root);
  EXPECT_TRUE(removed) << removed.error().message();
}

int Host::program(const std::string& name) const {
  for (const kernel::ProgramInfo& info : loader_->programs())
    if (info.name == name)
      return info.fd;
  die("no program " + name);
}

Outcome Host::run(const std::string& name, const Frame& frame, std::uint32_t ifindex) {
  return run_fd(program(name), frame, ifindex);
}

Outcome Host::run_fd(int prog_fd, const Frame& frame, std::uint32_t ifindex,
                     std::uint32_t gso_size) {
  Outcome result;
  result.out.resize(4096);
  __sk_buff ctx{};
  ctx.ifindex = ifindex != 0 ? ifindex : 1;
  ctx.gso_size = gso_size;
  bpf_test_run_opts opts{};
  opts.sz = sizeof(opts);
  opts.data_in = frame.data();
  opts.data_size_in = static_cast<__u32>(frame.size());
  opts.data_out = result.out.data();
  opts.data_size_out = static_cast<__u32>(result.out.size());
  opts.ctx_in = &ctx;
  opts.ctx_size_in = sizeof(ctx);
  opts.ctx_out = &ctx;
  opts.ctx_size_out = sizeof(ctx);
  opts.repeat = 1;
  const int rc = bpf_prog_test_run_opts(prog_fd, &opts);
  EXPECT_EQ(rc, 0) << "BPF_PROG_TEST_RUN: " << -rc;
  result.verdict = static_cast<int>(opts.retval);
  result.mark = ctx.mark;
  result.out.resize(opts.data_size_out);
  return result;
}

Outcome Host::run_xdp(const Frame& frame, std::uint32_t ifindex) {
  Outcome result;
  result.out.resize(4096);
  xdp_md ctx{};
  ctx.data_end = static_cast<__u32>(frame.size());
  ctx.ingress_ifindex = ifindex;
  bpf_test_run_opts opts{};
  opts.sz = sizeof(opts);
  opts.data_in = frame.data();
  opts.data_size_in = static_cast<__u32>(frame.size());
  opts.data_out = result.out.data();
  opts.data_size_out = static_cast<__u32>(result.out.size());
  opts.ctx_in = &ctx;
  opts.ctx_size_in = sizeof(ctx);
  opts.repeat = 1;
  const int rc = bpf_prog_test_run_opts(program("shoal_xdp"), &opts);
  EXPECT_EQ(rc, 0) << "BPF_PROG_TEST_RUN: " << -rc;
  result.verdict = static_cast<int>(opts.retval);
  result.out.resize(opts.data_size_out);
  return result;
}

void Host::ring(model::ServiceIndex service, const std::vector<model::BackendId>& slots,
                std::uint32_t block) {
  std::vector<model::BackendId> blocks = slots;
  while (blocks.size() % model::kRingBlockSlots != 0)
    blocks.push_back(model::kNoBackend);
  ASSERT_TRUE(maps_->put_ring_blocks(block, blocks));
  ASSERT_TRUE(maps_->switch_ring(service, {block, static_cast<std::uint32_t>(slots.size())}));
}

void Host::change_ring(model::ServiceIndex service, std::vector<model::BackendId> slots,
                       std::uint32_t block) {
  const model::RingRef before = maps_->ring_ref(service).value();
  ASSERT_FALSE(before.empty());
  if (slots.empty())
    slots.resize(before.slots);
  const auto held = maps_->ring_blocks(before.first_block, before.blocks()).value();
  std::vector<model::BackendId> blocks = slots;
  blocks.resize(slots.size() * (1 + model::kSlotFormer));
  plan::carry_history(
      {.slots = std::span(held).first(before.slots),
       .former = std::span(held).subspan(before.slots)},
      [](model::BackendId) { return true; }, std::span(blocks).first(slots.size()),
      std::span(blocks).subspan(slots.size()));
  ASSERT_TRUE(maps_->put_ring_blocks(block, blocks));
  ASSERT_TRUE(maps_->switch_ring(
      service, {block, static_cast<std::uint32_t>(slots.size()), /*history=*/true}));
}

void Host::backend(model::BackendId id, const std::string& address,
                   const model::BackendEntry& rest) {
  kernel::BackendWrite write{id, rest};
  const SocketAddress where = at(address.c_str());
  write.entry.ip = where.ip;
  write.entry.port = where.port;
  auto put = maps_->put_backends({&write, 1});
  ASSERT_TRUE(put) << put.error().message();
}

void Host::frontend(const std::string& address, L4Proto proto, model::ServiceIndex service,
                    bool north_south, bool announced) {
  const SocketAddress where = at(address.c_str());
  const kernel::FrontendWrite write{
      {where.ip, where.port, proto},
      {.inside = service, .outside = north_south ? service : model::kNoService}};
  ASSERT_TRUE(maps_->put_frontends({&write, 1}));
  ASSERT_TRUE(maps_->put_vips(std::array{kernel::VipWrite{where.ip, {announced}}}));
}

void Host::frontend(const std::string& address, L4Proto proto, const model::FrontendEntry& entry) {
  const SocketAddress where = at(address.c_str());
  const kernel::FrontendWrite write{{where.ip, where.port, proto}, entry};
  ASSERT_TRUE(maps_->put_frontends({&write, 1}));
}

void Host::age_flows(std::uint32_t seconds) {
  const UniqueFd flows(bpf_obj_get((loader_->maps_folder() / "shoal_flows").c_str()));
  ASSERT_TRUE(flows);
  std::vector<shoal_flow_key> keys;
  shoal_flow_key key{};
  for (const void* at = nullptr; bpf_map_get_next_key(flows.get(), at, &key) == 0;
       at = &keys.back())
    keys.push_back(key);
  for (const shoal_flow_key& each : keys) {
    shoal_flow flow{};
    ASSERT_EQ(bpf_map_lookup_elem(flows.get(), &each, &flow), 0);
    flow.seen_s -= seconds;
    ASSERT_EQ(bpf_map_update_elem(flows.get(), &each, &flow, BPF_EXIST), 0);
  }
}

std::uint64_t Host::now_s() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::uint64_t>(now.tv_sec);
}

std::uint64_t Host::drops(std::string_view reason) {
  const auto counts = maps_->drops().value();
  for (const kernel::DropCount& count : counts)
    if (count.name == reason)
      return count.packets;
  die("no drop reason " + std::string(reason));
}

}  // namespace shoal::bpftest
