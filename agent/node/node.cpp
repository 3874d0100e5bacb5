// SPDX-License-Identifier: Apache-2.0
#include "agent/node/node.h"

#include "agent/view/facts.h"

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>
#include <spdlog/spdlog.h>

namespace shoal::node {

namespace asio = boost::asio;

Node::Node(Context context) : context_(std::move(context)) {
  // Workers say that something changed; the whole list is the node's to know.
  auto told = std::move(context_.local_pods_changed);
  context_.local_pods_changed = [this, told](std::vector<model::LocalPod>) { told(local_pods()); };
}

Node::~Node() {
  *alive_ = false;
  for (auto& [uid, worker] : workers_)
    worker->abandon();
}

void Node::start() {
  changes_ = context_.view.subscribe([this](const store::Change& change) {
    if (change.object->resource == view::kPods)
      on_pod(change);
    else
      check_settled();
  });
  for (const auto& pod : context_.view.pods_on(context_.node_name))
    want(*pod);
  check_settled();
}

std::vector<model::LocalPod> Node::local_pods() const {
  std::vector<model::LocalPod> pods;
  for (const auto& [uid, worker] : workers_)
    if (worker->local())
      pods.push_back(*worker->local());
  return pods;
}

const PodWorker* Node::find(std::string_view ns, std::string_view name) const {
  for (const auto& [uid, worker] : workers_)
    if (worker->spec().ns == ns && worker->spec().name == name)
      return worker.get();
  return nullptr;
}

void Node::on_pod(const store::Change& change) {
  // Not from within the replica's call: workers report, and so write to it.
  asio::post(context_.loop, [this, alive = alive_, change] {
    if (!*alive)
      return;
    const store::Object& pod = *change.object;
    const bool mine = view::node_of(pod) == context_.node_name;
    if (change.before && change.before->uid != pod.uid)
      unwanted(change.before->uid);
    if (change.kind == store::ChangeKind::kDeleted || !mine)
      unwanted(pod.uid);
    else
      want(pod);
  });
}

void Node::want(const store::Object& pod) {
  auto spec = read_pod(pod);
  if (!spec) {
    if (refused_.insert(pod.uid).second) {
      spdlog::error("{}", spec.error().message());
      context_.writer.event(pod, "Warning", "InvalidPod", spec.error().message(), "shoald");
    }
    return;
  }
  if (const auto it = workers_.find(pod.uid); it != workers_.end()) {
    if (spec->deleting != it->second->spec().deleting || spec->grace != it->second->spec().grace)
      it->second->update(std::move(*spec));
    return;
  }
  auto worker = std::make_shared<PodWorker>(context_, std::move(*spec),
                                            [this, alive = alive_, uid = pod.uid] {
                                              // After the worker's own call: it is dropped here.
                                              asio::post(context_.loop, [this, alive, uid] {
                                                if (*alive)
                                                  worker_done(uid);
                                              });
                                            });
  workers_.emplace(pod.uid, worker);
  worker->start();
}

void Node::unwanted(const std::string& uid) {
  refused_.erase(uid);
  // Before the replica has synced, absence says nothing.
  if (const auto it = workers_.find(uid); it != workers_.end() && context_.view.synced())
    it->second->gone();
}

void Node::worker_done(const std::string& uid) {
  const auto it = workers_.find(uid);
  if (it == workers_.end())
    return;
  const PodSpec spec = it->second->spec();
  workers_.erase(it);
  context_.local_pods_changed({});
  remove_object(spec);
}

// The host is done with a pod: its object goes, if that was asked for. Tried until it works, as
// nothing else would: no change of the object is to be expected any more.
void Node::remove_object(const PodSpec& spec) {
  const auto object = context_.view.by_uid(spec.uid);
  if (!object || workers_.contains(spec.uid))
    return;
  if (!view::is_terminating(*object))
    return want(*object);  // it was absent for a while and is back
  context_.writer.remove(
      "pods", spec.ns, spec.name, {.uid = spec.uid, .revision = std::nullopt}, 0,
      [this, alive = alive_, spec](api::WriteResult result) {
        if (!*alive || result || result.error().code == 404 || result.error().code == 409)
          return;
        spdlog::warn("remove pod {}: {}; trying again", spec.full_name(), result.error().message);
        auto timer = std::make_shared<asio::steady_timer>(context_.loop, kRemoveRetry);
        timer->async_wait([this, alive, timer, spec](const boost::system::error_code&) {
          if (*alive)
            remove_object(spec);
        });
      });
}

void Node::check_settled() {
  if (settled_ || !context_.view.synced())
    return;
  if (!looked_) {
    looked_ = true;
    for (const auto& pod : context_.view.pods_on(context_.node_name))
      want(*pod);
    // What went before the sync was not believed then; now it is.
    for (const auto& [uid, worker] : workers_)
      if (const auto pod = context_.view.by_uid(uid);
          !pod || view::node_of(*pod) != context_.node_name)
        worker->gone();
  }
  for (const auto& [uid, worker] : workers_) {
    if (worker->seen().adopted && (!worker->seen().sandbox || worker->seen().network) &&
        !worker->unprobed())
      continue;
    // Looked at again soon: adoption takes milliseconds, and a failing one must not hold the others
    // up for ever.
    auto timer = std::make_shared<asio::steady_timer>(context_.loop, std::chrono::milliseconds(50));
    timer->async_wait([this, alive = alive_, timer](const boost::system::error_code&) {
      if (*alive)
        check_settled();
    });
    return;
  }
  settled_ = true;
  sweep();
  context_.settled();
}

void Node::sweep() {
  std::set<std::string> known;
  for (const auto& [uid, worker] : workers_)
    known.insert(uid);
  auto released = context_.leases.release_unless(
      [&](const ipam::Lease& lease) { return known.contains(lease.owner); });
  if (!released)
    spdlog::error("sweep address leases: {}", released.error().message());
  else
    for (const ipam::Lease& lease : *released)
      if (auto detached = context_.data_plane.detach_pod(lease.owner, lease.ip); !detached)
        spdlog::error("sweep pod {}: {}", lease.owner, detached.error().message());
  asio::post(context_.workers, [env = context_.sandboxes, &images = context_.images, known] {
    auto found = runtime::list_sandboxes(env);
    if (!found)
      return spdlog::error("list sandboxes: {}", found.error().message());
    for (const std::string& uid : *found) {
      if (known.contains(uid))
        continue;
      spdlog::warn("pod {} is no longer wanted here: removing what is left of it", uid);
      if (auto swept = teardown_pod(env, images, uid); !swept)
        spdlog::error("{}", swept.error().message());
    }
    for (const std::string& lease : images.leases())
      if (!known.contains(lease.substr(0, lease.find('_'))))
        if (auto freed = images.release(lease); !freed)
          spdlog::error("release image lease {}: {}", lease, freed.error().message());
  });
}

}  // namespace shoal::node
