// SPDX-License-Identifier: Apache-2.0
// The controllers: pure functions from the world to a plan. Kubernetes' behaviour, names of
// conditions and reasons; see each source file for what differs.
#pragma once

#include "agent/controllers/plan.h"

namespace shoal::controllers {

// Deployment -> ReplicaSets, and its status.
Plan reconcile_deployment(const World& world, const Object& deployment);
// ReplicaSet -> Pods, adoption and release, and its status.
Plan reconcile_replica_set(const World& world, const Object& replica_set);
// Binds pods without a node. One item for the whole cluster, so that placements see each other.
Plan place_pods(const World& world);
// A host that is dead for long: its ReplicaSets' pods are removed, and so replaced elsewhere.
Plan reconcile_node(const World& world, const Object& node);
// Service with a selector -> EndpointSlices and Endpoints, for API clients; the data plane does not
// read these. Service without one -> EndpointSlices that mirror Endpoints made by hand.
Plan reconcile_service(const World& world, const Object& service);
// A LoadBalancer Service without an address: says why, and has it written again once there is one.
Plan reconcile_load_balancer(const World& world, const Object& service);
// An object whose owners or whose namespace are gone.
Plan collect_garbage(const World& world, const Object& object);
// A PersistentVolumeClaim: bound to its first consumer's host, and gone when it is deleted and no
// pod uses it.
Plan reconcile_claim(const World& world, const Object& claim);
// Binds it: its folder will be on that host.
Update select_node(const Object& claim, std::string_view node);
// A Namespace being deleted: its contents go.
Plan reconcile_namespace(const World& world, const Object& name_space);

}  // namespace shoal::controllers
