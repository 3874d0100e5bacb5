// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/fake_cluster.h"

#include "agent/api/schema.h"
#include "agent/view/facts.h"
#include "netplane/base/strings.h"

#include <fmt/format.h>

namespace shoal::fakes {

namespace json = boost::json;

struct FakeCluster::Host {
  std::string name;
  store::Replica replica;
  view::Members members;
  std::map<std::string, int> incarnations;  // older news of a member is no news
  std::unique_ptr<view::View> view;
  std::unique_ptr<api::Writer> writer;
  std::unique_ptr<controllers::Runner> runner;
  store::Subscription pods;
  std::set<std::string> known_uids;  // that its node agent has taken up
  std::set<std::string> stopping_uids;
  std::set<store::Revision> on_the_way;  // commits that have not arrived here yet
  store::Revision newest = 0;
  bool up = true;
  bool alone = false;
  bool stalled = false;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);

  ~Host() {
    *alive = false;
    runner.reset();
    pods = {};
    view.reset();
  }
};

FakeCluster::FakeCluster(std::uint64_t seed, int hosts, FakeTimes times,
                         controllers::RunnerOptions runner)
    : random_(seed), times_(times), runner_options_(std::move(runner)) {
  store.watch([this](store::Revision revision, std::span<const store::Event> events) {
    const std::vector<store::Event> copy(events.begin(), events.end());
    for (auto& [name, host] : hosts_)
      if (host->up)
        deliver(*host, revision, copy);
    if (check)
      check();
  });
  store.txn(api::bootstrap_txn(loop.clock(), random_), [](const auto&) {});
  loop.run_for(std::chrono::milliseconds(1));
  for (int i = 1; i <= hosts; ++i)
    numbers_[fmt::format("h{}", i)] = i;
  for (const auto& [name, number] : numbers_)
    start_host(name, number);
  for (const auto& [name, number] : numbers_) {
    create(json::serialize(node(name, fmt::format("10.244.{}.0/24", number))));
    set_member(name, true);
  }
  // Everybody knows everybody.
  loop.run_for(times_.gossip_max + std::chrono::seconds(1));
}

FakeCluster::~FakeCluster() = default;

Duration FakeCluster::random_up_to(Duration max) {
  return Duration(
      static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(max.count()) + 1)));
}

void FakeCluster::start_host(const std::string& name, int) {
  auto& host = hosts_[name];
  host = std::make_unique<Host>();
  host->name = name;
  host->replica.reset(store.now());
  host->newest = store.now().revision;
  host->view = std::make_unique<view::View>();
  host->view->attach(host->replica);
  Host* raw = host.get();
  const auto alive = host->alive;
  api::WriterOptions options;
  options.service_cidrs = {*IpPrefix::parse("10.96.0.0/16")};
  options.load_balancer_pools = {*IpPrefix::parse("198.18.0.200/30")};
  host->writer = api::make_writer(
      host->replica,
      [this, alive, raw](store::Txn txn, api::TxnDone done) {
        if (raw->stalled)
          return;
        loop.after(random_up_to(times_.write_max), [this, alive, t = std::move(txn),
                                                    run = std::move(done)]() mutable {
          if (!*alive)
            return;
          store.txn(std::move(t), [this, alive, answer = std::move(run)](auto result) {
            loop.after(random_up_to(times_.write_max), [alive, answer, value = std::move(result)] {
              if (*alive)
                answer(value);
            });
          });
        });
      },
      [this](std::function<void()> run) { loop.post(std::move(run)); }, loop.clock(), random_,
      options);
  controllers::RunnerOptions running = runner_options_;
  running.self = name;
  running.controllers.load_balancer_pools = options.load_balancer_pools;
  host->runner = std::make_unique<controllers::Runner>(
      *host->view, *host->writer, loop.clock(), loop,
      [raw]() -> const view::Members& { return raw->members; }, running);
  host->pods = host->view->subscribe([this, raw](const view::Change& change) {
    if (change.object->resource == view::kPods)
      on_pod(*raw, change);
  });
  // What an earlier life left here is taken up again.
  for (const store::ObjectPtr& pod : host->view->pods_on(name))
    on_pod(*host, {store::ChangeKind::kAdded, pod, nullptr});
  host->runner->start();
}

// One commit on its way to one host. A delivery tells up to where nothing is missing any more.
void FakeCluster::deliver(Host& host, store::Revision revision,
                          const std::vector<store::Event>& events) {
  host.on_the_way.insert(revision);
  host.newest = std::max(host.newest, revision);
  loop.after(random_up_to(times_.gossip_max), [raw = &host, alive = host.alive, revision, events] {
    if (!*alive)
      return;
    raw->on_the_way.erase(revision);
    const store::Revision complete =
        raw->on_the_way.empty() ? raw->newest : *raw->on_the_way.begin() - 1;
    raw->replica.apply(events, complete);
  });
}

// ---- the node agent

void FakeCluster::report(const std::string& origin, std::string_view resource, std::string_view ns,
                         std::string_view name, const std::string& uid,
                         std::optional<json::object> status) {
  const std::string key = origin + store::object_key(resource, ns, name);
  if (status)
    reported_[key] = {origin, std::string(resource), std::string(ns), std::string(name), uid,
                      *status};
  else
    reported_.erase(key);
  for (auto& [other, host] : hosts_) {
    if (!host->up)
      continue;
    const Duration delay = other == origin ? Duration(0) : random_up_to(times_.gossip_max);
    loop.after(delay, [raw = host.get(), alive = host->alive, origin, r = std::string(resource),
                       s = std::string(ns), n = std::string(name), uid, status] {
      if (*alive)
        raw->replica.apply_status(origin, r, s, n, status, uid);
    });
  }
}

void FakeCluster::on_pod(Host& host, const view::Change& change) {
  const store::ObjectPtr pod = change.object;
  if (view::node_of(*pod) != host.name)
    return;
  if (change.kind == view::ChangeKind::kDeleted) {
    ready_uids_.erase(pod->uid);
    if (host.known_uids.erase(pod->uid) > 0)
      loop.post([this, raw = &host, alive = host.alive, pod] {
        if (*alive)
          report(raw->name, pod->resource, pod->ns, pod->name, pod->uid, std::nullopt);
      });
    return;
  }
  if (view::is_terminating(*pod)) {
    ready_uids_.erase(pod->uid);
    if (host.stopping_uids.insert(pod->uid).second)
      loop.after(random_up_to(times_.pod_stop_max), [raw = &host, alive = host.alive, pod] {
        if (*alive)
          raw->writer->remove(pod->resource, pod->ns, pod->name, {pod->uid, {}}, 0,
                              [](const auto&) {});
      });
    return;
  }
  if (!host.known_uids.insert(pod->uid).second)
    return;
  loop.after(random_up_to(times_.pod_start_max), [this, raw = &host, alive = host.alive, pod] {
    if (!*alive || !raw->known_uids.contains(pod->uid) || raw->stopping_uids.contains(pod->uid))
      return;
    ready_uids_.insert(pod->uid);
    const auto low = random_.below(200) + 2;
    report(raw->name, pod->resource, pod->ns, pod->name, pod->uid,
           json::object{{"phase", "Running"},
                        {"podIP", fmt::format("10.244.{}.{}", numbers_[raw->name], low)},
                        {"conditions", json::array{json::object{{"type", "Ready"},
                                                                {"status", "True"},
                                                                {"lastTransitionTime",
                                                                 rfc3339(loop.clock().wall())}}}}});
  });
}

// ---- membership

void FakeCluster::set_member(const std::string& about, bool alive) {
  const int incarnation = ++incarnations_[about];
  for (auto& [name, host] : hosts_) {
    if (!host->up || (host->alone && name != about))
      continue;
    const Duration delay = name == about
                               ? Duration(0)
                               : random_up_to(alive ? times_.gossip_max : times_.death_seen_max);
    loop.after(delay, [this, raw = host.get(), token = host->alive, about, alive, incarnation] {
      int& seen = raw->incarnations[about];
      if (!*token || (raw->alone && raw->name != about) || seen > incarnation)
        return;
      seen = incarnation;
      raw->members.set(about, {alive, loop.now()});
      raw->runner->members_changed();
    });
  }
  if (alive)
    report(about, view::kNodes, {}, about,
           std::string(api::find_string(object(view::kNodes, about), "metadata.uid")),
           json::object{
               {"conditions", json::array{json::object{{"type", "Ready"}, {"status", "True"}}}},
               {"addresses", json::array{json::object{
                                 {"type", "InternalIP"},
                                 {"address", fmt::format("198.18.0.{}", 10 + numbers_[about])}}}}});
}

void FakeCluster::kill(const std::string& name) {
  Host& host = *hosts_.at(name);
  const auto stats = host.runner->stats();
  past_stats_.steps_done += stats.steps_done;
  past_stats_.steps_lost += stats.steps_lost;
  host.up = false;
  *host.alive = false;
  host.runner.reset();
  for (const auto& uid : host.known_uids)
    ready_uids_.erase(uid);
  set_member(name, false);
}

void FakeCluster::revive(const std::string& name) {
  start_host(name, numbers_[name]);
  Host& host = *hosts_.at(name);
  for (const auto& [other, peer] : hosts_)
    if (peer->up)
      host.members.set(other, {true, loop.now()});
  for (const auto& [key, r] : reported_)
    if (r.origin != name)
      host.replica.apply_status(r.origin, r.resource, r.ns, r.name, r.status, r.uid);
  set_member(name, true);
}

void FakeCluster::isolate_view(const std::string& name) {
  Host& host = *hosts_.at(name);
  host.alone = true;
  for (const auto& [other, peer] : hosts_)
    if (other != name)
      host.members.set(other, {false, loop.now()});
  host.runner->members_changed();
}

void FakeCluster::stall(const std::string& name, bool stalled) {
  hosts_.at(name)->stalled = stalled;
}

// ---- the user

FakeCluster::Host& FakeCluster::any_host() {
  for (auto& [name, host] : hosts_)
    if (host->up && !host->stalled)
      return *host;
  SHOAL_ASSERT(false && "no host is up");
  return *hosts_.begin()->second;
}

void FakeCluster::answer_of_user(const std::string& what, const api::WriteResult& result) {
  if (!result)
    fmt::print(stderr, "{}: {} {}\n", what, result.error().code, result.error().message);
  SHOAL_ASSERT(result.has_value());
}

void FakeCluster::create(std::string_view text) {
  bool done = false;
  any_host().writer->create(json_object(text), [&, what = std::string(text)](const auto& result) {
    answer_of_user("create " + what, result);
    done = true;
  });
  SHOAL_ASSERT(until([&] { return done; }));
}

void FakeCluster::patch(std::string_view resource, std::string_view name, std::string_view text) {
  bool done = false;
  const std::string_view ns = api::find_kind_by_resource(resource)->namespaced ? "default" : "";
  any_host().writer->merge_patch(resource, ns, name, json_object(text),
                                 [&, what = std::string(text)](const auto& result) {
                                   answer_of_user("patch " + what, result);
                                   done = true;
                                 });
  SHOAL_ASSERT(until([&] { return done; }));
}

void FakeCluster::remove(std::string_view resource, std::string_view name,
                         std::optional<std::int64_t> grace_s, std::string_view ns) {
  bool done = false;
  any_host().writer->remove(resource, ns, name, {}, grace_s,
                            [&, what = std::string(name)](const auto& result) {
                              if (result || result.error().code != 404)  // gone already
                                answer_of_user("remove " + what, result);
                              done = true;
                            });
  SHOAL_ASSERT(until([&] { return done; }));
}

// ---- the truth

std::vector<json::object> FakeCluster::objects(std::string_view resource) const {
  std::vector<json::object> out;
  const std::string prefix = fmt::format("/{}/", resource);
  for (auto it = store.values().lower_bound(prefix);
       it != store.values().end() && it->first.starts_with(prefix); ++it)
    out.push_back(json_object(*it->second.value));
  return out;
}

json::object FakeCluster::object(std::string_view resource, std::string_view name) const {
  for (json::object& body : objects(resource))
    if (api::find_string(body, "metadata.name") == name)
      return std::move(body);
  return {};
}

std::vector<json::object> FakeCluster::active_pods(std::string_view prefix) const {
  auto pods = objects(view::kPods);
  std::erase_if(pods, [&](const json::object& pod) {
    return !api::find_string(pod, "metadata.deletionTimestamp").empty() ||
           !api::find_string(pod, "metadata.name").starts_with(prefix);
  });
  return pods;
}

std::size_t FakeCluster::ready_pods() const {
  std::size_t count = 0;
  for (const json::object& pod : active_pods())
    count += ready_uids_.contains(std::string(api::find_string(pod, "metadata.uid"))) ? 1 : 0;
  return count;
}

std::map<std::string, int> FakeCluster::pods_by_host() const {
  std::map<std::string, int> out;
  for (const json::object& pod : active_pods())
    ++out[std::string(api::find_string(pod, "spec.nodeName"))];
  return out;
}

std::vector<std::string> FakeCluster::events(std::string_view reason) const {
  std::vector<std::string> out;
  for (const json::object& event : objects(view::kEvents))
    if (api::find_string(event, "reason") == reason)
      out.emplace_back(api::find_string(event, "message"));
  return out;
}

controllers::RunnerStats FakeCluster::stats() const {
  controllers::RunnerStats out = past_stats_;
  for (const auto& [name, host] : hosts_) {
    if (!host->up)
      continue;
    const auto one = host->runner->stats();
    out.looks += one.looks;
    out.steps_done += one.steps_done;
    out.steps_lost += one.steps_lost;
    out.steps_failed += one.steps_failed;
    out.stepped_in += one.stepped_in;
    out.overflows += one.overflows;
    out.in_flight += one.in_flight;
  }
  return out;
}

std::vector<std::string> FakeCluster::hosts() const {
  std::vector<std::string> out;
  for (const auto& [name, host] : hosts_)
    if (host->up)
      out.push_back(name);
  return out;
}

std::string FakeCluster::describe() const {
  std::string out;
  for (const auto resource : {view::kDeployments, view::kReplicaSets})
    for (const json::object& body : objects(resource))
      out += fmt::format("{} {} replicas {} generation {} status {}\n", resource,
                         api::find_string(body, "metadata.name"),
                         api::find_int(body, "spec.replicas", -1),
                         api::find_int(body, "metadata.generation", -1),
                         body.contains("status") ? json::serialize(body.at("status")) : "none");
  for (const json::object& body : objects(view::kPods))
    out += fmt::format(
        "pod {} on {}{}{}\n", api::find_string(body, "metadata.name"),
        api::find_string(body, "spec.nodeName"),
        api::find_string(body, "metadata.deletionTimestamp").empty() ? "" : " terminating",
        ready_uids_.contains(std::string(api::find_string(body, "metadata.uid"))) ? " ready" : "");
  for (const auto& [name, host] : hosts_) {
    if (!host->up)
      continue;
    out += fmt::format("{}: revision {} of {}\n", name, host->replica.revision(),
                       store.now().revision);
    for (const auto resource : {view::kDeployments, view::kReplicaSets, view::kPods})
      for (const store::ObjectPtr& seen : host->view->list(resource)) {
        const auto found =
            store.values().find(store::object_key(seen->resource, seen->ns, seen->name));
        if (found == store.values().end() || found->second.revision != seen->revision)
          out += fmt::format(
              "  sees {} {} at {}, which is {}\n", resource, seen->name, seen->revision,
              found == store.values().end() ? "gone"
                                            : fmt::format("at {}", found->second.revision));
      }
  }
  return out;
}

view::View& FakeCluster::view_of(const std::string& host) { return *hosts_.at(host)->view; }

bool FakeCluster::quiet(Duration limit) {
  const MonoTime end = loop.now() + limit;
  while (loop.now() < end) {
    const std::uint64_t before = stats().steps_done + stats().steps_lost + stats().steps_failed;
    loop.run_for(std::chrono::seconds(1));
    if (stats().in_flight == 0 &&
        stats().steps_done + stats().steps_lost + stats().steps_failed == before)
      return true;
  }
  return false;
}

}  // namespace shoal::fakes
