// SPDX-License-Identifier: Apache-2.0
// Loading, attaching, restarting, and every fallback, on devices of this namespace.
#include "netplane/kernel/bpf/links.h"
#include "tests/bpf/host.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_link.h>

namespace shoal::bpftest {
namespace {

std::vector<std::string> pins(const Host& host) {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(host.root() / "links"))
    out.push_back(entry.path().filename());
  std::sort(out.begin(), out.end());
  return out;
}

std::uint32_t make_veth(const std::string& name) {
  sandbox();
  if (ifindex_of(name) == 0)
    sh("ip link add " + name + " type veth peer name " + name + "peer");
  return ifindex_of(name);
}

int filters(const std::string& device) {
  auto out = run_checked({"tc", "filter", "show", "dev", device, "ingress"});
  int n = 0;
  for (std::size_t at = 0; (at = out.value().find("id ", at)) != std::string::npos; ++at)
    ++n;
  return n;
}

std::uint32_t id_of(int prog_fd) {
  bpf_prog_info info{};
  __u32 bytes = sizeof(info);
  EXPECT_EQ(bpf_obj_get_info_by_fd(prog_fd, &info, &bytes), 0);
  return info.id;
}

kernel::Links links_of(Host& host) { return {host.root() / "links", host.loader().features().tcx}; }

TEST(LoaderTest, RestartsSwapProgramsAndLeaveNothingDouble) {
  Host host;
  const std::uint32_t veth = make_veth("va");
  std::vector<std::string> first;
  for (int start = 0; start < 4; ++start) {
    if (start > 0)
      host.reopen();
    ASSERT_TRUE(host.loader().attach_pod(veth));
    ASSERT_TRUE(host.loader().attach_pod(veth));
    if (start == 0)
      first = pins(host);
    EXPECT_EQ(pins(host), first);
  }
  ASSERT_EQ(first.size(), 2U);  // egress, ingress
  const auto hooked = links_of(host).hooked();
  ASSERT_TRUE(hooked);
  for (const auto& [pin, program] : *hooked)
    EXPECT_EQ(program,
              id_of(host.program(pin.ends_with("-ingress") ? "shoal_pod" : "shoal_pod_out")))
        << pin;
  ASSERT_TRUE(host.loader().detach_pod(veth));
  ASSERT_TRUE(host.loader().detach_pod(veth));
  EXPECT_THAT(pins(host), testing::IsEmpty());
}

TEST(LoaderTest, MapsOutliveTheLoader) {
  Host host;
  host.frontend("10.96.0.10:80", L4Proto::kTcp, 3, false);
  const std::string before = kernel::dump(host.maps().read().value());
  host.reopen();
  EXPECT_EQ(kernel::dump(host.maps().read().value()), before);
}

TEST(LoaderTest, MapsOfAnotherSizeKeepWhatTheyHold) {
  Host host;
  host.frontend("10.96.0.10:80", L4Proto::kTcp, 3, false);
  const std::string before = kernel::dump(host.maps().read().value());
  kernel::LoaderOptions larger = host.options();
  larger.sizes.frontends *= 2;
  larger.sizes.services *= 2;
  auto opened = kernel::Loader::open(larger);
  ASSERT_TRUE(opened) << opened.error().message();
  ASSERT_TRUE((*opened)->take_over());
  EXPECT_EQ((*opened)->maps().value()->sizes(), larger.sizes);
  EXPECT_EQ(kernel::dump((*opened)->maps().value()->read().value()), before);
  // And back.
  host.reopen();
  EXPECT_EQ(host.maps().sizes(), host.options().sizes);
  EXPECT_EQ(kernel::dump(host.maps().read().value()), before);
}

TEST(LoaderTest, MapsTooSmallForWhatTheyHoldAreRefused) {
  Host host;
  for (std::uint16_t port = 1; port <= 40; ++port)
    host.frontend(fmt::format("10.96.0.10:{}", port), L4Proto::kTcp, 3, false);
  host.ring(3, {1}, 0);
  const std::string before = kernel::dump(host.maps().read().value());
  kernel::LoaderOptions fewer = host.options();
  fewer.sizes.frontends = 32;
  auto refused = kernel::Loader::open(fewer);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kConflict);
  EXPECT_THAT(refused.error().message(),
              testing::AllOf(testing::HasSubstr("shoal_frontends holds more than the 32 entries"),
                             testing::HasSubstr(fmt::format("rm -r {},", host.root().string()))));
  fewer = host.options();
  fewer.sizes.services = 3;
  EXPECT_THAT(kernel::Loader::open(fewer).error().message(),
              testing::HasSubstr("put limits.services back"));
  host.reopen();
  EXPECT_EQ(kernel::dump(host.maps().read().value()), before);
}

TEST(LoaderTest, AttachmentOfADeletedDeviceIsDefunct) {
  Host host;
  const std::uint32_t veth = make_veth("vb");
  const std::uint32_t kept = make_veth("vc");
  ASSERT_TRUE(host.loader().attach_pod(veth));
  ASSERT_TRUE(host.loader().attach_pod(kept));
  EXPECT_THAT(host.loader().attached_interfaces().value(), testing::ElementsAre(veth, kept));
  sh("ip link del vb");
  EXPECT_EQ(host.loader().remove_defunct().value().size(), 2U);
  EXPECT_THAT(host.loader().attached_interfaces().value(), testing::ElementsAre(kept));
  EXPECT_EQ(host.loader().attach_pod(veth).error().code(), Errc::kNotFound);
}

TEST(LoaderTest, ClsactFiltersDoWhereThereIsNoTcxAndTheModeCanChange) {
  const std::uint32_t veth = make_veth("vd");
  kernel::Features no_tcx;
  no_tcx.tcx = false;
  Host host("clsact", no_tcx);
  EXPECT_FALSE(host.loader().features().tcx);
  ASSERT_TRUE(host.loader().attach_uplink(veth));
  ASSERT_TRUE(host.loader().attach_uplink(veth));
  EXPECT_EQ(filters("vd"), 1);
  EXPECT_EQ(pins(host).size(), 2U);
  host.reopen();
  ASSERT_TRUE(host.loader().attach_uplink(veth));
  EXPECT_EQ(filters("vd"), 1);
  // The same root, opened by an agent that may use TCX.
  kernel::LoaderOptions newer = host.options();
  newer.allowed = {};
  auto loader = kernel::Loader::open(newer);
  ASSERT_TRUE(loader) << loader.error().message();
  if ((*loader)->features().tcx) {
    ASSERT_TRUE((*loader)->attach_uplink(veth));
    EXPECT_EQ(filters("vd"), 0);
    EXPECT_THAT(pins(host), testing::UnorderedElementsAre(fmt::format("tcx-{}-ingress", veth),
                                                          fmt::format("tcx-{}-egress", veth)));
  }
  // And back.
  ASSERT_TRUE(host.loader().attach_uplink(veth));
  EXPECT_EQ(filters("vd"), 1);
  EXPECT_THAT(pins(host), testing::UnorderedElementsAre(fmt::format("tc-{}-ingress", veth),
                                                        fmt::format("tc-{}-egress", veth)));
  ASSERT_TRUE(host.loader().detach_uplink(veth));
  EXPECT_EQ(filters("vd"), 0);
}

// TCX hooks would cost the kernel grace periods when the device goes.
TEST(LoaderTest, PodsHaveFiltersAlsoWhereThereIsTcx) {
  Host host;
  const std::uint32_t veth = make_veth("ve");
  ASSERT_TRUE(host.loader().attach_pod(veth));
  EXPECT_EQ(filters("ve"), 1);
  const auto filter_pins = testing::UnorderedElementsAre(fmt::format("tc-{}-ingress", veth),
                                                         fmt::format("tc-{}-egress", veth));
  EXPECT_THAT(pins(host), filter_pins);
  ASSERT_TRUE(host.loader().detach_pod(veth));
  EXPECT_THAT(pins(host), testing::IsEmpty());
  if (host.loader().features().tcx) {
    // An earlier build's links.
    kernel::Links links = links_of(host);
    ASSERT_TRUE(links.attach_tc(veth, kernel::TcSide::kIngress, host.program("shoal_pod_out")));
    ASSERT_TRUE(host.loader().attach_pod(veth));
    EXPECT_EQ(filters("ve"), 0);
    EXPECT_THAT(pins(host), testing::UnorderedElementsAre(fmt::format("tcx-{}-ingress", veth),
                                                          fmt::format("tc-{}-egress", veth)));
    const auto hooked = links.hooked();
    ASSERT_TRUE(hooked);
    EXPECT_EQ(hooked->back().program_id, id_of(host.program("shoal_pod")));
  }
  // Forgotten once it is gone, and before.
  ASSERT_TRUE(host.loader().attach_pod(veth));
  sh("ip link del ve");
  ASSERT_TRUE(host.loader().forget_pod(veth));
  ASSERT_TRUE(host.loader().forget_pod(veth));
  EXPECT_THAT(pins(host), testing::IsEmpty());
}

TEST(LoaderTest, EveryFallbackLoads) {
  for (int off = 0; off < 7; ++off) {
    kernel::Features allowed;
    bool* each[] = {&allowed.tcx,        &allowed.redirect_peer, &allowed.redirect_neigh,
                    &allowed.set_retval, &allowed.sk_storage,    &allowed.coarse_clock,
                    &allowed.xdp};
    *each[off] = false;
    Host host("fallback", allowed);
    EXPECT_FALSE(host.loader().limitations().empty());
    EXPECT_EQ(host.loader().programs().size(), allowed.xdp ? 15U : 14U);
  }
}

// ---- XDP ----------------------------------------------------------------------------------------

const IpAddress kUnderlay = ip("198.18.0.11");

// What the device runs in its driver: the program's id; 0: none.
std::uint32_t xdp_of(std::uint32_t ifindex) {
  bpf_xdp_query_opts opts{};
  opts.sz = sizeof(opts);
  EXPECT_EQ(bpf_xdp_query(static_cast<int>(ifindex), XDP_FLAGS_DRV_MODE, &opts), 0);
  return opts.drv_prog_id;
}

TEST(LoaderXdpTest, ARestartSwapsTheProgramAndItIsOnOneDeviceOnly) {
  Host host;
  const std::uint32_t one = make_veth("xa"), other = make_veth("xb");
  for (int start = 0; start < 3; ++start) {
    if (start > 0)
      host.reopen();
    ASSERT_TRUE(host.loader().attach_xdp(one, kUnderlay, 4789));
    EXPECT_THAT(pins(host), testing::ElementsAre(fmt::format("xdp-{}", one)));
    EXPECT_EQ(xdp_of(one), id_of(host.program("shoal_xdp")));
  }
  EXPECT_THAT(host.loader().attached_interfaces().value(), testing::ElementsAre(one));
  ASSERT_TRUE(host.loader().attach_xdp(other, kUnderlay, 4789));
  EXPECT_THAT(pins(host), testing::ElementsAre(fmt::format("xdp-{}", other)));
  EXPECT_EQ(xdp_of(one), 0U);
  ASSERT_TRUE(host.loader().detach_xdp());
  ASSERT_TRUE(host.loader().detach_xdp());
  EXPECT_THAT(pins(host), testing::IsEmpty());
  EXPECT_EQ(xdp_of(other), 0U);
}

TEST(LoaderXdpTest, ADeletedDeviceLeavesAPinThatIsSwept) {
  Host host;
  const std::uint32_t veth = make_veth("xc");
  ASSERT_TRUE(host.loader().attach_xdp(veth, kUnderlay, 4789));
  sh("ip link del xc");
  EXPECT_THAT(host.loader().remove_defunct().value(),
              testing::ElementsAre(fmt::format("xdp-{}", veth)));
  EXPECT_EQ(host.loader().attach_xdp(veth, kUnderlay, 4789).error().code(), Errc::kNotFound);
}

TEST(LoaderXdpTest, RemovingTheDataPlaneDetachesIt) {
  Host host;
  const std::uint32_t veth = make_veth("xd");
  ASSERT_TRUE(host.loader().attach_xdp(veth, kUnderlay, 4789));
  EXPECT_THAT(kernel::list_data_plane(host.root()).value(),
              testing::Contains(fmt::format("links/xdp-{}", veth)));
  ASSERT_TRUE(kernel::remove_data_plane(host.root()));
  EXPECT_EQ(xdp_of(veth), 0U);
}

TEST(LoaderXdpTest, SomebodyElsesProgramStays) {
  Host theirs("theirs"), ours("ours");
  const std::uint32_t veth = make_veth("xe");
  ASSERT_TRUE(theirs.loader().attach_xdp(veth, kUnderlay, 4789));
  const std::uint32_t before = xdp_of(veth);
  const Result<> refused = ours.loader().attach_xdp(veth, kUnderlay, 4789);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kConflict);
  EXPECT_THAT(refused.error().message(), testing::HasSubstr("another XDP program"));
  EXPECT_EQ(xdp_of(veth), before);
  EXPECT_THAT(pins(ours), testing::IsEmpty());
  // It goes, and we come.
  ASSERT_TRUE(theirs.loader().detach_xdp());
  ASSERT_TRUE(ours.loader().attach_xdp(veth, kUnderlay, 4789));
}

TEST(LoaderXdpTest, ADriverThatCannotSaysSo) {
  Host host;
  make_veth("xf");
  sh("ip link add shoal-vx type vxlan external dstport 4790");
  const Result<> none = host.loader().attach_xdp(ifindex_of("shoal-vx"), kUnderlay, 4789);
  sh("ip link del shoal-vx");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), Errc::kUnsupported);
  EXPECT_THAT(none.error().message(), testing::HasSubstr("no native XDP"));
  // A frame must fit into a page; a veth's are as large as its other end sends them.
  sh("ip link set dev xfpeer mtu 9000");
  sh("ip link set dev xf mtu 9000");
  const Result<> large = host.loader().attach_xdp(ifindex_of("xf"), kUnderlay, 4789);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code(), Errc::kUnsupported);
  EXPECT_THAT(large.error().message(), testing::HasSubstr("MTU"));
  EXPECT_THAT(pins(host), testing::IsEmpty());
}

TEST(LoaderXdpTest, WithoutXdpNothingIsAttached) {
  kernel::Features no_xdp;
  no_xdp.xdp = false;
  Host host("no-xdp", no_xdp);
  const std::uint32_t veth = make_veth("xg");
  EXPECT_EQ(host.loader().attach_xdp(veth, kUnderlay, 4789).error().code(), Errc::kUnsupported);
  ASSERT_TRUE(host.loader().detach_xdp());
  EXPECT_EQ(xdp_of(veth), 0U);
}

TEST(LoaderTest, RemovingTheDataPlaneLeavesNothing) {
  Host host;
  ASSERT_TRUE(host.loader().attach_pod(make_veth("ve")));
  ASSERT_TRUE(kernel::remove_data_plane(host.root()));
  EXPECT_FALSE(std::filesystem::exists(host.root()));
  ASSERT_TRUE(kernel::remove_data_plane(host.root()));
}

TEST(LoaderTest, AFolderThatIsNoBpffsIsSaid) {
  sandbox();
  kernel::LoaderOptions options;
  options.root = "/run/plain/shoal";
  auto opened = kernel::Loader::open(options);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), Errc::kUnsupported);
  EXPECT_THAT(opened.error().message(), testing::AllOf(testing::HasSubstr("/run/plain/shoal"),
                                                       testing::HasSubstr("mount -t bpf bpf"),
                                                       testing::HasSubstr("bpffs_dir")));
  EXPECT_FALSE(std::filesystem::exists("/run/plain")) << "nothing is made there";
}

TEST(LoaderTest, ProgramsStayFarFromTheVerifiersLimit) {
  Host host;
  for (const kernel::ProgramInfo& program : host.loader().programs()) {
    RecordProperty(program.name, static_cast<int>(program.verified_insns));
    EXPECT_LT(program.verified_insns, 30'000U) << program.name;
  }
}

}  // namespace
}  // namespace shoal::bpftest
