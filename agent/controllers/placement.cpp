// SPDX-License-Identifier: Apache-2.0
// Binds pods without a node: fewest pods of the same owner first, then fewest pods, then
// rendezvous.
//
// All pending pods are placed in one look, each counting on the ones before it, and one member does
// it for the whole cluster: placements made apart would each choose the host that is emptiest at
// the moment. A binding is an update at the revision that was seen, so that two members that do it
// at once cannot bind a pod twice.
#include "agent/controllers/controllers.h"
#include "agent/controllers/edit.h"
#include "netplane/base/hash.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>

namespace shoal::controllers {

namespace json = boost::json;

namespace {

constexpr std::string_view kComponent = "default-scheduler";
constexpr std::int64_t kPodsPerNodeDefault = 110;  // Kubernetes' own, when a node reports nothing

struct Place {
  ObjectPtr node;
  std::string name;
  std::int64_t capacity = 0;
  std::int64_t pods = 0;
  std::map<std::string, std::int64_t, std::less<>> by_owner;
  std::vector<view::HostPort> host_ports;

  bool has_free(const std::vector<view::HostPort>& wanted) const {
    return std::none_of(wanted.begin(), wanted.end(), [&](const view::HostPort& port) {
      return std::any_of(host_ports.begin(), host_ports.end(),
                         [&](const view::HostPort& taken) { return view::collide(port, taken); });
    });
  }
  void take_ports(const std::vector<view::HostPort>& ports) {
    host_ports.insert(host_ports.end(), ports.begin(), ports.end());
  }
};

// Why nodes cannot take a pod, and how many.
using Reasons = std::map<std::string_view, int>;

std::string_view unfit(const World& world, const Object& node) {
  if (!world.members.alive(node.name))
    return "were not reachable";
  if (!view::node_reports_ready(node))
    return "were not ready";
  if (!view::node_schedulable(node))
    return "were unschedulable";
  return {};
}

std::int64_t capacity_of(const Object& node) {
  const auto* value = api::find_path(node.body, "status.allocatable.pods");
  if (value && value->is_int64())
    return value->get_int64();
  if (value && value->is_string())
    if (const auto number = parse_uint(std::string_view(value->get_string()), 1'000'000))
      return static_cast<std::int64_t>(*number);
  return kPodsPerNodeDefault;
}

std::string owner_key(const Object& pod) {
  const auto controller = view::controller_of(pod);
  return controller ? controller->uid : std::string();
}

class Placement {
public:
  explicit Placement(const World& world) : world_(world) {
    for (ObjectPtr& node : world.view.list(view::kNodes)) {
      ++nodes_;
      if (const auto reason = unfit(world, *node); !reason.empty()) {
        ++unfit_[reason];
        continue;
      }
      Place place;
      place.name = node->name;
      place.capacity = capacity_of(*node);
      for (const ObjectPtr& pod : world.view.pods_on(node->name)) {
        if (view::is_finished(*pod))
          continue;
        ++place.pods;  // a terminating one still holds its address and its ports
        place.take_ports(view::host_ports(*pod));
        if (!view::is_terminating(*pod))
          ++place.by_owner[owner_key(*pod)];
      }
      place.node = std::move(node);
      places_.push_back(std::move(place));
    }
  }

  // The best place, or nullptr with the reasons.
  Place* choose(const Object& pod, Reasons& reasons) {
    reasons = unfit_;
    const auto selector = api::LabelSelector::from_labels(node_selector(pod));
    const std::string owner = owner_key(pod);
    const std::vector<view::HostPort> host_ports = view::host_ports(pod);
    std::vector<std::string> best;
    std::pair<std::int64_t, std::int64_t> best_load{INT64_MAX, INT64_MAX};
    for (Place& place : places_) {
      if (node_selector(pod) && !selector.matches(view::labels(*place.node))) {
        ++reasons["didn't match Pod's node affinity/selector"];
        continue;
      }
      if (place.pods >= place.capacity) {
        ++reasons["had too many pods"];
        continue;
      }
      if (!place.has_free(host_ports)) {
        ++reasons["didn't have free ports for the requested pod ports"];
        continue;
      }
      const auto same = place.by_owner.find(owner);
      const std::pair load{owner.empty() || same == place.by_owner.end() ? std::int64_t{0}
                                                                         : same->second,
                           place.pods};
      if (load > best_load)
        continue;
      if (load < best_load)
        best.clear();
      best_load = load;
      best.push_back(place.name);
    }
    if (best.empty())
      return nullptr;
    const std::string chosen = rendezvous_owner(pod.uid, best);
    return &*std::find_if(places_.begin(), places_.end(),
                          [&](const Place& place) { return place.name == chosen; });
  }

  void take(Place& place, const Object& pod) const {
    ++place.pods;
    ++place.by_owner[owner_key(pod)];
    place.take_ports(view::host_ports(pod));
  }

  std::string explain(const Reasons& reasons) const {
    if (nodes_ == 0)
      return "0/0 nodes are available: no node has joined the cluster.";
    std::string out = fmt::format("0/{} nodes are available:", nodes_);
    const char* separator = " ";
    for (const auto& [reason, count] : reasons) {
      out += fmt::format("{}{} node(s) {}", separator, count, reason);
      separator = ", ";
    }
    return out + ".";
  }

private:
  static const json::object* node_selector(const Object& pod) {
    const auto* found = api::find_object(pod.body, "spec.nodeSelector");
    return found && !found->empty() ? found : nullptr;
  }

  const World& world_;
  std::vector<Place> places_;
  Reasons unfit_;
  int nodes_ = 0;
};

Step bind_step(const ObjectPtr& pod, const Place& place) {
  json::object body = pod->body;
  sub_object(body, "spec")["nodeName"] = place.name;
  return {Update{std::move(body)},
          Note{pod, false, "Scheduled",
               fmt::format("Successfully assigned {}/{} to {}", pod->ns, pod->name, place.name),
               std::string(kComponent)}};
}

// The condition says why until the pod is bound; from then on its host reports the status.
void tell_unschedulable(const World& world, const ObjectPtr& pod, const std::string& message,
                        Plan& plan) {
  if (plan.notes.size() < kStepsMax)
    plan.notes.push_back({pod, true, "FailedScheduling", message, std::string(kComponent)});
  json::array conditions = conditions_of(*pod);
  if (plan.full() ||
      !set_condition(conditions, "PodScheduled", "False", "Unschedulable", message, world.now))
    return;
  json::object status;
  if (const auto* before = api::find_object(pod->body, "status"))
    status = *before;
  status["conditions"] = std::move(conditions);
  plan.steps.push_back({UpdateStatus{with_status(*pod, std::move(status))}, {}});
}

}  // namespace

Plan place_pods(const World& world) {
  Plan plan;
  auto pods = world.view.unbound_pods();
  std::erase_if(pods, [](const ObjectPtr& pod) { return !view::is_active(*pod); });
  if (pods.empty())
    return plan;
  // First come, first served; within a revision by name.
  std::stable_sort(pods.begin(), pods.end(), [](const ObjectPtr& a, const ObjectPtr& b) {
    return a->create_revision < b->create_revision;
  });
  Placement placement(world);
  std::vector<std::pair<ObjectPtr, std::string>> unschedulable;
  for (const ObjectPtr& pod : pods) {
    if (plan.full())
      break;
    Reasons reasons;
    if (Place* place = placement.choose(*pod, reasons)) {
      placement.take(*place, *pod);
      plan.steps.push_back(bind_step(pod, *place));
      continue;
    }
    unschedulable.emplace_back(pod, placement.explain(reasons));
  }
  // Those that can run go first.
  for (const auto& [pod, why] : unschedulable)
    tell_unschedulable(world, pod, why, plan);
  return plan;
}

}  // namespace shoal::controllers
