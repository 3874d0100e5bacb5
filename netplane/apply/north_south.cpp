// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/north_south.h"

#include <fmt/format.h>
#include <string_view>

namespace shoal::apply {
namespace {

constexpr std::string_view kCost =
    "what clients outside send to pods of other hosts goes through tc, at several times the cost a "
    "packet";

}  // namespace

XdpChoice choose_xdp(const Config& config, const kernel::Uplink& uplink) {
  // Everything goes by the stack then.
  if (config.snat)
    return {};
  if (!config.xdp_on_veth && uplink.kind == "veth")
    return {
        false,
        fmt::format("no XDP on the uplink {}, a veth: what it sends there is lost without a word "
                    "unless the other end takes such frames, by an XDP program or GRO of its own "
                    "(features.xdp: on says that it does); {}",
                    uplink.name, kCost)};
  if (uplink.kind == "bond")
    return {false,
            fmt::format("no XDP on the uplink {}, a bond: its ports' drivers would run it, and it "
                        "knows the uplink only; {}",
                        uplink.name, kCost)};
  return {true, ""};
}

std::string xdp_refused(const kernel::Uplink& uplink, const Error& why) {
  return fmt::format("no XDP on the uplink {}: {}; {}", uplink.name, why.message(), kCost);
}

}  // namespace shoal::apply
