// SPDX-License-Identifier: Apache-2.0
// ClaimSweep: removes the folders of claims that were deleted. A claim was when it was seen being
// deleted and a replica that is complete up to where the claim was last seen has no object with its
// uid; its folder goes once no pod of this host has a link to it any more. Whatever else happens, a
// folder stays: a store that was restored from an older copy, or begun anew, does not know claims
// that are in use. Of such folders the log speaks once. Threading: the loop thread; the folders
// themselves on worker threads.
#pragma once

#include "agent/node/context.h"
#include "runtime/volume/claim_folders.h"

#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace shoal::node {

class ClaimSweep {
public:
  explicit ClaimSweep(Context& context) : context_(context), retry_(context.loop) {}
  ~ClaimSweep() { *alive_ = false; }
  ClaimSweep(const ClaimSweep&) = delete;
  ClaimSweep& operator=(const ClaimSweep&) = delete;

  // The replica has synced and every pod has been looked at; nothing is done before.
  void start();
  // A claim or a pod is gone.
  void look();
  void on_claim(const store::Change& change);

private:
  void judge(const Result<std::vector<runtime::ClaimFolder>>& found);
  void removed(bool all);
  bool complete_for(const runtime::ClaimFolder& claim) const;

  Context& context_;
  boost::asio::steady_timer retry_;
  std::set<std::string> deleted_;   // uids of claims that were seen being deleted
  std::set<std::string> stranded_;  // those that the log has spoken of
  bool started_ = false;
  bool busy_ = false;
  bool again_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace shoal::node
