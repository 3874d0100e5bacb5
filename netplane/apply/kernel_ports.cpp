// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/kernel_ports.h"

#include "netplane/apply/north_south.h"
#include "netplane/kernel/bpf/loader.h"
#include "netplane/kernel/nft/nft_service_table.h"
#include "netplane/kernel/rtnl/garp.h"
#include "netplane/kernel/rtnl/link_watch.h"

#include <map>
#include <set>

namespace shoal::apply {
namespace {

class BpfPrograms final : public Programs {
public:
  BpfPrograms(std::unique_ptr<kernel::Loader> loader, const Config& config)
      : loader_(std::move(loader)), config_(config) {}

  Result<> attach_host(const std::vector<kernel::Uplink>& uplinks,
                       const kernel::Link& overlay) override {
    SHOAL_TRY(loader_->take_over());
    // The receiving side first: what the others are sent must be understood.
    SHOAL_TRY_WRAP(loader_->attach_overlay(overlay.index), "attach to " + overlay.name);
    std::set<std::uint32_t> former = SHOAL_TRY(loader_->uplinks());
    for (const kernel::Uplink& uplink : uplinks) {
      SHOAL_TRY_WRAP(loader_->attach_uplink(uplink.index), "attach to the uplink " + uplink.name);
      former.erase(uplink.index);
    }
    for (const std::uint32_t index : former)
      SHOAL_TRY_WRAP(loader_->detach_uplink(index), "detach from a former uplink");
    SHOAL_TRY(attach_xdp(uplinks.front()));
    if (config_.socket_hooks)
      SHOAL_TRY_WRAP(loader_->attach_cgroup(config_.cgroup_root),
                     "attach the socket hooks to " + config_.cgroup_root.string());
    else
      SHOAL_TRY_WRAP(loader_->detach_cgroup(), "detach the socket hooks");
    return {};
  }
  Result<> attach_pod(std::uint32_t ifindex) override { return loader_->attach_pod(ifindex); }
  Result<> detach_pod(std::uint32_t ifindex) override { return loader_->detach_pod(ifindex); }
  Result<> forget_pod(std::uint32_t ifindex) override { return loader_->forget_pod(ifindex); }
  Result<bool> attached_before() const override {
    return !SHOAL_TRY(loader_->attached_interfaces()).empty();
  }
  Result<> sweep() override {
    SHOAL_TRY_WRAP(loader_->remove_defunct(), "sweep attachments whose device is gone");
    return {};
  }
  std::vector<std::string> limitations() const override {
    std::vector<std::string> out = loader_->limitations();
    out.insert(out.end(), loader_->losses().begin(), loader_->losses().end());
    if (!no_xdp_.empty())
      out.push_back(no_xdp_);
    if (!no_drain_.empty())
      out.push_back(no_drain_);
    return out;
  }

private:
  // XDP is a shorter way and never the only one: a device that takes none is served by tc.
  Result<> attach_xdp(const kernel::Uplink& uplink) {
    const XdpChoice choice = choose_xdp(config_, uplink);
    no_xdp_ = choice.limitation;
    if (!choice.attach || !loader_->features().xdp)  // the latter is among the kernel's limitations
      return loader_->detach_xdp();
    if (Result<> done = loader_->attach_xdp(uplink.index, uplink.address, config_.vxlan_port);
        !done) {
      if (done.error().code() != Errc::kConflict && done.error().code() != Errc::kUnsupported)
        return fail(std::move(done).error().wrap("attach XDP to the uplink " + uplink.name));
      no_xdp_ = xdp_refused(uplink, done.error());
    }
    return {};
  }

  std::unique_ptr<kernel::Loader> loader_;
  Config config_;
  std::string no_xdp_;  // why the uplink has no XDP
  const std::string no_drain_ = drain_limitation();
};

class LanAnnouncer final : public VipAnnouncer {
public:
  LanAnnouncer(std::vector<kernel::Uplink> uplinks,
               std::map<std::uint32_t, kernel::Announcer> announcers)
      : uplinks_(std::move(uplinks)), announcers_(std::move(announcers)) {}
  Result<> announce(const IpAddress& ip) override { return towards(ip).announce(ip); }
  Result<> listen_for(const IpAddress& ip) override { return towards(ip).listen_for(ip); }
  void ignore(const IpAddress& ip) override { towards(ip).ignore(ip); }

private:
  kernel::Announcer& towards(const IpAddress& ip) {
    return announcers_.at(kernel::uplink_towards(uplinks_, ip).index);
  }
  std::vector<kernel::Uplink> uplinks_;
  std::map<std::uint32_t, kernel::Announcer> announcers_;
};

}  // namespace

Result<std::unique_ptr<VipAnnouncer>>
open_lan_announcer(const std::vector<kernel::Uplink>& uplinks) {
  std::map<std::uint32_t, kernel::Announcer> announcers;
  for (const kernel::Uplink& uplink : uplinks)
    announcers.emplace(uplink.index,
                       SHOAL_TRY_WRAP(kernel::Announcer::open(-1, uplink.index, uplink.mac),
                                      "open a packet socket on " + uplink.name));
  return std::make_unique<LanAnnouncer>(uplinks, std::move(announcers));
}

Result<LinksStirred> watch_links() {
  auto watch = std::make_shared<kernel::LinkWatch>(SHOAL_TRY(kernel::LinkWatch::open()));
  return LinksStirred([watch] { return watch->stirred(); });
}

Result<KernelPorts> open_kernel_ports(const Config& config) {
  KernelPorts ports;
  ports.rtnl = SHOAL_TRY_WRAP(kernel::open_rtnl(), "open rtnetlink");
  ports.nft = SHOAL_TRY_WRAP(kernel::open_nft(), "open nftables");
  kernel::LoaderOptions options;
  options.root = config.bpffs;
  options.sizes = config.sizes;
  options.allowed = config.allowed;
  options.hash_seed = config.hash_seed;
  auto loader = SHOAL_TRY_WRAP(kernel::Loader::open(options), "load the BPF programs");
  ports.maps = SHOAL_TRY_WRAP(loader->maps(), "open the BPF maps");
  ports.open_connection_maps = [folder = loader->maps_folder()] {
    return kernel::open_connection_maps(folder);
  };
  ports.programs = std::make_unique<BpfPrograms>(std::move(loader), config);
  ports.open_announcer = open_lan_announcer;
  ports.links_stirred = SHOAL_TRY(watch_links());
  ports.open_pod_rtnl = [](int netns_fd) { return kernel::open_rtnl(netns_fd); };
  ports.remove_nftables = []() -> Result<> {
    const auto rtnl = SHOAL_TRY(kernel::open_rtnl());
    for (const kernel::Proxy& proxy : SHOAL_TRY(rtnl->proxies()))
      if (Result<> done = rtnl->delete_proxy(proxy);
          !done && done.error().code() != Errc::kNotFound)
        return done;
    // The overlay's device keeps its address: routes over it would go with its last one.
    const auto table = SHOAL_TRY(kernel::open_nft_service_table());
    if (SHOAL_TRY_WRAP(table->present(), "look for the service table"))
      return table->remove();
    return {};
  };
  return ports;
}

}  // namespace shoal::apply
