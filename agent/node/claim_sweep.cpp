// SPDX-License-Identifier: Apache-2.0
#include "agent/node/claim_sweep.h"

#include "agent/node/pod_volumes.h"
#include "agent/view/facts.h"

#include <boost/asio/post.hpp>
#include <spdlog/spdlog.h>

namespace shoal::node {

namespace asio = boost::asio;

namespace {

constexpr std::chrono::seconds kRetry{5};

struct Mark {
  runtime::ClaimFolder claim;
  bool deleted;
};

bool write_marks(const runtime::SandboxEnv& env, const std::vector<Mark>& marks) {
  bool all = true;
  for (const Mark& mark : marks)
    if (auto done = runtime::mark_claim_folder(env.claims_dir(), mark.claim, mark.deleted); !done) {
      spdlog::error("note whether claim {}/{} is being deleted: {}", mark.claim.ns, mark.claim.name,
                    done.error().message());
      all = false;
    }
  return all;
}

// Says whether all of them could be removed.
bool remove_unused(const runtime::SandboxEnv& env, const std::vector<runtime::ClaimFolder>& gone) {
  const auto linked = linked_claims(env);
  if (!linked) {
    spdlog::error("look for pods that use claims: {}", linked.error().message());
    return false;
  }
  bool all = true;
  for (const runtime::ClaimFolder& claim : gone) {
    if (linked->contains(claim.uid)) {
      all = false;  // its last pod is on its way out
      continue;
    }
    if (auto done = runtime::remove_claim_folder(env.claims_dir(), claim)) {
      spdlog::info("claim {}/{} ({}) is gone: its folder is removed", claim.ns, claim.name,
                   claim.uid);
    } else {
      spdlog::error("claim {}/{} is gone: {}", claim.ns, claim.name, done.error().message());
      all = false;
    }
  }
  return all;
}

}  // namespace

void ClaimSweep::start() {
  started_ = true;
  look();
}

void ClaimSweep::look() {
  if (!started_)
    return;
  if (busy_) {
    again_ = true;
    return;
  }
  busy_ = true;
  asio::post(context_.workers,
             [this, alive = alive_, &env = context_.sandboxes, &loop = context_.loop] {
               auto found = runtime::list_claim_folders(env.claims_dir());
               asio::post(loop, [this, alive, found = std::move(found)] {
                 if (*alive)
                   judge(found);
               });
             });
}

// What the view does not know of the claim is so.
bool ClaimSweep::complete_for(const runtime::ClaimFolder& claim) const {
  return context_.view.synced() && context_.view.revision() >= claim.revision;
}

void ClaimSweep::on_claim(const store::Change& change) {
  const bool deleted = view::is_terminating(*change.object);
  if (deleted)  // it may be gone from the view before its folder is looked at
    deleted_.insert(change.object->uid);
  if (deleted || change.kind == store::ChangeKind::kDeleted)
    look();
}

void ClaimSweep::judge(const Result<std::vector<runtime::ClaimFolder>>& found) {
  if (!found) {
    spdlog::error("look for folders of claims: {}", found.error().message());
    return removed(false);
  }
  std::vector<runtime::ClaimFolder> gone;
  std::vector<Mark> marks;
  std::set<std::string> here;
  bool undecided = false;
  for (const runtime::ClaimFolder& claim : *found) {
    here.insert(claim.uid);
    if (const store::ObjectPtr object = context_.view.by_uid(claim.uid)) {
      const bool deleted = view::is_terminating(*object);
      if (deleted != claim.deleted)
        marks.push_back({claim, deleted});
      if (!deleted)
        deleted_.erase(claim.uid);
    } else if (!complete_for(claim)) {
      undecided = true;
    } else if (claim.deleted || deleted_.contains(claim.uid)) {
      gone.push_back(claim);
      if (!claim.deleted)
        marks.push_back({claim, true});
    } else if (stranded_.insert(claim.uid).second) {
      spdlog::warn(
          "claim {0}/{1} ({2}) is not known to the cluster, and was not seen deleted by "
          "this host: its folder {3} stays. If nobody needs it, remove it and {3}.revision",
          claim.ns, claim.name, claim.uid,
          runtime::claim_path(context_.sandboxes.claims_dir(), claim).string());
    }
  }
  std::erase_if(deleted_, [&](const std::string& uid) { return !here.contains(uid); });
  if (gone.empty() && marks.empty())
    return removed(!undecided);
  asio::post(context_.workers,
             [this, alive = alive_, &env = context_.sandboxes, &loop = context_.loop,
              gone = std::move(gone), marks = std::move(marks), undecided] {
               const bool marked = write_marks(env, marks);
               const bool all = remove_unused(env, gone) && marked && !undecided;
               asio::post(loop, [this, alive, all] {
                 if (*alive)
                   removed(all);
               });
             });
}

void ClaimSweep::removed(bool all) {
  busy_ = false;
  if (again_) {
    again_ = false;
    return look();
  }
  if (all)
    return;
  retry_.expires_after(kRetry);
  retry_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
    if (*alive && !error)
      look();
  });
}

}  // namespace shoal::node
