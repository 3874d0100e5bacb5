// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/views.h"

#include "netplane/base/strings.h"

namespace shoal::daemon {
namespace {

namespace json = boost::json;

json::object frontend_view(const model::Frontend& frontend) {
  return {{"ip", frontend.ip.to_string()},
          {"port", frontend.port},
          {"protocol", to_string(frontend.proto)},
          {"kind", model::to_string(frontend.kind)}};
}

json::object counters_view(const kernel::ServiceStats& stats) {
  return {{"connects", stats.connects}, {"flows", stats.flows},     {"packets", stats.packets},
          {"bytes", stats.bytes},       {"refused", stats.refused}, {"unclaimed", stats.unclaimed}};
}

std::string_view state_name(model::BackendState state) {
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

json::object backend_view(const apply::BackendView& view) {
  return {{"pod", view.backend.pod},
          {"host", view.backend.host},
          {"ip", view.backend.ip.to_string()},
          {"port", view.backend.port},
          {"state", state_name(view.backend.state)},
          {"group", view.backend.group},
          {"local", view.local},
          {"id", view.id},
          {"slots", view.slots},
          {"effective", view.effective},
          {"connects", view.stats.connects},
          {"flows", view.stats.flows}};
}

json::object share_view(const apply::ShareView& share) {
  return {{"name", share.group},          {"weight", share.weight}, {"asked", share.asked},
          {"effective", share.effective}, {"slots", share.slots},   {"picked", share.picked},
          {"ready", share.ready}};
}

json::array frontends_view(const std::vector<model::Frontend>& frontends) {
  json::array out;
  for (const model::Frontend& frontend : frontends)
    out.push_back(frontend_view(frontend));
  return out;
}

}  // namespace

json::object members_view(const gossip::Gossip& gossip) {
  json::array members;
  for (const gossip::Member& member : gossip.members()) {
    json::array cidrs;
    for (const IpPrefix& cidr : member.meta.pod_cidrs)
      cidrs.emplace_back(cidr.to_string());
    json::object out{{"name", member.name},
                     {"state", to_string(member.state)},
                     {"self", member.name == gossip.self().name},
                     {"gossipAddress", member.meta.gossip_address.to_string()},
                     {"podCIDRs", std::move(cidrs)},
                     {"version", member.meta.version}};
    if (member.meta.api_address)
      out["apiAddress"] = member.meta.api_address->to_string();
    if (member.meta.underlay)
      out["underlay"] = member.meta.underlay->to_string();
    members.push_back(std::move(out));
  }
  return {{"members", std::move(members)}};
}

json::object service_port_view(const apply::ServiceView& view, std::string_view port_name,
                               L4Proto proto) {
  json::array groups;
  for (const apply::ShareView& share : view.shares)
    groups.push_back(share_view(share));
  json::array backends;
  for (const apply::BackendView& backend : view.backends)
    backends.push_back(backend_view(backend));
  json::array errors;
  for (const std::string& error : view.errors)
    errors.emplace_back(error);
  return {{"port_name", port_name},
          {"protocol", to_string(proto)},
          {"clients", model::to_string(view.clients)},
          {"family", to_string(view.family)},
          {"frontends", frontends_view(view.frontends)},
          {"slots", view.slots},
          {"groups", std::move(groups)},
          {"backends", std::move(backends)},
          {"counters", counters_view(view.stats)},
          {"errors", std::move(errors)}};
}

Result<ServicePortId> parse_service_port_id(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::size_t colon = text.find(':');
  const std::size_t last = text.rfind('/');
  if (slash == std::string_view::npos || colon == std::string_view::npos || slash > colon ||
      last < colon)
    return fail(Errc::kInternal,
                fmt::format("\"{}\" is not a service port's name", printable(text)));
  ServicePortId id;
  id.ns = text.substr(0, slash);
  id.name = text.substr(slash + 1, colon - slash - 1);
  id.port_name = text.substr(colon + 1, last - colon - 1);
  const std::string_view side = text.substr(last + 1);
  id.proto = SHOAL_TRY(parse_l4_proto(side.substr(0, side.find('@'))));
  return id;
}

Result<json::object> service_view(const apply::DataPlane& data_plane, std::string_view ns,
                                  std::string_view name,
                                  const std::vector<DrainSchedule::Status>& drains) {
  json::array ports;
  for (const std::string& text : data_plane.service_names()) {
    const ServicePortId id = SHOAL_TRY(parse_service_port_id(text));
    if (id.ns != ns || id.name != name)
      continue;
    const apply::ServiceView view = SHOAL_TRY(data_plane.service_view(text));
    ports.push_back(service_port_view(view, id.port_name, id.proto));
  }
  if (ports.empty())
    return fail(Errc::kNotFound,
                fmt::format("the data plane of this host has no service {}/{}", ns, name));
  json::array draining;
  for (const DrainSchedule::Status& drain : drains)
    draining.push_back(
        {{"group", drain.group},
         {"closesInSeconds", std::chrono::ceil<std::chrono::seconds>(drain.left).count()},
         {"closed", drain.closed}});
  return json::object{{"namespace", ns},
                      {"name", name},
                      {"ports", std::move(ports)},
                      {"drains", std::move(draining)}};
}

Result<json::object> services_view(const apply::DataPlane& data_plane) {
  json::array services;
  for (const std::string& text : data_plane.service_names()) {
    const ServicePortId id = SHOAL_TRY(parse_service_port_id(text));
    const apply::ServiceView view = SHOAL_TRY(data_plane.service_view(text));
    const auto ready = std::count_if(view.backends.begin(), view.backends.end(),
                                     [](const apply::BackendView& backend) {
                                       return backend.backend.state == model::BackendState::kReady;
                                     });
    services.push_back({{"namespace", id.ns},
                        {"name", id.name},
                        {"port_name", id.port_name},
                        {"protocol", to_string(id.proto)},
                        {"clients", model::to_string(view.clients)},
                        {"family", to_string(view.family)},
                        {"frontends", frontends_view(view.frontends)},
                        {"ready", ready},
                        {"backends", view.backends.size()},
                        {"slots", view.slots},
                        {"counters", counters_view(view.stats)}});
  }
  return json::object{{"services", std::move(services)}};
}

json::object image_view(const runtime::ImageInfo& image) {
  json::array refs;
  for (const std::string& ref : image.refs)
    refs.emplace_back(ref);
  return {{"refs", std::move(refs)},
          {"digest", image.digest},
          {"repoDigests", json::array(image.repo_digests.begin(), image.repo_digests.end())},
          {"id", image.id},
          {"os", image.os},
          {"architecture", image.architecture},
          {"created", image.created},
          {"sizeBytes", image.size_bytes},
          {"layers", image.diff_ids.size()}};
}

}  // namespace shoal::daemon
