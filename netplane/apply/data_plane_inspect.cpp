// SPDX-License-Identifier: Apache-2.0
// Looking into the live data plane: flows, the tables' load, and what would become of a connection.
#include "netplane/apply/bpf_data_plane.h"

#include <fmt/format.h>

namespace shoal::apply {
namespace {

FlowView by_roles(const kernel::Flow& flow) {
  if (flow.reverse)
    return {.flow = flow,
            .client = flow.destination,
            .frontend = flow.translated,
            .backend = flow.source};
  return {.flow = flow,
          .client = flow.source,
          .frontend = flow.destination,
          .backend = flow.translated};
}

std::string name_of(const std::map<IpAddress, std::string>& names, const IpAddress& ip) {
  const auto found = names.find(ip);
  return found == names.end() ? std::string() : found->second;
}

}  // namespace

// --- Names
// ------------------------------------------------------------------------------------------

std::map<IpAddress, std::string> BpfDataPlane::pod_names() const {
  std::map<IpAddress, std::string> names;
  if (!desired_)
    return names;
  for (const model::ServicePort& service : desired_->services)
    for (const model::Backend& backend : service.backends)
      // Not of one in its host's network, whose address is not its alone.
      if (!backend.pod.empty() && backend.generation != 0)
        names.emplace(backend.ip, backend.pod);
  for (const model::LocalPod& pod : desired_->pods)
    for (const model::PodAddress& address : pod.addresses)
      names[address.ip] = pod.pod;
  return names;
}

std::map<model::BackendId, TraceBackend> BpfDataPlane::backend_names() const {
  std::map<model::BackendId, TraceBackend> names;
  if (!desired_)
    return names;
  for (const model::ServicePort& service : desired_->services) {
    const auto index = index_of_.find(service.id());
    const plan::ServiceState* state =
        index == index_of_.end() ? nullptr : actual_.service(index->second);
    if (state == nullptr)
      continue;
    std::map<plan::BackendKey, const model::Backend*> wanted;
    for (const model::Backend& backend : service.backends)
      wanted[{backend.ip, backend.port, backend.generation}] = &backend;
    for (const plan::SlotCount& owned : state->backends) {
      const auto found = wanted.find(plan::key_of(*actual_.backend(owned.id)));
      if (found != wanted.end())
        names[owned.id] = {found->second->pod, found->second->group, found->second->host};
    }
  }
  return names;
}

// --- Tables
// -----------------------------------------------------------------------------------------

std::vector<LruUse> BpfDataPlane::lru_use() const {
  const kernel::MapSizes& sizes = kernel_.maps->sizes();
  std::vector<LruUse> out;
  const auto add = [&](kernel::LruTable table, std::string name, std::uint32_t size) {
    if (const auto& count = census_.counted(table)) {
      const auto age = std::chrono::duration_cast<std::chrono::seconds>(clock_.now() - count->at);
      out.push_back({std::move(name), count->tally, size, static_cast<std::uint64_t>(age.count())});
    }
  };
  add(kernel::LruTable::kFlows, "flows", sizes.flows);
  add(kernel::LruTable::kAffinity, "affinity", sizes.affinity);
  return out;
}

// --- Flows
// ------------------------------------------------------------------------------------------

// A reverse entry holds no service: its VIP tells.
std::string BpfDataPlane::service_of(const FlowReading& reading, const FlowView& view) const {
  model::ServiceIndex index = view.flow.service;
  if (view.flow.reverse) {
    const auto frontend =
        actual_.frontends().find({view.frontend.ip, view.frontend.port, view.flow.proto});
    if (frontend == actual_.frontends().end())
      return {};
    const bool outside = view.client_pod.empty() && frontend->second.outside != model::kNoService;
    index = outside ? frontend->second.outside : frontend->second.inside;
  }
  const auto name = reading.services.find(index);
  return name == reading.services.end() ? std::string() : name->second;
}

Result<FlowReading> BpfDataPlane::begin_flows(const FlowFilter& filter) const {
  FlowReading reading{.filter = filter, .pods = pod_names()};
  for (const auto& [id, index] : index_of_)
    reading.services[index] = id.substr(0, id.find(':'));
  return reading;
}

Result<bool> BpfDataPlane::next_flows(FlowReading& reading) const {
  const FlowFilter& filter = reading.filter;
  FlowList& out = reading.list;
  const bool more = SHOAL_TRY(kernel_.maps->next_flows(reading.walk, [&](const kernel::Flow& flow) {
    if (out.flows.size() >= filter.limit || out.read >= kFlowsReadMax)
      out.complete = false;
    if (!out.complete)
      return;
    out.read++;
    FlowView view = by_roles(flow);
    view.pod = name_of(reading.pods, view.backend.ip);
    view.client_pod = name_of(reading.pods, view.client.ip);
    if (!filter.pod.empty() && view.pod != filter.pod && view.client_pod != filter.pod)
      return;
    view.service = service_of(reading, view);
    if (filter.service.empty() || view.service == filter.service)
      out.flows.push_back(std::move(view));
  }));
  return more && out.complete;
}

// --- Trace
// ------------------------------------------------------------------------------------------

Result<Trace> BpfDataPlane::trace(TraceQuery query) const {
  if (!desired_)
    return fail(Errc::kUnavailable, "nothing has been applied to the data plane yet");
  if (query.origin == TraceOrigin::kPod) {
    const auto pod = std::ranges::find(desired_->pods, query.pod, &model::LocalPod::pod);
    if (pod == desired_->pods.end())
      return fail(Errc::kNotFound, fmt::format("this host runs no pod {}", query.pod));
    const auto address = std::ranges::find_if(pod->addresses, [&](const model::PodAddress& own) {
      return own.ip.family() == query.to.ip.family();
    });
    if (address == pod->addresses.end())
      return fail(Errc::kInvalid, fmt::format("pod {} has no {} address", query.pod,
                                              to_string(query.to.ip.family())));
    query.client = address->ip;
  }
  TraceWorld world;
  world.maps = SHOAL_TRY(kernel_.maps->read());
  world.hash_seed = config_.hash_seed;
  world.socket_hooks = config_.socket_hooks;
  world.masquerade = config_.masquerade;
  world.host = query.to.ip.is_v4() ? uplink().address : uplink().address_v6.value_or(IpAddress());
  world.cluster = desired_->cluster_cidrs;
  world.service_cidrs = desired_->service_cidrs;
  for (const auto& [id, index] : index_of_)
    world.services[index] = id;
  world.backends = backend_names();
  world.pods = pod_names();
  for (const model::Node& node : desired_->nodes) {
    world.hosts[node.underlay] = node.name;
    if (node.lan_v6)
      world.hosts[*node.lan_v6] = node.name;
  }
  if (query.origin == TraceOrigin::kHost && !world.socket_hooks)
    query.client = world.host;
  if (const auto tuple = query.tuple())
    world.flow = SHOAL_TRY(kernel_.maps->find_flow(*tuple));
  if (const auto service = traced_service(query, world.maps); service && query.client)
    world.affinity = SHOAL_TRY(kernel_.maps->find_affinity(*service, *query.client));
  return apply::trace(query, world);
}

}  // namespace shoal::apply
