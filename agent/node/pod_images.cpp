// SPDX-License-Identifier: Apache-2.0
// The images of a pod's containers: here, pulled, or waited for. A pull is no step: the pod's other
// containers, and its end, do not wait for it.
#include "agent/images/pull_secrets.h"
#include "agent/node/pod_worker.h"
#include "runtime/image/reference.h"

#include <fmt/ranges.h>

namespace shoal::node {

// As kubelet makes sure of it before each start. False: not now; the plan knows when to ask again.
bool PodWorker::image_ready(std::size_t index) {
  const ContainerSpec& container = spec_.containers[index];
  ContainerSeen& seen = seen_.containers[index];
  ContainerImage& image = images_[index];
  if (const auto reference = runtime::parse_reference(container.image); !reference) {
    start_failed(index, invalid_name(container.image, reference.error().message()));
    return false;
  }
  const MonoTime now = context_.clock.now();
  const bool present = context_.images.resolve(container.image).has_value();
  switch (image_step(container.pull, present, image.seen, seen.next_attempt, now)) {
  case ImageStep::kUse:
    if (std::exchange(image.seen.told_for, seen.next_attempt) != seen.next_attempt)
      event("Normal", "Pulled", already_here(container.image));
    return true;
  case ImageStep::kMissing:
    start_failed(index, never_pulled(container.image));
    return false;
  case ImageStep::kPull:
    begin_pull(index);
    return false;
  case ImageStep::kBackOff:
    break;
  }
  seen.waiting = backing_off(container.image, image.seen);
  seen.not_before = next_look(container.pull, image.seen, now);
  if (!std::exchange(image.seen.backoff_told, true)) {
    event("Normal", "BackOff", fmt::format("Back-off pulling image \"{}\"", container.image));
    event("Warning", "Failed", "Error: ImagePullBackOff");
  }
  return false;
}

// What the Secrets hold that the pod names; one that is not there is told, and may not be needed.
std::vector<std::string> PodWorker::pull_secrets() {
  std::vector<std::string> configs;
  std::vector<std::string> missing;
  for (const std::string& name : spec_.pull_secrets) {
    const auto secret = context_.view.get("secrets", spec_.ns, name);
    if (!secret)
      missing.push_back(name);
    else if (auto config = images::docker_config(*secret))
      configs.push_back(std::move(*config));
  }
  if (!missing.empty())
    event("Warning", "FailedToRetrieveImagePullSecret",
          fmt::format("Unable to retrieve some image pull secrets ({}); attempting to pull the "
                      "image may not succeed.",
                      fmt::join(missing, ", ")));
  return configs;
}

void PodWorker::begin_pull(std::size_t index) {
  const std::string& name = spec_.containers[index].image;
  if (!seen_.containers[index].waiting)
    seen_.containers[index].waiting = default_waiting(spec_);
  seen_.containers[index].pulling = true;
  images_[index].began = context_.clock.now();
  event("Normal", "Pulling", fmt::format("Pulling image \"{}\"", name));
  images_[index].ticket = context_.puller.pull(
      {name, pull_secrets()}, [weak = weak_from_this(), index](Result<images::PullResult> result) {
        if (auto self = weak.lock(); self && !self->abandoned_)
          self->pull_ended(index, std::move(result));
      });
}

void PodWorker::pull_ended(std::size_t index, Result<images::PullResult> result) {
  const ContainerSpec& container = spec_.containers[index];
  ContainerSeen& seen = seen_.containers[index];
  ContainerImage& image = images_[index];
  image.ticket.reset();
  seen.pulling = false;
  const MonoTime now = context_.clock.now();
  if (result) {
    const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(now - image.began);
    event("Normal", "Pulled",
          pulled_text(container.image, result->took, waited, result->pulled.info.size_bytes));
    image.seen = {};
    image.seen.pulled_for = image.seen.told_for = seen.next_attempt;
  } else {
    const bool present = context_.images.resolve(container.image).has_value();
    std::string why = result.error().message();
    why += local_hint(container.pull, present);
    event("Warning", "Failed",
          fmt::format("Failed to pull image \"{}\": {}", container.image, why));
    event("Warning", "Failed", "Error: ErrImagePull");
    pull_failed(image.seen, why, now);
    seen.waiting = Waiting{"ErrImagePull", std::move(why)};
    seen.not_before = now + kImageRetry;  // then it says that it backs off
  }
  report();
  poke();
}

// Nobody needs them: of a pod that goes, or that is over.
void PodWorker::drop_pulls() {
  for (std::size_t i = 0; i < images_.size(); i++) {
    images_[i].ticket.reset();
    seen_.containers[i].pulling = false;
  }
}

}  // namespace shoal::node
