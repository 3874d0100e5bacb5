// SPDX-License-Identifier: Apache-2.0
#include "agent/node/node.h"

#include "agent/api/selector.h"
#include "agent/view/facts.h"

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>
#include <spdlog/spdlog.h>

namespace shoal::node {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {

bool identity_changed(const store::Change& change) {
  const auto differs = [&](std::string_view path) {
    const json::object* now = api::find_object(change.object->body, path);
    const json::object* before = api::find_object(change.before->body, path);
    return (now == nullptr) != (before == nullptr) || (now && *now != *before);
  };
  return change.before && (differs("metadata.labels") || differs("metadata.annotations"));
}

}  // namespace

Node::Node(Context context) : context_(std::move(context)), claims_(context_) {
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
    const std::string& resource = change.object->resource;
    if (resource == view::kPods)
      on_pod(change);
    else if (resource == view::kConfigMaps || resource == view::kSecrets ||
             resource == view::kClaims)
      on_source(change);
    else
      check_settled();
  });
  for (const auto& pod : context_.view.pods_on(context_.node_name))
    want(*pod);
  check_settled();
}

void Node::drains_changed() {
  if (!drains_looked_at_)
    return;
  drains_looked_at_ = false;
  // Not from within the caller: workers report.
  asio::post(context_.loop, [this, alive = alive_] {
    if (!*alive)
      return;
    drains_looked_at_ = true;
    for (const auto& [uid, worker] : workers_)
      worker->look_at_drain();
  });
}

std::vector<model::LocalPod> Node::local_pods() const {
  std::vector<model::LocalPod> pods;
  for (const auto& [uid, worker] : workers_)
    if (worker->local())
      pods.push_back(*worker->local());
  return pods;
}

std::vector<StatsTarget> Node::stats_targets() const {
  std::vector<StatsTarget> out;
  for (const auto& [uid, worker] : workers_)
    if (auto target = worker->stats_target())
      out.push_back(std::move(*target));
  return out;
}

std::map<std::string, PodWorker::DiskSeen> Node::disks() const {
  std::map<std::string, PodWorker::DiskSeen> out;
  for (const auto& [uid, worker] : workers_)
    if (worker->disk())
      out.emplace(uid, *worker->disk());
  return out;
}

void Node::measure_disks(Duration age, std::function<void()> done) {
  if (done)
    measure_done_.push_back(std::move(done));
  if (measuring_)
    return;
  const MonoTime now = context_.clock.now();
  for (const auto& [uid, worker] : workers_)
    if (!worker->disk() || now - worker->disk()->at > age)
      to_measure_.push_back(uid);
  measure_next();
}

void Node::measure_next() {
  measuring_ = true;
  while (!to_measure_.empty()) {
    const auto it = workers_.find(to_measure_.back());
    to_measure_.pop_back();
    if (it != workers_.end() && it->second->measure_disk([this, alive = alive_] {
          if (*alive)
            measure_next();
        }))
      return;
  }
  measuring_ = false;
  for (const auto& done : std::exchange(measure_done_, {}))
    done();
}

std::set<std::string> Node::images() const {
  std::set<std::string> out;
  for (const auto& [uid, worker] : workers_) {
    for (const ContainerSpec& container : worker->spec().containers)
      out.insert(container.image);
    for (const ContainerSeen& container : worker->seen().containers)
      out.insert(container.image_id);
  }
  out.erase("");
  return out;
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
    if (const auto it = workers_.find(pod.uid); it != workers_.end() && identity_changed(change))
      it->second->source_changed(view::kPods, pod.name);
  });
}

// What pods' volumes are made of.
void Node::on_source(const store::Change& change) {
  asio::post(context_.loop, [this, alive = alive_, change] {
    if (!*alive)
      return;
    const store::Object& object = *change.object;
    for (const auto& [uid, worker] : workers_)
      if (worker->spec().ns == object.ns)
        worker->source_changed(object.resource, object.name);
    if (object.resource == view::kClaims)
      claims_.on_claim(change);
    check_settled();
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
  add_worker(std::move(*spec));
}

void Node::add_worker(PodSpec spec) {
  const std::string uid = spec.uid;
  auto worker = std::make_shared<PodWorker>(context_, std::move(spec), [this, alive = alive_, uid] {
    // After the worker's own call: it is dropped here.
    asio::post(context_.loop, [this, alive, uid] {
      if (*alive)
        worker_done(uid);
    });
  });
  workers_.emplace(uid, worker);
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
  claims_.look();
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
        after(kRemoveRetry, [this, spec] { remove_object(spec); });
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
    // Adoption takes milliseconds. While one fails nothing is swept or pruned: what its pod holds
    // must not be taken for stale.
    after(std::chrono::milliseconds(50), [this] { check_settled(); });
    return;
  }
  settled_ = true;
  sweep();
  claims_.start();
  context_.settled();
}

void Node::after(std::chrono::milliseconds delay, std::function<void()> run) {
  auto timer = std::make_shared<asio::steady_timer>(context_.loop, delay);
  timer->async_wait(
      [alive = alive_, timer, run = std::move(run)](const boost::system::error_code&) {
        if (*alive)
          run();
      });
}

void Node::sweep() {
  const auto work = [&context = context_]() -> Result<std::set<std::string>> {
    std::set<std::string> uids;
    for (std::string& uid : SHOAL_TRY(runtime::list_sandboxes(context.sandboxes)))
      uids.insert(std::move(uid));
    for (const std::string& holder : context.images.leases())
      uids.insert(holder.substr(0, holder.find('_')));
    uids.merge(context.leases.owners());
    return uids;
  };
  asio::post(context_.workers, [this, alive = alive_, &loop = context_.loop, work] {
    asio::post(loop, [this, alive, found = work()] {
      if (!*alive)
        return;
      if (found)
        return remove_left_overs(*found);
      spdlog::error("look for what earlier pods left: {}", found.error().message());
      after(kSweepRetry, [this] { sweep(); });
    });
  });
}

void Node::remove_left_overs(const std::set<std::string>& uids) {
  for (const std::string& uid : uids) {
    if (workers_.contains(uid))
      continue;
    spdlog::warn("pod {} is no longer wanted here: removing what is left of it", uid);
    PodSpec spec;
    spec.uid = uid;
    add_worker(std::move(spec));
    workers_.at(uid)->gone();
  }
}

}  // namespace shoal::node
