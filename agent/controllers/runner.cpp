// SPDX-License-Identifier: Apache-2.0
#include "agent/controllers/runner.h"

#include "agent/controllers/triggers.h"
#include "agent/controllers/work_queue.h"
#include "netplane/base/hash.h"

#include <algorithm>
#include <deque>
#include <fmt/format.h>
#include <set>
#include <unordered_map>

namespace shoal::controllers {

namespace {

constexpr Duration kSettlePoll = std::chrono::milliseconds(100);
constexpr Duration kCrowdedRetry = std::chrono::milliseconds(20);  // too many writes in flight
constexpr Duration kLookAgainMin = std::chrono::milliseconds(10);

// Somebody else was faster, or this view is behind: no failure.
bool is_lost_race(const api::ApiError& error) { return error.code == 409 || error.code == 404; }

// The write cannot succeed by itself: worth an event that a person sees.
bool is_refusal(const api::ApiError& error) {
  return error.code >= 400 && error.code < 500 && error.code != 429 && !is_lost_race(error);
}

std::string_view failure_reason(const Op& op) {
  if (std::holds_alternative<Create>(op))
    return "FailedCreate";
  return std::holds_alternative<Remove>(op) ? "FailedDelete" : "FailedUpdate";
}

// What is remembered of an item between looks. An item without any of it has no entry.
struct State {
  std::uint64_t flight = 0;  // token of the writes under way; 0: none
  std::size_t writes_left = 0;
  bool flight_failed = false;
  bool look_after_flight = false;

  Duration backoff{0};
  MonoTime not_before;

  std::uint64_t wanted = 0;  // fingerprint of the plan that a better-ranked member should carry out
  MonoTime wanted_since;
  std::uint64_t carried_out = 0;  // fingerprint of the last plan carried out here

  std::set<std::string> notes;  // in force; each was written when it came up
  bool empty() const {
    return flight == 0 && backoff == Duration(0) && wanted == 0 && carried_out == 0 &&
           notes.empty();
  }
};

struct Deadline {
  MonoTime at;
  Item item;
  std::uint64_t flight;
};

}  // namespace

struct Runner::Impl : std::enable_shared_from_this<Runner::Impl> {
  Impl(View& v, api::Writer& w, const Clock& c, Timers& t, std::function<const Members&()> m,
       RunnerOptions o)
      : view(v), writer(w), clock(c), timers(t), ask_members(std::move(m)), options(std::move(o)) {}

  View& view;
  api::Writer& writer;
  const Clock& clock;
  Timers& timers;
  const std::function<const Members&()> ask_members;
  const RunnerOptions options;

  store::Subscription subscription;
  Members members;  // as asked, and Nodes that membership does not know
  std::map<std::string, MonoTime> unknown_since;
  bool acting = false;
  std::optional<MonoTime> synced_at;

  WorkQueue queue{kQueueItemsMax};
  std::map<Item, State> states;
  std::deque<Deadline> deadlines;  // in order: the timeout is the same for all
  std::uint64_t next_flight = 1;
  MonoTime next_resync;
  bool overflowed = false;
  RunnerStats stats;

  std::optional<MonoTime> armed_for;
  std::uint64_t armed_token = 0;

  // ---- time
  void arm(MonoTime when) {
    if (armed_for && *armed_for <= when)
      return;
    armed_for = when;
    timers.run_at(when, [weak = weak_from_this(), token = ++armed_token] {
      if (const auto self = weak.lock(); self && self->armed_token == token) {
        self->armed_for.reset();
        self->turn();
      }
    });
  }

  void arm_next() {
    MonoTime when = next_resync;
    if (const auto due = queue.next_due())
      when = std::min(when, *due);
    if (!deadlines.empty())
      when = std::min(when, deadlines.front().at);
    arm(when);
  }

  void enqueue(const Item& item, MonoTime due) {
    if (const auto found = states.find(item); found != states.end())
      due = std::max(due, found->second.not_before);
    if (!queue.add(item, due)) {
      ++stats.overflows;
      overflowed = true;
    }
  }

  // ---- members
  // Says which hosts' states differ from before.
  std::vector<std::string> take_members() {
    Members now_known = ask_members();
    std::map<std::string, MonoTime> unknown;
    for (const ObjectPtr& node : view.list(view::kNodes)) {
      if (now_known.find(node->name))
        continue;
      const auto before = unknown_since.find(node->name);
      const MonoTime since = before == unknown_since.end() ? clock.now() : before->second;
      unknown.emplace(node->name, since);
      now_known.set(node->name, {false, since + options.unknown_member_grace});
    }
    unknown_since = std::move(unknown);
    std::vector<std::string> changed;
    for (const auto& [name, member] : now_known.all())
      if (const auto* before = members.find(name); !before || *before != member)
        changed.push_back(name);
    for (const auto& [name, member] : members.all())
      if (!now_known.find(name))
        changed.push_back(name);
    members = std::move(now_known);
    return changed;
  }

  std::size_t rank_of_self(const Item& item) const {
    std::vector<std::string> live = members.live();
    if (std::find(live.begin(), live.end(), options.self) == live.end())
      live.push_back(options.self);
    const auto ranked = rendezvous_rank(item.key(), live);
    return static_cast<std::size_t>(std::find(ranked.begin(), ranked.end(), options.self) -
                                    ranked.begin());
  }

  // ---- turns
  bool may_act() {
    if (acting)
      return true;
    if (!view.synced())
      return false;
    const MonoTime now = clock.now();
    if (!synced_at)
      synced_at = now;
    take_members();
    const bool settled = unknown_since.empty() && (!options.settled || options.settled());
    if (!settled && now - *synced_at < options.settle_max)
      return false;
    acting = true;
    resync();
    return true;
  }

  void turn() {
    const MonoTime now = clock.now();
    if (!may_act()) {
      arm(now + kSettlePoll);
      return;
    }
    expire_flights(now);
    if (now >= next_resync || (overflowed && queue.size() == 0))
      resync();
    for (std::size_t i = 0; i < kLooksPerTurn; ++i) {
      const auto item = queue.pop(now);
      if (!item)
        break;
      look(*item);
    }
    arm_next();
  }

  void resync() {
    overflowed = false;
    const MonoTime now = clock.now();
    next_resync = now + options.resync_every;
    take_members();
    all_items(view, [&](const Item& item) { enqueue(item, now); });
    // States of objects that are gone.
    std::erase_if(states, [&](const auto& entry) {
      return entry.second.flight == 0 && entry.first.controller != ControllerId::kPlacement &&
             !view.get(entry.first.ref);
    });
    arm_next();
  }

  void on_change(const view::Change& change) {
    if (!acting)
      return;  // the first look at everything is still to come
    if (change.object->resource == view::kNodes && change.kind != view::ChangeKind::kModified)
      take_members();
    const MonoTime now = clock.now();
    items_of_change(view, members, change, [&](const Item& item) { enqueue(item, now); });
    arm_next();
  }

  // ---- one look
  void look(const Item& item) {
    State& state = states[item];
    if (state.flight != 0) {
      state.look_after_flight = true;
      return;
    }
    ++stats.looks;
    const MonoTime now = clock.now();
    const World world{view, members, options.controllers, now, clock.wall()};
    Plan plan = reconcile(world, item);
    if (plan.again_after)
      enqueue(item, now + std::max(*plan.again_after, kLookAgainMin));
    const std::size_t rank = rank_of_self(item);
    write_notes(state, plan.notes, rank == 0);
    if (plan.steps.empty()) {
      state.wanted = state.carried_out = 0;
      state.backoff = Duration(0);
      state.not_before = {};
    } else {
      decide(item, state, plan, rank);
    }
    if (state.empty())
      states.erase(item);
  }

  // Whether this host is the one to act, now or later.
  void decide(const Item& item, State& state, Plan& plan, std::size_t rank) {
    const MonoTime now = clock.now();
    const std::uint64_t wanted = fingerprint(plan) | 1;
    if (rank == 0) {
      state.wanted = 0;
      return carry_out(item, state, plan, wanted);
    }
    if (rank >= kRanksMax)
      return;
    if (state.wanted != wanted) {
      state.wanted = wanted;
      state.wanted_since = now;
    }
    const MonoTime mine = state.wanted_since + options.step_in_after * static_cast<int>(rank);
    if (now < mine)
      return enqueue(item, mine);
    ++stats.stepped_in;
    state.wanted = 0;
    carry_out(item, state, plan, wanted);
  }

  void write_notes(State& state, const std::vector<Note>& notes, bool mine) {
    std::set<std::string> in_force;
    for (const Note& note : notes) {
      if (!note.about)
        continue;
      std::string id = fmt::format("{} {} {}", note.about->uid, note.reason, note.message);
      if (mine && !state.notes.contains(id))
        write_event(note);
      if (mine)
        in_force.insert(std::move(id));
    }
    state.notes = std::move(in_force);
  }

  void write_event(const Note& note) {
    writer.event(*note.about, note.warning ? "Warning" : "Normal", note.reason, note.message,
                 note.component);
  }

  // ---- writes
  void carry_out(const Item& item, State& state, Plan& plan, std::uint64_t wanted) {
    const MonoTime now = clock.now();
    if (stats.in_flight + plan.steps.size() > kWritesInFlightMax)
      return enqueue(item, now + kCrowdedRetry);
    // The very plan that was carried out already is still wanted: writing it again at once would
    // spin.
    if (state.carried_out == wanted)
      lengthen_backoff(state);
    state.carried_out = wanted;
    state.flight = next_flight++;
    state.writes_left = plan.steps.size();
    state.flight_failed = state.look_after_flight = false;
    stats.in_flight += plan.steps.size();
    deadlines.push_back({now + options.write_timeout, item, state.flight});
    const std::uint64_t flight = state.flight;
    for (Step& step : plan.steps)
      start_write(item, flight, std::move(step));
  }

  void start_write(const Item& item, std::uint64_t flight, Step step) {
    const Ref target = target_of(step.op);
    const auto verb = verb_of(step.op);
    const auto reason = failure_reason(step.op);
    auto done = [weak = weak_from_this(), item, flight, note = std::move(step.note), target, verb,
                 reason](const api::WriteResult& result) {
      if (const auto self = weak.lock())
        self->written(item, flight, note, target, verb, reason, result);
    };
    if (auto* create = std::get_if<Create>(&step.op)) {
      writer.create(std::move(create->body), std::move(done));
    } else if (auto* update = std::get_if<Update>(&step.op)) {
      writer.update(std::move(update->body), std::move(done));
    } else if (auto* status = std::get_if<UpdateStatus>(&step.op)) {
      writer.update_status(std::move(status->body), std::move(done));
    } else if (auto* remove = std::get_if<Remove>(&step.op)) {
      writer.remove(remove->ref.resource, remove->ref.ns, remove->ref.name, {remove->uid, {}},
                    remove->grace_s, std::move(done));
    }
  }

  void written(const Item& item, std::uint64_t flight, const std::optional<Note>& note,
               const Ref& target, std::string_view verb, std::string_view reason,
               const api::WriteResult& result) {
    const auto found = states.find(item);
    if (found == states.end() || found->second.flight != flight)
      return;  // given up on
    --stats.in_flight;
    State& state = found->second;
    if (result) {
      ++stats.steps_done;
      if (note && note->about)
        write_event(*note);
    } else {
      state.flight_failed = true;
      ++(is_lost_race(result.error()) ? stats.steps_lost : stats.steps_failed);
      if (is_refusal(result.error()))
        tell_refusal(item, target, verb, reason, result.error());
    }
    if (--state.writes_left == 0)
      land(item, state);
  }

  void tell_refusal(const Item& item, const Ref& target, std::string_view verb,
                    std::string_view reason, const api::ApiError& error) {
    const ObjectPtr about =
        view.get(item.controller == ControllerId::kPlacement ? target : item.ref);
    if (about)
      writer.event(*about, "Warning", reason,
                   fmt::format("{} {} {}: {}", verb, target.resource, target.name, error.message),
                   fmt::format("{}-controller", to_string(item.controller)));
  }

  void land(const Item& item, State& state) {
    state.flight = 0;
    const MonoTime now = clock.now();
    if (state.flight_failed) {
      state.carried_out = 0;
      lengthen_backoff(state);
    }
    state.not_before = state.backoff > Duration(0) ? now + state.backoff : MonoTime{};
    enqueue(item, now);
    arm_next();
  }

  void lengthen_backoff(State& state) const {
    state.backoff = state.backoff == Duration(0) ? options.backoff_first
                                                 : std::min(state.backoff * 2, options.backoff_max);
  }

  // Writes that nobody answered: their late answers count for nothing.
  void expire_flights(MonoTime now) {
    while (!deadlines.empty()) {
      const Deadline& first = deadlines.front();
      const auto found = states.find(first.item);
      const bool over = found == states.end() || found->second.flight != first.flight;
      if (!over && first.at > now)
        return;
      if (!over) {
        State& state = found->second;
        stats.in_flight -= state.writes_left;
        stats.steps_failed += state.writes_left;
        state.writes_left = 0;
        state.flight_failed = true;
        land(first.item, state);
      }
      deadlines.pop_front();
    }
  }
};

Runner::Runner(View& view, api::Writer& writer, const Clock& clock, Timers& timers,
               std::function<const Members&()> members, RunnerOptions options)
    : impl_(std::make_shared<Impl>(view, writer, clock, timers, std::move(members),
                                   std::move(options))) {}

Runner::~Runner() = default;

void Runner::start() {
  impl_->subscription =
      impl_->view.subscribe([weak = std::weak_ptr(impl_)](const view::Change& change) {
        if (const auto impl = weak.lock())
          impl->on_change(change);
      });
  impl_->arm(impl_->clock.now());
}

void Runner::members_changed() {
  if (!impl_->acting)
    return;
  const MonoTime now = impl_->clock.now();
  for (const std::string& node : impl_->take_members())
    items_of_member(impl_->view, node, [&](const Item& item) { impl_->enqueue(item, now); });
  impl_->arm_next();
}

void Runner::resync() {
  if (impl_->acting)
    impl_->resync();
}

RunnerStats Runner::stats() const {
  RunnerStats out = impl_->stats;
  out.queued = impl_->queue.size();
  return out;
}

bool Runner::idle() const {
  const auto due = impl_->queue.next_due();
  return impl_->acting && impl_->stats.in_flight == 0 && (!due || *due > impl_->clock.now());
}

}  // namespace shoal::controllers
