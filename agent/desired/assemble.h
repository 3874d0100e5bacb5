// SPDX-License-Identifier: Apache-2.0
// Puts the parts together. Internal to agent/desired.
#pragma once

#include "agent/desired/contest.h"
#include "agent/desired/desired.h"

#include <array>

namespace shoal::desired {

// Who may announce addresses, the best first.
class Announcers {
public:
  Announcers(const view::View& view, const view::Members& members);
  std::string of(const Vip& vip) const;  // "" when nobody can

private:
  std::array<std::vector<std::string>, 3> tiers_;
};

// Fills in everything of `out` but the nodes. Equal parts give equal results: their order is that
// of the map. Returns where each part's ports stand, in that order; `contested` are the frontends
// that nothing keeps unique.
std::vector<OwnedPorts> assemble(const Builder::Parts& parts, const Announcers& announcers,
                                 const std::string& self, Computed& out,
                                 std::set<model::FrontendKey>& contested);

// Every service's part, and those of this host's pods that are not empty.
Builder::Parts compute_parts(const Scene& scene);

inline bool is_empty(const Part& part) { return part.ports.empty() && part.findings.empty(); }

}  // namespace shoal::desired
