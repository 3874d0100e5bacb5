// SPDX-License-Identifier: Apache-2.0
// Which pods that are being stopped get no new connection any more, by host. Every host tells the
// others which of them its data plane has taken into account; a pod's own host asks the pod's
// processes to end once all live hosts have said so.
//
// Only pods that a Service selects, or that have a host port, are spoken of: nobody balances over
// others. Told under the gossip key "drained": the pods' uids, sorted, a line each. Threading: the
// loop thread.
#pragma once

#include "agent/view/members.h"
#include "agent/view/view.h"
#include "netplane/base/result.h"

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace shoal::daemon {

inline constexpr std::string_view kDrainedKey = "drained";
inline constexpr std::chrono::seconds kDrainRetry{1};

class DrainBoard {
public:
  // publish: under kDrainedKey, to the other hosts; no value: nothing is to be said any more.
  using Publish = std::function<Result<>(std::optional<std::string> value)>;
  // retry_later: have retry() called in kDrainRetry.
  DrainBoard(std::string self, view::View& view, Publish publish,
             std::function<void()> retry_later);

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
  using Uids = std::set<std::string, std::less<>>;
  void on_pod(const view::Change& change);
  bool balanced(const store::Object& pod) const;
  void tell();

  const std::string self_;
  view::View& view_;
  Publish publish_;
  std::function<void()> retry_later_;
  Uids stopping_;   // of all hosts, as the view has it now
  Uids applied_;    // of these, what this host's data plane has taken into account
  Uids published_;  // what the other hosts were told
  bool retrying_ = false;
  std::map<std::string, Uids, std::less<>> told_;
  std::function<void()> news_;
  store::Subscription changes_;
};

}  // namespace shoal::daemon
