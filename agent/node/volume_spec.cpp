// SPDX-License-Identifier: Apache-2.0
#include "agent/node/volume_spec.h"

#include "agent/api/quantity.h"
#include "agent/node/json_fields.h"

#include <algorithm>
#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::node {
namespace {

namespace json = boost::json;
using Kind = VolumeSpec::Kind;

std::optional<std::uint32_t> mode_at(const json::object& from, std::string_view key) {
  const auto mode = number_at(from, key);
  return mode ? std::optional(static_cast<std::uint32_t>(*mode)) : std::nullopt;
}

std::string quantity_at(const json::object& from, std::string_view key) {
  const json::value* value = from.if_contains(key);
  if (!value)
    return {};
  return value->is_string() ? std::string(value->get_string()) : json::serialize(*value);
}

template <class Read>
void each(const json::object& from, std::string_view key, Read read) {
  if (const json::array* list = array_at(from, key))
    for (const json::value& value : *list)
      if (const json::object* entry = value.if_object())
        read(*entry);
}

FileSource read_keys(FileSource::Kind kind, const json::object& source, std::string name) {
  FileSource out;
  out.kind = kind;
  out.name = std::move(name);
  out.optional = flag_at(source, "optional");
  each(source, "items", [&](const json::object& item) {
    out.items.push_back({text_at(item, "key"), text_at(item, "path"), mode_at(item, "mode")});
  });
  return out;
}

FileSource read_downward(const json::object& source) {
  FileSource out;
  out.kind = FileSource::Kind::kDownward;
  each(source, "items", [&](const json::object& item) {
    DownwardFile file;
    file.path = text_at(item, "path");
    file.mode = mode_at(item, "mode");
    if (const json::object* field = object_at(item, "fieldRef"))
      file.field = text_at(*field, "fieldPath");
    if (const json::object* resource = object_at(item, "resourceFieldRef")) {
      file.resource = text_at(*resource, "resource");
      file.container = text_at(*resource, "containerName");
      file.divisor = quantity_at(*resource, "divisor");
    }
    out.downward.push_back(std::move(file));
  });
  return out;
}

// One source of a projected volume; secrets are named differently there.
std::optional<FileSource> read_source(const json::object& from, std::string_view secret_name) {
  if (const json::object* map = object_at(from, "configMap"))
    return read_keys(FileSource::Kind::kConfigMap, *map, text_at(*map, "name"));
  if (const json::object* secret = object_at(from, "secret"))
    return read_keys(FileSource::Kind::kSecret, *secret, text_at(*secret, secret_name));
  if (const json::object* downward = object_at(from, "downwardAPI"))
    return read_downward(*downward);
  return std::nullopt;
}

Result<> read_empty_dir(const json::object& source, VolumeSpec& out) {
  out.memory = text_at(source, "medium") == "Memory";
  out.bytes_max_text = quantity_at(source, "sizeLimit");
  if (out.bytes_max_text.empty())
    return {};
  out.bytes_max = SHOAL_TRY_WRAP(api::parse_quantity(out.bytes_max_text), "emptyDir.sizeLimit");
  if (*out.bytes_max == 0)  // Kubernetes: no limit
    out.bytes_max.reset();
  return {};
}

Result<VolumeSpec> read_volume(const json::object& volume) {
  VolumeSpec out;
  out.name = text_at(volume, "name");
  if (const json::object* empty = object_at(volume, "emptyDir")) {
    SHOAL_TRY(read_empty_dir(*empty, out));
  } else if (const json::object* host = object_at(volume, "hostPath")) {
    out.kind = Kind::kHostPath;
    out.host_path = text_at(*host, "path");
    if (!out.host_path.starts_with('/'))
      out.host_path.insert(0, "/");
    out.host_type = text_at(*host, "type");
  } else if (const json::object* claim = object_at(volume, "persistentVolumeClaim")) {
    out.kind = Kind::kClaim;
    out.claim = text_at(*claim, "claimName");
    out.read_only = flag_at(*claim, "readOnly");
  } else {
    out.kind = Kind::kFiles;
    const json::object* projected = object_at(volume, "projected");
    if (projected)
      each(*projected, "sources", [&](const json::object& entry) {
        if (auto source = read_source(entry, "name"))
          out.sources.push_back(std::move(*source));
      });
    else if (auto source = read_source(volume, "secretName"))
      out.sources.push_back(std::move(*source));
    for (const std::string_view type : {"configMap", "secret", "downwardAPI", "projected"})
      if (const json::object* source = object_at(volume, type))
        out.default_mode = mode_at(*source, "defaultMode").value_or(out.default_mode);
    if (out.sources.empty() && !projected)
      return fail(Errc::kInvalid, "it has no source that is known here");
  }
  return out;
}

runtime::Propagation read_propagation(const std::string& text) {
  if (text == "Bidirectional")
    return runtime::Propagation::kBoth;
  return text == "HostToContainer" ? runtime::Propagation::kFromHost : runtime::Propagation::kNone;
}

}  // namespace

bool VolumeSpec::secret() const {
  return std::ranges::any_of(
      sources, [](const FileSource& s) { return s.kind == FileSource::Kind::kSecret; });
}

bool VolumeSpec::shows(std::string_view resource, std::string_view object) const {
  return std::ranges::any_of(sources, [&](const FileSource& source) {
    switch (source.kind) {
    case FileSource::Kind::kConfigMap:
      return resource == "configmaps" && source.name == object;
    case FileSource::Kind::kSecret:
      return resource == "secrets" && source.name == object;
    case FileSource::Kind::kDownward:
      return resource == "pods";
    }
    return false;
  });
}

Result<std::vector<VolumeSpec>> read_volumes(const json::object& pod_spec) {
  std::vector<VolumeSpec> out;
  const json::array* list = array_at(pod_spec, "volumes");
  for (std::size_t i = 0; list && i < list->size(); ++i)
    if (const json::object* volume = (*list)[i].if_object())
      out.push_back(
          SHOAL_TRY_WRAP(read_volume(*volume), fmt::format("volume {}", text_at(*volume, "name"))));
  return out;
}

std::vector<VolumeMount> read_mounts(const json::object& container) {
  std::vector<VolumeMount> out;
  each(container, "volumeMounts", [&](const json::object& mount) {
    VolumeMount one;
    one.volume = text_at(mount, "name");
    one.path = text_at(mount, "mountPath");
    if (!one.path.starts_with('/'))
      one.path.insert(0, "/");
    one.sub_path = text_at(mount, "subPath");
    if (const std::string expression = text_at(mount, "subPathExpr"); !expression.empty()) {
      one.sub_path = expression;
      one.sub_path_expanded = true;
    }
    one.read_only = flag_at(mount, "readOnly");
    const std::string recursive = text_at(mount, "recursiveReadOnly");
    one.recursive_read_only = recursive == "Enabled" || recursive == "IfPossible";
    one.propagation = read_propagation(text_at(mount, "mountPropagation"));
    out.push_back(std::move(one));
  });
  return out;
}

}  // namespace shoal::node
