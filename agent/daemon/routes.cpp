// SPDX-License-Identifier: Apache-2.0
// Shoal's own endpoints, beside Kubernetes' paths:
//
//   GET    /shoal/v1/status                     this host, its cluster, what is limited or failing
//   GET    /shoal/v1/members
//   GET    /shoal/v1/services                   the data plane's own view
//   GET    /shoal/v1/services/NAMESPACE/NAME
//   GET    /shoal/v1/dataplane/dump             the maps, as sorted text
//   GET    /shoal/v1/drops                      packets not forwarded, by reason
//   GET    /shoal/v1/flows?service=NS/NAME&pod=NS/NAME&limit=N
//   GET    /shoal/v1/trace?from=CLIENT&to=ADDR:PORT[/udp]&sourcePort=N   see inspect_views.h
//   GET    /shoal/v1/images
//   POST   /shoal/v1/images?name=REF            body: an OCI or docker archive, streamed
//   POST   /shoal/v1/images/pull, push          streamed, see image_routes.cpp
//   DELETE /shoal/v1/images/REF
//   POST   /shoal/v1/exec/NAMESPACE/POD         upgraded, see agent/stream/frames.h
//   POST   /api/v1/namespaces/NAMESPACE/pods/POD/attach?container&stdin&stdout&stderr&tty, as exec
//   POST   /shoal/v1/capture/NAMESPACE/POD      upgraded, as exec
//   POST   /shoal/v1/tokens?ttl=SECONDS         a one-time join token
//   POST   /shoal/v1/node-join                  a joining host, by its token
//
// and what hosts and pods use: usage_routes.cpp.
#include "agent/api/relay.h"
#include "agent/daemon/agent_impl.h"
#include "agent/daemon/inspect_views.h"
#include "agent/daemon/pod_io.h"
#include "agent/daemon/views.h"
#include "netplane/base/strings.h"

#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <spdlog/spdlog.h>

namespace shoal::daemon {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

bool local_only(const api::ExchangePtr& x) {
  if (x->request().peer.local || x->request().peer.organization == pki::kNodesOrganization)
    return true;
  x->reply_error(
      Error(Errc::kPermission, "only hosts of the cluster and root on this host may do this"));
  return false;
}

template <class T>
void answer(const api::ExchangePtr& x, Result<T> result) {
  if (result)
    x->reply(200, std::move(*result));
  else
    x->reply_error(result.error());
}

Error not_yet() {
  return Error(
      Errc::kUnavailable,
      "the data plane of this host is not up yet: it waits for its pod CIDR from the store's host");
}

}  // namespace

void Agent::Impl::routes() {
  const auto route = [this](const char* method, const char* pattern,
                            std::function<void(const api::ExchangePtr&)> handler,
                            api::BodyMode mode = api::BodyMode::kBuffered) {
    server->route(
        method, pattern,
        [handler = std::move(handler)](api::ExchangePtr x) {
          if (local_only(x))
            handler(x);
        },
        mode);
  };
  route("GET", "/shoal/v1/status", [this](const api::ExchangePtr& x) { status(x); });
  route("GET", "/shoal/v1/members",
        [this](const api::ExchangePtr& x) { x->reply(200, members_view(*gossip)); });
  route("GET", "/shoal/v1/services", [this](const api::ExchangePtr& x) {
    data_plane ? answer(x, services_view(*data_plane)) : x->reply_error(not_yet());
  });
  route("GET", "/shoal/v1/services/{namespace}/{name}", [this](const api::ExchangePtr& x) {
    const auto& params = x->request().params;
    if (!data_plane || !group_drains)
      return x->reply_error(not_yet());
    const std::string& ns = params.at("namespace");
    const std::string& name = params.at("name");
    answer(x, service_view(*data_plane, ns, name,
                           group_drains->schedule().status(ns, name, clock.wall())));
  });
  route("GET", "/shoal/v1/dataplane/dump", [this](const api::ExchangePtr& x) {
    if (!data_plane)
      return x->reply_error(not_yet());
    auto text = data_plane->dump();
    text ? x->reply_text(200, std::move(*text)) : x->reply_error(text.error());
  });
  route("GET", "/shoal/v1/drops", [this](const api::ExchangePtr& x) {
    if (!data_plane)
      return x->reply_error(not_yet());
    const auto drops = data_plane->drops();
    drops ? x->reply(200, drops_view(*drops, clock.now())) : x->reply_error(drops.error());
  });
  route("GET", "/shoal/v1/flows", [this](const api::ExchangePtr& x) { flows(x); });
  route("GET", "/shoal/v1/trace", [this](const api::ExchangePtr& x) { trace(x); });
  route("GET", "/shoal/v1/images",
        [this](const api::ExchangePtr& x) { x->reply(200, images_view()); });
  route("POST", "/shoal/v1/images/pull", [this](const api::ExchangePtr& x) { pull_image(x); });
  route("POST", "/shoal/v1/images/push", [this](const api::ExchangePtr& x) { push_image(x); });
  route(
      "POST", "/shoal/v1/images", [this](const api::ExchangePtr& x) { load_image(x); },
      api::BodyMode::kStreamed);
  route("DELETE", "/shoal/v1/images/*", [this](const api::ExchangePtr& x) { remove_image(x); });
  route("POST", "/shoal/v1/tokens", [this](const api::ExchangePtr& x) { create_token(x); });
  usage_routes([&](const char* pattern, std::function<void(const api::ExchangePtr&)> handler) {
    route("GET", pattern, std::move(handler));
  });
  // What the host of a pod does, whichever host is asked.
  const auto pod_route = [&](const char* method, const char* pattern,
                             std::function<void(const api::ExchangePtr&)> handler) {
    route(method, pattern, [this, handler = std::move(handler)](const api::ExchangePtr& x) {
      if (sent_on(x))
        return;
      pods ? handler(x) : x->reply_error(not_yet());
    });
  };
  pod_route("GET", "/api/v1/namespaces/{namespace}/pods/{name}/log",
            [this](const api::ExchangePtr& x) { serve_logs(x, *pods, view, loop, clock); });
  pod_route("POST", "/shoal/v1/exec/{namespace}/{name}",
            [this](const api::ExchangePtr& x) { serve_exec(x, *pods, view, loop, workers); });
  for (const char* method : {"GET", "POST"})
    pod_route(method, "/api/v1/namespaces/{namespace}/pods/{name}/attach",
              [this](const api::ExchangePtr& x) { serve_attach(x, *pods, view, loop, workers); });
  pod_route("POST", "/shoal/v1/capture/{namespace}/{name}", [this](const api::ExchangePtr& x) {
    serve_capture(x, *pods, view, loop, workers, captures);
  });
  // By its token, not by a certificate: a joining host has none yet.
  server->route(
      "POST", std::string(kJoinPath), [this](api::ExchangePtr x) { node_join(x); },
      api::BodyMode::kBuffered, api::Access::kAnonymous);
  for (const char* path : {"/shoal/v1/init", "/shoal/v1/join"})
    route("POST", path, [this](const api::ExchangePtr& x) {
      x->reply_error(
          Error(Errc::kExists, fmt::format("this host is a member of cluster {} already, as {}",
                                           files.cluster_id, files.node_name)));
    });
}

// True: the pod that is asked for runs on another host, and that answers, or nobody does.
bool Agent::Impl::sent_on(const api::ExchangePtr& x) {
  const auto& params = x->request().params;
  const std::string& name = params.at("name");
  const view::ObjectPtr pod = view.get(view::kPods, params.at("namespace"), name);
  const std::string host = pod ? std::string(view::node_of(*pod)) : std::string();
  return sent_to(x, host, fmt::format("pod {}", name));
}

// The same for whatever is on that host.
bool Agent::Impl::sent_to(const api::ExchangePtr& x, const std::string& host,
                          const std::string& what) {
  if (host.empty() || host == files.node_name)
    return false;
  const std::vector<gossip::Member> members = gossip->members();
  const auto member = std::ranges::find(members, host, &gossip::Member::name);
  if (member == members.end() || !member->is_live() || !member->meta.api_address) {
    x->reply_error(
        Error(Errc::kUnavailable, fmt::format("{} is on host {}, which is not alive", what, host)));
  } else if (!x->request().header(api::kRelayedHeader).empty()) {
    x->reply_error(
        Error(Errc::kUnavailable, fmt::format("{} is not on host {}, but on {}; try again", what,
                                              files.node_name, host)));
  } else {
    api::relay(loop, relay_options(),
               {host, member->meta.api_address->ip.to_string(), member->meta.api_address->port}, x);
  }
  return true;
}

void Agent::Impl::flows(const api::ExchangePtr& x) {
  if (!data_plane)
    return x->reply_error(not_yet());
  const api::Request& asked = x->request();
  auto filter =
      read_flow_filter(asked.query_or("service"), asked.query_or("pod"), asked.query_or("limit"));
  if (!filter)
    return x->reply_error(filter.error());
  std::shared_ptr<void> place = flow_readings.take();
  if (!place)
    return x->reply_error(Error(
        Errc::kExhausted, fmt::format("{} questions for flows are being answered on this host, "
                                      "which is all that may at once: ask again in a moment",
                                      flow_readings.max())));
  auto reading = data_plane->begin_flows(*filter);
  if (!reading)
    return x->reply_error(reading.error());
  const auto job = std::make_shared<FlowJob>(std::move(*reading), std::move(place));
  x->on_gone([job = std::weak_ptr(job)] {
    if (const auto held = job.lock())
      held->gone = true;
  });
  next_flows(x, job);
}

// A step of the table in each turn of the loop; the text of the answer is a worker's.
void Agent::Impl::next_flows(const api::ExchangePtr& x, const std::shared_ptr<FlowJob>& job) {
  if (job->gone)
    return;
  const auto more = data_plane->next_flows(job->reading);
  if (!more)
    return x->reply_error(more.error());
  if (*more)
    return asio::post(loop, [this, x, job] { next_flows(x, job); });
  asio::post(workers, [this, x = x, job = job]() mutable {
    std::string body = json::serialize(flows_view(job->reading.list));
    // The place is the loop's to give back.
    asio::post(loop, [x = std::move(x), job = std::move(job), body = std::move(body)]() mutable {
      x->reply_bytes(200, "application/json", std::move(body));
    });
  });
}

void Agent::Impl::trace(const api::ExchangePtr& x) {
  if (!data_plane)
    return x->reply_error(not_yet());
  const api::Request& asked = x->request();
  const auto query =
      read_trace_query(asked.query_or("from"), asked.query_or("to"), asked.query_or("sourcePort"));
  if (!query)
    return x->reply_error(query.error());
  auto traced = data_plane->trace(*query);
  if (traced)
    return x->reply(200, trace_view(*query, *traced));
  if (traced.error().code() != Errc::kNotFound)
    return x->reply_error(traced.error());
  // The pod may be another host's: its packets meet that host's data plane.
  const std::size_t slash = query->pod.find('/');
  const auto pod = view.get(view::kPods, query->pod.substr(0, slash), query->pod.substr(slash + 1));
  if (!pod)
    return x->reply_error(Error(Errc::kNotFound, fmt::format("there is no pod {}", query->pod)));
  const std::string_view host = view::node_of(*pod);
  if (view::in_host_network(*pod))
    return x->reply_error(
        Error(Errc::kInvalid, fmt::format("pod {} is in the network of its host: ask {} with "
                                          "--from host",
                                          query->pod, host.empty() ? "its host" : host)));
  x->reply_error(Error(Errc::kConflict,
                       host.empty() || host == files.node_name
                           ? fmt::format("pod {} has no network here yet", query->pod)
                           : fmt::format("pod {} runs on {}: trace it there", query->pod, host)));
}

void Agent::Impl::status(const api::ExchangePtr& x) {
  json::array vips, limits, errors;
  if (driver) {
    for (const IpAddress& vip : driver->current().announced_vips)
      vips.emplace_back(vip.to_string());
    for (const std::string& error : driver->errors())
      errors.emplace_back(error);
    for (const std::string& error : health_server->errors())
      errors.emplace_back(error);
  }
  json::array tables;
  json::object network;
  if (data_plane) {
    const apply::NetworkView seen = data_plane->network();
    network = network_view(seen);
    if (sources)
      network["loadBalancer"] = load_balancer_view(options.snat_auto         ? "auto"
                                                   : options.data_plane.snat ? "snat"
                                                                             : "dsr",
                                                   sources->peers());
    for (const std::string& warning : network_warnings(seen, gossip->members()))
      limits.emplace_back(warning);
    for (const std::string& limit : data_plane->limitations())
      limits.emplace_back(limit);
    const auto use = data_plane->lru_use();
    tables = tables_view(use);
    for (const std::string& warning : pressure_warnings(use))
      limits.emplace_back(warning);
  }
  json::array cidrs;
  for (const IpPrefix& cidr : gossip->self().meta.pod_cidrs)
    cidrs.emplace_back(cidr.to_string());
  x->reply(200, json::object{{"phase", "Member"},
                             {"node", files.node_name},
                             {"version", kVersion},
                             {"clusterId", files.cluster_id},
                             {"storeHost", files.store_host},
                             {"storeApi", files.store_api.to_string()},
                             {"revision", replica.revision()},
                             {"synced", replica.synced()},
                             {"dataPlane", data_plane ? "up" : "waiting for the pod CIDR"},
                             {"settled", driver && driver->settled()},
                             {"podCIDRs", std::move(cidrs)},
                             {"announced_vips", std::move(vips)},
                             {"network", std::move(network)},
                             {"membersAlive", bridge->members().live().size()},
                             {"tables", std::move(tables)},
                             {"limitations", std::move(limits)},
                             {"errors", std::move(errors)}});
}

void Agent::Impl::create_token(const api::ExchangePtr& x) {
  if (!admin)
    return x->reply_error(
        Error(Errc::kUnavailable,
              fmt::format("tokens are made on the store's host ({}): run shoal token create there",
                          files.store_api.ip.to_string())));
  std::chrono::seconds lifetime = kTokenLifetimeDefault;
  if (const std::string_view text = x->request().query_or("ttl"); !text.empty()) {
    const std::chrono::seconds max = kTokenLifetimeMax;
    const auto seconds = parse_uint(text, static_cast<std::uint64_t>(max.count()));
    if (!seconds || *seconds == 0)
      return x->reply_error(
          Error(Errc::kInvalid, fmt::format("ttl must be from 1 to {} seconds, which is {} days",
                                            max.count(), kTokenLifetimeMax.count() / 24)));
    lifetime = std::chrono::seconds(*seconds);
  }
  admin->create_token(lifetime, [x, lifetime](Result<std::string> token) {
    if (!token)
      return x->reply_error(token.error());
    x->reply(200, json::object{{"token", *token}, {"expiresInSeconds", lifetime.count()}});
  });
}

void Agent::Impl::node_join(const api::ExchangePtr& x) {
  if (!admin)
    return x->reply_error(Error(
        Errc::kUnavailable, fmt::format("hosts are admitted by the store's host: join through {}",
                                        files.store_api.to_string())));
  auto request = join_request_from_json(x->request().body);
  if (!request)
    return x->reply_error(request.error());
  std::vector<SocketAddress> seeds;
  for (const gossip::Member& member : gossip->members())
    if (member.is_live())
      seeds.push_back(member.meta.gossip_address);
  const std::string name = request->node_name;
  const std::string from = x->request().peer.address;
  admin->admit(std::move(*request), std::move(seeds),
               [x, name, from](Result<ClusterFiles> admitted) {
                 if (!admitted) {
                   spdlog::warn("{} at {} asked to join and was refused: {}", name, from,
                                admitted.error().message());
                   return x->reply_error(admitted.error());
                 }
                 spdlog::info("{} at {} was admitted", name, from);
                 x->reply_bytes(200, "application/json", join_answer_to_json(*admitted));
               });
}

}  // namespace shoal::daemon
