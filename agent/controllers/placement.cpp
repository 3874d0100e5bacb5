// SPDX-License-Identifier: Apache-2.0
// Binds pods without a node, where what they request is free: fewest pods of the same owner first,
// then the least loaded host, then fewest pods, then rendezvous.
//
// All pending pods are placed in one look, each counting on the ones before it, and one member does
// it for the whole cluster: placements made apart would each choose the host that is emptiest at
// the moment. A pod that is the first to use a claim gets its host in two looks: the claim is bound
// to it first, and then there is no other for the pod. A binding is an update at the revision that
// was seen, so that two members that do it at once cannot bind a pod twice.
#include "agent/api/claims.h"
#include "agent/controllers/controllers.h"
#include "agent/controllers/edit.h"
#include "agent/view/requests.h"
#include "netplane/base/hash.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <set>
#include <tuple>

namespace shoal::controllers {

namespace json = boost::json;

namespace {

constexpr std::string_view kComponent = "default-scheduler";
constexpr std::int64_t kPodsPerNodeDefault = 110;  // Kubernetes' own, when a node reports nothing

// What a pod counts for in the load of a host when it requests nothing: Kubernetes' own.
constexpr std::int64_t kCpuMilliAssumed = 100;
constexpr std::int64_t kMemoryAssumed = 200 << 20;

// What a host that is short of something keeps away, as if it had Kubernetes' taints of that.
struct Taint {
  std::string_view condition;
  std::string_view key;
  std::string_view reason;
};
constexpr std::string_view kMemoryPressure = "MemoryPressure";
constexpr Taint kTaints[] = {{kMemoryPressure, "node.kubernetes.io/memory-pressure",
                              "had untolerated taint {node.kubernetes.io/memory-pressure: }"},
                             {"DiskPressure", "node.kubernetes.io/disk-pressure",
                              "had untolerated taint {node.kubernetes.io/disk-pressure: }"},
                             {"PIDPressure", "node.kubernetes.io/pid-pressure",
                              "had untolerated taint {node.kubernetes.io/pid-pressure: }"}};

// Those that ask for something take shortness of memory: it is for them that others are evicted.
bool takes(const Object& pod, const Taint& taint) {
  return view::tolerates(pod, taint.key, "NoSchedule") ||
         (taint.condition == kMemoryPressure && !view::is_best_effort(pod));
}

struct Place {
  ObjectPtr node;
  std::string name;
  std::int64_t capacity = 0;
  std::int64_t pods = 0;
  std::vector<const Taint*> taints;
  std::map<std::string, std::int64_t, std::less<>> by_owner;
  std::vector<view::HostPort> host_ports;
  view::Requests allocatable;
  view::Requests requested;
  view::Requests load;  // requested, and what is assumed of pods that request nothing

  static view::Requests load_of(const view::Requests& requests) {
    return {requests.cpu_milli ? requests.cpu_milli : kCpuMilliAssumed,
            requests.memory_bytes ? requests.memory_bytes : kMemoryAssumed, 0};
  }
  void add(const view::Requests& requests) {
    const auto plus = [](std::int64_t& to, std::int64_t more) {
      if (__builtin_add_overflow(to, more, &to))
        to = INT64_MAX;
    };
    plus(requested.cpu_milli, requests.cpu_milli);
    plus(requested.memory_bytes, requests.memory_bytes);
    plus(requested.storage_bytes, requests.storage_bytes);
    plus(load.cpu_milli, load_of(requests).cpu_milli);
    plus(load.memory_bytes, load_of(requests).memory_bytes);
  }
  // A pod that requests nothing fits anywhere.
  static bool fits(std::int64_t request, std::int64_t taken, std::int64_t have) {
    return request == 0 || (taken <= have && request <= have - taken);
  }
  // The fuller of cpu and memory with the pod on it, in percent: small differences do not count.
  std::int64_t load_with(const view::Requests& requests) const {
    const view::Requests more = load_of(requests);
    const auto percent = [](std::int64_t taken, std::int64_t plus, std::int64_t have) {
      return static_cast<std::int64_t>(100 *
                                       (static_cast<double>(taken) + static_cast<double>(plus)) /
                                       static_cast<double>(std::max<std::int64_t>(have, 1)));
    };
    return std::max(percent(load.cpu_milli, more.cpu_milli, allocatable.cpu_milli),
                    percent(load.memory_bytes, more.memory_bytes, allocatable.memory_bytes));
  }

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
constexpr std::string_view kInsufficientCpu = "Insufficient cpu";
constexpr std::string_view kInsufficientMemory = "Insufficient memory";
constexpr std::string_view kInsufficientStorage = "Insufficient ephemeral-storage";
constexpr std::string_view kClaimTaken =
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
// Those that are not about a node.
constexpr std::string_view kOfThePod[] = {kInsufficientCpu, kInsufficientMemory,
                                          kInsufficientStorage, kClaimTaken};

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

// Where a pod's claims let it run.
struct PodClaims {
  std::string problem;             // nowhere
  std::vector<std::string> nodes;  // that have folders of theirs
  std::vector<ObjectPtr> unbound;
  bool taken = false;  // by a pod that must be the only one

  bool allow(std::string_view node) const {
    return std::ranges::all_of(nodes, [&](const std::string& one) { return one == node; });
  }
};

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
      place.allocatable = view::node_allocatable(*node);
      for (const Taint& taint : kTaints)
        if (view::condition_true(*node, taint.condition))
          place.taints.push_back(&taint);
      for (const ObjectPtr& pod : world.view.pods_on(node->name)) {
        if (view::is_finished(*pod))
          continue;
        ++place.pods;  // a terminating one still holds its address and its ports
        place.take_ports(view::host_ports(*pod));
        place.add(view::pod_requests(*pod));
        if (!view::is_terminating(*pod))
          ++place.by_owner[owner_key(*pod)];
      }
      place.node = std::move(node);
      places_.push_back(std::move(place));
    }
  }

  PodClaims claims_of(const Object& pod) const {
    PodClaims out;
    for (const std::string& name : api::claims_of(pod.body)) {
      const ObjectPtr claim = world_.view.get(view::kClaims, pod.ns, name);
      if (!claim || view::is_terminating(*claim)) {
        out.problem = fmt::format("persistentvolumeclaim \"{}\" {}", name,
                                  claim ? "is being deleted" : "not found");
        return out;
      }
      const auto chosen = chosen_.find(claim->uid);
      const std::string_view node = api::selected_node(claim->body);
      if (chosen != chosen_.end())
        out.nodes.push_back(chosen->second);
      else if (!node.empty())
        out.nodes.emplace_back(node);
      if (node.empty())
        out.unbound.push_back(claim);
      out.taken = out.taken || (api::has_access_mode(claim->body, "ReadWriteOncePod") &&
                                (exclusive_.contains(claim->uid) || is_held(*claim)));
    }
    return out;
  }

  // The best place, or nullptr with the reasons.
  Place* choose(const Object& pod, const PodClaims& claims, Reasons& reasons) {
    reasons = unfit_;
    const auto selector = api::LabelSelector::from_labels(node_selector(pod));
    const std::string owner = owner_key(pod);
    const std::vector<view::HostPort> host_ports = view::host_ports(pod);
    const view::Requests requests = view::pod_requests(pod);
    std::vector<std::string> best;
    std::tuple best_load{INT64_MAX, INT64_MAX, INT64_MAX};
    for (Place& place : places_) {
      if (node_selector(pod) && !selector.matches(view::labels(*place.node))) {
        ++reasons["didn't match Pod's node affinity/selector"];
        continue;
      }
      if (const auto taint = std::ranges::find_if_not(
              place.taints, [&](const Taint* one) { return takes(pod, *one); });
          taint != place.taints.end()) {
        ++reasons[(*taint)->reason];
        continue;
      }
      if (place.pods >= place.capacity) {
        ++reasons["had too many pods"];
        continue;
      }
      if (claims.taken) {
        ++reasons[kClaimTaken];
        continue;
      }
      if (!claims.allow(place.name)) {
        ++reasons["had volume node affinity conflict"];
        continue;
      }
      if (!place.has_free(host_ports)) {
        ++reasons["didn't have free ports for the requested pod ports"];
        continue;
      }
      const bool cpu =
          Place::fits(requests.cpu_milli, place.requested.cpu_milli, place.allocatable.cpu_milli);
      const bool memory = Place::fits(requests.memory_bytes, place.requested.memory_bytes,
                                      place.allocatable.memory_bytes);
      const bool storage = Place::fits(requests.storage_bytes, place.requested.storage_bytes,
                                       place.allocatable.storage_bytes);
      if (!cpu || !memory || !storage) {
        if (!cpu)
          ++reasons[kInsufficientCpu];
        if (!memory)
          ++reasons[kInsufficientMemory];
        if (!storage)
          ++reasons[kInsufficientStorage];
        continue;
      }
      const auto same = place.by_owner.find(owner);
      const std::tuple load{owner.empty() || same == place.by_owner.end() ? std::int64_t{0}
                                                                          : same->second,
                            place.load_with(requests), place.pods};
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

  void take(Place& place, const Object& pod, const PodClaims& claims) {
    for (const ObjectPtr& claim : claims.unbound)
      chosen_.emplace(claim->uid, place.name);
    for (const std::string& name : api::claims_of(pod.body))
      exclusive_.insert(world_.view.get(view::kClaims, pod.ns, name)->uid);
    ++place.pods;
    ++place.by_owner[owner_key(pod)];
    place.take_ports(view::host_ports(pod));
    place.add(view::pod_requests(pod));
  }

  std::string explain(std::string_view problem) const {
    return fmt::format("0/{} nodes are available: {}.", nodes_, problem);
  }
  std::string explain(const Reasons& reasons) const {
    if (nodes_ == 0)
      return "0/0 nodes are available: no node has joined the cluster.";
    std::string out = fmt::format("0/{} nodes are available:", nodes_);
    const char* separator = " ";
    for (const auto& [reason, count] : reasons) {
      const bool of_the_pod = std::ranges::find(kOfThePod, reason) != std::end(kOfThePod);
      out += fmt::format("{}{} {}{}", separator, count, of_the_pod ? "" : "node(s) ", reason);
      separator = ", ";
    }
    return out + ".";
  }

private:
  static const json::object* node_selector(const Object& pod) {
    const auto* found = api::find_object(pod.body, "spec.nodeSelector");
    return found && !found->empty() ? found : nullptr;
  }

  bool is_held(const Object& claim) const {
    const auto pods = world_.view.list(view::kPods, claim.ns);
    return std::ranges::any_of(
        pods, [&](const ObjectPtr& pod) { return api::holds_claim(pod->body, claim.name); });
  }

  const World& world_;
  std::map<std::string, std::string, std::less<>> chosen_;  // claims bound in this look, by uid
  std::set<std::string, std::less<>> exclusive_;            // claims of pods placed in this look
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

// Its claims first; each is bound by whichever pod comes first, and once.
void place_step(const ObjectPtr& pod, const Place& place, const PodClaims& claims, Plan& plan) {
  if (claims.unbound.empty())
    plan.steps.push_back(bind_step(pod, place));
  for (const ObjectPtr& claim : claims.unbound) {
    Update update = select_node(*claim, place.name);
    const auto same = [&](const Step& step) { return target_of(step.op) == view::ref_of(*claim); };
    if (std::ranges::none_of(plan.steps, same))
      plan.steps.push_back({std::move(update), {}});
  }
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
    const PodClaims claims = placement.claims_of(*pod);
    if (!claims.problem.empty()) {
      unschedulable.emplace_back(pod, placement.explain(claims.problem));
      continue;
    }
    Reasons reasons;
    if (Place* place = placement.choose(*pod, claims, reasons)) {
      placement.take(*place, *pod, claims);
      place_step(pod, *place, claims, plan);
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
