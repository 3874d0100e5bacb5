// SPDX-License-Identifier: Apache-2.0
#include "agent/node/take_up.h"

#include "agent/node/container_start.h"
#include "netplane/base/fs.h"
#include "runtime/sandbox/container_record.h"

#include <boost/json.hpp>
#include <csignal>

namespace shoal::node {
namespace {

namespace json = boost::json;
using runtime::shim::ContainerPhase;
using runtime::shim::ContainerState;

constexpr std::size_t kStatusBytesMax = 1 << 20;

std::optional<json::object> read_status(const runtime::SandboxEnv& env, const std::string& uid) {
  const auto text = read_file(env.status_file(uid), kStatusBytesMax);
  if (!text)
    return std::nullopt;
  boost::system::error_code error;
  json::value value = json::parse(*text, error);
  if (error || !value.is_object())
    return std::nullopt;
  return std::move(value.as_object());
}

// What the records say of one container; `live` are the states that a living shim told.
Result<> add_records(const std::filesystem::path& dir, const std::vector<ContainerState>& live,
                     WallTime now, std::vector<ContainerState>& out) {
  for (ContainerState& state : SHOAL_TRY(runtime::read_container_records(dir))) {
    if (std::ranges::find(live, state.ref, &ContainerState::ref) != live.end())
      continue;
    if (state.phase != ContainerPhase::kExited) {
      state.phase = ContainerPhase::kExited;
      state.exit_code = 128 + SIGKILL;
      state.signal = SIGKILL;
      state.finished_at_ns = now.time_since_epoch().count();
      SHOAL_TRY(runtime::write_container_record(dir, state));
    }
    out.push_back(std::move(state));
  }
  return {};
}

}  // namespace

Result<TakenUp> take_up(const runtime::SandboxEnv& env, runtime::ImageStore& images,
                        const PodSpec& pod, WallTime now) {
  TakenUp found;
  std::vector<ContainerState> live;
  auto sandbox = runtime::find_sandbox(env, pod.uid);
  if (sandbox) {
    for (const ContainerState& state : sandbox->state.containers)
      if (state.phase == ContainerPhase::kCreating)
        return fail(Errc::kUnavailable,
                    "container " + runtime::shim::container_id(state.ref) + " is being created");
    found.events = SHOAL_TRY(runtime::ShimEvents::subscribe(env.socket(pod.uid)));
    live = found.events->initial().containers;  // later than the sandbox's
    found.sandbox = std::move(*sandbox);
  } else {
    if (sandbox.error().code() != Errc::kNotFound)
      return fail(std::move(sandbox).error());
    SHOAL_TRY(teardown_pod(env, images, pod.uid, runtime::Sweep::kKeepVolumes));
  }
  found.status = read_status(env, pod.uid);
  for (const ContainerSpec& container : pod.containers)
    SHOAL_TRY(add_records(env.log_dir(pod.uid, container.name), live, now, found.states));
  for (ContainerState& state : live) {
    if (const auto image = images.held_by(image_holder(pod.uid, state.ref)))
      found.image_ids[state.ref.name] = *image;
    found.states.push_back(std::move(state));
  }
  std::ranges::stable_sort(found.states, {}, &ContainerState::ref);
  return found;
}

Result<> note_status(const runtime::SandboxEnv& env, const std::string& uid,
                     const json::object& status) {
  SHOAL_TRY(make_dirs(env.pod_data_dir(uid), 0711));
  return write_file_atomic(env.status_file(uid), json::serialize(status));
}

}  // namespace shoal::node
