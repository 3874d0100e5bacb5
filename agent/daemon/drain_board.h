// SPDX-License-Identifier: Apache-2.0
// Which pods that are being stopped get no new connection any more, by host. Every host tells the
// others up to which revision of the store its data plane is; a pod's own host asks the pod's
// processes to end once all live hosts are where the pod was first seen to be stopped.
//
// Only pods that a Service selects, or that have a host port, are waited for: nobody balances over
// others. The number is told, under the gossip key "applied", when it passes such a pod. Threading:
// the loop thread.
#pragma once

#include "agent/view/members.h"
#include "agent/view/view.h"
#include "netplane/base/result.h"

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace shoal::daemon {

inline constexpr std::string_view kAppliedKey = "applied";
inline constexpr std::chrono::seconds kDrainRetry{1};

class DrainBoard {
public:
  using Publish = std::function<Result<>(std::string value)>;
  // publish: under kAppliedKey, to the other hosts.
  // retry_later: have retry() called in kDrainRetry.
  // when_complete: have applied() called again once the view is complete up to a revision. A change
  // may arrive before it is known that nothing before it is missing.
  DrainBoard(std::string self, view::View& view, Publish publish, std::function<void()> retry_later,
             std::function<void(store::Revision)> when_complete);

  // The data plane now is what the view says.
  void applied();
  // Tells again what could not be told.
  void retry();
  // What another host has told.
  void told(std::string_view host, const std::string* value);
  // Every live host's data plane leads nobody new to this pod, or none ever did.
  bool drained(std::string_view uid, const view::Members& members) const;
  // Runs when drained() may have a new answer: after applied() and told().
  void on_news(std::function<void()> run) { news_ = std::move(run); }

private:
  // Of a pod that is being stopped: others may have seen it so first at any of them.
  struct Stop {
    store::Revision first = 0;
    store::Revision last = 0;
  };
  void on_pod(const view::Change& change);
  void note(const store::Object& pod);
  bool balanced(const store::Object& pod) const;
  void tell();

  const std::string self_;
  view::View& view_;
  Publish publish_;
  std::function<void()> retry_later_;
  std::function<void(store::Revision)> when_complete_;
  std::map<std::string, Stop, std::less<>> stopping_;  // pods of all hosts, by uid
  store::Revision applied_ = 0;
  store::Revision published_ = 0;
  store::Revision awaited_ = 0;  // of when_complete_
  bool retrying_ = false;
  std::map<std::string, store::Revision, std::less<>> told_;
  std::function<void()> news_;
  store::Subscription changes_;
};

}  // namespace shoal::daemon
