// SPDX-License-Identifier: Apache-2.0
// The operations a service plan consists of, and the plan itself.
//
// Operations are batches of items; an item names the service it belongs to, so that one that fails
// costs its own service and nothing else: the applier skips the later items of that service. Within
// an operation, items are in no need of each other.
//
// The order of a plan's operations is what makes every prefix of it serve:
//   OpenServices, SetBackends, WriteRings, SwitchRings, AddSourceRanges, SetFrontends, SetVips
//                                                      (what comes)
//   DeleteFrontends, DeleteVips, SwitchRings to nothing, RemoveSourceRanges, SetBackends to
//   draining, RetireBackends, RetireServices                     (what goes) FreeBackends (what
//   went, its grace having passed)
// Frontends go before their VIP, so that what is no longer served is refused and does not wander
// off. A service's new source ranges come before the frontends that are held against them, and the
// old ones go after: no client that both allow is dropped in between.
#pragma once

#include "netplane/base/result.h"
#include "netplane/model/data_plane.h"
#include "netplane/plan/maglev.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace shoal::plan {

using model::BackendEntry;
using model::BackendId;
using model::FrontendEntry;
using model::FrontendKey;
using model::RingRef;
using model::ServiceIndex;
using model::VipEntry;

// Bounds of one operation.
inline constexpr std::size_t kItemsPerOpMax = 4096;
inline constexpr std::size_t kSlotsPerOpMax = 262'144;  // of WriteRings, unless one ring is larger

// The index is taken; its counters start from nothing.
struct OpenServices {
  struct Item {
    ServiceIndex service = 0;
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;
  bool operator==(const OpenServices&) const = default;
};

struct SetBackends {
  struct Item {
    ServiceIndex service = 0;
    BackendId id = model::kNoBackend;
    BackendEntry entry;
    bool recycled = false;  // the id was another backend's: its counters start from nothing
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;
  bool operator==(const SetBackends&) const = default;
};

// Of a ring the plan says what it is built from (RingBuilder): who carries it out builds it where
// it goes, so that a plan costs what it says and not what the rings hold.
//
// With a history, the former owners of its slots follow from what the ring before holds when it is
// written (ring_history.h). Without members it is a ring that refuses, for the sake of its history.
struct WriteRings {
  struct Item {
    ServiceIndex service = 0;
    RingRef to;
    RingRef before;  // that it takes the place of; not empty when `to` has a history. Without one,
                     // for want of room, every slot counts as moved: its connections are asked for
    std::vector<RingMember> members;
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;
  bool operator==(const WriteRings&) const = default;
};

struct SlotCount {
  BackendId id = model::kNoBackend;
  std::uint32_t slots = 0;
  bool operator==(const SlotCount&) const = default;
};

struct SwitchRings {
  struct Item {
    ServiceIndex service = 0;
    RingRef to;                // empty: refuse, as a ring without counts does
    std::uint64_t inputs = 0;  // digest of what the ring was built from
    std::vector<SlotCount> counts;
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;
  bool operator==(const SwitchRings&) const = default;
};

// Outside clients that a restricted service takes.
struct AddSourceRanges {
  struct Item {
    ServiceIndex service = 0;
    IpPrefix range;
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;
  bool operator==(const AddSourceRanges&) const = default;
};

struct RemoveSourceRanges {
  struct Item {
    ServiceIndex service = 0;
    IpPrefix range;
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;
  bool operator==(const RemoveSourceRanges&) const = default;
};

// An entry leads to up to two services: one for clients inside, one for those outside.
struct SetFrontends {
  struct Item {
    FrontendKey key;
    FrontendEntry entry;
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;
  bool operator==(const SetFrontends&) const = default;
};

struct SetVips {
  struct Item {
    IpAddress ip;
    VipEntry entry;
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;
  bool operator==(const SetVips&) const = default;
};

struct DeleteFrontends {
  struct Item {
    FrontendKey key;
    FrontendEntry entry;  // what it holds now
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;
  bool operator==(const DeleteFrontends&) const = default;
};

struct DeleteVips {
  struct Item {
    IpAddress ip;
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;
  bool operator==(const DeleteVips&) const = default;
};

// No ring names them any more; the entries stay until the grace has passed. Touches no map.
struct RetireBackends {
  struct Item {
    ServiceIndex service = model::kNoService;  // that: a stray, found at start
    BackendId id = model::kNoBackend;
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;
  bool operator==(const RetireBackends&) const = default;
};

// No frontend names them any more; the index is given again after the grace. Touches no map.
struct RetireServices {
  struct Item {
    ServiceIndex service = 0;
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;
  bool operator==(const RetireServices&) const = default;
};

// Marks the ids as free, with a raised epoch, so that no flow entry fits them.
struct FreeBackends {
  struct Item {
    BackendId id = model::kNoBackend;
    std::uint32_t epoch = 0;
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;
  bool operator==(const FreeBackends&) const = default;
};

using Op = std::variant<OpenServices, SetBackends, WriteRings, SwitchRings, AddSourceRanges,
                        SetFrontends, SetVips, DeleteFrontends, DeleteVips, RemoveSourceRanges,
                        RetireBackends, RetireServices, FreeBackends>;
std::string_view name_of(const Op& op);

// What the plan found out without having to change anything: it goes into Actual before the first
// operation (Actual::learn), so that the next plan is cheaper and views have names.
struct Learned {
  std::string name;  // model::ServicePort::id()
  ServiceIndex service = 0;
  std::uint64_t ring_inputs = 0;   // 0: nothing new
  std::vector<BackendId> adopted;  // strays that are this service's backends
  bool operator==(const Learned&) const = default;
};

// An object that the plan could not do justice to; all others are unaffected.
struct Issue {
  std::string object;
  Error error;
};

struct Plan {
  std::vector<Learned> learned;  // one for each desired service that has an index, by name
  std::vector<Op> ops;
  std::vector<Issue> issues;
  bool empty() const { return ops.empty(); }
  bool has_stack_backends() const;  // publishes a backend that is no pod
};

}  // namespace shoal::plan
