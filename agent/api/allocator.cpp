// SPDX-License-Identifier: Apache-2.0
#include "agent/api/allocator.h"

#include "agent/api/selector.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr std::uint64_t kSearchMax = 1 << 20;

std::string alloc_key(std::string_view pool, std::string_view item) {
  return fmt::format("/alloc/{}/{}", pool, item);
}

// The network's own and its broadcast address. Pools of /31 and /32 have none.
bool is_edge(const IpAddress& ip, const IpPrefix& prefix) {
  return prefix.size() > 2 &&
         (ip == prefix.address() || ip == prefix.address().plus(prefix.size() - 1));
}

// Addresses that clients and switches are known to trip over are never given out unasked.
bool is_awkward(const IpAddress& ip, const IpPrefix& prefix) {
  if (!ip.is_v4() || prefix.length() > 24)
    return false;
  const std::uint32_t last = ip.v4_host_order() & 0xff;
  return last == 0 || last == 255;
}

}  // namespace

void take_item(std::string_view pool, std::string_view item, const json::object& owner,
               WritePlan& plan) {
  const std::string key = alloc_key(pool, item);
  plan.txn.compares.push_back({key, 0});
  plan.txn.ops.push_back(
      {key, json::serialize(
                json::object{{"owner", plan.key}, {"uid", find_string(owner, "metadata.uid")}})});
}

void free_item(std::string_view pool, std::string_view item, store::Txn& txn) {
  txn.ops.push_back({alloc_key(pool, item), std::nullopt});
}

bool is_taken(const WriterEnv& env, std::string_view pool, std::string_view item) {
  return env.replica.value(alloc_key(pool, item)).has_value();
}

// ---- addresses

bool AddressPool::holds(const IpAddress& ip) const {
  return std::any_of(prefixes_.begin(), prefixes_.end(),
                     [&](const IpPrefix& p) { return p.contains(ip) && !is_edge(ip, p); });
}

AddressPool::AddressPool(const WriterEnv& env, const std::vector<IpPrefix>& prefixes,
                         std::string_view name)
    : AddressPool(prefixes, [&env, name](const IpAddress& ip) {
        return !is_taken(env, name, ip.to_string());
      }) {}

std::optional<IpAddress> AddressPool::find(Random* from_random_place) const {
  for (const IpPrefix& prefix : prefixes_) {
    const std::uint64_t size = std::min(prefix.size(), kSearchMax);
    const std::uint64_t start = from_random_place ? from_random_place->below(size) : 0;
    for (std::uint64_t i = 0; i < size; ++i) {
      const IpAddress ip = prefix.address().plus((start + i) % size);
      if (!is_edge(ip, prefix) && !is_awkward(ip, prefix) && is_free(ip))
        return ip;
    }
  }
  return std::nullopt;
}

std::string AddressPool::text() const {
  std::string joined;
  for (const IpPrefix& prefix : prefixes_)
    joined += (joined.empty() ? "" : ", ") + prefix.to_string();
  return joined;
}

// ---- ports

std::string NodePort::item() const { return fmt::format("{}-{}", protocol, number); }

bool NodePortPool::is_free(const NodePort& port) const {
  return !env_.replica.value(alloc_key(kNodePortPool, port.item()));
}

std::optional<NodePort> NodePortPool::find_in(std::string_view protocol, std::uint32_t first,
                                              std::uint32_t count,
                                              const std::set<NodePort>& taken) const {
  if (count == 0)
    return std::nullopt;
  const auto start = static_cast<std::uint32_t>(env_.random.below(count));
  for (std::uint32_t i = 0; i < count; ++i) {
    const NodePort port{std::string(protocol),
                        static_cast<std::uint16_t>(first + (start + i) % count)};
    if (!taken.contains(port) && is_free(port))
      return port;
  }
  return std::nullopt;
}

std::optional<NodePort> NodePortPool::find(std::string_view protocol,
                                           const std::set<NodePort>& taken) const {
  const PortRange& range = env_.options.node_ports;
  const std::uint32_t size = range.size();
  // Kubernetes' own reckoning (its NodePort static subrange).
  const std::uint32_t asked_for = size < 16 ? 0 : std::clamp<std::uint32_t>(size / 32, 16, 128);
  if (const auto port = find_in(protocol, range.first + asked_for, size - asked_for, taken))
    return port;
  return find_in(protocol, range.first, asked_for, taken);
}

std::string NodePortPool::text() const { return env_.options.node_ports.to_string(); }

}  // namespace shoal::api
