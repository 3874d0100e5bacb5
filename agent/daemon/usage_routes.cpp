// SPDX-License-Identifier: Apache-2.0
// What hosts and pods use, whichever host is asked:
//
//   GET /apis/metrics.k8s.io/v1beta1/nodes?labelSelector, nodes/NAME
//   GET /apis/metrics.k8s.io/v1beta1/pods?labelSelector&fieldSelector, namespaces/NS/pods[/NAME]
//   GET /api/v1/nodes/NAME/proxy/stats/summary
//
// For a list every live host is asked for its own part. One that does not answer is left out, and
// named in a warning.
#include "agent/api/ask_hosts.h"
#include "agent/daemon/agent_impl.h"
#include "agent/daemon/usage_views.h"

#include <boost/asio/post.hpp>
#include <boost/json.hpp>

namespace shoal::daemon {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr std::chrono::seconds kDiskFresh{60};

Error not_yet() {
  return Error(Errc::kUnavailable,
               "this host does not run pods yet: it waits for its pod CIDR from the store's host");
}

api::ApiError no_metrics(std::string_view resource, std::string_view name) {
  return {404, "NotFound", fmt::format("{}.metrics.k8s.io \"{}\" not found", resource, name), {}};
}

// A list that is being put together.
struct UsageList {
  bool nodes = false;
  UsageFilter filter;
  api::ExchangePtr x;
  json::array own;
  std::vector<std::pair<std::string, std::string>> answers;
  std::vector<std::string> warnings;
  int parts = 2;  // that are still out: this host's, the others'
};

}  // namespace

api::RelayOptions Agent::Impl::relay_options() const {
  const std::filesystem::path pki = options.state_dir / "pki";
  return {pki / "node.crt", pki / "node.key", pki / "ca.crt"};
}

json::array Agent::Impl::own_usage(bool nodes, const UsageFilter& filter,
                                   const node::HostUse& use) const {
  json::array out;
  if (nodes) {
    const auto node = view.get(view::kNodes, "", files.node_name);
    if (node && filter.takes("", node->name, view::labels(*node)))
      if (json::value item = node_metrics(*node, use); !item.is_null())
        out.push_back(std::move(item));
    return out;
  }
  for (const node::PodUse& pod : use.pods) {
    const auto object = view.by_uid(pod.uid);
    const json::object* labels = object ? view::labels(*object) : nullptr;
    if (!pod.containers.empty() && filter.takes(pod.ns, pod.name, labels))
      out.push_back(pod_metrics(pod, labels, use));
  }
  return out;
}

void Agent::Impl::list_usage(const api::ExchangePtr& x, bool nodes) {
  const api::Request& asked = x->request();
  const auto ns = asked.params.find("namespace");
  auto filter = read_usage_filter(ns == asked.params.end() ? "" : ns->second,
                                  asked.query_or("labelSelector"), asked.query_or("fieldSelector"));
  if (!filter)
    return x->reply_error(filter.error());
  const bool alone = !asked.header(api::kRelayedHeader).empty();
  if (alone && !sampler)
    return x->reply_error(not_yet());
  auto list = std::make_shared<UsageList>();
  list->nodes = nodes;
  list->filter = std::move(*filter);
  list->x = x;
  const auto part_done = [this, list] {
    if (--list->parts > 0)
      return;
    // Many hosts have much to say: not on the loop.
    asio::post(workers, [&loop = loop, list] {
      std::string body =
          json::serialize(merge_usage(list->nodes ? "NodeMetricsList" : "PodMetricsList",
                                      std::move(list->own), list->answers, list->warnings));
      asio::post(loop, [list, body = std::move(body)]() mutable {
        list->x->reply_bytes(200, "application/json", std::move(body), list->warnings);
      });
    });
  };
  if (sampler) {
    sampler->rates([this, list, part_done](const node::StatsSampler::Sample& base,
                                           const node::StatsSampler::Sample& last) {
      list->own = own_usage(list->nodes, list->filter, node::use_between(*base, *last));
      part_done();
    });
  } else {
    list->warnings.push_back(
        fmt::format("host {} is left out: {}", files.node_name, not_yet().message()));
    part_done();
  }
  if (alone)
    return part_done();
  std::vector<std::string> names;
  std::vector<api::PeerHost> hosts = other_hosts(list->warnings);
  for (const api::PeerHost& host : hosts)
    names.push_back(host.name);
  api::ask_hosts(loop, relay_options(), std::move(hosts), api::target_of(asked),
                 [list, names, part_done](std::vector<Result<std::string>> answers) {
                   for (std::size_t i = 0; i < names.size(); ++i)
                     if (answers[i])
                       list->answers.emplace_back(names[i], std::move(*answers[i]));
                     else
                       list->warnings.push_back(fmt::format("host {} is left out: {}", names[i],
                                                            answers[i].error().message()));
                   part_done();
                 });
}

// Those that can be asked; the others are told of.
std::vector<api::PeerHost> Agent::Impl::other_hosts(std::vector<std::string>& warnings) const {
  std::vector<api::PeerHost> out;
  const std::vector<gossip::Member> members = gossip->members();
  for (const view::ObjectPtr& node : view.list(view::kNodes)) {
    if (node->name == files.node_name)
      continue;
    const auto member = std::ranges::find(members, node->name, &gossip::Member::name);
    if (member != members.end() && member->is_live() && member->meta.api_address)
      out.push_back(
          {node->name, member->meta.api_address->ip.to_string(), member->meta.api_address->port});
    else
      warnings.push_back(fmt::format("host {} is left out: it is not alive", node->name));
  }
  return out;
}

void Agent::Impl::node_usage(const api::ExchangePtr& x) {
  const std::string& name = x->request().params.at("name");
  if (!view.get(view::kNodes, "", name))
    return x->reply_error(no_metrics("nodes", name));
  if (sent_to(x, name, fmt::format("host {}", name)))
    return;
  if (!sampler)
    return x->reply_error(not_yet());
  sampler->rates(
      [this, x](const node::StatsSampler::Sample& base, const node::StatsSampler::Sample& last) {
        json::array own = own_usage(true, {}, node::use_between(*base, *last));
        if (own.empty())
          return x->reply_error(no_metrics("nodes", files.node_name));
        x->reply(200, own.front());
      });
}

void Agent::Impl::pod_usage(const api::ExchangePtr& x) {
  sampler->rates(
      [this, x](const node::StatsSampler::Sample& base, const node::StatsSampler::Sample& last) {
        const auto& params = x->request().params;
        UsageFilter filter;
        filter.ns = params.at("namespace");
        filter.fields = {{"metadata.name", params.at("name"), false}};
        json::array own = own_usage(false, filter, node::use_between(*base, *last));
        if (own.empty())
          return x->reply_error(
              no_metrics("pods", fmt::format("{}/{}", params.at("namespace"), params.at("name"))));
        x->reply(200, own.front());
      });
}

void Agent::Impl::summary(const api::ExchangePtr& x) {
  const std::string& name = x->request().params.at("name");
  if (!view.get(view::kNodes, "", name))
    return x->reply_error(
        api::ApiError{404, "NotFound", fmt::format("nodes \"{}\" not found", name), {}});
  if (sent_to(x, name, fmt::format("host {}", name)))
    return;
  if (!sampler)
    return x->reply_error(not_yet());
  pods->measure_disks(kDiskFresh);  // for who asks next
  sampler->rates(
      [this, x](const node::StatsSampler::Sample& base, const node::StatsSampler::Sample& last) {
        auto facts = std::make_shared<SummaryFacts>();
        facts->node = files.node_name;
        facts->base = base;
        facts->last = last;
        facts->disks = pods->disks();
        asio::post(workers, [&loop = loop, x, facts, place = options.state_dir] {
          if (auto disk = images::disk_use(place))
            facts->disk = *disk;
          std::string body = json::serialize(stats_summary(*facts));
          asio::post(loop, [x, facts, body = std::move(body)]() mutable {
            x->reply_bytes(200, "application/json", std::move(body));
          });
        });
      });
}

void Agent::Impl::usage_routes(
    const std::function<void(const char*, std::function<void(const api::ExchangePtr&)>)>& get) {
  const std::string base = "/apis/metrics.k8s.io/v1beta1";
  get((base + "/nodes").c_str(), [this](const api::ExchangePtr& x) { list_usage(x, true); });
  get((base + "/nodes/{name}").c_str(), [this](const api::ExchangePtr& x) { node_usage(x); });
  get((base + "/pods").c_str(), [this](const api::ExchangePtr& x) { list_usage(x, false); });
  get((base + "/namespaces/{namespace}/pods").c_str(),
      [this](const api::ExchangePtr& x) { list_usage(x, false); });
  get((base + "/namespaces/{namespace}/pods/{name}").c_str(), [this](const api::ExchangePtr& x) {
    if (sent_on(x))
      return;
    sampler ? pod_usage(x) : x->reply_error(not_yet());
  });
  get("/api/v1/nodes/{name}/proxy/stats/summary",
      [this](const api::ExchangePtr& x) { summary(x); });
}

}  // namespace shoal::daemon
