// SPDX-License-Identifier: Apache-2.0
#include "agent/controllers/deployment_status.h"

#include "agent/controllers/edit.h"

#include <fmt/format.h>
#include <limits>

namespace shoal::controllers {

namespace json = boost::json;

DeploymentCounts total_counts(const std::vector<OwnedSet>& sets,
                              std::optional<std::size_t> newest) {
  DeploymentCounts out;
  for (std::size_t i = 0; i < sets.size(); ++i) {
    out.replicas += sets[i].counts.active;
    out.ready += sets[i].counts.ready;
    out.available += sets[i].counts.available;
    if (newest == i)
      out.updated = sets[i].counts.active;
  }
  return out;
}

bool is_complete(const Object&, const DeploymentCounts& counts, const Rollout& rollout) {
  return counts.updated == rollout.replicas && counts.replicas == rollout.replicas &&
         counts.available == rollout.replicas;
}

namespace {

constexpr std::string_view kDoneReason = "NewReplicaSetAvailable";
constexpr std::string_view kLateReason = "ProgressDeadlineExceeded";

bool has_progressed(const json::object& body, const DeploymentCounts& counts) {
  const auto before = [&](std::string_view field) { return api::find_int(body, field, 0); };
  const std::int64_t old_before = before("status.replicas") - before("status.updatedReplicas");
  return counts.updated > before("status.updatedReplicas") ||
         counts.replicas - counts.updated < old_before ||
         counts.ready > before("status.readyReplicas") ||
         counts.available > before("status.availableReplicas");
}

// The Progressing condition, and when it has to be looked at again.
std::optional<Duration> set_progress(const StatusInput& in, const DeploymentCounts& counts,
                                     json::array& conditions) {
  const auto* before = view::condition(in.deployment, "Progressing");
  const auto reason_before = before ? api::find_string(*before, "reason") : std::string_view();
  const std::string set_name = in.newest ? in.sets[*in.newest].object->name : std::string();
  const auto set = [&](std::string_view status, std::string_view reason, std::string message,
                       bool touch = false) {
    set_condition(conditions, "Progressing", status, reason, message, in.now, touch);
  };
  if (in.paused) {
    set("Unknown", "DeploymentPaused", "Deployment is paused");
    return std::nullopt;
  }
  if (reason_before == "DeploymentPaused") {
    set("Unknown", "DeploymentResumed", "Deployment is resumed", true);
    return Duration(0);
  }
  if (!in.newest)
    return std::nullopt;
  // A complete Deployment that is merely scaled, or loses a pod, does not start progressing again.
  if (counts.replicas == counts.updated && reason_before == kDoneReason)
    return std::nullopt;
  if (is_complete(in.deployment, counts, in.rollout)) {
    set("True", kDoneReason,
        fmt::format("ReplicaSet \"{}\" has successfully progressed.", set_name), true);
    return std::nullopt;
  }
  if (!before || reason_before == kDoneReason) {
    set("True", "NewReplicaSetCreated", fmt::format("Created new replica set \"{}\"", set_name),
        true);
  } else if (has_progressed(in.deployment.body, counts)) {
    set("True", "ReplicaSetUpdated", fmt::format("ReplicaSet \"{}\" is progressing.", set_name),
        true);
  }
  const std::int64_t deadline_s =
      api::find_int(in.deployment.body, "spec.progressDeadlineSeconds", 600);
  if (deadline_s >= std::numeric_limits<std::int32_t>::max() || reason_before == kLateReason ||
      !before)
    return std::nullopt;
  const auto moved_at = view::parse_time(api::find_string(*before, "lastUpdateTime"));
  if (!moved_at)
    return std::nullopt;
  const Duration left = *moved_at + std::chrono::seconds(deadline_s) - in.now;
  if (left > Duration(0))
    return left;
  if (!has_progressed(in.deployment.body, counts) && reason_before != kDoneReason)
    set("False", kLateReason, fmt::format("ReplicaSet \"{}\" has timed out progressing.", set_name),
        true);
  return std::nullopt;
}

void set_available(const StatusInput& in, const DeploymentCounts& counts, json::array& conditions) {
  if (counts.available >= in.rollout.replicas - in.rollout.max_unavailable)
    set_condition(conditions, "Available", "True", "MinimumReplicasAvailable",
                  "Deployment has minimum availability.", in.now);
  else
    set_condition(conditions, "Available", "False", "MinimumReplicasUnavailable",
                  "Deployment does not have minimum availability.", in.now);
}

}  // namespace

StatusOutput deployment_status(const StatusInput& in) {
  const DeploymentCounts counts = total_counts(in.sets, in.newest);
  StatusOutput out;
  json::object status;
  const auto put = [&](std::string_view field, std::int64_t value) {
    if (value != 0)
      status[field] = value;
  };
  put("observedGeneration", api::find_int(in.deployment.body, "metadata.generation", 0));
  put("replicas", counts.replicas);
  put("updatedReplicas", counts.updated);
  put("readyReplicas", counts.ready);
  put("availableReplicas", counts.available);
  put("unavailableReplicas",
      std::max<std::int64_t>(std::max(in.rollout.replicas, counts.replicas) - counts.available, 0));
  put("collisionCount",
      api::find_int(in.deployment.body, "status.collisionCount", 0) + (in.name_taken ? 1 : 0));
  json::array conditions = conditions_of(in.deployment);
  set_available(in, counts, conditions);
  out.look_again = set_progress(in, counts, conditions);
  status["conditions"] = std::move(conditions);
  const auto* before = api::find_object(in.deployment.body, "status");
  if (!before || *before != status)
    out.status = std::move(status);
  return out;
}

}  // namespace shoal::controllers
