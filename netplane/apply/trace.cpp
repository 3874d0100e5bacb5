// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/trace.h"

#include <algorithm>
#include <fmt/format.h>
#include <span>
#include <tuple>

namespace shoal::apply {
namespace {

const model::FrontendEntry* frontend_of(const TraceQuery& query, const model::DataPlane& maps) {
  const auto found = maps.frontends.find({query.to.ip, query.to.port, query.proto});
  return found == maps.frontends.end() ? nullptr : &found->second;
}

class Tracer {
public:
  Tracer(const TraceQuery& query, const TraceWorld& world) : q_(query), w_(world) {}

  Trace run() {
    t_.client = client_text();
    const bool local = q_.origin != TraceOrigin::kOutside;
    if (local && w_.socket_hooks)
      by_socket();
    else if (q_.origin == TraceOrigin::kHost && !is_routed_to_overlay(q_.to.ip))
      without_hooks();
    else
      by_packet();
    return std::move(t_);
  }

private:
  // ---- the three ways
  void by_socket();
  bool is_routed_to_overlay(const IpAddress& ip) const {
    return std::ranges::any_of(w_.service_cidrs,
                               [&](const IpPrefix& cidr) { return cidr.contains(ip); });
  }
  void without_hooks();
  void by_packet();

  // ---- parts
  void say(std::string_view stage, std::string text) {
    t_.steps.push_back({std::string(stage), std::move(text)});
  }
  void end(std::string_view stage, TraceVerdict verdict, std::string_view reason,
           std::string text) {
    say(stage, std::move(text));
    t_.verdict = verdict;
    t_.reason = reason;
  }
  bool take_frontend();  // false: said why not, and decided unless the address is no VIP
  void no_frontend(const model::FrontendEntry* other_side);
  bool source_allowed(const model::FrontendEntry& frontend);
  bool known_flow(const model::FrontendEntry& frontend);
  std::vector<model::BackendId> former_owners() const;
  bool known_affinity(const model::FrontendEntry& frontend);
  bool take_ring();
  void pick_by_hash();
  void chosen(model::BackendId id, std::string_view stage, std::string text);
  void to_backend(const model::BackendEntry& backend);
  void plain(const IpAddress& to);
  void by_stack(const IpAddress& to);

  // ---- lookups, as the programs make them
  const model::BackendEntry* valid_backend(model::BackendId id) const {
    const auto found = w_.maps.backends.find(id);
    return found == w_.maps.backends.end() || !found->second.valid ? nullptr : &found->second;
  }
  const model::BackendEntry* same_backend(model::BackendId id, std::uint32_t epoch) const {
    const model::BackendEntry* entry = valid_backend(id);
    return entry != nullptr && entry->epoch == epoch ? entry : nullptr;
  }
  const std::pair<const IpPrefix, model::NodeEntry>* node_of(const IpAddress& ip) const {
    const std::pair<const IpPrefix, model::NodeEntry>* best = nullptr;
    for (const auto& node : w_.maps.nodes)
      if (node.first.contains(ip) &&
          (best == nullptr || node.first.length() > best->first.length()))
        best = &node;
    return best;
  }

  // ---- words
  std::string client_text() const;
  std::string to_text() const {
    return fmt::format("{}/{}", q_.to.to_string(), to_string(q_.proto));
  }
  bool outside() const { return q_.origin == TraceOrigin::kOutside; }
  std::string_view side() const { return outside() ? "outside" : "inside"; }
  std::string service_text(model::ServiceIndex service) const {
    const auto name = w_.services.find(service);
    return name == w_.services.end()
               ? fmt::format("service index {}, which has no name here", service)
               : name->second;
  }
  std::string pod_text(const IpAddress& ip) const {
    const auto name = w_.pods.find(ip);
    return name == w_.pods.end() ? ip.to_string()
                                 : fmt::format("{} ({})", name->second, ip.to_string());
  }
  std::string host_text(const IpAddress& underlay) const {
    const auto name = w_.hosts.find(underlay);
    return name == w_.hosts.end() ? underlay.to_string()
                                  : fmt::format("{} ({})", name->second, underlay.to_string());
  }
  std::string backend_text(model::BackendId id) const {
    const model::BackendEntry* entry = valid_backend(id);
    if (entry == nullptr)
      return fmt::format("backend {}, which has no entry", id);
    const std::string address = SocketAddress{entry->ip, entry->port}.to_string();
    const auto name = w_.backends.find(id);
    return name == w_.backends.end() || name->second.pod.empty()
               ? fmt::format("backend {} at {}", id, address)
               : fmt::format("{} at {}", name->second.pod, address);
  }
  std::string way_of(const model::BackendEntry& entry) const {
    if (entry.stack && (entry.local || entry.node.is_unspecified()))
      return entry.local ? "process of this host" : "this host's routes";
    if (entry.local)
      return "pod here";
    return entry.node.is_unspecified() ? "host's routes" : "overlay to " + host_text(entry.node);
  }

  TraceShare share_of(model::BackendId id) const {
    TraceShare share{.id = id};
    if (const auto name = w_.backends.find(id); name != w_.backends.end())
      share.name = name->second;
    const model::BackendEntry* entry = valid_backend(id);
    if (entry == nullptr) {
      share.way = "no such backend: refused (NO_BACKEND)";
      return share;
    }
    share.address = {entry->ip, entry->port};
    share.way = way_of(*entry);
    return share;
  }

  const TraceQuery& q_;
  const TraceWorld& w_;
  Trace t_;
  model::ServiceIndex service_ = model::kNoService;
};

std::string Tracer::client_text() const {
  const std::string port = q_.source_port ? fmt::format(", port {}", *q_.source_port) : "";
  switch (q_.origin) {
  case TraceOrigin::kPod:
    return fmt::format("pod {} ({}){}", q_.pod, q_.client ? q_.client->to_string() : "?", port);
  case TraceOrigin::kHost:
    return fmt::format("a process of this host{}", port);
  case TraceOrigin::kOutside:
    return fmt::format("outside client {}{}", q_.client ? q_.client->to_string() : "of any address",
                       port);
  }
  return {};
}

// ---- the three ways
// -------------------------------------------------------------------------------

void Tracer::by_socket() {
  say("hook",
      "connect() and sendmsg() are translated by the socket hooks, before there is a packet");
  if (!take_frontend()) {
    if (t_.reason.empty())
      plain(q_.to.ip);
    return;
  }
  const model::FrontendEntry& frontend = *frontend_of(q_, w_.maps);
  if (frontend.affinity_s > 0)
    say("affinity",
        fmt::format("{} s, by the client's network namespace: it gets the backend it had "
                    "last, if it had one within that time; else it picks as follows",
                    frontend.affinity_s));
  if (!take_ring())
    return;
  t_.verdict = TraceVerdict::kShares;
  say("pick",
      fmt::format("{}: the shares below are the chances{}",
                  q_.proto == L4Proto::kUdp
                      ? "at random for a connected socket, and once for all datagrams of an "
                        "unconnected one"
                      : "at random for each connect()",
                  q_.source_port ? "; the source port plays no part" : ""));
  if (t_.shares.size() > 1)
    return say("deliver",
               "the socket connects to the backend itself; the way to each is shown with it");
  const model::BackendEntry* only = valid_backend(t_.shares.front().id);
  if (only == nullptr)
    return end("deliver", TraceVerdict::kRefused, "NO_BACKEND",
               "the ring names a backend that has no entry: refused");
  plain(only->ip);
  if (!t_.reason.empty())
    return;
  t_.verdict = TraceVerdict::kBackend;
  t_.picked = t_.shares.front();
}

void Tracer::without_hooks() {
  say("hook",
      "features.socket_lb is off: of what processes of this host send, only packets to ClusterIPs "
      "pass a program of Shoal's on their way out");
  by_stack(q_.to.ip);
}

void Tracer::by_packet() {
  if (q_.origin == TraceOrigin::kPod) {
    say("hook",
        "features.socket_lb is off: the program behind the pod's veth balances each packet");
    if (!q_.client || !w_.maps.pods.contains(*q_.client))
      return end(
          "source", TraceVerdict::kDropped, "SPOOFED_SOURCE",
          "the data plane knows no pod here with this address: all that it sends is dropped");
  } else if (q_.origin == TraceOrigin::kHost) {
    say("hook",
        "features.socket_lb is off: ClusterIPs are routed to the overlay device, where a program "
        "balances each packet");
  } else if (const auto vip = w_.maps.vips.find(q_.to.ip); vip != w_.maps.vips.end()) {
    const std::string_view protocol = q_.to.ip.is_v4() ? "ARP" : "NDP";
    say(q_.to.ip.is_v4() ? "arp" : "ndp",
        vip->second.announced
            ? fmt::format("this host answers {} for {}", protocol, q_.to.ip.to_string())
            : fmt::format("this host does not answer {} for {}: the LAN sends it to the host "
                          "that announces it (shoal status there); from here on, what this "
                          "host would do",
                          protocol, q_.to.ip.to_string()));
  }
  if (!take_frontend()) {
    if (t_.reason.empty())
      plain(q_.to.ip);
    return;
  }
  const model::FrontendEntry& frontend = *frontend_of(q_, w_.maps);
  if (outside() && !source_allowed(frontend))
    return;
  if (known_flow(frontend) || known_affinity(frontend) || !take_ring())
    return;
  pick_by_hash();
}

// ---- frontend
// --------------------------------------------------------------------------------------

bool Tracer::take_frontend() {
  const model::FrontendEntry* frontend = frontend_of(q_, w_.maps);
  service_ = traced_service(q_, w_.maps).value_or(model::kNoService);
  if (service_ == model::kNoService) {
    no_frontend(frontend);
    return false;
  }
  t_.service = service_text(service_);
  const model::ServiceIndex other = outside() ? frontend->inside : frontend->outside;
  say("frontend",
      fmt::format(
          "{} is {}, {}", to_text(), t_.service,
          other == service_ ? "for clients inside and outside"
          : other == model::kNoService
              ? fmt::format("for clients {} only", side())
              : fmt::format("for clients {}; the others have a ring of their own", side())));
  return true;
}

// A refusal when the address is a service's, nothing said and decided else.
void Tracer::no_frontend(const model::FrontendEntry* other_side) {
  std::vector<std::string> served;
  for (const auto& [key, entry] : w_.maps.frontends)
    if (key.ip == q_.to.ip && (outside() ? entry.outside : entry.inside) != model::kNoService)
      served.push_back(fmt::format("{}/{}", key.port, to_string(key.proto)));
  const std::string why =
      other_side != nullptr
          ? fmt::format("{} is a frontend, but not for clients {}", to_text(), side())
          : fmt::format("{} is no frontend", to_text());
  if (!w_.maps.vips.contains(q_.to.ip)) {
    say("frontend", fmt::format("{}, and {} is no service address: nothing is balanced", why,
                                q_.to.ip.to_string()));
    return;
  }
  end("frontend", TraceVerdict::kRefused, "NO_FRONTEND",
      fmt::format("{}, and {} is a service address: refused at once. It serves {}", why,
                  q_.to.ip.to_string(),
                  served.empty() ? "nothing for these clients"
                                 : fmt::format("{}", fmt::join(served, ", "))));
}

bool Tracer::source_allowed(const model::FrontendEntry& frontend) {
  if (!frontend.restricted)
    return true;
  std::vector<std::string> ranges;
  const auto held = w_.maps.source_ranges.find(frontend.outside);
  if (held != w_.maps.source_ranges.end())
    for (const IpPrefix& range : held->second) {
      ranges.push_back(range.to_string());
      if (q_.client && range.contains(*q_.client)) {
        say("ranges", fmt::format("{} is in {}, which may connect", q_.client->to_string(),
                                  range.to_string()));
        return true;
      }
    }
  const std::string all = ranges.empty() ? "nobody" : fmt::format("{}", fmt::join(ranges, ", "));
  if (!q_.client) {
    say("ranges", fmt::format("only {} may connect, others are dropped (SOURCE_RANGE); say "
                              "outside:IP to have a client judged",
                              all));
    return true;
  }
  end("ranges", TraceVerdict::kDropped, "SOURCE_RANGE",
      fmt::format("{} may not connect: loadBalancerSourceRanges has {}", q_.client->to_string(),
                  all));
  return false;
}

// ---- what is on record
// ------------------------------------------------------------------------------

// Valid backends that had the slot of the query's flow before its present one.
std::vector<model::BackendId> Tracer::former_owners() const {
  std::vector<model::BackendId> out;
  const auto found = w_.maps.rings.find(service_);
  const auto tuple = q_.tuple();
  if (found == w_.maps.rings.end() || found->second.former.empty() || !tuple)
    return out;
  const std::uint32_t slot =
      kernel::ring_slot(kernel::flow_hash(*tuple, w_.hash_seed), found->second.ref.slots);
  for (const model::BackendId id :
       std::span(found->second.former)
           .subspan(std::size_t{slot} * model::kSlotFormer, model::kSlotFormer))
    if (valid_backend(id) != nullptr)
      out.push_back(id);
  return out;
}

// TCP without affinity has an entry only where the slot has moved and a host had to be asked, and
// from times when it had more.
bool Tracer::known_flow(const model::FrontendEntry& frontend) {
  if (!q_.tuple())
    return false;
  const bool by_ring = q_.proto == L4Proto::kTcp && frontend.affinity_s == 0 && !frontend.entries;
  if (by_ring && (!w_.flow || former_owners().empty())) {
    say("flow", "a new connection goes by the ring; one that is open stays with whoever has it");
    return false;
  }
  if (!w_.flow) {
    say("flow", "no flow of this client's address and port: a new one");
    return false;
  }
  const kernel::Flow& flow = *w_.flow;
  const bool over = q_.proto == L4Proto::kUdp ? flow.idle_s > kernel::kUdpIdle_s : flow.closing;
  if (over || flow.service != service_) {
    say("flow", fmt::format("the table has one with these addresses and ports, but it {}: a new "
                            "connection picks anew",
                            flow.service != service_    ? "is of another service"
                            : q_.proto == L4Proto::kUdp ? "was idle for too long"
                                                        : "is closing"));
    return false;
  }
  if (same_backend(flow.backend, flow.epoch) == nullptr) {
    say("flow", "the table has an open one, but its backend is gone: it picks anew");
    return false;
  }
  chosen(
      flow.backend, "flow",
      fmt::format("open already, idle for {} s: it stays with its backend whatever the ring says",
                  flow.idle_s));
  return true;
}

bool Tracer::known_affinity(const model::FrontendEntry& frontend) {
  if (frontend.affinity_s == 0)
    return false;
  const std::string rule = fmt::format("{} s, by the client's address", frontend.affinity_s);
  if (!q_.client) {
    say("affinity", fmt::format("{}: a client that had a backend within that time gets it again; "
                                "others pick as follows",
                                rule));
    return false;
  }
  if (!w_.affinity || w_.affinity->idle_s > frontend.affinity_s) {
    say("affinity", fmt::format("{}: nothing on record, it picks, and that is kept", rule));
    return false;
  }
  const model::BackendEntry* backend = same_backend(w_.affinity->backend, w_.affinity->epoch);
  if (backend == nullptr || backend->draining) {
    say("affinity", fmt::format("{}: the backend it had {}, so it picks anew", rule,
                                backend == nullptr ? "is gone" : "takes no new connections"));
    return false;
  }
  chosen(w_.affinity->backend, "affinity",
         fmt::format("{}: it was here {} s ago and gets the backend it had", rule,
                     w_.affinity->idle_s));
  return true;
}

// ---- the ring
// --------------------------------------------------------------------------------------

bool Tracer::take_ring() {
  const auto ring = w_.maps.rings.find(service_);
  if (ring == w_.maps.rings.end() || ring->second.refuses()) {
    end("ring", TraceVerdict::kRefused, "NO_BACKEND",
        "the service has no ready backend: refused at once");
    return false;
  }
  std::map<model::BackendId, std::uint32_t> slots;
  for (const model::BackendId id : ring->second.backends)
    slots[id]++;
  t_.slots = ring->second.ref.slots;
  for (const auto& [id, count] : slots) {
    TraceShare& share = t_.shares.emplace_back(share_of(id));
    share.slots = count;
    share.share = static_cast<double>(count) / t_.slots;
  }
  std::ranges::sort(t_.shares, [](const TraceShare& a, const TraceShare& b) {
    return std::tie(b.slots, a.name.group, a.address, a.id) <
           std::tie(a.slots, b.name.group, b.address, b.id);
  });
  say("ring",
      fmt::format("{} slots, {} backend{}", t_.slots, slots.size(), slots.size() == 1 ? "" : "s"));
  return true;
}

void Tracer::pick_by_hash() {
  const auto tuple = q_.tuple();
  if (!tuple) {
    t_.verdict = TraceVerdict::kShares;
    const std::string_view missing = q_.client ? "--source-port" : "outside:IP and --source-port";
    say("pick", fmt::format("by the hash of both addresses and ports; say {} to know which backend",
                            missing));
    return;
  }
  t_.hash = kernel::flow_hash(*tuple, w_.hash_seed);
  t_.slot = kernel::ring_slot(*t_.hash, t_.slots);
  const model::BackendId id = w_.maps.rings.at(service_).backends.at(*t_.slot);
  std::string how =
      fmt::format("flow hash {:#010x} is slot {} of {}", *t_.hash, *t_.slot, t_.slots);
  if (q_.proto == L4Proto::kTcp)
    for (const model::BackendId former : former_owners())
      how += fmt::format(", before of {}", backend_text(former));
  if (valid_backend(id) == nullptr)
    return end("pick", TraceVerdict::kRefused, "NO_BACKEND",
               fmt::format("{}, which names backend {}, and that has no entry: refused", how, id));
  chosen(id, "pick", how);
}

void Tracer::chosen(model::BackendId id, std::string_view stage, std::string text) {
  t_.picked = share_of(id);
  t_.verdict = TraceVerdict::kBackend;
  say(stage, fmt::format("{}: {}", text, backend_text(id)));
  to_backend(*valid_backend(id));
}

// A packet, translated or encapsulated by the program that balances it.
void Tracer::to_backend(const model::BackendEntry& backend) {
  const bool outside = q_.origin == TraceOrigin::kOutside;
  if (backend.stack && (backend.local || backend.node.is_unspecified()))
    return say("deliver", backend.local
                              ? "translated and given to this host's stack; the reply gets the "
                                "service's address back on its way out"
                              : fmt::format("translated and sent by this host's routes{}; the "
                                            "reply gets the service's address back on its way out",
                                            outside ? ", masqueraded" : ""));
  if (!backend.local) {
    if (backend.node.is_unspecified())
      return end("deliver", TraceVerdict::kDropped, "FIB",
                 "the backend is no pod of any host: a packet cannot be sent there");
    if (outside && backend.snat)
      return say("deliver", fmt::format("translated and masqueraded (SNAT), {} {}; the reply comes "
                                        "back here",
                                        w_.maps.host.native ? "by route to" : "over the overlay to",
                                        host_text(backend.node)));
    return say("deliver",
               fmt::format("over the overlay to {}, which translates and replies directly "
                           "(DSR): look on that host for what follows",
                           host_text(backend.node)));
  }
  const auto pod = w_.maps.pods.find(backend.ip);
  if (pod == w_.maps.pods.end() ||
      (backend.generation != 0 && pod->second.generation != backend.generation))
    return end("deliver", TraceVerdict::kDropped, "STALE_BACKEND",
               "the pod is gone or its address is another's now");
  if (q_.client && *q_.client == backend.ip)
    return say("deliver",
               "translated and given back to the pod that sent it, which sees the service's "
               "address as its client");
  say("deliver",
      fmt::format("translated and given to the pod's veth here (ifindex {})", pod->second.ifindex));
}

// ---- no service: plain addresses
// ---------------------------------------------------------------------

void Tracer::plain(const IpAddress& to) {
  if (q_.origin != TraceOrigin::kPod)
    return by_stack(to);
  if (q_.client && *q_.client == to)
    return end("route", TraceVerdict::kPod, "", "the pod itself: it does not leave its namespace");
  if (!q_.client || !w_.maps.pods.contains(*q_.client))
    return end("source", TraceVerdict::kDropped, "SPOOFED_SOURCE",
               "the data plane knows no pod here with the client's address: all that it sends is "
               "dropped");
  if (const auto pod = w_.maps.pods.find(to); pod != w_.maps.pods.end())
    return end("route", TraceVerdict::kPod, "",
               fmt::format("pod {} of this host: straight to its veth (ifindex {})", pod_text(to),
                           pod->second.ifindex));
  const auto* node = node_of(to);
  if (node != nullptr && !node->second.native && !node->second.underlay.is_unspecified())
    return end("route", TraceVerdict::kOverlay, "",
               fmt::format("{} lies in {}: over the overlay to {}", pod_text(to),
                           node->first.to_string(), host_text(node->second.underlay)));
  by_stack(to);
}

void Tracer::by_stack(const IpAddress& to) {
  if (const auto pod = w_.maps.pods.find(to); pod != w_.maps.pods.end())
    return end("route", TraceVerdict::kPod, "",
               fmt::format("pod {} of this host: by its route to its veth (ifindex {})",
                           pod_text(to), pod->second.ifindex));
  if (const auto* node = node_of(to); node != nullptr) {
    if (node->second.native)
      return end("route", TraceVerdict::kNative, "",
                 fmt::format("{} lies in {}: by the route to {}, without a tunnel", pod_text(to),
                             node->first.to_string(), host_text(node->second.underlay)));
    if (!node->second.underlay.is_unspecified())
      return end("route", TraceVerdict::kOverlay, "",
                 fmt::format("{} lies in {}: by route to the overlay device, and to {}",
                             pod_text(to), node->first.to_string(),
                             host_text(node->second.underlay)));
    return end("route", TraceVerdict::kDropped, "UNKNOWN_POD",
               fmt::format("{} lies in this host's own {}, and no pod here has it", to.to_string(),
                           node->first.to_string()));
  }
  if (to == w_.host && !to.is_unspecified())
    return end("route", TraceVerdict::kStack, "", "this host itself");
  std::string source;
  const bool in_cluster =
      std::ranges::any_of(w_.cluster, [&](const IpPrefix& prefix) { return prefix.contains(to); });
  if (q_.origin == TraceOrigin::kPod) {
    if (w_.masquerade && !in_cluster && !w_.hosts.contains(to))
      source = fmt::format("; it leaves with this host's address{} (masquerade)",
                           w_.host.is_unspecified() ? std::string() : " " + w_.host.to_string());
    else
      source = "; it keeps the pod's address";
  }
  end("route", TraceVerdict::kStack, "",
      fmt::format("by this host's routing table (ip route get {}){}{}", to.to_string(), source,
                  in_cluster
                      ? ". It lies in the cluster's ranges, and no host and no service has it"
                      : ""));
}

}  // namespace

std::string_view to_string(TraceVerdict verdict) {
  switch (verdict) {
  case TraceVerdict::kBackend:
    return "backend";
  case TraceVerdict::kShares:
    return "shares";
  case TraceVerdict::kRefused:
    return "refused";
  case TraceVerdict::kDropped:
    return "dropped";
  case TraceVerdict::kPod:
    return "pod";
  case TraceVerdict::kOverlay:
    return "overlay";
  case TraceVerdict::kNative:
    return "native";
  case TraceVerdict::kStack:
    return "stack";
  }
  return "?";
}

std::optional<kernel::FlowTuple> TraceQuery::tuple() const {
  if (!client || !source_port)
    return std::nullopt;
  return kernel::FlowTuple{proto, {*client, *source_port}, to};
}

std::optional<model::ServiceIndex> traced_service(const TraceQuery& query,
                                                  const model::DataPlane& maps) {
  const model::FrontendEntry* frontend = frontend_of(query, maps);
  if (frontend == nullptr)
    return std::nullopt;
  const model::ServiceIndex service =
      query.origin == TraceOrigin::kOutside ? frontend->outside : frontend->inside;
  return service == model::kNoService ? std::nullopt : std::optional(service);
}

Trace trace(const TraceQuery& query, const TraceWorld& world) { return Tracer(query, world).run(); }

}  // namespace shoal::apply
