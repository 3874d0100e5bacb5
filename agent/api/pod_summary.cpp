// SPDX-License-Identifier: Apache-2.0
#include "agent/api/pod_summary.h"

#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"

#include <fmt/format.h>
#include <set>

namespace shoal::api {
namespace json = boost::json;
namespace {

bool flag_in(const json::object& from, std::string_view name) {
  const json::value* value = from.if_contains(name);
  return value && value->is_bool() && value->get_bool();
}

std::string end_of(const json::object& ended) {
  if (const std::string_view reason = find_string(ended, "reason"); !reason.empty())
    return std::string(reason);
  if (const std::int64_t signal = find_int(ended, "signal", 0); signal != 0)
    return fmt::format("Signal:{}", signal);
  return fmt::format("ExitCode:{}", find_int(ended, "exitCode", 0));
}

std::string container_reason(const json::object& container) {
  if (const std::string_view reason = find_string(container, "state.waiting.reason");
      !reason.empty())
    return std::string(reason);
  const json::object* ended = find_object(container, "state.terminated");
  return ended ? end_of(*ended) : std::string();
}

struct Restarts {
  std::int64_t count = 0;
  std::string last;
  void add(const json::object& container) {
    count += find_int(container, "restartCount", 0);
    const std::string_view ended = find_string(container, "lastState.terminated.finishedAt");
    if (ended > last)
      last = ended;
  }
};

class Summary {
public:
  explicit Summary(const json::object& pod) : pod_(pod) {
    if (const json::array* containers = find_array(pod, "spec.containers"))
      out_.containers = containers->size();
    const json::array* init = find_array(pod, "spec.initContainers");
    init_ = init ? init->size() : 0;
    for (std::size_t i = 0; i < init_; ++i)
      if (const json::object* container = (*init)[i].if_object();
          container && find_string(*container, "restartPolicy") == "Always") {
        sidecars_.insert(find_string(*container, "name"));
        out_.containers++;
      }
    out_.status = find_string(pod, "status.phase");
    if (const std::string_view reason = find_string(pod, "status.reason"); !reason.empty())
      out_.status = reason;
  }

  PodSummary take() {
    const bool initializing = take_init();
    if (!initializing || condition_true(pod_, "Initialized"))
      take_main();
    else
      keep(all_init_);
    const std::string_view phase = find_string(pod_, "status.phase");
    if (!find_string(pod_, "metadata.deletionTimestamp").empty()) {
      if (find_string(pod_, "status.reason") == "NodeLost")
        out_.status = "Unknown";
      else if (phase != "Succeeded" && phase != "Failed")
        out_.status = "Terminating";
    }
    if (out_.status.empty())
      out_.status = "Pending";
    return std::move(out_);
  }

private:
  void keep(const Restarts& restarts) {
    out_.restarts = restarts.count;
    out_.last_restart = restarts.last;
  }

  // True: one of them is not done yet, and the status says so.
  bool take_init() {
    const json::array* statuses = find_array(pod_, "status.initContainerStatuses");
    for (std::size_t i = 0; statuses && i < statuses->size(); ++i) {
      const json::object* container = (*statuses)[i].if_object();
      if (!container)
        continue;
      all_init_.add(*container);
      const bool sidecar = sidecars_.contains(find_string(*container, "name"));
      if (sidecar)
        sidecar_restarts_.add(*container);
      const json::object* ended = find_object(*container, "state.terminated");
      if (ended && find_int(*ended, "exitCode", 0) == 0)
        continue;
      if (sidecar && flag_in(*container, "started")) {
        out_.ready += flag_in(*container, "ready") ? 1 : 0;
        continue;
      }
      const std::string_view waiting = find_string(*container, "state.waiting.reason");
      if (ended)
        out_.status = "Init:" + end_of(*ended);
      else if (!waiting.empty() && waiting != "PodInitializing")
        out_.status = fmt::format("Init:{}", waiting);
      else
        out_.status = fmt::format("Init:{}/{}", i, init_);
      return true;
    }
    return false;
  }

  void take_main() {
    Restarts restarts = sidecar_restarts_;
    bool running = false;
    const json::array* statuses = find_array(pod_, "status.containerStatuses");
    // The first one's reason is the one that is shown.
    for (std::size_t i = statuses ? statuses->size() : 0; i-- > 0;) {
      const json::object* container = (*statuses)[i].if_object();
      if (!container)
        continue;
      restarts.add(*container);
      if (std::string reason = container_reason(*container); !reason.empty()) {
        out_.status = std::move(reason);
      } else if (flag_in(*container, "ready") && find_object(*container, "state.running")) {
        out_.ready++;
        running = true;
      }
    }
    if (out_.status == "Completed" && running)
      out_.status = condition_true(pod_, "Ready") ? "Running" : "NotReady";
    keep(restarts);
  }

  const json::object& pod_;
  PodSummary out_;
  std::size_t init_ = 0;
  std::set<std::string_view> sidecars_;
  Restarts all_init_, sidecar_restarts_;
};

}  // namespace

bool condition_true(const json::object& body, std::string_view type) {
  if (const json::array* conditions = find_array(body, "status.conditions"))
    for (const json::value& c : *conditions)
      if (c.is_object() && find_string(c.get_object(), "type") == type)
        return find_string(c.get_object(), "status") == "True";
  return false;
}

PodSummary summarize_pod(const store::Object& pod) { return Summary(pod.body).take(); }

}  // namespace shoal::api
