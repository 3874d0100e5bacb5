// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/north_south.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::apply {
namespace {

TEST(NorthSouth, XdpIsForEveryDeviceThatLosesNothing) {
  const XdpChoice on_hardware = choose_xdp({}, {.name = "eth0"});
  EXPECT_TRUE(on_hardware.attach);
  EXPECT_EQ(on_hardware.limitation, "");
  const XdpChoice on_bond = choose_xdp({}, {.name = "bond0", .kind = "bond"});
  EXPECT_FALSE(on_bond.attach) << "its ports' drivers see the frames";
  EXPECT_THAT(on_bond.limitation, testing::HasSubstr("bond0, a bond"));
  const XdpChoice on_veth = choose_xdp({}, {.name = "up0", .kind = "veth"});
  EXPECT_FALSE(on_veth.attach);
  EXPECT_THAT(on_veth.limitation, testing::AllOf(testing::HasSubstr("up0, a veth"),
                                                 testing::HasSubstr("features.xdp: on"),
                                                 testing::HasSubstr("goes through tc")));
  EXPECT_TRUE(choose_xdp({.xdp_on_veth = true}, {.name = "up0", .kind = "veth"}).attach);
}

TEST(NorthSouth, WithSnatItHasNothingToDo) {
  const XdpChoice choice = choose_xdp({.snat = true}, {.name = "eth0"});
  EXPECT_FALSE(choice.attach);
  EXPECT_EQ(choice.limitation, "");
}

TEST(NorthSouth, ARefusalSaysWhyAndWhatItCosts) {
  EXPECT_EQ(
      xdp_refused({.name = "eth0"}, Error(Errc::kConflict, "another XDP program is on the device")),
      "no XDP on the uplink eth0: another XDP program is on the device; what clients outside send "
      "to pods of other hosts goes through tc, at several times the cost a packet");
}

}  // namespace
}  // namespace shoal::apply
