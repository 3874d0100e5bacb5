// SPDX-License-Identifier: Apache-2.0
#include "agent/node/image_policy.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::node {

ImageStep image_step(PullPolicy policy, bool present, const PullSeen& seen, std::uint32_t attempt,
                     MonoTime now) {
  // A start that failed for another reason asks the registry once.
  if (present && (policy != PullPolicy::kAlways || seen.pulled_for == attempt))
    return ImageStep::kUse;
  if (policy == PullPolicy::kNever)
    return ImageStep::kMissing;
  return now < seen.not_before ? ImageStep::kBackOff : ImageStep::kPull;
}

void pull_failed(PullSeen& seen, std::string message, MonoTime now) {
  seen.backoff = seen.backoff.count() == 0
                     ? std::chrono::milliseconds(kPullBackoffFirst)
                     : std::min<std::chrono::milliseconds>(seen.backoff * 2, kPullBackoffMax);
  seen.not_before = now + seen.backoff;
  seen.failure = std::move(message);
  seen.backoff_told = false;
}

MonoTime next_look(PullPolicy policy, const PullSeen& seen, MonoTime now) {
  return policy == PullPolicy::kAlways ? seen.not_before
                                       : std::min(seen.not_before, now + kImageRetry);
}

Waiting never_pulled(std::string_view image) {
  return {"ErrImageNeverPull",
          fmt::format("Container image \"{}\" is not present with pull policy of Never", image)};
}

Waiting invalid_name(std::string_view image, std::string_view why) {
  return {"InvalidImageName",
          fmt::format("Failed to apply default image tag \"{}\": couldn't parse image name: {}",
                      image, why)};
}

Waiting backing_off(std::string_view image, const PullSeen& seen) {
  return {"ImagePullBackOff",
          fmt::format("Back-off pulling image \"{}\": ErrImagePull: {}", image, seen.failure)};
}

std::string already_here(std::string_view image) {
  return fmt::format("Container image \"{}\" already present on machine", image);
}

std::string pulled_text(std::string_view image, std::chrono::milliseconds took,
                        std::chrono::milliseconds waited, std::uint64_t bytes) {
  return fmt::format(
      "Successfully pulled image \"{}\" in {} ({} including waiting). Image size: {} bytes.", image,
      go_duration(took), go_duration(waited), bytes);
}

std::string_view local_hint(PullPolicy policy, bool present) {
  return policy == PullPolicy::kAlways && present
             ? "; the image is on this host under that name: with imagePullPolicy: IfNotPresent it "
               "would be used"
             : "";
}

}  // namespace shoal::node
