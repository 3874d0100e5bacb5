// SPDX-License-Identifier: Apache-2.0
// One scenario suite on the real maps and on the fake: what is written is read, and the dumps
// agree.
#include "tests/bpf/host.h"
#include "tests/fakes/fake_data_maps.h"

#include <gtest/gtest.h>

namespace shoal::bpftest {
namespace {

class MapsTest : public testing::TestWithParam<bool> {
protected:
  MapsTest() {
    if (GetParam())
      host_ = std::make_unique<Host>();
    else
      fake_ = std::make_unique<FakeDataMaps>(small_sizes());
  }
  kernel::DataMaps& maps() { return host_ ? host_->maps() : *fake_; }
  std::string dumped() { return kernel::dump(maps().read().value()); }

  std::unique_ptr<Host> host_;
  std::unique_ptr<FakeDataMaps> fake_;
};
INSTANTIATE_TEST_SUITE_P(RealAndFake, MapsTest, testing::Bool(),
                         [](const auto& which) { return which.param ? "Real" : "Fake"; });

void fill(kernel::DataMaps& maps) {
  const kernel::BackendWrite backends[] = {
      {1, {ip("10.244.1.5"), 8080, 7, 1, true, {}, true}},
      {2, {ip("10.244.2.7"), 8080, 9, 3, false, ip("198.18.0.12"), true, true}},
      {3, {.epoch = 4, .valid = false}}};
  ASSERT_TRUE(maps.put_backends(backends));
  std::vector<model::BackendId> blocks(model::kRingBlockSlots, 1);
  blocks.resize(2 * model::kRingBlockSlots, 2);
  ASSERT_TRUE(maps.put_ring_blocks(5, blocks));
  ASSERT_TRUE(maps.switch_ring(2, {5, 100}));
  const kernel::FrontendWrite frontends[] = {
      {{ip("10.96.0.10"), 80, L4Proto::kTcp}, {.inside = 2}},
      {{ip("2001:db8::10"), 53, L4Proto::kUdp}, {.inside = 3, .outside = 3}},
      {{ip("198.18.100.1"), 80, L4Proto::kTcp}, {2, 4, 60, true}}};
  for (const char* range : {"198.18.0.0/24", "2001:db8:1::/64", "0.0.0.0/0"})
    ASSERT_TRUE(maps.put_source_range(4, IpPrefix::parse(range).value()));
  ASSERT_TRUE(maps.put_frontends(frontends));
  ASSERT_TRUE(maps.put_vips(std::array{kernel::VipWrite{ip("10.96.0.10"), {}}}));
  ASSERT_TRUE(maps.put_vips(std::array{kernel::VipWrite{ip("198.18.100.1"), {true}}}));
  ASSERT_TRUE(
      maps.put_pod(ip("10.244.1.5"), {12, 7, mac("02:00:00:00:aa:05"), mac("02:00:00:00:bb:05")}));
  ASSERT_TRUE(maps.put_node(IpPrefix::parse("10.244.1.0/24").value(), {}));
  ASSERT_TRUE(maps.put_node(IpPrefix::parse("10.244.2.0/24").value(), {ip("198.18.0.12")}));
}

constexpr const char* kFilled =
    R"(backend      1 10.244.1.5:8080 gen=7 epoch=1 local
backend      2 10.244.2.7:8080 gen=9 epoch=3 node=198.18.0.12 draining
backend      3 free epoch=4
frontend 10.96.0.10:80/TCP service=2
frontend 198.18.100.1:80/TCP service=2 outside=4 affinity=60s restricted
frontend [2001:db8::10]:53/UDP service=3 north-south
node 10.244.1.0/24 self
node 10.244.2.0/24 via=198.18.0.12
pod 10.244.1.5 ifindex=12 gen=7 mac=02:00:00:00:aa:05 host_mac=02:00:00:00:bb:05
ring      2 slots=100 first_block=5 1*64 2*36
source-range service=4 0.0.0.0/0
source-range service=4 198.18.0.0/24
source-range service=4 2001:db8:1::/64
vip 10.96.0.10
vip 198.18.100.1 announced
)";

TEST_P(MapsTest, WhatIsWrittenIsRead) {
  fill(maps());
  EXPECT_EQ(dumped(), kFilled);
  EXPECT_EQ(maps().ring_ref(2).value(), (model::RingRef{5, 100}));
  fill(maps());  // again: nothing changes
  EXPECT_EQ(dumped(), kFilled);
  EXPECT_THAT(kernel::violations(maps().read().value()), testing::IsEmpty());
}

TEST_P(MapsTest, DeletesAreIdempotentAndAFreedIdKeepsItsEpoch) {
  fill(maps());
  for (int round = 0; round < 2; ++round) {
    const model::FrontendKey keys[] = {{ip("10.96.0.10"), 80, L4Proto::kTcp},
                                       {ip("2001:db8::10"), 53, L4Proto::kUdp},
                                       {ip("198.18.100.1"), 80, L4Proto::kTcp}};
    EXPECT_TRUE(maps().delete_frontends(keys));
    for (const char* range : {"198.18.0.0/24", "2001:db8:1::/64", "0.0.0.0/0"})
      EXPECT_TRUE(maps().delete_source_range(4, IpPrefix::parse(range).value()));
    EXPECT_TRUE(maps().delete_vip(ip("10.96.0.10")));
    EXPECT_TRUE(maps().delete_vip(ip("198.18.100.1")));
    EXPECT_TRUE(maps().delete_pod(ip("10.244.1.5")));
    EXPECT_TRUE(maps().delete_node(IpPrefix::parse("10.244.1.0/24").value()));
    EXPECT_TRUE(maps().delete_node(IpPrefix::parse("10.244.2.0/24").value()));
    EXPECT_TRUE(maps().switch_ring(2, {}));
    const kernel::BackendWrite freed[] = {{1, {.epoch = 1, .valid = false}},
                                          {2, {.epoch = 3, .valid = false}}};
    EXPECT_TRUE(maps().put_backends(freed));
  }
  EXPECT_EQ(
      dumped(),
      "backend      1 free epoch=1\nbackend      2 free epoch=3\nbackend      3 free epoch=4\n");
}

TEST_P(MapsTest, WhatCannotBeIsRefused) {
  const kernel::BackendWrite none{0, {}};
  EXPECT_EQ(maps().put_backends({&none, 1}).error().code(), Errc::kInvalid);
  const kernel::BackendWrite beyond{256, {.epoch = 1}};
  EXPECT_EQ(maps().put_backends({&beyond, 1}).error().code(), Errc::kInvalid);
  const kernel::FrontendWrite nowhere{{ip("10.96.0.10"), 80, L4Proto::kTcp}, {}};
  EXPECT_EQ(maps().put_frontends({&nowhere, 1}).error().code(), Errc::kInvalid);
  const kernel::FrontendWrite far{{ip("10.96.0.10"), 80, L4Proto::kTcp}, {.outside = 64}};
  EXPECT_EQ(maps().put_frontends({&far, 1}).error().code(), Errc::kInvalid);
  EXPECT_EQ(maps().put_source_range(64, {}).error().code(), Errc::kInvalid);
  EXPECT_EQ(maps().switch_ring(64, {}).error().code(), Errc::kInvalid);
  EXPECT_EQ(maps().switch_ring(1, {1199, 65}).error().code(), Errc::kInvalid);
  EXPECT_EQ(
      maps().put_node(IpPrefix::parse("10.244.9.0/24").value(), {ip("2001:db8::1")}).error().code(),
      Errc::kInvalid);
}

TEST_P(MapsTest, AFullMapNamesTheKeyThatSizesIt) {
  std::vector<kernel::FrontendWrite> writes;
  for (std::uint16_t port = 1; port <= 100; ++port)
    writes.push_back({{ip("10.96.0.10"), port, L4Proto::kTcp}, {.inside = 1}});
  auto put = maps().put_frontends(writes);
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().code(), Errc::kExhausted);
  EXPECT_THAT(put.error().message(), testing::HasSubstr("data_plane.frontends"));
}

// So many that the real maps are mapped for it, from entries on that begin no page.
TEST_P(MapsTest, WhatIsWrittenInBulkIsReadAndNothingElseIsTouched) {
  constexpr std::uint32_t kBlocks = 150, kFirst = 3, kBackends = 140, kFirstId = 7;
  const auto entry = [](std::uint32_t id) {
    return model::BackendEntry{IpAddress::v4(0x0af40000U + id), 80, 1, 1};
  };
  const std::vector<model::BackendId> below(model::kRingBlockSlots, kFirstId);
  ASSERT_TRUE(maps().put_ring_blocks(kFirst - 1, below));
  ASSERT_TRUE(maps().put_ring_blocks(kFirst + kBlocks, below));
  std::vector<kernel::BackendWrite> writes;
  for (std::uint32_t id = kFirstId + kBackends; id-- > kFirstId;)
    writes.push_back({id, entry(id)});
  ASSERT_TRUE(maps().put_backends(writes));
  std::vector<model::BackendId> slots;
  for (std::uint32_t i = 0; i < kBlocks * model::kRingBlockSlots; i++)
    slots.push_back(kFirstId + i % kBackends);
  ASSERT_TRUE(maps().put_ring_blocks(kFirst, slots));
  ASSERT_TRUE(maps().switch_ring(1, {kFirst - 1, (kBlocks + 2) * model::kRingBlockSlots}));

  slots.insert(slots.begin(), below.begin(), below.end());
  slots.insert(slots.end(), below.begin(), below.end());
  const model::DataPlane held = maps().read().value();
  EXPECT_EQ(held.rings.at(1).backends, slots);
  ASSERT_EQ(held.backends.size(), kBackends);
  for (const auto& [id, now] : held.backends)
    EXPECT_EQ(now, entry(id));
}

TEST_P(MapsTest, ViolationsAreSeen) {
  fill(maps());
  const kernel::BackendWrite freed{1, {.epoch = 1, .valid = false}};
  ASSERT_TRUE(maps().put_backends({&freed, 1}));
  EXPECT_THAT(kernel::violations(maps().read().value()),
              testing::ElementsAre("ring 2 names backend 1, which is not valid"));
}

TEST(FakeDataMapsTest, FailsTheNthWriteWithAPrefixWritten) {
  FakeDataMaps maps(small_sizes());
  maps.fail_at(2, Errc::kExhausted);
  maps.fail_after_entries(1);
  EXPECT_TRUE(maps.put_vips(std::array{kernel::VipWrite{ip("10.96.0.1"), {}}}));
  const kernel::BackendWrite two[] = {{1, {ip("10.0.0.1"), 1, 0, 1}},
                                      {2, {ip("10.0.0.2"), 1, 0, 1}}};
  EXPECT_EQ(maps.put_backends(two).error().code(), Errc::kExhausted);
  EXPECT_EQ(maps.read().value().backends.size(), 1U);
  EXPECT_TRUE(maps.put_backends(two));
  EXPECT_EQ(maps.read().value().backends.size(), 2U);
}

}  // namespace
}  // namespace shoal::bpftest
