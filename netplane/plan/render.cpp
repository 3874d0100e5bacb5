// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/render.h"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>

namespace shoal::plan {
namespace {

std::string endpoint(const IpAddress& ip, std::uint16_t port) {
  return SocketAddress{ip, port}.to_string();
}

std::string text(const FrontendKey& key) {
  return fmt::format("{}/{}", endpoint(key.ip, key.port), to_string(key.proto));
}

std::string text(const FrontendEntry& entry) { return model::to_string(entry); }

std::string text(const BackendEntry& entry) {
  std::string out = fmt::format("{} gen={} epoch={}", endpoint(entry.ip, entry.port),
                                entry.generation, entry.epoch);
  if (entry.local)
    out += " local";
  if (entry.stack)
    out += " stack";
  if (!entry.node.is_unspecified())
    out += " node=" + entry.node.to_string();
  if (entry.snat)
    out += " snat";
  if (entry.draining)
    out += " draining";
  if (entry.answers)
    out += " answers";
  return out;
}

std::string text(const std::vector<SlotCount>& counts) {
  std::string out;
  for (const SlotCount& count : counts)
    out += fmt::format(" {}*{}", count.id, count.slots);
  return out;
}

std::string text(const RingRef& ref) {
  return ref.empty() ? "none"
                     : fmt::format("slots={} first_block={}{}", ref.slots, ref.first_block,
                                   ref.history ? " history" : "");
}

struct ItemText {
  std::string operator()(const OpenServices::Item& i) const {
    return fmt::format("open-service {}", i.service);
  }
  std::string operator()(const SetBackends::Item& i) const {
    return fmt::format("set-backend {} {} service={}{}", i.id, text(i.entry), i.service,
                       i.recycled ? " recycled" : "");
  }
  std::string operator()(const WriteRings::Item& i) const {
    return fmt::format("write-ring service={} {}{} {}", i.service, text(i.to),
                       i.before.empty() ? ""
                                        : fmt::format(" of first_block={}", i.before.first_block),
                       i.members.empty() ? "refusing" : render_shares(i.members));
  }
  std::string operator()(const SwitchRings::Item& i) const {
    return fmt::format("switch-ring service={} to {}", i.service, text(i.to));
  }
  std::string operator()(const AddSourceRanges::Item& i) const {
    return fmt::format("add-source-range service={} {}", i.service, i.range.to_string());
  }
  std::string operator()(const SetFrontends::Item& i) const {
    return fmt::format("set-frontend {} {}", text(i.key), text(i.entry));
  }
  std::string operator()(const SetVips::Item& i) const {
    return fmt::format("set-vip {}{}", i.ip.to_string(), i.entry.announced ? " announced" : "");
  }
  std::string operator()(const DeleteFrontends::Item& i) const {
    return fmt::format("delete-frontend {} {}", text(i.key), text(i.entry));
  }
  std::string operator()(const DeleteVips::Item& i) const {
    return fmt::format("delete-vip {}", i.ip.to_string());
  }
  std::string operator()(const RemoveSourceRanges::Item& i) const {
    return fmt::format("remove-source-range service={} {}", i.service, i.range.to_string());
  }
  std::string operator()(const RetireBackends::Item& i) const {
    return i.service == model::kNoService
               ? fmt::format("retire-backend {} stray", i.id)
               : fmt::format("retire-backend {} service={}", i.id, i.service);
  }
  std::string operator()(const RetireServices::Item& i) const {
    return fmt::format("retire-service {}", i.service);
  }
  std::string operator()(const FreeBackends::Item& i) const {
    return fmt::format("free-backend {} epoch={}", i.id, i.epoch);
  }
};

std::string joined(std::vector<std::string>& lines) {
  std::sort(lines.begin(), lines.end());
  std::string out;
  for (const std::string& line : lines)
    out += line + "\n";
  return out;
}

std::string_view to_string(model::BackendState state) {
  switch (state) {
  case model::BackendState::kReady:
    return "ready";
  case model::BackendState::kServing:
    return "serving";
  case model::BackendState::kTerminating:
    return "terminating";
  }
  return "?";
}

void render_service(const model::ServicePort& service, std::vector<std::string>& lines) {
  const std::string id = service.id();
  lines.push_back("service " + id);
  for (const model::Frontend& f : service.frontends)
    lines.push_back(fmt::format("service {} frontend {}/{} {}", id, endpoint(f.ip, f.port),
                                to_string(f.proto), model::to_string(f.kind)));
  if (service.clients != model::Clients::kAll)
    lines.push_back(fmt::format("service {} clients {}", id, model::to_string(service.clients)));
  if (service.affinity_s > 0)
    lines.push_back(fmt::format("service {} affinity={}s", id, service.affinity_s));
  for (const IpPrefix& range : service.source_ranges)
    lines.push_back(fmt::format("service {} from {}", id, range.to_string()));
  for (const model::WeightGroup& g : service.groups)
    lines.push_back(fmt::format("service {} group {} weight={}", id, g.name, g.weight));
  for (const model::Backend& b : service.backends)
    lines.push_back(fmt::format("service {} backend {} gen={} {} host={} pod={} group={}", id,
                                endpoint(b.ip, b.port), b.generation, to_string(b.state), b.host,
                                b.pod, b.group));
}

std::string text(const model::NodeEntry& entry) {
  if (entry.underlay.is_unspecified())
    return "self";
  return entry.underlay.to_string() + (entry.native ? " native" : "");
}

std::string text(const OverlayRoute& route) {
  return fmt::format("route {}{}{}", route.destination.to_string(),
                     route.via.is_unspecified()
                         ? ""
                         : fmt::format(" via {} link {}", route.via.to_string(), route.link),
                     route.source.is_unspecified() ? "" : " src " + route.source.to_string());
}

}  // namespace

std::string render_shares(std::span<const RingMember> members) {
  std::map<BackendId, std::size_t> counts;
  for (const RingMember& member : members)
    counts[member.value] += member.quota;
  std::string out;
  for (const auto& [id, count] : counts)
    out += fmt::format("{}{}*{}", out.empty() ? "" : " ", id, count);
  return out;
}

std::string render(const Plan& plan) {
  std::string out;
  for (const Op& op : plan.ops)
    std::visit(
        [&out](const auto& batch) {
          for (const auto& item : batch.items)
            out += ItemText()(item) + "\n";
        },
        op);
  std::vector<std::string> issues;
  for (const Issue& issue : plan.issues)
    issues.push_back(fmt::format("issue {}: {}", issue.object, issue.error.message()));
  return out + joined(issues);
}

std::string render(const OverlayPlan& plan) {
  std::string out;
  for (const auto& [cidr, entry] : plan.set_nodes)
    out += fmt::format("set-node {} {}\n", cidr.to_string(), text(entry));
  for (const OverlayRoute& route : plan.set_routes)
    out += "set-" + text(route) + "\n";
  for (const OverlayRoute& route : plan.delete_routes)
    out += fmt::format("delete-route {}\n", route.destination.to_string());
  for (const IpPrefix& cidr : plan.delete_nodes)
    out += fmt::format("delete-node {}\n", cidr.to_string());
  for (const Issue& issue : plan.issues)
    out += fmt::format("issue {}: {}\n", issue.object, issue.error.message());
  return out;
}

std::string render(const Overlay& overlay) {
  std::vector<std::string> lines;
  for (const auto& [cidr, entry] : overlay.nodes)
    lines.push_back(fmt::format("node {} {}", cidr.to_string(), text(entry)));
  for (const OverlayRoute& route : overlay.routes)
    lines.push_back(text(route));
  return joined(lines);
}

std::string render(const NftPolicy& policy) {
  std::vector<std::string> lines;
  for (const IpPrefix& cidr : policy.pods)
    lines.push_back("masquerade " + cidr.to_string());
  for (const IpPrefix& cidr : policy.cluster)
    lines.push_back("inside " + cidr.to_string());
  for (const IpAddress& ip : policy.nodes)
    lines.push_back("inside host " + ip.to_string());
  return joined(lines);
}

std::string render(const Actual& actual) {
  std::vector<std::string> lines;
  for (const auto& [key, entry] : actual.frontends())
    lines.push_back(fmt::format("frontend {} {}", text(key), text(entry)));
  for (const auto& [ip, entry] : actual.vips())
    lines.push_back(fmt::format("vip {}{}", ip.to_string(), entry.announced ? " announced" : ""));
  for (const auto& [index, ranges] : actual.source_ranges())
    for (const IpPrefix& range : ranges)
      lines.push_back(fmt::format("source-range service={} {}", index, range.to_string()));
  for (ServiceIndex index = 0; index < actual.services().size(); index++) {
    const ServiceState* service = actual.service(index);
    if (service == nullptr)
      continue;
    lines.push_back(
        fmt::format("ring {} {}{}", index, text(service->ring), text(service->backends)));
    for (const SlotCount& owned : service->backends)
      lines.push_back(fmt::format("backend {} {} service={}", owned.id,
                                  text(*actual.backend(owned.id)), index));
  }
  for (const auto& [id, stray] : actual.strays())
    lines.push_back(fmt::format("backend {} {} {}", id, text(*actual.backend(id)),
                                stray.released  ? "released"
                                : stray.retired ? "retired"
                                                : "stray"));
  return joined(lines);
}

std::string render(const model::Desired& desired) {
  std::vector<std::string> lines;
  lines.push_back("self " + desired.self);
  for (const model::Node& node : desired.nodes) {
    std::string line = fmt::format("node {} {}", node.name, node.underlay.to_string());
    for (const IpPrefix& cidr : node.pod_cidrs)
      line += " " + cidr.to_string();
    if (node.lan_v6)
      line += " lan=" + node.lan_v6->to_string();
    lines.push_back(line + (node.alive ? "" : " dead") + (node.answers ? " answers" : ""));
  }
  for (const model::LocalPod& pod : desired.pods)
    for (const model::PodAddress& address : pod.addresses)
      lines.push_back(fmt::format("pod {} {} gen={} ifindex={}", pod.pod, address.ip.to_string(),
                                  address.generation, pod.host_ifindex));
  for (const model::ServicePort& service : desired.services)
    render_service(service, lines);
  for (const IpAddress& ip : desired.announced_vips)
    lines.push_back("announced " + ip.to_string());
  for (const IpPrefix& cidr : desired.cluster_cidrs)
    lines.push_back("cluster-cidr " + cidr.to_string());
  for (const IpPrefix& cidr : desired.service_cidrs)
    lines.push_back("service-cidr " + cidr.to_string());
  return joined(lines);
}

}  // namespace shoal::plan
