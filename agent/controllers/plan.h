// SPDX-License-Identifier: Apache-2.0
// What a controller sees and what it answers. A controller is a pure function
//   Plan reconcile_X(const World&, const Object&)
// of objects, membership and time; it does no IO and keeps nothing. The Runner carries the Plan
// out.
#pragma once

#include "agent/view/facts.h"
#include "agent/view/members.h"
#include "agent/view/view.h"
#include "netplane/base/clock.h"

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace shoal::controllers {

using store::Object;
using store::ObjectPtr;
using view::Members;
using view::Ref;
using view::View;

struct Options {
  // A host that membership has declared dead for this long loses its ReplicaSets' pods.
  Duration pod_replace_after = std::chrono::seconds(5);
  // Above this share of dead hosts nothing is replaced: this side of a partition is likely to be
  // the small one.
  double replace_dead_share_max = 0.55;
  std::vector<IpPrefix> load_balancer_pools;  // what the writers give addresses from
};

struct World {
  const View& view;
  const Members& members;
  const Options& options;
  MonoTime mono;
  WallTime now;
};

// An Event object to write about something.
struct Note {
  ObjectPtr about;
  bool warning = false;
  std::string reason;  // "ScalingReplicaSet"
  std::string message;
  std::string component;  // "deployment-controller"
};

struct Create {
  boost::json::object body;
};
struct Update {  // with metadata.resourceVersion: a lost race changes nothing
  boost::json::object body;
};
struct UpdateStatus {  // with metadata.uid, see with_status()
  boost::json::object body;
};
struct Remove {
  Ref ref;
  std::string uid;  // of the life that is meant
  std::optional<std::int64_t> grace_s;
};
using Op = std::variant<Create, Update, UpdateStatus, Remove>;

struct Step {
  Op op;
  std::optional<Note> note;  // written once the step is done
};

// Steps are independent of each other: each leaves the cluster in a state from which the next look
// goes on.
inline constexpr std::size_t kStepsMax = 64;  // a Plan; the rest comes with the next look
struct Plan {
  std::vector<Step> steps;
  std::vector<Note> notes;  // what is so at present (and worth a word when it becomes so)
  std::optional<Duration> again_after;  // time alone will change the answer then

  void look_again(Duration after) {
    if (!again_after || after < *again_after)
      again_after = after;
  }
  bool full() const { return steps.size() >= kStepsMax; }
};

Ref target_of(const Op& op);
std::string_view verb_of(const Op& op);  // "create", "update", "update status", "delete"
// One line a step, sorted: for golden tests and logs.
std::string to_text(const Plan& plan);
// The same value for the same steps: tells whether a plan still wants what it wanted.
std::uint64_t fingerprint(const Plan& plan);

}  // namespace shoal::controllers
