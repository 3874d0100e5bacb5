// SPDX-License-Identifier: Apache-2.0
// The volumes of a pod and where its containers see them, as values. Read from objects that the API
// has validated. Pure.
#pragma once

#include "netplane/base/result.h"
#include "runtime/spec/container_config.h"

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace shoal::node {

// A key of a ConfigMap or a Secret as a file.
struct KeyFile {
  std::string key;
  std::string path;
  std::optional<std::uint32_t> mode;
  bool operator==(const KeyFile&) const = default;
};

// Of the downward API: a field of the pod, or a resource of a container.
struct DownwardFile {
  std::string path;
  std::string field;
  std::string resource;
  std::string container;
  std::string divisor;
  std::optional<std::uint32_t> mode;
  bool operator==(const DownwardFile&) const = default;
};

struct FileSource {
  enum class Kind : std::uint8_t { kConfigMap, kSecret, kDownward };
  Kind kind = Kind::kConfigMap;
  std::string name;            // of the object
  std::vector<KeyFile> items;  // none: every key
  bool optional = false;
  std::vector<DownwardFile> downward;
  bool operator==(const FileSource&) const = default;
};

struct VolumeSpec {
  enum class Kind : std::uint8_t { kEmptyDir, kHostPath, kClaim, kFiles };
  std::string name;
  Kind kind = Kind::kEmptyDir;
  bool memory = false;  // kEmptyDir
  std::optional<std::int64_t> bytes_max;
  std::string bytes_max_text;  // as its author wrote it
  std::string host_path;       // kHostPath
  std::string host_type;
  std::string claim;  // kClaim
  bool read_only = false;
  std::vector<FileSource> sources;  // kFiles: configMap, secret, downwardAPI, projected
  std::uint32_t default_mode = 0644;
  bool operator==(const VolumeSpec&) const = default;

  // On disk, where nothing but measuring bounds it.
  bool disk_limited() const { return kind == Kind::kEmptyDir && !memory && bytes_max; }
  // Its files hold what must not be on a disk.
  bool secret() const;
  // Its files come from this object; of "pods": from the pod itself.
  bool shows(std::string_view resource, std::string_view object) const;
};

struct VolumeMount {
  std::string volume;
  std::string path;  // absolute, in the container
  std::string sub_path;
  bool sub_path_expanded = false;  // it names variables
  bool read_only = false;
  bool recursive_read_only = false;
  runtime::Propagation propagation = runtime::Propagation::kNone;
  bool operator==(const VolumeMount&) const = default;
};

Result<std::vector<VolumeSpec>> read_volumes(const boost::json::object& pod_spec);
std::vector<VolumeMount> read_mounts(const boost::json::object& container);

}  // namespace shoal::node
