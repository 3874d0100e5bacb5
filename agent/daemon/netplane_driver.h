// SPDX-License-Identifier: Apache-2.0
// Keeps this host's data plane at what the replica, the membership and the pods of this host say:
// every change marks it dirty, one turn of the loop later it is computed and applied once for all
// of them. Where that took its time, as long passes before the next (kApplyPauseMax at most): a
// burst of changes that are looked at whole takes half of the loop's time, not all of it. Errors
// are logged when they appear and retried; the rest is applied.
//
// Nothing is pruned until the view is complete: the replica has synced, this host's pods have been
// taken up, and every live host's statuses have arrived, or kSettleMax has passed. A host that
// gossip knows nothing of yet may be live. Threading: the loop thread.
#pragma once

#include "agent/api/writer.h"
#include "agent/desired/desired.h"
#include "agent/view/members.h"
#include "netplane/apply/data_plane.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <set>
#include <string>
#include <vector>

namespace shoal::daemon {

inline constexpr std::chrono::milliseconds kApplyRetryFirst{500};
inline constexpr std::chrono::milliseconds kApplyRetryMax{10'000};
inline constexpr std::chrono::milliseconds kApplyPauseMax{500};
inline constexpr std::chrono::milliseconds kTickInterval{200};
inline constexpr std::chrono::seconds kAuditInterval{30};
inline constexpr std::chrono::seconds kAuditPause{3};           // at least, when links ask for one
inline constexpr std::chrono::milliseconds kSettleHold{1'000};  // after all statuses were there
inline constexpr std::chrono::seconds kSettleMax{20};           // after the replica has synced

class NetplaneDriver {
public:
  struct Inputs {
    std::function<const view::Members&()> members;
    std::function<bool()> statuses_arrived;  // of every host that may be live
    // What of desired::Inputs may change while the agent runs. Asked at start and with each audit.
    std::function<std::vector<IpAddress>()> node_addresses;
    std::function<std::set<std::string>()> snat_hosts;  // also when sources_changed() is called
    std::function<void(const std::vector<desired::HealthCheck>&)> show_health;
    std::function<void()> loaded;   // a whole view has been applied for the first time
    std::function<void()> applied;  // the data plane is what the view says, as to who gets traffic
  };
  NetplaneDriver(boost::asio::io_context& loop, view::View& view, apply::DataPlane& data_plane,
                 api::Writer& writer, const Clock& clock, desired::Inputs base, Inputs inputs);
  ~NetplaneDriver();
  NetplaneDriver(const NetplaneDriver&) = delete;
  NetplaneDriver& operator=(const NetplaneDriver&) = delete;

  void start();
  void members_changed() { mark_dirty(); }
  void sources_changed();
  void view_completed() { mark_dirty(); }  // up to a later revision, without another change
  // The pods of this host that have a network; settled: all that an earlier agent left are among
  // them.
  void set_local_pods(std::vector<model::LocalPod> pods);
  void local_pods_settled();

  const model::Desired& current() const { return builder_.last().desired; }
  bool settled() const { return settled_; }
  const std::vector<std::string>& errors() const { return errors_; }

private:
  void mark_dirty();
  void run();
  void check_settled();
  void tell(const std::set<desired::Finding>& findings);
  bool holds_drains(const apply::ApplyReport& report);
  void note_errors(const apply::ApplyReport& report);
  void look_at_host();
  void tick();
  void arm_tick();

  boost::asio::io_context& loop_;
  view::View& view_;
  apply::DataPlane& data_plane_;
  api::Writer& writer_;
  const Clock& clock_;
  desired::Inputs base_;
  Inputs inputs_;
  desired::Builder builder_;
  store::Subscription changes_;
  boost::asio::steady_timer tick_timer_;
  boost::asio::steady_timer retry_timer_;
  boost::asio::steady_timer pause_timer_;
  MonoTime not_before_{};  // that the next run is
  std::chrono::milliseconds retry_after_ = kApplyRetryFirst;

  bool applied_ = false;  // what the builder built last
  std::vector<std::string> errors_;
  bool drains_held_ = false;
  MonoTime next_audit_;
  MonoTime last_audit_{};
  std::optional<MonoTime> synced_at_;
  std::optional<MonoTime> complete_since_;
  bool pods_settled_ = false;
  bool settled_ = false;
  bool scheduled_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace shoal::daemon
