// SPDX-License-Identifier: Apache-2.0
// Whether a container's image is asked for at a registry, and when again: kubelet's rules, as pure
// functions. Back-off is 10 s doubling to 300 s, a pod and image.
#pragma once

#include "agent/node/pod_plan.h"

#include <optional>
#include <string>
#include <string_view>

namespace shoal::node {

inline constexpr std::chrono::seconds kPullBackoffFirst{10};
inline constexpr std::chrono::seconds kPullBackoffMax{300};

struct PullSeen {
  std::optional<std::uint32_t> pulled_for;  // the attempt that a pull was made for
  std::optional<std::uint32_t> told_for;  // the attempt for which an event said where it came from
  std::chrono::milliseconds backoff{0};
  MonoTime not_before{};  // of the next pull
  std::string failure;    // of the last pull
  bool backoff_told = false;
};

enum class ImageStep : std::uint8_t { kUse, kPull, kMissing, kBackOff };

// present: the image is on this host under that name.
ImageStep image_step(PullPolicy policy, bool present, const PullSeen& seen, std::uint32_t attempt,
                     MonoTime now);
void pull_failed(PullSeen& seen, std::string message, MonoTime now);
// When to look again while a pull is backed off: an image that may be loaded by hand sooner.
MonoTime next_look(PullPolicy policy, const PullSeen& seen, MonoTime now);

Waiting never_pulled(std::string_view image);
Waiting invalid_name(std::string_view image, std::string_view why);
Waiting backing_off(std::string_view image, const PullSeen& seen);
std::string already_here(std::string_view image);
// "Successfully pulled image "x" in 1.2s (1.5s including waiting). Image size: 3 bytes."
std::string pulled_text(std::string_view image, std::chrono::milliseconds took,
                        std::chrono::milliseconds waited, std::uint64_t bytes);
// Of a pull that failed while the image is on this host under that name.
std::string_view local_hint(PullPolicy policy, bool present);

}  // namespace shoal::node
