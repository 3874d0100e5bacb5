// SPDX-License-Identifier: Apache-2.0
// MapSets: the sets of pinned maps below one folder of a bpffs, and what of an earlier set a new
// one can take over.
//
//   <root>/v<n>/<map>   the n-th set
//   <root>/next/<map>   a set that is being made
//
// A set holds the maps of one build, and never changes its shape. The highest one is the current
// one: all that the agent writes is in it. Lower ones are there while former programs still write
// what programs write (flows, counters), until that has been carried over. A map that two sets
// agree about is pinned in both. The order in which things are done is loader.h's affair.
#pragma once

#include "netplane/kernel/bpf/map_copy.h"
#include "netplane/kernel/bpf/map_shape.h"

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace shoal::kernel {

class MapSets {
public:
  explicit MapSets(std::filesystem::path root) : root_(std::move(root)) {}

  Result<std::vector<unsigned>> numbers() const;  // ascending
  std::filesystem::path folder(unsigned number) const;
  // Empty, whatever was there.
  Result<std::filesystem::path> stage() const;
  // What has been staged is the current set from now on; returns its number.
  Result<unsigned> commit() const;
  Result<> remove(unsigned number) const;

private:
  std::filesystem::path root_;
};

struct WantedMap {
  MapShape shape;
  std::string config_key;  // that sizes it; may be empty
};
using WantedMaps = std::map<std::string, WantedMap>;

// What is to become of a set for a build that wants other maps.
struct SetPlan {
  bool keep = false;  // it is what is wanted
  bool anew = false;  // nothing can be taken over
  std::vector<std::string> reused;
  std::map<std::string, MapCopy> converted;
  std::vector<std::string> losses;  // sentences
};

Result<SetPlan> plan_set(const std::filesystem::path& set, const WantedMaps& wanted,
                         ShapeReader& shapes);

// The SHOAL_ABI_VERSION of the build that a set was made by, from its shoal_config; 0: nobody has
// used the set yet.
Result<std::uint32_t> version_of(const std::filesystem::path& set, ShapeReader& shapes);

// From a map of a set of that version.
Result<MapCopy> copy_from(std::uint32_t version, std::string_view map, MapShape shape,
                          const MapShape& to);

}  // namespace shoal::kernel
