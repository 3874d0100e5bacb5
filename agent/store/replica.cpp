// SPDX-License-Identifier: Apache-2.0
#include "agent/store/replica.h"

#include "agent/store/compact_json.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <unordered_set>
#include <utility>

namespace shoal::store {
namespace json = boost::json;
namespace {

// Deletions are remembered until everything up to them is known, so that an older value that
// arrives late does not bring a key back. Without news of completeness the oldest are forgotten
// beyond this number.
constexpr std::size_t kTombstonesMax = 65'536;

constexpr std::string_view kAllocPrefix = "/alloc/";

struct KeyParts {
  std::string_view resource, ns, name;
};

std::optional<KeyParts> parse_object_key(std::string_view key) {
  if (key.empty() || key.front() != '/' || key.starts_with(kAllocPrefix))
    return std::nullopt;
  key.remove_prefix(1);
  const std::size_t first = key.find('/');
  if (first == key.npos)
    return std::nullopt;
  const std::size_t second = key.find('/', first + 1);
  if (second == key.npos || key.find('/', second + 1) != key.npos)
    return std::nullopt;
  KeyParts parts{key.substr(0, first), key.substr(first + 1, second - first - 1),
                 key.substr(second + 1)};
  if (parts.resource.empty() || parts.ns.empty() || parts.name.empty())
    return std::nullopt;
  if (parts.ns == "-")
    parts.ns = {};
  return parts;
}

std::string_view string_at(const json::object& object, std::string_view outer,
                           std::string_view inner) {
  const json::value* part = object.if_contains(outer);
  const json::object* fields = part ? part->if_object() : nullptr;
  const json::value* value = fields ? fields->if_contains(inner) : nullptr;
  const json::string* text = value ? value->if_string() : nullptr;
  return text ? std::string_view(*text) : std::string_view{};
}

// The host that writes an object's status; empty: nobody, the stored status counts.
std::string_view reporting_host(const Object& object, const json::object& body) {
  if (object.resource == "pods")
    return string_at(body, "spec", "nodeName");
  if (object.resource == "nodes")
    return object.name;
  return {};
}

void set_resource_version(json::object& body, Revision revision) {
  json::value& metadata = body["metadata"];
  if (!metadata.is_object())
    metadata.emplace_object();
  metadata.get_object()["resourceVersion"] = std::to_string(revision);
}

}  // namespace

std::string object_key(std::string_view resource, std::string_view ns, std::string_view name) {
  std::string key;
  key.reserve(resource.size() + ns.size() + name.size() + 4);
  key.append("/")
      .append(resource)
      .append("/")
      .append(ns.empty() ? "-" : ns)
      .append("/")
      .append(name);
  return key;
}

struct Replica::Impl {
  struct Entry {
    SharedText value;  // as stored; always present
    Revision create_revision = 0;
    Revision revision = 0;
    ObjectPtr object;  // null for values that are not objects
    Event event(std::string_view key) const {
      return {std::string(key), value, create_revision, revision};
    }
  };
  struct Reported {
    std::string uid;
    json::object status;
  };
  struct Subscriber {
    std::string resource;  // empty: all
    std::function<void(const Change&)> on_change;
    bool active = true;
  };

  std::map<std::string, Entry, std::less<>> entries;
  std::map<std::string, Revision, std::less<>> tombstones;
  // Key, then origin. Reports are kept also while their object is unknown: either may arrive first.
  std::map<std::string, std::map<std::string, Reported, std::less<>>, std::less<>> reports;
  std::multimap<Revision, std::function<void()>> revision_waiters;
  std::vector<std::function<void()>> sync_waiters;
  std::vector<std::shared_ptr<Subscriber>> subscribers;
  Revision revision = 0;
  bool synced = false;
  int notifying = 0;

  void notify(ChangeKind kind, ObjectPtr object, ObjectPtr before) {
    const Change change{kind, std::move(object), std::move(before)};
    ++notifying;
    // By index: a subscriber may add others (they see later changes) or end any.
    const std::size_t count = subscribers.size();
    for (std::size_t i = 0; i < count; ++i) {
      const std::shared_ptr<Subscriber> subscriber = subscribers[i];
      if (subscriber->active &&
          (subscriber->resource.empty() || subscriber->resource == change.object->resource))
        subscriber->on_change(change);
    }
    if (--notifying == 0)
      std::erase_if(subscribers, [](const auto& s) { return !s->active; });
  }

  const Reported* report_for(const std::string& key, const Object& object,
                             const json::object& body) const {
    const std::string_view host = reporting_host(object, body);
    if (host.empty())
      return nullptr;
    const auto by_origin = reports.find(key);
    if (by_origin == reports.end())
      return nullptr;
    const auto report = by_origin->second.find(host);
    if (report == by_origin->second.end() || report->second.uid != object.uid)
      return nullptr;
    return &report->second;
  }

  // A stored value as its readers see it; null when the key or the value is not an object's.
  ObjectPtr build(const Event& event) const {
    const std::optional<KeyParts> parts = parse_object_key(event.key);
    if (!parts)
      return nullptr;
    ParseMemory memory;
    boost::system::error_code error;
    json::value parsed = json::parse(*event.value, error, memory.storage());
    if (error || !parsed.is_object())
      return nullptr;
    json::object& body = parsed.get_object();
    set_resource_version(body, event.revision);
    Object object;
    object.resource = parts->resource;
    object.ns = parts->ns;
    object.name = parts->name;
    object.revision = event.revision;
    object.create_revision = event.create_revision;
    object.uid = string_at(body, "metadata", "uid");
    if (const Reported* report = report_for(event.key, object, body))
      body["status"] = report->status;
    return with_body(object, body);
  }

  // The same object with that body, which it holds in one piece.
  static ObjectPtr with_body(const Object& object, const json::object& body) {
    return std::make_shared<Object>(Object{object.resource, object.ns, object.name, object.uid,
                                           object.revision, object.create_revision, compact(body)});
  }

  static ObjectPtr at_deletion(const ObjectPtr& last, Revision revision) {
    ParseMemory memory;
    json::object body(last->body, memory.storage());
    set_resource_version(body, revision);
    return std::make_shared<Object>(Object{last->resource, last->ns, last->name, last->uid,
                                           revision, last->create_revision, compact(body)});
  }

  void put(const Event& event) {
    Entry& entry = entries[event.key];
    const ObjectPtr before = std::move(entry.object);
    entry.value = event.value;
    entry.create_revision = event.create_revision;
    entry.revision = event.revision;
    entry.object = build(event);
    const ObjectPtr now = entry.object;
    if (before && now && before->uid == now->uid) {
      notify(ChangeKind::kModified, now, before);
      return;
    }
    // Another life of the name: its end and its beginning may arrive as one.
    if (before)
      notify(ChangeKind::kDeleted, at_deletion(before, event.revision), before);
    if (now)
      notify(ChangeKind::kAdded, now, nullptr);
  }

  void erase(std::string_view key, Revision at) {
    if (at > revision)
      tombstones.insert_or_assign(std::string(key), at);
    const auto found = entries.find(key);
    if (found == entries.end())
      return;
    const ObjectPtr before = std::move(found->second.object);
    entries.erase(found);
    if (before)
      notify(ChangeKind::kDeleted, at_deletion(before, at), before);
  }

  void apply_one(const Event& event) {
    if (event.revision <= revision)
      return;  // known, or overtaken by something known
    if (const auto found = entries.find(event.key);
        found != entries.end() && found->second.revision >= event.revision)
      return;
    if (const auto tombstone = tombstones.find(event.key); tombstone != tombstones.end()) {
      if (tombstone->second >= event.revision)
        return;
      tombstones.erase(tombstone);
    }
    if (event.value)
      put(event);
    else
      erase(event.key, event.revision);
  }

  void advance(Revision to) {
    if (to > revision)
      revision = to;
    std::erase_if(tombstones, [&](const auto& t) { return t.second <= revision; });
    while (tombstones.size() > kTombstonesMax)
      tombstones.erase(
          std::min_element(tombstones.begin(), tombstones.end(),
                           [](const auto& a, const auto& b) { return a.second < b.second; }));
  }

  // Waiters run when everything is in place; they may call anything, this replica included.
  void run_waiters() {
    while (!revision_waiters.empty() && revision_waiters.begin()->first <= revision) {
      auto run = std::move(revision_waiters.begin()->second);
      revision_waiters.erase(revision_waiters.begin());
      run();
    }
    if (synced)
      for (auto& run : std::exchange(sync_waiters, {}))
        run();
  }

  // The same object with the status that counts now; called after its reports changed.
  void remerge(const std::string& key) {
    const auto found = entries.find(key);
    if (found == entries.end() || !found->second.object)
      return;
    const ObjectPtr before = found->second.object;
    const Reported* report = report_for(key, *before, before->body);
    ObjectPtr now;
    if (report) {
      const json::value* shown = before->body.if_contains("status");
      if (shown && shown->is_object() && shown->get_object() == report->status)
        return;
      ParseMemory memory;
      json::object body(before->body, memory.storage());
      body["status"] = report->status;
      now = with_body(*before, body);
    } else {
      now = build(found->second.event(key));
      if (!now || now->body == before->body)
        return;
    }
    found->second.object = now;
    notify(ChangeKind::kModified, now, before);
  }
};

Replica::Replica() : impl_(std::make_unique<Impl>()) {}
Replica::~Replica() = default;

ObjectPtr Replica::get(std::string_view resource, std::string_view ns,
                       std::string_view name) const {
  const auto found = impl_->entries.find(object_key(resource, ns, name));
  return found == impl_->entries.end() ? nullptr : found->second.object;
}

std::vector<ObjectPtr> Replica::list(std::string_view resource, std::string_view ns) const {
  std::string prefix = "/" + std::string(resource) + "/";
  if (!ns.empty())
    prefix.append(ns).append("/");
  std::vector<ObjectPtr> found;
  for (auto it = impl_->entries.lower_bound(prefix);
       it != impl_->entries.end() && it->first.starts_with(prefix); ++it)
    if (it->second.object)
      found.push_back(it->second.object);
  return found;
}

std::optional<Event> Replica::value(std::string_view key) const {
  const auto found = impl_->entries.find(key);
  if (found == impl_->entries.end())
    return std::nullopt;
  return found->second.event(key);
}

void Replica::for_each_value(std::string_view prefix,
                             const std::function<void(const Event&)>& visit) const {
  for (auto it = impl_->entries.lower_bound(prefix);
       it != impl_->entries.end() && it->first.starts_with(prefix); ++it)
    visit(it->second.event(it->first));
}

Revision Replica::revision() const { return impl_->revision; }
bool Replica::synced() const { return impl_->synced; }

void Replica::when_revision(Revision wanted, std::function<void()> run) {
  if (impl_->revision >= wanted)
    run();
  else
    impl_->revision_waiters.emplace(wanted, std::move(run));
}

Subscription Replica::subscribe(std::string_view resource,
                                std::function<void(const Change&)> on_change) {
  auto subscriber = std::make_shared<Impl::Subscriber>();
  subscriber->resource = resource;
  subscriber->on_change = std::move(on_change);
  impl_->subscribers.push_back(subscriber);
  // Only marked here: it may be the one that is running. notify() sweeps.
  return Subscription([weak = std::weak_ptr(subscriber)] {
    if (const auto alive = weak.lock())
      alive->active = false;
  });
}

void Replica::when_synced(std::function<void()> run) {
  if (impl_->synced)
    run();
  else
    impl_->sync_waiters.push_back(std::move(run));
}

void Replica::apply(std::span<const Event> events, Revision complete_to) {
  SHOAL_ASSERT(impl_->notifying == 0);
  for (const Event& event : events)
    impl_->apply_one(event);
  impl_->advance(complete_to);
  impl_->run_waiters();
}

void Replica::reset(const Snapshot& snapshot) {
  SHOAL_ASSERT(impl_->notifying == 0);
  std::unordered_set<std::string_view> named;
  named.reserve(snapshot.values.size());
  for (const Event& event : snapshot.values)
    named.insert(event.key);
  std::vector<std::string> gone;
  for (const auto& [key, entry] : impl_->entries)
    if (entry.revision <= snapshot.revision && !named.contains(key))
      gone.push_back(key);
  for (const std::string& key : gone)
    impl_->erase(key, snapshot.revision);
  for (const Event& event : snapshot.values)
    impl_->apply_one(event);
  impl_->advance(snapshot.revision);
  impl_->synced = true;
  impl_->run_waiters();
}

void Replica::apply_status(std::string_view origin, std::string_view resource, std::string_view ns,
                           std::string_view name, std::optional<json::object> status,
                           std::string_view uid) {
  SHOAL_ASSERT(impl_->notifying == 0);
  const std::string key = object_key(resource, ns, name);
  if (status) {
    impl_->reports[key].insert_or_assign(std::string(origin),
                                         Impl::Reported{std::string(uid), std::move(*status)});
  } else {
    const auto found = impl_->reports.find(key);
    if (found == impl_->reports.end())
      return;
    if (const auto report = found->second.find(origin); report != found->second.end())
      found->second.erase(report);
    if (found->second.empty())
      impl_->reports.erase(found);
  }
  impl_->remerge(key);
}

}  // namespace shoal::store
