// SPDX-License-Identifier: Apache-2.0
// Handover: all hooks of a host go from former programs to new ones at the same moment.
//
// Hooks can only be given a program one by one. When the new programs use other maps than the
// former ones, what one hook writes down (a flow's reply, say) another one would look for
// elsewhere. So first each hook gets a stand-in (bpf/handover.bpf.c), which does what the former
// program does; then one store in a map turns them all to the new programs; then each hook gets its
// new program itself.
//
// Its state is pinned in the folder of the new set of maps: an agent that ends in between leaves
// hooks that work, the former way or the new one, and the next one goes on from there.
#pragma once

#include "netplane/base/result.h"
#include "netplane/kernel/bpf/links.h"
#include "netplane/kernel/bpf/probes.h"

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace shoal::kernel {

using StepObserver = std::function<void(std::string_view step)>;

class Handover {
public:
  // Takes up what is pinned in the folder, which has the new maps, or begins anew.
  static Result<std::unique_ptr<Handover>> open(const std::filesystem::path& folder,
                                                const Features& features);
  ~Handover();
  Handover(const Handover&) = delete;
  Handover& operator=(const Handover&) = delete;

  // Whether a set of maps was made from an earlier one that is not yet swept.
  static bool is_pinned(const std::filesystem::path& folder);
  // Nobody uses the maps in the folder yet: their handover has not come to its turn.
  static Result<bool> is_waiting(const std::filesystem::path& folder);
  // One of its own pins, and no map of the set.
  static bool is_pin(std::string_view name);
  static Result<> remove_pins(const std::filesystem::path& folder);

  bool turned() const;
  // programs: the new ones by name. Every hook with a program of one of these names gets the
  // stand-in of that name.
  Result<> stand_in(const Links& links, const std::map<std::string, int>& programs,
                    const StepObserver& step);
  // Returns when no former program is at work any more, but for replies to what they have seen.
  Result<> turn();

private:
  class Impl;
  explicit Handover(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Every hook with a program of one of these names gets that program.
Result<> give_to_hooks(const Links& links, const std::map<std::string, int>& programs,
                       const StepObserver& step);

}  // namespace shoal::kernel
