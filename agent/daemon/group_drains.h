// SPDX-License-Identifier: Apache-2.0
// Closes, on this host, the connections that are left of weight groups whose drain timeout is over
// (apply/drain.h says which are whose). Each host decides by itself, from its replica and its
// clock: nobody leads, and a host that is cut off goes by what it knew last. Nothing is closed
// until the view of the cluster is complete. One pass runs at a time, on a worker.
//
// What was closed is told as an Event of the Service, by each host for itself, and counted.
// Threading: the loop thread.
#pragma once

#include "agent/api/writer.h"
#include "agent/daemon/drain_schedule.h"
#include "agent/view/view.h"
#include "netplane/apply/data_plane.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

namespace shoal::daemon {

class GroupDrains {
public:
  struct Inputs {
    std::string self;               // this host's name
    std::function<bool()> settled;  // the data plane's view of the cluster is complete
  };
  GroupDrains(boost::asio::io_context& loop, boost::asio::thread_pool& workers, view::View& view,
              const apply::DataPlane& data_plane, api::Writer& writer, const Clock& clock,
              Inputs inputs);
  ~GroupDrains();
  GroupDrains(const GroupDrains&) = delete;
  GroupDrains& operator=(const GroupDrains&) = delete;

  void start();
  const DrainSchedule& schedule() const { return schedule_; }

private:
  void take(const view::Object& service);
  void look();
  void arm(Duration after);
  void run(std::vector<model::DrainGroup> groups);
  void passed(const std::vector<model::DrainGroup>& groups, const apply::DrainReport& report);
  void tell(const model::DrainGroup& group, std::uint64_t closed);
  void tell_of_errors(const std::vector<model::DrainGroup>& groups,
                      const std::vector<Error>& errors);

  boost::asio::io_context& loop_;
  boost::asio::thread_pool& workers_;
  view::View& view_;
  const apply::DataPlane& data_plane_;
  api::Writer& writer_;
  const Clock& clock_;
  Inputs inputs_;
  DrainSchedule schedule_;
  boost::asio::steady_timer timer_;
  store::Subscription changes_;
  bool running_ = false;
  std::set<std::string> told_errors_;  // of the last pass that had some
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace shoal::daemon
