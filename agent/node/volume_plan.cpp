// SPDX-License-Identifier: Apache-2.0
#include "agent/node/volume_plan.h"

#include "agent/api/claims.h"
#include "agent/api/selector.h"
#include "agent/node/json_fields.h"
#include "agent/node/pod_resources.h"
#include "agent/view/facts.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <fmt/format.h>

namespace shoal::node {
namespace {

namespace json = boost::json;
using Problem = std::string;  // empty: none

constexpr std::string_view kClaimsResource = "persistentvolumeclaims";

void put(runtime::VolumeFiles& files, std::string_view path, std::string content,
         std::uint32_t mode) {
  files.insert_or_assign(std::filesystem::path(path).lexically_normal().string(),
                         runtime::VolumeFile{std::move(content), mode});
}

// As Go's %q writes a string.
std::string quoted(std::string_view text) {
  constexpr std::string_view kNamed = "\a\b\f\n\r\t\v\\\"";
  constexpr std::string_view kLetters = "abfnrtv\\\"";
  std::string out = "\"";
  while (!text.empty()) {
    const std::size_t length = utf8_char(text);
    const auto first = static_cast<unsigned char>(text.front());
    if (const std::size_t at = kNamed.find(text.front()); at != std::string_view::npos)
      out += {'\\', kLetters[at]};
    else if (length == 0 || first < 0x20 || first == 0x7f)
      out += fmt::format("\\x{:02x}", first);
    else
      out += text.substr(0, length);
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out + '"';
}

// key="value", a line each, by key.
std::string map_text(const json::object* map) {
  std::map<std::string_view, std::string_view> sorted;
  if (map)
    for (const auto& [key, value] : *map)
      if (value.is_string())
        sorted.emplace(key, value.get_string());
  std::string out;
  for (const auto& [key, value] : sorted)
    out += fmt::format("{}{}={}", out.empty() ? "" : "\n", key, quoted(value));
  return out;
}

std::string field_text(const PodSpec& pod, const EnvFacts& facts, const std::string& field) {
  if (field != "metadata.labels" && field != "metadata.annotations")
    return field_value(pod, facts, field);
  return map_text(facts.pod ? api::find_object(facts.pod->body, field) : nullptr);
}

void add_downward(const PodSpec& pod, const EnvFacts& facts, const FileSource& source,
                  VolumeWork& work) {
  for (const DownwardFile& file : source.downward) {
    EnvSource from;
    from.kind = EnvSource::Kind::kResource;
    from.key = file.resource;
    from.container = file.container;
    from.divisor = file.divisor;
    put(work.files, file.path,
        file.resource.empty() ? field_text(pod, facts, file.field)
                              : resource_value(pod, 0, facts, from),
        file.mode.value_or(work.volume.default_mode));
  }
}

// Every key with its value, decoded.
std::map<std::string, std::string> entries_of(const store::Object& object, bool secret) {
  std::map<std::string, std::string> out;
  for (const std::string_view member : {"data", "binaryData"}) {
    const json::object* data = object_at(object.body, member);
    if (!data)
      continue;
    const bool encoded = secret || member == "binaryData";
    for (const auto& [key, value] : *data)
      if (value.is_string())
        out.insert_or_assign(std::string(key), encoded
                                                   ? parse_base64(value.get_string()).value_or("")
                                                   : std::string(value.get_string()));
  }
  return out;
}

Problem add_keys(const EnvFacts& facts, const FileSource& source, VolumeWork& work) {
  const bool secret = source.kind == FileSource::Kind::kSecret;
  const store::ObjectPtr object = facts.find(secret ? "secrets" : "configmaps", source.name);
  if (!object)
    return source.optional
               ? ""
               : fmt::format("{} \"{}\" not found", secret ? "secret" : "configmap", source.name);
  std::map<std::string, std::string> entries = entries_of(*object, secret);
  if (source.items.empty())
    for (auto& [key, value] : entries)
      put(work.files, key, std::move(value), work.volume.default_mode);
  for (const KeyFile& item : source.items) {
    const auto entry = entries.find(item.key);
    if (entry != entries.end())
      put(work.files, item.path, entry->second, item.mode.value_or(work.volume.default_mode));
    else if (!source.optional)
      return fmt::format("{} key: {}",
                         secret ? "references non-existent secret"
                                : "configmap references non-existent config",
                         item.key);
  }
  return {};
}

void plan_files(const PodSpec& pod, const EnvFacts& facts, VolumeWork& work) {
  for (const FileSource& source : work.volume.sources) {
    if (source.kind == FileSource::Kind::kDownward) {
      add_downward(pod, facts, source, work);
    } else if (const Problem problem = add_keys(facts, source, work); !problem.empty()) {
      work.problem = setup_failed(work.volume.name, problem);
      return;
    }
  }
}

// Kubernetes: the smallest of its own limit, that of the pod, and what the host has for pods.
void plan_memory(const PodSpec& pod, const EnvFacts& facts, VolumeWork& work) {
  std::int64_t most = facts.allocatable.memory_bytes;
  if (const auto of_pod = pod_limits(pod, 0).memory_bytes)
    most = std::min(most, *of_pod);
  if (work.volume.bytes_max)
    most = std::min(most, *work.volume.bytes_max);
  if (most > 0 && most < INT64_MAX)
    work.memory_bytes = most;
}

void plan_claim(const PodSpec& pod, const EnvFacts& facts, VolumeWork& work) {
  const std::string& name = work.volume.claim;
  const auto refuse = [&](std::string_view why) {
    work.problem = fmt::format("Unable to attach or mount volumes: unmounted volumes=[{0}], "
                               "unattached volumes=[{0}]: error processing PVC {1}/{2}: {3}",
                               work.volume.name, pod.ns, name, why);
  };
  const store::ObjectPtr claim = facts.find(kClaimsResource, name);
  if (!claim)
    return refuse(fmt::format("persistentvolumeclaims \"{}\" not found", name));
  if (view::is_terminating(*claim))
    return refuse("PVC is being deleted");
  const std::string_view node = api::selected_node(claim->body);
  if (node.empty())
    return refuse("PVC is not bound");
  if (node != facts.node_name) {
    work.problem = fmt::format("MountVolume.NodeAffinity check failed for volume \"{}\" : the "
                               "claim's folder is on {}, and never moves",
                               api::volume_name_of(claim->body), node);
    return;
  }
  work.claim = {claim->ns, claim->name, claim->uid, claim->revision};
  work.exclusive = api::has_access_mode(claim->body, "ReadWriteOncePod");
}

}  // namespace

std::string setup_failed(std::string_view volume, std::string_view why) {
  return fmt::format("MountVolume.SetUp failed for volume \"{}\" : {}", volume, why);
}

std::vector<VolumeWork> plan_volumes(const PodSpec& pod, const EnvFacts& facts, bool files_only) {
  std::vector<VolumeWork> out;
  for (const VolumeSpec& volume : pod.volumes) {
    if (files_only && volume.kind != VolumeSpec::Kind::kFiles)
      continue;
    VolumeWork& work = out.emplace_back();
    work.volume = volume;
    if (volume.kind == VolumeSpec::Kind::kFiles)
      plan_files(pod, facts, work);
    else if (volume.kind == VolumeSpec::Kind::kClaim)
      plan_claim(pod, facts, work);
    else if (volume.memory)
      plan_memory(pod, facts, work);
  }
  return out;
}

}  // namespace shoal::node
