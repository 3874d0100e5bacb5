// SPDX-License-Identifier: Apache-2.0
// Allocators of what must be unique in the cluster: addresses from pools, ports of hosts. What is
// taken is a key "/alloc/POOL/ITEM" in the store, created with "must not exist" in the transaction
// that writes its owner, and deleted in the one that lets it go. Decisions are made on the replica:
// a race for an item is lost at commit and decided again. Internal to agent/api.
#pragma once

#include "agent/api/writer_plan.h"
#include "netplane/base/ip.h"
#include "netplane/base/random.h"

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::api {

// Marks an item as the owner's, or as nobody's, within a transaction.
void take_item(std::string_view pool, std::string_view item, const boost::json::object& owner,
               WritePlan& plan);
void free_item(std::string_view pool, std::string_view item, store::Txn& txn);
bool is_taken(const WriterEnv& env, std::string_view pool, std::string_view item);

// One pool of addresses.
class AddressPool {
public:
  AddressPool(const std::vector<IpPrefix>& prefixes, std::function<bool(const IpAddress&)> is_free)
      : prefixes_(prefixes), is_free_(std::move(is_free)) {}
  // Free is what nobody has in the store under this name.
  AddressPool(const WriterEnv& env, const std::vector<IpPrefix>& prefixes, std::string_view name);

  bool empty() const { return prefixes_.empty(); }
  bool holds(const IpAddress& ip) const;  // and may give it out
  bool is_free(const IpAddress& ip) const { return is_free_(ip); }
  // A free one: the lowest, or one from a random place on, so that two hosts that allot at the same
  // time seldom meet.
  std::optional<IpAddress> find(Random* from_random_place = nullptr) const;
  std::string text() const;  // "10.96.0.0/16, 10.97.0.0/16"

private:
  const std::vector<IpPrefix>& prefixes_;
  std::function<bool(const IpAddress&)> is_free_;
};

// A port of every host.
struct NodePort {
  std::string protocol;  // "TCP", "UDP"
  std::uint16_t number = 0;
  auto operator<=>(const NodePort&) const = default;
  std::string item() const;  // "TCP-30080"
};

// The cluster's range of node ports. Ports of different protocols do not meet.
class NodePortPool {
public:
  explicit NodePortPool(const WriterEnv& env) : env_(env) {}

  bool holds(std::uint16_t number) const { return env_.options.node_ports.contains(number); }
  bool is_free(const NodePort& port) const;
  // A free one that is not in `taken`. The first ports of the range are left to those who ask for a
  // certain one, as long as there are others.
  std::optional<NodePort> find(std::string_view protocol, const std::set<NodePort>& taken) const;
  std::string text() const;  // "30000-32767"

private:
  std::optional<NodePort> find_in(std::string_view protocol, std::uint32_t first,
                                  std::uint32_t count, const std::set<NodePort>& taken) const;
  const WriterEnv& env_;
};

}  // namespace shoal::api
