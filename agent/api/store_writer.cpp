// SPDX-License-Identifier: Apache-2.0
#include "agent/api/store_writer.h"

#include "agent/api/schema.h"
#include "agent/api/selector.h"
#include "agent/api/writer_plan.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <set>
#include <utility>

namespace shoal::api {
namespace json = boost::json;
namespace {

// Events that are on their way; more are dropped: they are best effort.
constexpr std::size_t kEventsInFlightMax = 64;

using Decide = std::function<PlanResult()>;

// The state that outlives the Writer while a commit is under way.
struct Core : std::enable_shared_from_this<Core> {
  store::Replica& replica;
  Commit commit;
  Post post;
  const Clock& clock;
  Random& random;
  WriterOptions options;
  std::set<std::string> events_in_flight;
  bool alive = true;

  Core(store::Replica& r, Commit c, Post p, const Clock& k, Random& rnd, WriterOptions o)
      : replica(r), commit(std::move(c)), post(std::move(p)), clock(k), random(rnd),
        options(std::move(o)) {}

  WriterEnv env() const { return WriterEnv{replica, clock, random, options}; }

  void answer(WriteDone done, WriteResult result) {
    post([self = shared_from_this(), run = std::move(done), value = std::move(result)]() mutable {
      if (self->alive)
        run(std::move(value));
    });
  }

  void attempt(Decide decide, WriteDone done, int lost_races) {
    PlanResult plan = decide();
    if (!plan)
      return answer(std::move(done), std::unexpected(std::move(plan.error())));
    if (plan->txn.ops.empty())
      return answer(std::move(done), Written{plan->last, std::move(plan->warnings)});
    if (options.dry_run)
      return answer(std::move(done), would_be(*plan));
    store::Txn txn = std::move(plan->txn);
    commit(std::move(txn),
           [self = shared_from_this(), again = std::move(decide), run = std::move(done),
            planned = std::move(*plan), lost_races](Result<store::TxnResult> result) mutable {
             if (self->alive)
               self->committed(std::move(again), std::move(run), std::move(planned),
                               std::move(result), lost_races);
           });
  }

  void committed(Decide decide, WriteDone done, WritePlan plan, Result<store::TxnResult> result,
                 int lost_races) {
    if (!result)
      return done(std::unexpected(api_error(result.error())));
    if (!result->committed) {
      // What made the comparison fail is news to this replica: with it the decision may be another.
      replica.apply(result->present, 0);
      if (lost_races + 1 < kLostRacesMax)
        return attempt(std::move(decide), std::move(done), lost_races + 1);
      return done(std::unexpected(
          ApiError{409,
                   "Conflict",
                   fmt::format("{}: others changed it {} times in between; try again", plan.key,
                               kLostRacesMax),
                   {}}));
    }
    replica.apply(result->events, 0);
    store::ObjectPtr object = plan.last;
    for (const store::Event& event : result->events)
      if (event.key == plan.key && event.value)
        object = find_written(event);
    done(Written{std::move(object), std::move(plan.warnings)});
  }

  // As the replica shows it, unless it has gone on already.
  store::ObjectPtr find_written(const store::Event& event) {
    store::ObjectPtr object = parse_object(event);
    const store::ObjectPtr shown = replica.get(object->resource, object->ns, object->name);
    return shown && shown->revision == event.revision ? shown : object;
  }

  static store::ObjectPtr parse_object(const store::Event& event) {
    auto object = std::make_shared<store::Object>();
    object->body = json::parse(*event.value).get_object();
    const Kind* kind =
        find_kind(find_string(object->body, "apiVersion"), find_string(object->body, "kind"));
    SHOAL_ASSERT(kind);
    object->resource = kind->resource();
    object->ns = find_string(object->body, "metadata.namespace");
    object->name = find_string(object->body, "metadata.name");
    object->uid = find_string(object->body, "metadata.uid");
    object->revision = event.revision;
    object->create_revision = event.create_revision;
    if (event.revision != 0)
      object->body["metadata"].get_object()["resourceVersion"] = std::to_string(event.revision);
    return object;
  }

  Written would_be(WritePlan& plan) const {
    store::ObjectPtr object = plan.last;
    for (const store::Op& op : plan.txn.ops)
      if (op.key == plan.key && op.value)
        object = parse_object({op.key, op.value, 0, plan.last ? plan.last->revision : 0});
    return Written{std::move(object), std::move(plan.warnings)};
  }
};

class StoreWriter final : public Writer {
public:
  explicit StoreWriter(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  ~StoreWriter() override { core_->alive = false; }

  void create(json::object body, WriteDone done) override {
    with_document(std::move(body), std::move(done), true,
                  [](const WriterEnv& env, const Kind& kind, const json::object& admitted) {
                    return plan_create(env, kind, admitted);
                  });
  }

  void update(json::object body, WriteDone done) override {
    with_document(std::move(body), std::move(done), true,
                  [](const WriterEnv& env, const Kind& kind, const json::object& admitted) {
                    return plan_update(env, kind, admitted);
                  });
  }

  void update_status(json::object body, WriteDone done) override {
    with_document(std::move(body), std::move(done), false,
                  [](const WriterEnv& env, const Kind& kind, const json::object& given) {
                    return plan_status(env, kind, given);
                  });
  }

  void merge_patch(std::string_view resource, std::string_view ns, std::string_view name,
                   json::object patch, WriteDone done) override {
    const Kind* kind = find_kind_by_resource(resource);
    if (!kind)
      return core_->answer(std::move(done), std::unexpected(unknown_resource(resource)));
    core_->attempt([core = core_.get(), kind, scope = std::string(ns), id = std::string(name),
                    change = std::move(
                        patch)] { return plan_merge_patch(core->env(), *kind, scope, id, change); },
                   std::move(done), 0);
  }

  void remove(std::string_view resource, std::string_view ns, std::string_view name,
              Preconditions preconditions, std::optional<std::int64_t> grace_seconds,
              WriteDone done) override {
    const Kind* kind = find_kind_by_resource(resource);
    if (!kind)
      return core_->answer(std::move(done), std::unexpected(unknown_resource(resource)));
    Decide decide = [core = core_.get(), kind, scope = std::string(ns), id = std::string(name),
                     wanted = std::move(preconditions), grace_seconds] {
      return plan_remove(core->env(), *kind, scope, id, wanted, grace_seconds);
    };
    if (kind->kind != "Namespace" && kind->kind != "PersistentVolumeClaim")
      return core_->attempt(std::move(decide), std::move(done), 0);
    // An empty namespace, or a claim that nobody uses, goes at once: marked first, then looked at
    // again.
    core_->attempt(
        std::move(decide),
        [core = core_, kind, scope = std::string(ns), id = std::string(name),
         run = std::move(done)](WriteResult marked) mutable {
          if (!marked || core->options.dry_run)
            return run(std::move(marked));
          const std::string uid = marked->object->uid;
          core->attempt([raw = core.get(), kind, scope, id,
                         uid] { return plan_remove(raw->env(), *kind, scope, id, {uid, {}}, {}); },
                        [first = std::move(*marked), after = std::move(run)](WriteResult) mutable {
                          after(std::move(first));
                        },
                        0);
        },
        0);
  }

  void event(const store::Object& about, std::string_view type, std::string_view reason,
             std::string_view message, std::string_view component) override {
    if (core_->options.dry_run || core_->events_in_flight.size() >= kEventsInFlightMax)
      return;
    // One write at a time for the same happening: a burst counts as one.
    const std::string id = fmt::format("{}\n{}\n{}", about.uid, reason, message);
    if (!core_->events_in_flight.insert(id).second)
      return;
    core_->attempt(
        [core = core_.get(), object = about, type = std::string(type), reason = std::string(reason),
         message = std::string(message), component = std::string(component)] {
          return plan_event(core->env(), object, type, reason, message, component);
        },
        [core = core_, id](const WriteResult&) { core->events_in_flight.erase(id); }, 0);
  }

private:
  static ApiError unknown_resource(std::string_view resource) {
    return {404,
            "NotFound",
            fmt::format("the server doesn't have a resource type \"{}\"", resource),
            {}};
  }

  // The steps that come before a plan and do not depend on what is stored.
  template <class Plan>
  void with_document(json::object body, WriteDone done, bool admit_whole, Plan plan) {
    const std::expected<const Kind*, ApiError> kind = kind_of(body);
    if (!kind)
      return core_->answer(std::move(done), std::unexpected(kind.error()));
    if (admit_whole) {
      if (auto checked = check_document(**kind, body); !checked)
        return core_->answer(std::move(done), std::unexpected(std::move(checked.error())));
      fill_defaults(**kind, body);
    }
    core_->attempt([core = core_.get(), k = *kind, document = std::move(body),
                    plan] { return plan(core->env(), *k, document); },
                   std::move(done), 0);
  }

  std::shared_ptr<Core> core_;
};

}  // namespace

std::unique_ptr<Writer> make_writer(store::Replica& replica, Commit commit, Post post,
                                    const Clock& clock, Random& random, WriterOptions options) {
  return std::make_unique<StoreWriter>(std::make_shared<Core>(
      replica, std::move(commit), std::move(post), clock, random, std::move(options)));
}

store::Txn bootstrap_txn(const Clock& clock, Random& random) {
  store::Txn txn;
  for (const std::string_view name : {"default", "kube-system"}) {
    const json::object body{
        {"apiVersion", "v1"},
        {"kind", "Namespace"},
        {"metadata", json::object{{"name", name},
                                  {"uid", make_uid(random)},
                                  {"creationTimestamp", rfc3339(clock.wall())},
                                  {"generation", 1},
                                  {"labels", json::object{{"kubernetes.io/metadata.name", name}}}}},
        {"status", json::object{{"phase", "Active"}}}};
    const std::string key = store::object_key("namespaces", {}, name);
    txn.compares.push_back({key, 0});
    txn.ops.push_back({key, json::serialize(body)});
  }
  return txn;
}

}  // namespace shoal::api
