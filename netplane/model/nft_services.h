// SPDX-License-Identifier: Apache-2.0
// What the nftables data plane of one host holds for Services, in host types: the planner's
// "actual", and what kernel::NftServices writes and reads back. Ports are in host byte order.
//
// A service is a chain. The verdict maps lead a connection's first packet to it by address,
// protocol and port; one map for clients inside (pods and processes of this host), one for those
// outside. In the chain a pool is chosen by weight, and a place in it evenly; what lies at which
// place is in one set for all pools, so that a change of backends is a change of elements, and the
// number of sets is the same whatever the number of services.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/model/data_plane.h"

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shoal::model {

// Backends that share a weight evenly, each at its place.
struct NftPool {
  std::uint64_t key = 0;     // of name: unique on this host
  std::uint32_t weight = 0;  // > 0; shares are weight / sum of the service's
  std::vector<SocketAddress> places;
  auto operator<=>(const NftPool&) const = default;
};

struct NftService {
  std::string chain;  // made from the ServicePort's id; unique on this host
  IpFamily family = IpFamily::kV4;
  L4Proto proto = L4Proto::kTcp;
  std::uint32_t affinity_s = 0;
  std::vector<NftPool> pools;    // none: it refuses
  std::vector<IpPrefix> ranges;  // sorted; what gated frontends take
  bool gated = false;            // some frontend is
  auto operator<=>(const NftService&) const = default;
  std::uint64_t key() const;     // of the clients that stay with a backend
  std::uint64_t digest() const;  // of all that its chains are made from, places left out; never 0
};

struct NftTarget {
  std::string chain;
  bool gated = false;  // clients are held against the service's ranges first
  auto operator<=>(const NftTarget&) const = default;
};

// What every rule that is no service's is made from. A change makes the whole table anew.
struct NftSetup {
  // Who clients from outside become when their backend's replies would not come back through here.
  IpAddress host_v4;
  IpAddress host_v6;              // unspecified: the kernel chooses
  std::uint16_t tunnel_port = 0;  // UDP, of the overlay
  auto operator<=>(const NftSetup&) const = default;
  std::uint64_t digest() const;  // never 0
};

using NftFrontends = std::map<FrontendKey, NftTarget>;

struct NftServices {
  NftSetup setup;
  std::map<std::string, NftService> services;  // by chain
  NftFrontends inside;
  NftFrontends outside;
  std::set<IpAddress> vips;   // whose other ports are refused
  std::set<IpAddress> pods;   // of this host
  std::set<IpAddress> hosts;  // who may send through the overlay
  bool operator==(const NftServices&) const = default;
};

// What a kernel says it holds. Of services it knows the chain's digest, not what that was made
// from.
struct NftHeld {
  std::uint64_t setup = 0;                        // 0: no table, or one that somebody has changed
  std::map<std::string, std::uint64_t> services;  // chain to digest; 0: changed by somebody
  std::map<std::pair<std::uint64_t, std::uint32_t>, SocketAddress> places;  // by pool and place
  std::set<std::pair<std::uint64_t, SocketAddress>> members;  // of services with affinity
  NftFrontends inside;
  NftFrontends outside;
  std::set<IpAddress> vips;
  std::set<IpAddress> pods;
  std::set<IpAddress> hosts;
  bool operator==(const NftHeld&) const = default;
};

// One transaction. Elements that are replaced stand in `remove` and in `add`.
struct NftChange {
  template <class T>
  struct Elements {
    std::vector<T> add;
    std::vector<T> remove;
    bool empty() const { return add.empty() && remove.empty(); }
    bool operator==(const Elements&) const = default;
  };
  struct Place {
    IpFamily family = IpFamily::kV4;
    std::uint64_t pool = 0;
    std::uint32_t at = 0;
    SocketAddress backend;
    bool operator==(const Place&) const = default;
  };
  struct Member {
    std::uint64_t service = 0;
    SocketAddress backend;
    bool operator==(const Member&) const = default;
  };
  struct Frontend {
    FrontendKey key;
    NftTarget target;
    bool operator==(const Frontend&) const = default;
  };
  struct Chain {
    NftService service;
    bool exists = false;  // its rules are replaced
    bool operator==(const Chain&) const = default;
  };

  std::optional<NftSetup> rebuild;  // the table is dropped, if there is one, and made anew
  std::vector<Chain> set_chains;
  std::vector<std::string> delete_chains;
  Elements<Place> places;
  Elements<Member> members;
  Elements<Frontend> inside;
  Elements<Frontend> outside;
  Elements<IpAddress> vips;
  Elements<IpAddress> pods;
  Elements<IpAddress> hosts;

  bool empty() const;
  std::size_t operations() const;
  bool operator==(const NftChange&) const = default;
};

// "ns/name/port/TCP/v6" of "ns/name:port/TCP@v6", with a hash for a tail where that is too long.
std::string nft_chain_name(std::string_view service_id);

// One line a chain, pool, place, element: the form of golden files and of `shoal` dumps.
std::string dump(const NftHeld& held);
// The same of what should be.
NftHeld held_of(const NftServices& services);

}  // namespace shoal::model
