// SPDX-License-Identifier: Apache-2.0
#include "agent/controllers/pod_counts.h"

namespace shoal::controllers {

std::vector<ObjectPtr> pods_of(const View& view, const Object& replica_set) {
  std::vector<ObjectPtr> pods;
  for (ObjectPtr& object : view.owned_by(replica_set.uid)) {
    if (object->resource != view::kPods)
      continue;
    const auto controller = view::controller_of(*object);
    if (controller && controller->uid == replica_set.uid)
      pods.push_back(std::move(object));
  }
  return pods;
}

PodCounts count_pods(const World& world, const Object& replica_set,
                     const std::vector<ObjectPtr>& pods) {
  const auto template_labels = api::LabelSelector::from_labels(
      api::find_object(replica_set.body, "spec.template.metadata.labels"));
  const std::int64_t min_ready_s = api::find_int(replica_set.body, "spec.minReadySeconds", 0);
  PodCounts out;
  for (const ObjectPtr& pod : pods) {
    if (view::is_finished(*pod))
      continue;
    ++out.existing;
    if (!view::is_active(*pod))
      continue;
    ++out.active;
    out.labeled += template_labels.matches(view::labels(*pod)) ? 1 : 0;
    out.ready += view::is_ready(*pod, world.members) ? 1 : 0;
    out.available +=
        view::is_available(*pod, world.members, min_ready_s, world.now, &out.next_available) ? 1
                                                                                             : 0;
  }
  return out;
}

}  // namespace shoal::controllers
