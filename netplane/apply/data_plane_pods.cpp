// SPDX-License-Identifier: Apache-2.0
// Wiring a pod: veth, program, map entry; and taking it apart again.
#include "netplane/apply/bpf_data_plane.h"

#include "netplane/apply/host_links.h"
#include "netplane/kernel/rtnl/pod_net.h"

#include <fmt/format.h>

namespace shoal::apply {
namespace {

// Undoes, in reverse, what a call that fails has made; forgets all of it when the call succeeds.
class Undo {
public:
  void add(std::function<void()> step) { steps_.push_back(std::move(step)); }
  void forget() { steps_.clear(); }
  ~Undo() {
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step)
      (*step)();
  }

private:
  std::vector<std::function<void()>> steps_;
};

std::string text_of(const std::vector<IpAddress>& ips) {
  std::string out;
  for (const IpAddress& ip : ips)
    out += (out.empty() ? "" : ", ") + ip.to_string();
  return out;
}

}  // namespace

Result<model::LocalPod> BpfDataPlane::attach_pod(const PodAttachment& attachment) {
  std::vector<IpAddress> ips;
  for (const model::PodAddress& address : attachment.addresses)
    ips.push_back(address.ip);
  const std::string what = fmt::format("attach pod {} ({})", attachment.pod, text_of(ips));
  const kernel::PodNetSpec spec =
      kernel::make_pod_net_spec(attachment.uid, std::move(ips), links_.pod_mtu);
  const bool wired_before = kernel_.rtnl->link(spec.host_link).has_value();
  auto pod_rtnl = SHOAL_TRY_WRAP(kernel_.open_pod_rtnl(attachment.netns_fd), what);
  const kernel::AttachedPod link =
      SHOAL_TRY_WRAP(kernel::attach_pod(*kernel_.rtnl, *pod_rtnl, spec), what);
  Undo undo;
  if (!wired_before)
    undo.add([&] { (void)kernel::detach_pod(*kernel_.rtnl, spec.host_link); });

  SHOAL_TRY_WRAP(kernel_.programs->attach_pod(link.host_ifindex),
                 fmt::format("{}: attach the program to {}", what, spec.host_link));
  if (!wired_before)
    undo.add([&] { (void)kernel_.programs->detach_pod(link.host_ifindex); });

  for (const auto& [ip, generation] : attachment.addresses) {
    const model::PodEntry entry{link.host_ifindex, generation, link.pod_mac, link.host_mac};
    const auto held = pods_.find(ip);
    const auto before = held == pods_.end() ? std::nullopt : std::optional(held->second);
    if (before != entry) {
      SHOAL_TRY_WRAP(kernel_.maps->put_pod(ip, entry), what);
      if (!before)
        undo.add([this, ip = ip] {
          if (kernel_.maps->delete_pod(ip))
            pods_.erase(ip);
          attached_.erase(ip);
        });
    }
    pods_[ip] = entry;
    attached_[ip] = entry;
  }
  undo.forget();

  return wired_pod(attachment, link);
}

Result<bool> BpfDataPlane::detach_pod(std::string_view uid, const std::vector<IpAddress>& ips,
                                      Detach how) {
  const kernel::PodNetSpec spec = kernel::make_pod_net_spec(uid, ips, links_.pod_mtu);
  const std::string what = fmt::format("detach pod {} ({})", uid, text_of(ips));
  Result<> first;
  const auto keep_first = [&](Result<> done) {
    if (!done && done.error().code() != Errc::kNotFound && first)
      first = std::unexpected<Error>(std::move(done).error().wrap(what));
  };

  const std::uint32_t index = SHOAL_TRY_WRAP(kernel_.rtnl->link_index(spec.host_link), what);
  std::uint32_t& device = detaching_[spec.host_link];
  if (index != 0)
    device = index;
  for (const IpAddress& ip : ips) {
    // The address may be another pod's by now: its entry names that one's MAC.
    const auto held = pods_.find(ip);
    if (held == pods_.end() || held->second.host_mac != spec.host_mac)
      continue;
    if (device == 0)
      device = held->second.ifindex;
    Result<> done = kernel_.maps->delete_pod(ip);
    if (done) {
      pods_.erase(held);
      attached_.erase(ip);
    }
    keep_first(std::move(done));
  }
  if (index != 0 && how == Detach::kNow)
    keep_first(kernel::detach_pod(*kernel_.rtnl, spec.host_link));
  const bool gone = index == 0 || how == Detach::kNow;
  // Not before: to take programs off a living device costs the kernel a grace period each.
  if (gone && device != 0)
    keep_first(kernel_.programs->forget_pod(device));
  if (gone)
    detaching_.erase(spec.host_link);
  if (!first)
    return fail(std::move(first).error());
  return gone;
}

}  // namespace shoal::apply
