// SPDX-License-Identifier: Apache-2.0
#include "agent/node/node.h"

#include "agent/node/json_get.h"

#include <boost/asio/post.hpp>
#include <spdlog/spdlog.h>

namespace shoal::node {
namespace {

namespace asio = boost::asio;
constexpr std::string_view kPods = "pods";

std::string node_of(const store::Object& pod) {
  const auto* spec = get_object(pod.body, "spec");
  return spec ? get_text(*spec, "nodeName") : std::string();
}

}  // namespace

Node::Node(asio::io_context& loop, asio::thread_pool& workers, store::Replica& replica,
           PodRuntime& runtime, PodNetwork& network, const Clock& clock, NodeOptions options,
           NodeCallbacks callbacks)
    : loop_(loop), pool_(workers), replica_(replica), runtime_(runtime), network_(network),
      options_(std::move(options)), callbacks_(std::move(callbacks)),
      context_{loop,           workers, runtime, network, clock, options_.host_ip,
               options_.drain, {},      {},      {},      {}} {
  context_.report = [this](const PodSpec& spec, const boost::json::object& status) {
    callbacks_.report_status(spec.ns, spec.name, spec.uid, status);
  };
  context_.event = [this](const PodSpec& spec, std::string_view type, std::string_view reason,
                          std::string_view message) {
    if (const auto pod = replica_.get(kPods, spec.ns, spec.name); pod && pod->uid == spec.uid)
      callbacks_.event(*pod, type, reason, message);
  };
  context_.gone = [this](const PodSpec& spec) { worker_gone(spec); };
  context_.taken_up = [this](const std::string& uid) { taken_up(uid); };
}

Node::~Node() { *alive_ = false; }

void Node::start() {
  asio::post(pool_, [this, alive = alive_, &loop = loop_, &runtime = runtime_] {
    auto uids = std::make_shared<Result<std::vector<std::string>>>(runtime.list());
    asio::post(loop, [this, alive, uids] {
      if (*alive)
        on_leftovers(*uids);
    });
  });
  changes_ = replica_.subscribe(kPods, [this](const store::Change& change) { on_change(change); });
  for (const auto& pod : replica_.list(kPods))
    consider(pod);
  replica_.when_synced([this, alive = alive_] {
    if (*alive)
      on_synced();
  });
}

void Node::on_change(const store::Change& change) {
  if (change.kind != store::ChangeKind::kDeleted)
    return consider(change.object);
  // Removed without waiting for us (grace 0, or the store lost it): stop what runs, with its own
  // grace.
  if (const auto it = workers_by_uid_.find(change.object->uid); it != workers_by_uid_.end())
    it->second->stop(parse_deletion(change.object->body).grace);
}

void Node::consider(const store::ObjectPtr& pod) {
  if (node_of(*pod) != options_.node_name)
    return;
  const PodDeletion deletion = parse_deletion(pod->body);
  auto it = workers_by_uid_.find(pod->uid);
  if (it == workers_by_uid_.end()) {
    if (removing_.contains(pod->uid))
      return;
    auto spec = parse_pod(pod->body);
    if (!spec) {
      callbacks_.event(*pod, "Warning", "FailedCreatePodContainer", spec.error().message());
      return;
    }
    static const boost::json::object kNothing;
    const auto* status = get_object(pod->body, "status");
    auto worker =
        std::make_shared<PodWorker>(context_, std::move(*spec), status ? *status : kNothing);
    it = workers_by_uid_.emplace(pod->uid, std::move(worker)).first;
    if (deletion.requested)
      it->second->stop(deletion.grace);
    else
      it->second->start();
    return;
  }
  if (deletion.requested)
    it->second->stop(deletion.grace);
}

void Node::worker_gone(const PodSpec& spec) {
  workers_by_uid_.erase(spec.uid);
  awaited_.erase(spec.uid);
  check_settled();
  remove_object(spec);
}

void Node::remove_object(const PodSpec& spec) {
  const auto pod = replica_.get(kPods, spec.ns, spec.name);
  if (!pod || pod->uid != spec.uid) {
    removing_.erase(spec.uid);
    return;
  }
  if (!parse_deletion(pod->body).requested)
    return consider(pod);  // it came back into the replica while it was being stopped
  removing_.insert(spec.uid);
  callbacks_.remove_object(spec.ns, spec.name, spec.uid,
                           [this, alive = alive_, spec](bool removed) {
                             if (!*alive)
                               return;
                             if (removed)
                               removing_.erase(spec.uid);
                             else
                               later(kRemoveRetry, [this, spec] { remove_object(spec); });
                           });
}

// ---- what an earlier agent left

void Node::on_leftovers(const Result<std::vector<std::string>>& uids) {
  if (!uids)
    spdlog::error("pods that an earlier agent left cannot be listed: {}", uids.error().message());
  leftovers_.emplace();
  for (const std::string& uid : uids.value_or(std::vector<std::string>{}))
    leftovers_->insert(uid);
  for (const std::string& uid : *leftovers_)
    awaited_.insert(uid);
  for (const auto& [uid, worker] : workers_by_uid_)
    if (worker->taken_up())
      awaited_.erase(uid);
  if (synced_)
    remove_orphans();
  check_settled();
}

void Node::on_synced() {
  synced_ = true;
  if (leftovers_)
    remove_orphans();
  check_settled();
}

void Node::remove_orphans() {
  std::set<std::string> known = removing_;
  for (const auto& [uid, worker] : workers_by_uid_)
    known.insert(uid);
  for (const std::string& uid : *leftovers_)
    if (!known.contains(uid))
      remove_orphan(uid);
  network_.keep_only(known, [](Result<> kept) {
    if (!kept)
      spdlog::error("addresses of pods that are gone could not be given back: {}",
                    kept.error().message());
  });
}

void Node::remove_orphan(const std::string& uid) {
  asio::post(pool_, [this, alive = alive_, &loop = loop_, &runtime = runtime_, uid] {
    auto torn = std::make_shared<Result<>>(runtime.teardown(uid, runtime::Sweep::kAll));
    asio::post(loop, [this, alive, uid, torn] {
      if (!*alive)
        return;
      if (!*torn) {
        spdlog::error("pod {} is not in the cluster any more and cannot be removed: {}", uid,
                      torn->error().message());
        return later(kOrphanRetry, [this, uid] { remove_orphan(uid); });
      }
      awaited_.erase(uid);
      check_settled();
    });
  });
}

void Node::taken_up(const std::string& uid) {
  awaited_.erase(uid);
  check_settled();
}

void Node::check_settled() {
  if (settled_ || !synced_ || !leftovers_ || !awaited_.empty())
    return;
  settled_ = true;
  callbacks_.settled();
}

void Node::later(Duration delay, std::function<void()> run) {
  auto timer = std::make_shared<asio::steady_timer>(loop_, delay);
  timer->async_wait([alive = alive_, timer, run = std::move(run)](boost::system::error_code error) {
    if (*alive && !error)
      run();
  });
}

}  // namespace shoal::node
