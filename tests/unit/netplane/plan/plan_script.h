// SPDX-License-Identifier: Apache-2.0
// Golden plans: a text file that holds the input beside what it gave.
//
//   self h1                                          input lines make up the desired state,
//   node h1 198.18.0.11 10.244.1.0/24 [lan=IP] [dead]   one after the other
//   service default/web:http/TCP[@v6][@outside]      begins a service, or begins it anew
//     frontend 10.96.0.10:80 ClusterIP               (NodePort, LoadBalancer, ExternalIP, HostPort)
//     inside                                         for clients inside only
//     affinity 60
//     from 198.51.100.0/24                           a source range
//     group version=blue 90
//     backend 10.244.1.5:8080 gen=1 host=h1 [group=G] [serving | terminating]
//   drop service default/web:http/TCP
//   announce 203.0.113.10        / withdraw 203.0.113.10
//   cluster 10.244.0.0/16
//   > apply                      plans, shows the plan and carries it out
//   > apply no-prune             the same before the view is complete
//   > overlay                    the same for hosts and routes
//   > policy                     shows the masquerade policy
//   > state                      shows what the planner believes the maps hold
//   > grace                      what was replaced is not read any more
//   > restart                    forgets everything and reads the maps again
//   | ...                        what a command showed: rewritten with UPDATE_GOLDEN=1
#pragma once

#include "map_state.h"

#include "netplane/model/model.h"
#include "netplane/plan/lb.h"
#include "netplane/plan/routes.h"

#include <string>
#include <string_view>

namespace shoal::plan {

class PlanScript {
public:
  // Runs a file's text and returns it with the outputs that it has now.
  static std::string run(std::string_view text);

private:
  void line(std::string_view text);
  void command(std::string_view text);
  void service_line(const std::vector<std::string>& words);
  void apply(bool prune);
  void overlay();
  void show(const std::string& text);

  std::string out_;
  model::Desired desired_;
  Actual actual_;
  MapState maps_;
  Overlay overlay_;
  Stamp stamp_ = 0;
};

}  // namespace shoal::plan
