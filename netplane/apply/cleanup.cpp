// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/cleanup.h"

#include "netplane/apply/config.h"
#include "netplane/kernel/bpf/loader.h"
#include "netplane/kernel/rtnl/pod_net.h"

#include <fmt/format.h>

namespace shoal::apply {
namespace {

Result<> unless_gone(Result<> done) {
  if (!done && done.error().code() == Errc::kNotFound)
    return {};
  return done;
}

}  // namespace

Result<std::vector<CleanupStep>>
plan_network_cleanup(std::shared_ptr<kernel::Rtnl> rtnl, std::shared_ptr<kernel::Nft> nft,
                     std::shared_ptr<kernel::NftServiceTable> services,
                     const std::filesystem::path& bpffs) {
  std::vector<CleanupStep> steps;
  // The programs first: from then on nothing of Shoal decides about a packet.
  const auto pins = SHOAL_TRY_WRAP(kernel::list_data_plane(bpffs), "look for BPF pins");
  for (const std::string& pin : pins)
    steps.push_back({"BPF " + pin, [bpffs] { return kernel::remove_data_plane(bpffs); }});
  std::error_code ignored;
  if (pins.empty() && std::filesystem::exists(bpffs, ignored))
    steps.push_back(
        {"folder " + bpffs.string(), [bpffs] { return kernel::remove_data_plane(bpffs); }});
  for (const auto family : {kernel::Family::kV4, kernel::Family::kV6})
    for (const kernel::Route& route : SHOAL_TRY_WRAP(rtnl->routes(family), "look for routes"))
      if (route.protocol == kernel::kRouteProtocolShoal)
        steps.push_back({"route " + route.destination.to_string(),
                         [rtnl, route] { return unless_gone(rtnl->delete_route(route)); }});
  for (const kernel::Link& link :
       SHOAL_TRY_WRAP(kernel::pod_links(*rtnl), "look for the pods' links"))
    steps.push_back(
        {"link " + link.name, [rtnl, link] { return unless_gone(rtnl->delete_link(link.index)); }});
  const auto overlay = rtnl->link(kOverlayLink);
  if (overlay && overlay->kind == "vxlan")
    steps.push_back({"link " + overlay->name, [rtnl, index = overlay->index] {
                       return unless_gone(rtnl->delete_link(index));
                     }});
  for (const kernel::Proxy& proxy : SHOAL_TRY_WRAP(rtnl->proxies(), "look for proxy entries"))
    steps.push_back({"proxy entry " + proxy.ip.to_string(),
                     [rtnl, proxy] { return unless_gone(rtnl->delete_proxy(proxy)); }});
  if (SHOAL_TRY_WRAP(services->present(), "look for the tables of proxy: nftables"))
    steps.push_back({fmt::format("nftables tables inet {} and netdev {}", kernel::kNftServiceTable,
                                 kernel::kNftOverlayTable),
                     [services] { return services->remove(); }});
  if (!SHOAL_TRY_WRAP(nft->dump(), "look for the nftables table").empty())
    steps.push_back({fmt::format("nftables table inet {}", kernel::kNftTable),
                     [nft] { return nft->remove(); }});
  return steps;
}

Result<std::vector<CleanupStep>> plan_network_cleanup(const std::filesystem::path& bpffs) {
  std::shared_ptr<kernel::Rtnl> rtnl = SHOAL_TRY_WRAP(kernel::open_rtnl(), "open rtnetlink");
  std::shared_ptr<kernel::Nft> nft = SHOAL_TRY_WRAP(kernel::open_nft(), "open nftables");
  std::shared_ptr<kernel::NftServiceTable> services =
      SHOAL_TRY_WRAP(kernel::open_nft_service_table(), "open nftables");
  return plan_network_cleanup(std::move(rtnl), std::move(nft), std::move(services), bpffs);
}

}  // namespace shoal::apply
