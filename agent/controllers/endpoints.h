// SPDX-License-Identifier: Apache-2.0
// Endpoints (v1), the older form of EndpointSlices: kept for services with a selector, read where
// somebody made one by hand. Internal to agent/controllers.
#pragma once

#include "agent/controllers/slice_set.h"

namespace shoal::controllers {

// The labels of an object that follows a service: those of `labelled`, and whether the service is
// headless.
boost::json::object endpoints_labels(const Object& labelled, const Object& service);

// Makes the service's Endpoints say what the groups say, up to 1,000 addresses, the ready ones
// first. family: of the service's primary one, as upstream's has them.
void keep_endpoints_object(const World& world, const Object& service, const EndpointGroups& groups,
                           std::string_view family, Plan& plan);

// The Endpoints of a service without a selector, unless they ask not to be mirrored.
ObjectPtr endpoints_to_mirror(const World& world, const Object& service);
EndpointGroups groups_of_endpoints(const Object& endpoints);

}  // namespace shoal::controllers
