// SPDX-License-Identifier: Apache-2.0
// View: the objects of a replica with the look-ups that controllers and the data plane need, so
// that the cost of a change is that of what it touches: by owner, by label, by node, and which
// services select a pod.
//
// It holds the replica's own immutable objects (pointers, no copies) and is brought up to date by
// apply(), one Change at a time. attach() does that for a live replica; tests feed it by hand.
// Every look-up has an obvious meaning as a scan over list(), and that is how it is tested.
//
// Results are in key order (namespace, name) unless said otherwise, so that whoever decides on them
// decides the same on every host. Threading: the agent's one loop thread.
#pragma once

#include "agent/api/selector.h"
#include "agent/store/replica.h"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace shoal::view {

using store::Change;
using store::ChangeKind;
using store::Object;
using store::ObjectPtr;

inline constexpr std::string_view kPods = "pods";
inline constexpr std::string_view kServices = "services";
inline constexpr std::string_view kNodes = "nodes";
inline constexpr std::string_view kNamespaces = "namespaces";
inline constexpr std::string_view kDeployments = "deployments.apps";
inline constexpr std::string_view kReplicaSets = "replicasets.apps";
inline constexpr std::string_view kEndpointSlices = "endpointslices.discovery.k8s.io";
inline constexpr std::string_view kEndpoints = "endpoints";
inline constexpr std::string_view kEvents = "events";
inline constexpr std::string_view kConfigMaps = "configmaps";
inline constexpr std::string_view kSecrets = "secrets";
inline constexpr std::string_view kClaims = "persistentvolumeclaims";

// Names an object, whether or not it exists.
struct Ref {
  std::string resource;
  std::string ns;
  std::string name;
  auto operator<=>(const Ref&) const = default;
};
Ref ref_of(const Object& object);

class View {
public:
  View();
  ~View();
  View(const View&) = delete;
  View& operator=(const View&) = delete;

  // ---- look-ups
  ObjectPtr get(std::string_view resource, std::string_view ns, std::string_view name) const;
  ObjectPtr get(const Ref& ref) const { return get(ref.resource, ref.ns, ref.name); }
  ObjectPtr by_uid(std::string_view uid) const;
  std::vector<ObjectPtr> list(std::string_view resource, std::string_view ns = {}) const;
  // Of any kind, whose metadata.ownerReferences name this uid.
  std::vector<ObjectPtr> owned_by(std::string_view uid) const;
  // Pods or ReplicaSets of a namespace that no controller owns.
  std::vector<ObjectPtr> orphans(std::string_view resource, std::string_view ns) const;
  // Of any kind, that have owners at all.
  std::vector<ObjectPtr> with_owners() const;
  // Everything that lives in a namespace, of any kind, the Namespace itself not included.
  std::vector<ObjectPtr> in_namespace(std::string_view ns) const;
  // Pods of a namespace whose labels match.
  std::vector<ObjectPtr> pods_matching(std::string_view ns,
                                       const api::LabelSelector& selector) const;
  std::vector<ObjectPtr> pods_on(std::string_view node) const;  // bound to it, spec.nodeName
  std::vector<ObjectPtr> unbound_pods() const;                  // without spec.nodeName
  // Services (with a selector) that select this pod.
  std::vector<ObjectPtr> services_selecting(const Object& pod) const;
  // EndpointSlices with the label kubernetes.io/service-name.
  std::vector<ObjectPtr> slices_of(std::string_view ns, std::string_view service) const;

  // The first full state has arrived.
  bool synced() const;
  // Everything up to this revision of the store is here: what is absent and older than it is gone.
  store::Revision revision() const;

  // ---- bringing it up to date
  // Runs after each change that the view has taken in.
  [[nodiscard]] store::Subscription subscribe(std::function<void(const Change&)> on_change);
  void apply(const Change& change);
  // How far the view is, when it follows no replica.
  void set_position(bool synced, store::Revision revision);
  // Loads the replica's objects of `resources`, or of every kind that is served when it is empty
  // (garbage collection and the deletion of namespaces need all), and follows it. The replica must
  // outlive the view.
  void attach(store::Replica& replica, std::vector<std::string> resources = {});

private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace shoal::view
