// SPDX-License-Identifier: Apache-2.0
// SliceSet: the EndpointSlices that one manager keeps for one service, from what they hold to what
// they should. A slice holds at most 100 endpoints of one address family and the same ports. An
// endpoint stays in the slice that it is in, so that one pod's change writes one slice. Internal to
// agent/controllers.
#pragma once

#include "agent/controllers/plan.h"

#include <map>
#include <set>

namespace shoal::controllers {

inline constexpr std::string_view kServiceNameLabel = "kubernetes.io/service-name";
inline constexpr std::string_view kSliceManagerLabel = "endpointslice.kubernetes.io/managed-by";
inline constexpr std::string_view kHeadlessLabel = "service.kubernetes.io/headless";
// Who keeps slices: this controller from pods, and from Endpoints objects made by hand. The second
// is upstream's name, by which clients know a mirrored slice.
inline constexpr std::string_view kSliceManager = "endpointslice-controller.shoal.dev";
inline constexpr std::string_view kMirrorManager = "endpointslicemirroring-controller.k8s.io";

// Endpoints that can share slices.
struct EndpointGroup {
  std::string family;  // "IPv4", "IPv6"
  boost::json::array ports;
  std::map<std::string, boost::json::object> endpoints;  // by endpoint_id()

  std::uint64_t hash() const;
};
using EndpointGroups = std::map<std::uint64_t, EndpointGroup>;  // by hash

// What an endpoint is known by from one look to the next: its pod's uid, or its address.
std::string endpoint_id(const boost::json::object& endpoint);

class SliceSet {
public:
  // labels: of every slice. They are owned by `service`, and go when it does.
  SliceSet(const World& world, const Object& service, std::string_view manager,
           boost::json::object labels, EndpointGroups groups, Plan& plan);
  // placeholders: of each of these families a service without any endpoint has one empty slice, as
  // upstream's have.
  void run(const std::vector<IpFamily>& placeholders);

private:
  bool is_stale(const Object& slice) const;
  bool keep_empty(std::string_view family);
  void update_present();
  void write(const Object& slice, boost::json::array endpoints);
  void create(std::uint64_t hash, EndpointGroup& group);

  const Object& service_;
  Plan& plan_;
  const boost::json::object labels_;
  EndpointGroups groups_;
  std::vector<ObjectPtr> present_;
  std::set<std::string> names_;
  std::set<const Object*> kept_empty_;
};

}  // namespace shoal::controllers
