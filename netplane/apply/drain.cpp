// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/drain.h"

#include "netplane/kernel/diag/sock_diag.h"
#include "netplane/kernel/nft/conntrack.h"
#include "netplane/kernel/rtnl/netns.h"
#include "netplane/kernel/rtnl/raw_tcp.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>

namespace shoal::apply {
namespace {

using kernel::BalancedFlow;
using kernel::ConnectedSocket;
using kernel::TrackedFlow;
using kernel::TranslatedSocket;

// No window is so large that both lie in it: one of them is answered.
constexpr std::uint32_t kSequences[] = {0, 0x80000000U};

struct Closable {
  ConnectedSocket socket;
  std::size_t group;
};

// One pass, with what both kinds of data plane do alike.
class DrainPass {
public:
  DrainPass(const plan::DrainTargets& targets, kernel::ConnectionMaps* maps)
      : targets_(targets), maps_(maps) {
    report_.closed.resize(targets.groups());
    note(read_own_addresses());
  }

  bool is_here(const IpAddress& ip) const { return targets_.is_pod_here(ip) || own_.contains(ip); }
  // A TCP socket with these ends, in whichever namespace it is.
  void wants(const SocketAddress& local, const SocketAddress& remote, std::size_t group) {
    ends_.insert_or_assign({local, remote}, group);
  }
  void close_sockets() {
    note(kernel::for_each_netns([this](int netns) { note(close_in(netns)); }));
  }
  // The end of a TCP connection that only this host leads, and neither end of which is here. It is
  // forgotten first, so that the ends' next packets are nobody's.
  void tell_ends(kernel::Conntrack& table, const TrackedFlow& flow, const SocketAddress& frontend,
                 std::size_t group) {
    if (!raw_) {
      auto opened = kernel::RawTcp::open();
      if (!opened)
        return note(fail(std::move(opened).error()));
      raw_ = *std::move(opened);
    }
    if (Result<> done = table.forget(flow); !done)
      return note(std::move(done));
    bool told = false;
    const auto tell = [&](const SocketAddress& from, const SocketAddress& to,
                          std::uint32_t sequence) {
      Result<> sent = raw_->send_ack(from, to, sequence, sequence);
      told |= sent.has_value();
      note(std::move(sent));
    };
    for (const std::uint32_t sequence : kSequences) {
      tell(flow.reply_destination, flow.reply_source, sequence);
      tell(frontend, flow.source, sequence);
    }
    if (told)
      count(group);
  }
  void count(std::size_t group, std::uint64_t n = 1) { report_.closed.at(group) += n; }

  // Each kind of failure once: there may be thousands of sockets.
  void note(Result<> done) {
    if (done)
      return;
    if (report_.errors.size() < kErrorsMax &&
        std::ranges::none_of(report_.errors, [&](const Error& error) {
          return error.message() == done.error().message();
        }))
      report_.errors.push_back(std::move(done).error());
  }
  DrainReport take() { return std::move(report_); }

private:
  static constexpr std::size_t kErrorsMax = 8;

  Result<> read_own_addresses() {
    const auto rtnl = SHOAL_TRY_WRAP(kernel::open_rtnl(), "open rtnetlink");
    for (const kernel::LinkAddress& address : SHOAL_TRY(rtnl->addresses()))
      own_.insert(address.ip);
    return {};
  }

  Result<> close_in(int netns) {
    const auto diag = SHOAL_TRY(kernel::open_sock_diag(netns));
    std::vector<Closable> found;
    const auto look = [&](const ConnectedSocket& socket, std::span<const std::uint8_t> storage) {
      if (const auto group = group_of(socket, storage))
        found.push_back({socket, *group});
    };
    SHOAL_TRY(diag->each(L4Proto::kTcp, storage(), look));
    if (maps_)
      SHOAL_TRY(diag->each(L4Proto::kUdp, storage(), look));
    for (const Closable& closable : found) {
      const Result<bool> closed = diag->destroy(closable.socket);
      if (!closed)
        note(fail(closed.error()));
      else if (*closed)
        count(closable.group);
    }
    return {};
  }

  int storage() const { return maps_ ? maps_->socket_storage() : -1; }

  std::optional<std::size_t> group_of(const ConnectedSocket& socket,
                                      std::span<const std::uint8_t> storage) {
    if (const auto asked = asked_for(socket, storage); asked && asked->backend == socket.remote)
      if (const auto group = targets_.group_of(socket.proto, asked->frontend, asked->backend))
        return group;
    if (socket.proto != L4Proto::kTcp)
      return std::nullopt;
    const auto at = ends_.find({socket.local, socket.remote});
    return at == ends_.end() ? std::nullopt : std::optional(at->second);
  }

  // What the hooks keep of it.
  std::optional<TranslatedSocket> asked_for(const ConnectedSocket& socket,
                                            std::span<const std::uint8_t> storage) {
    if (!maps_ || !targets_.has_backend(socket.proto, socket.remote))
      return std::nullopt;
    if (maps_->socket_storage() >= 0)
      return maps_->socket_of_storage(storage);
    auto kept = maps_->socket_of_cookie(socket.cookie, socket.remote);
    if (kept)
      return *kept;
    note(fail(std::move(kept).error()));
    return std::nullopt;
  }

  const plan::DrainTargets& targets_;
  kernel::ConnectionMaps* maps_;
  std::map<std::pair<SocketAddress, SocketAddress>, std::size_t> ends_;
  std::set<IpAddress> own_;
  std::unique_ptr<kernel::RawTcp> raw_;
  DrainReport report_;
};

// ---- by the maps
// ----------------------------------------------------------------------------------

struct Grouped {
  BalancedFlow flow;
  std::size_t group;
};

// Outside clients' connections that this host leads to pods elsewhere by SNAT: netfilter knows
// their other half.
Result<> end_masqueraded(DrainPass& pass, kernel::ConnectionMaps& maps,
                         const std::vector<Grouped>& elsewhere) {
  if (elsewhere.empty())
    return {};
  std::map<std::pair<SocketAddress, SocketAddress>, const Grouped*> wanted;
  for (const Grouped& each : elsewhere)
    wanted.emplace(std::pair(each.flow.client, each.flow.backend), &each);
  const auto table = SHOAL_TRY(kernel::open_conntrack());
  std::vector<std::pair<TrackedFlow, const Grouped*>> found;
  SHOAL_TRY(table->each([&](const TrackedFlow& tracked) {
    if (tracked.proto != L4Proto::kTcp || tracked.over)
      return;
    if (const auto at = wanted.find({tracked.source, tracked.destination}); at != wanted.end())
      found.emplace_back(tracked, at->second);
  }));
  for (const auto& [tracked, of] : found) {
    pass.note(maps.forget_flow(of->flow));
    pass.tell_ends(*table, tracked, of->flow.frontend, of->group);
  }
  return {};
}

Result<> drain_maps(DrainPass& pass, const plan::DrainTargets& targets,
                    kernel::ConnectionMaps& maps) {
  std::vector<Grouped> elsewhere, stale;
  SHOAL_TRY(maps.each_flow([&](const BalancedFlow& flow) {
    const auto group = targets.group_of(flow.proto, flow.frontend, flow.backend);
    if (!group)
      return;
    if (!flow.reverse)
      stale.push_back({flow, *group});
    else if (flow.proto == L4Proto::kTcp && pass.is_here(flow.backend.ip))
      pass.wants(flow.backend, flow.client, *group);
    else if (flow.proto == L4Proto::kTcp)
      elsewhere.push_back({flow, *group});
  }));
  pass.close_sockets();
  pass.note(end_masqueraded(pass, maps, elsewhere));
  // After the connections: their ends are told by way of these.
  for (const Grouped& each : stale) {
    SHOAL_TRY(maps.forget_flow(each.flow));
    if (each.flow.proto == L4Proto::kUdp)
      pass.count(each.group);
  }
  SHOAL_TRY(maps.forget_picks([&](const TranslatedSocket& pick) {
    const auto group = targets.group_of(L4Proto::kUdp, pick.frontend, pick.backend);
    if (group)
      pass.count(*group);
    return group.has_value();
  }));
  return {};
}

// ---- by conntrack
// ---------------------------------------------------------------------------------

Result<> drain_conntrack(DrainPass& pass, const plan::DrainTargets& targets) {
  const auto table = SHOAL_TRY(kernel::open_conntrack());
  std::vector<std::pair<TrackedFlow, std::size_t>> elsewhere, datagrams;
  SHOAL_TRY(table->each([&](const TrackedFlow& flow) {
    const auto group = targets.group_of(flow.proto, flow.destination, flow.reply_source);
    if (!group || flow.over)
      return;
    if (flow.proto == L4Proto::kUdp)
      datagrams.emplace_back(flow, *group);
    else if (pass.is_here(flow.reply_source.ip))
      pass.wants(flow.reply_source, flow.reply_destination, *group);
    else if (pass.is_here(flow.source.ip))
      pass.wants(flow.source, flow.destination, *group);
    else
      elsewhere.emplace_back(flow, *group);
  }));
  pass.close_sockets();
  for (const auto& [flow, group] : elsewhere)
    pass.tell_ends(*table, flow, flow.destination, group);
  for (const auto& [flow, group] : datagrams) {
    SHOAL_TRY(table->forget(flow));
    pass.count(group);
  }
  return {};
}

}  // namespace

DrainJob drain_by_maps(plan::DrainTargets targets, OpenConnectionMaps open_maps) {
  return [targets = std::make_shared<const plan::DrainTargets>(std::move(targets)),
          open_maps = std::move(open_maps)] {
    if (targets->empty())
      return DrainReport{std::vector<std::uint64_t>(targets->groups()), {}};
    auto maps = open_maps();
    DrainPass pass(*targets, maps ? maps->get() : nullptr);
    if (maps)
      pass.note(drain_maps(pass, *targets, **maps));
    else
      pass.note(fail(std::move(maps).error().wrap("open the BPF maps")));
    return pass.take();
  };
}

DrainJob drain_by_conntrack(plan::DrainTargets targets) {
  return [targets = std::make_shared<const plan::DrainTargets>(std::move(targets))] {
    if (targets->empty())
      return DrainReport{std::vector<std::uint64_t>(targets->groups()), {}};
    DrainPass pass(*targets, nullptr);
    pass.note(drain_conntrack(pass, *targets));
    return pass.take();
  };
}

std::string drain_limitation() {
  const auto can = kernel::can_destroy_sockets();
  if (can && *can)
    return {};
  return "this kernel closes no sockets of others (" +
         (can ? std::string("it lacks CONFIG_INET_DIAG_DESTROY") : can.error().message()) +
         "): connections to groups of weight 0 are not closed here, whatever their Services' "
         "shoal.dev/drain-timeout";
}

}  // namespace shoal::apply
