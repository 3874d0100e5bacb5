// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/gossip_bridge.h"

#include "agent/daemon/drain_board.h"
#include "netplane/base/strings.h"

#include <boost/json.hpp>
#include <spdlog/spdlog.h>

namespace shoal::daemon {
namespace {

namespace json = boost::json;

constexpr std::string_view kStatusPrefix = "status/";
constexpr std::string_view kNoNamespace = "-";

std::string status_key(std::string_view resource, std::string_view ns, std::string_view name) {
  return fmt::format("{}{}/{}/{}", kStatusPrefix, resource, ns.empty() ? kNoNamespace : ns, name);
}

gossip::DesiredEvent to_gossip(const store::Event& event) {
  return {event.key, event.value, event.create_revision, event.revision};
}

std::vector<gossip::DesiredEvent> to_gossip(std::span<const store::Event> events) {
  std::vector<gossip::DesiredEvent> out;
  out.reserve(events.size());
  for (const store::Event& event : events)
    out.push_back(to_gossip(event));
  return out;
}

store::Event to_store(std::string_view key, const gossip::Entry& entry) {
  store::Event event;
  event.key = std::string(key);
  event.value = SharedText(entry.value);
  event.create_revision = entry.create_revision;
  event.revision = entry.version;
  return event;
}

// A dead host cannot say that it is not ready: whoever shows its Node says so in its place.
void mark_unknown(json::object& status, const std::string& now) {
  json::array& conditions = status["conditions"].is_array() ? status["conditions"].as_array()
                                                            : status["conditions"].emplace_array();
  for (json::value& condition : conditions) {
    if (!condition.is_object() || condition.as_object()["type"] != "Ready")
      continue;
    json::object& ready = condition.as_object();
    ready["status"] = "Unknown";
    ready["reason"] = "NodeStatusUnknown";
    ready["message"] = "the host does not answer";
    ready["lastTransitionTime"] = now;
  }
}

}  // namespace

GossipBridge::GossipBridge(gossip::Gossip& gossip, std::string self, store::Replica& replica,
                           const Clock& clock)
    : gossip_(gossip), self_(std::move(self)), replica_(replica), clock_(clock) {
  members_.set(self_, {true, clock_.now()});
  gossip_.on_entry([this](const gossip::EntryChanged& changed) { on_entry(changed); });
  gossip_.on_member([this](const gossip::MemberChanged& changed) { on_member(changed); });
  gossip_.on_desired_complete([this](std::uint64_t revision) { on_desired_complete(revision); });
}

void GossipBridge::follow(store::Store& store, std::function<void(Result<>)> loaded) {
  store_host_ = true;
  // The watch first: commits between it and the snapshot come twice, which is harmless.
  store.watch([this](store::Revision revision, std::span<const store::Event> events) {
    replica_.apply(events, revision);
    if (auto told = gossip_.publish_desired(to_gossip(events), revision); !told)
      spdlog::error("gossip: tell revision {}: {}", revision, told.error().message());
  });
  store.snapshot([this, loaded = std::move(loaded)](Result<store::Snapshot> snapshot) {
    if (!snapshot)
      return loaded(fail(std::move(snapshot).error().wrap("load the store")));
    replica_.reset(*snapshot);
    const std::uint64_t known = gossip_.desired_complete_to();
    if (known > snapshot->revision)
      spdlog::error(
          "the cluster knows revision {} but this store ends at {}: the store was restored from an "
          "older copy; objects written since then may be lost",
          known, snapshot->revision);
    loaded(gossip_.publish_desired_snapshot(to_gossip(snapshot->values), snapshot->revision));
  });
}

Result<> GossipBridge::report(std::string_view resource, std::string_view ns, std::string_view name,
                              std::string_view uid, std::optional<json::object> status) {
  std::optional<std::string> value;
  if (status)
    value = json::serialize(json::object{{"uid", uid}, {"status", *status}});
  replica_.apply_status(self_, resource, ns, name, std::move(status), uid);
  return gossip_.publish(status_key(resource, ns, name), std::move(value));
}

void GossipBridge::on_entry(const gossip::EntryChanged& changed) {
  if (changed.origin == gossip::kDesiredOrigin) {
    // The store's host hears its own commits back: its replica has them from the store.
    if (store_host_)
      return;
    const store::Event event = to_store(changed.key, changed.entry);
    replica_.apply(std::span(&event, 1), 0);
    return;
  }
  if (changed.key == kAppliedKey) {
    if (applied_)
      applied_(changed.origin, changed.entry.value.get());
    return;
  }
  apply_status_entry(changed.origin, changed.key, changed.entry.value.get());
}

void GossipBridge::apply_status_entry(std::string_view origin, std::string_view key,
                                      const std::string* value) {
  if (!key.starts_with(kStatusPrefix))
    return;
  const auto parts = split(key.substr(kStatusPrefix.size()), '/');
  if (parts.size() != 3)
    return;
  const std::string_view ns = parts[1] == kNoNamespace ? std::string_view() : parts[1];
  if (!value)
    return replica_.apply_status(origin, parts[0], ns, parts[2], std::nullopt, "");
  boost::system::error_code error;
  json::value parsed = json::parse(*value, error);
  const json::object* object = error ? nullptr : parsed.if_object();
  const json::value* uid = object ? object->if_contains("uid") : nullptr;
  const json::value* status = object ? object->if_contains("status") : nullptr;
  if (!uid || !uid->is_string() || !status || !status->is_object()) {
    spdlog::warn("gossip: {} of {} is not a status; ignored", printable(key), origin);
    return;
  }
  json::object body = status->as_object();
  if (parts[0] == "nodes" && !members_.alive(origin))
    mark_unknown(body, rfc3339(clock_.wall()));
  replica_.apply_status(origin, parts[0], ns, parts[2], std::move(body),
                        std::string_view(uid->as_string()));
}

void GossipBridge::on_desired_complete(std::uint64_t revision) {
  if (store_host_)
    return;
  if (replica_.synced()) {
    replica_.apply({}, revision);
    return;
  }
  // The first full state: everything that "desired" holds, as of this revision.
  store::Snapshot snapshot;
  snapshot.revision = revision;
  gossip_.for_each_entry(gossip::kDesiredOrigin,
                         [&](std::string_view key, const gossip::Entry& entry) {
                           if (entry.value)
                             snapshot.values.push_back(to_store(key, entry));
                         });
  replica_.reset(snapshot);
}

void GossipBridge::on_member(const gossip::MemberChanged& changed) {
  using gossip::MemberChange;
  const gossip::Member& member = changed.member;
  if (changed.change == MemberChange::kForgotten) {
    members_.erase(member.name);
  } else {
    const view::Member* before = members_.find(member.name);
    if (!before || before->alive != member.is_live()) {
      members_.set(member.name, {member.is_live(), clock_.now()});
      spdlog::info("member {} is {}", member.name,
                   member.is_live() ? "alive" : to_string(member.state));
      refresh_node(member.name);
    }
  }
  if (members_changed_)
    members_changed_();
}

void GossipBridge::refresh_node(std::string_view node) {
  const std::string key = status_key("nodes", "", node);
  // Applied anew: members_ decides how it is shown.
  if (const auto entry = gossip_.entry(node, key); entry && entry->value)
    apply_status_entry(node, key, entry->value.get());
}

}  // namespace shoal::daemon
