// SPDX-License-Identifier: Apache-2.0
// Which changes of services can be planned without a look at the others. Internal to netplane/plan.
#pragma once

#include "netplane/plan/lb.h"

#include <span>

namespace shoal::plan {

// More than its groups and backends differs.
inline bool is_reshaped(const ChangedService& changed) {
  return changed.before == nullptr || changed.now == nullptr ||
         !model::same_but_backends(*changed.before, *changed.now);
}

// The addresses that are the service's alone.
template <class Visit>
void each_vip(const model::ServicePort& service, Visit visit) {
  for (const model::Frontend& frontend : service.frontends)
    if (frontend.ip.family() == service.family && frontend.kind != model::FrontendKind::kNodePort &&
        frontend.kind != model::FrontendKind::kHostPort)
      visit(frontend.ip);
}

// No frontend of those that are reshaped leads to a service that is not among them, and no address
// that one of them gives up is left to such a service.
bool stand_alone(std::span<const ChangedService> changed, const Actual& actual,
                 const Options& options);

}  // namespace shoal::plan
