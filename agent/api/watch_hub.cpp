// SPDX-License-Identifier: Apache-2.0
#include "agent/api/watch_hub.h"

#include <boost/asio/post.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <map>

namespace shoal::api {
namespace json = boost::json;
using boost::system::error_code;
using store::ChangeKind;
using store::Object;
using store::ObjectPtr;
using store::Revision;

namespace {

constexpr std::chrono::seconds kBookmarkEvery{60};
constexpr std::chrono::seconds kWatchTimeMax{3600};
constexpr std::size_t kWriteBytes = 256 << 10;  // lines are sent together up to about this

std::string field_text(const Object& object, std::string_view field) {
  if (field == "source")
    field = "source.component";
  const json::value* value = find_path(object.body, field);
  if (!value || value->is_null())
    return field == "spec.unschedulable" ? "false" : "";
  return value->is_string() ? std::string(value->get_string()) : json::serialize(*value);
}

std::string line_of(std::string_view type, std::string_view object) {
  return fmt::format("{{\"type\":\"{}\",\"object\":{}}}\n", type, object);
}

ApiError expired(std::string message) { return {410, "Expired", std::move(message), {}}; }

}  // namespace

bool Filter::matches(const Object& object) const {
  if (object.resource != kind->resource() || (!ns.empty() && object.ns != ns))
    return false;
  for (const FieldRequirement& field : fields)
    if ((field_text(object, field.field) == field.value) == field.negate)
      return false;
  return labels.matches(labels_of(object.body));
}

class WatchHub::Watcher : public std::enable_shared_from_this<Watcher> {
public:
  Watcher(WatchHub& hub, WatchRequest request, ExchangePtr exchange)
      : hub_(hub), request_(std::move(request)), exchange_(std::move(exchange)),
        bookmark_(hub.loop_), end_(hub.loop_) {}

  const Filter& filter() const { return request_.filter; }

  void begin() {
    exchange_->on_gone([weak = weak_from_this()] {
      if (const auto self = weak.lock())
        self->drop();
    });
    exchange_->begin(200, "application/json");
    push("");  // the header, at once
    if (request_.bookmarks)
      next_bookmark();
    end_.expires_after(std::min(request_.timeout_s.value_or(kWatchTimeMax), kWatchTimeMax));
    end_.async_wait([weak = weak_from_this()](error_code error) {
      const auto self = weak.lock();
      if (!error && self)
        self->finish();
    });
  }

  // A change as this watcher sees it: an object may enter or leave its selection.
  void change(const store::Change& change) {
    const bool was = change.before && request_.filter.matches(*change.before);
    const bool is = change.kind != ChangeKind::kDeleted && request_.filter.matches(*change.object);
    if (is)
      send(was ? "MODIFIED" : "ADDED", *change.object);
    else if (was)
      send("DELETED", *change.object);
  }

  void send(std::string_view type, const Object& object) {
    push(line_of(type, request_.show(object)));
  }

  void fail_with(const ApiError& error) {
    push(line_of("ERROR", json::serialize(status_object(error))));
    finish();
  }

  // What was sent until now is the state it began with, and does not count as being behind.
  void started() { allowance_ = queue_.size() + hub_.limits_.watch_queue_events_max; }

  // No more changes; ends when what is queued is written.
  void finish() {
    ending_ = true;
    pump();
  }

  void drop() {
    const auto self = shared_from_this();
    hub_.watchers_.erase(self);
    bookmark_.cancel();
    end_.cancel();
    exchange_.reset();
    queue_.clear();
  }

private:
  void push(std::string line) {
    if (ending_ || !exchange_)
      return;
    if (queue_.size() >= allowance_) {
      queue_.clear();
      queue_.push_back(line_of("ERROR", json::serialize(status_object(expired(fmt::format(
                                            "this watch is {} events behind; list again",
                                            hub_.limits_.watch_queue_events_max))))));
      ending_ = true;
    } else {
      queue_.push_back(std::move(line));
    }
    pump();
  }

  void pump() {
    if (writing_ || !exchange_)
      return;
    if (queue_.empty()) {
      if (ending_) {
        const auto self = shared_from_this();
        exchange_->end();
        drop();
      }
      return;
    }
    std::string bytes;
    while (!queue_.empty() && bytes.size() < kWriteBytes) {
      bytes += queue_.front();
      queue_.pop_front();
    }
    writing_ = true;
    exchange_->write(std::move(bytes), [weak = weak_from_this()](bool ok) {
      const auto self = weak.lock();
      if (!self)
        return;
      self->writing_ = false;
      if (ok)
        self->pump();
      else if (self->exchange_)
        self->drop();
    });
  }

  void next_bookmark() {
    bookmark_.expires_after(kBookmarkEvery);
    bookmark_.async_wait([weak = weak_from_this()](error_code error) {
      const auto self = weak.lock();
      if (error || !self || self->ending_)
        return;
      const Kind& kind = *self->request_.filter.kind;
      self->push(line_of(
          "BOOKMARK",
          json::serialize(json::object{
              {"kind", kind.kind},
              {"apiVersion", kind.api_version()},
              {"metadata",
               json::object{{"resourceVersion", std::to_string(self->hub_.replica_.revision())},
                            {"creationTimestamp", nullptr}}}})));
      self->next_bookmark();
    });
  }

  WatchHub& hub_;
  WatchRequest request_;
  ExchangePtr exchange_;
  boost::asio::steady_timer bookmark_;
  boost::asio::steady_timer end_;
  std::deque<std::string> queue_;
  std::size_t allowance_ = SIZE_MAX;
  bool writing_ = false;
  bool ending_ = false;
};

WatchHub::WatchHub(boost::asio::io_context& loop, store::Replica& replica,
                   const ServerLimits& limits)
    : loop_(loop), replica_(replica), limits_(limits), floor_(replica.revision()),
      status_floor_(replica.revision()) {
  subscription_ = replica_.subscribe("", [this](const store::Change& c) { on_change(c); });
  replica_.when_synced([this, weak = std::weak_ptr(alive_)] {
    if (weak.expired())
      return;
    // The first full state is no history.
    history_.clear();
    floor_ = status_floor_ = replica_.revision();
  });
}

WatchHub::~WatchHub() { stop(); }

void WatchHub::stop() {
  while (!watchers_.empty())
    (*watchers_.begin())->drop();
}

std::size_t WatchHub::watchers() const { return watchers_.size(); }

void WatchHub::on_change(const store::Change& change) {
  const Revision revision = change.object->revision;
  if (revision <= replica_.revision())
    return record(change);
  ahead_.emplace(revision, change);
  replica_.when_revision(revision, [this, weak = std::weak_ptr(alive_)] {
    if (!weak.expired())
      flush();
  });
}

void WatchHub::flush() {
  while (!ahead_.empty() && ahead_.begin()->first <= replica_.revision()) {
    const store::Change change = std::move(ahead_.begin()->second);
    ahead_.erase(ahead_.begin());
    record(change);
  }
}

void WatchHub::record(const store::Change& change) {
  history_.push_back({change, replica_.revision(), next_seq_++});
  trim();
  const std::set<std::shared_ptr<Watcher>> following = watchers_;  // one may end by this
  for (const auto& watcher : following)
    watcher->change(change);
}

void WatchHub::trim() {
  while (history_.size() > limits_.watch_history_events_max) {
    const Entry& oldest = history_.front();
    Revision& raised = oldest.status_only() ? status_floor_ : floor_;
    raised = std::max(raised,
                      oldest.status_only() ? oldest.complete + 1 : oldest.change.object->revision);
    history_.pop_front();
  }
}

// Each object's latest state once; a life that ended in between is told by its end.
std::optional<ApiError> WatchHub::replay(Watcher& watcher, Revision from) {
  if (from < floor_)
    return expired(fmt::format("too old resource version: {} ({})", from, floor_));
  struct Missed {
    store::Change change;
    bool added = false;
  };
  std::map<std::uint64_t, Missed> in_order;
  std::map<std::string, std::uint64_t> by_life;  // key and uid, to the newest entry
  for (const Entry& entry : history_) {
    const Object& object = *entry.change.object;
    // A reader at `from` has seen the commits up to it, and the changes of status before it was
    // reached.
    if (object.revision <= from && (!entry.status_only() || entry.complete < from))
      continue;
    if (object.resource != watcher.filter().kind->resource())
      continue;
    const std::string life =
        store::object_key(object.resource, object.ns, object.name) + "#" + object.uid;
    Missed missed{entry.change, entry.change.kind == ChangeKind::kAdded};
    if (const auto found = by_life.find(life); found != by_life.end()) {
      const Missed& earlier = in_order.at(found->second);
      missed.added = earlier.added;
      // From the state that the reader knows to the latest one, in one step.
      if (missed.change.kind != ChangeKind::kAdded)
        missed.change.before = earlier.change.before;
      in_order.erase(found->second);
    }
    if (missed.added && missed.change.kind == ChangeKind::kDeleted) {
      // Came and went: still told, for readers that count.
      missed.change.before = missed.change.object;
    }
    by_life[life] = entry.seq;
    in_order.emplace(entry.seq, std::move(missed));
  }
  for (const auto& [seq, missed] : in_order)
    watcher.change(missed.change);
  const Kind& kind = *watcher.filter().kind;
  if (from < status_floor_ && kind.status_by_host)
    for (const ObjectPtr& object : replica_.list(kind.resource(), watcher.filter().ns)) {
      const std::string life =
          store::object_key(object->resource, object->ns, object->name) + "#" + object->uid;
      if (!by_life.contains(life) && watcher.filter().matches(*object))
        watcher.send("MODIFIED", *object);
    }
  return std::nullopt;
}

void WatchHub::start(WatchRequest request, ExchangePtr exchange) {
  if (watchers_.size() >= limits_.watches_max)
    return exchange->reply_error(
        ApiError{429,
                 "TooManyRequests",
                 fmt::format("{} watches are open already; try again later", watchers_.size()),
                 {}});
  const std::optional<Revision> from = request.from;
  const auto watcher = std::make_shared<Watcher>(*this, std::move(request), std::move(exchange));
  watchers_.insert(watcher);
  watcher->begin();
  if (from && *from != 0) {
    if (const std::optional<ApiError> error = replay(*watcher, *from))
      return watcher->fail_with(*error);
  } else {
    for (const ObjectPtr& object :
         replica_.list(watcher->filter().kind->resource(), watcher->filter().ns))
      if (watcher->filter().matches(*object))
        watcher->send("ADDED", *object);
  }
  watcher->started();
}

}  // namespace shoal::api
