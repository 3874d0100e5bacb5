// SPDX-License-Identifier: Apache-2.0
// Volumes of a pod, and where its containers see them.
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <set>

namespace shoal::api {
namespace json = boost::json;
namespace {

void forbidden(Causes& causes, std::string path, std::string_view why) {
  causes.add(std::move(path), "FieldValueForbidden", fmt::format("Forbidden: {}", why));
}

// ---- paths and modes
std::string check_no_backsteps(const json::value& value) {
  for (const std::string_view part : split(value.get_string(), '/'))
    if (part == "..")
      return "must not contain '..'";
  return {};
}

std::string check_descending_path(const json::value& value) {
  return value.get_string().starts_with('/') ? "must be a relative path"
                                             : check_no_backsteps(value);
}

// Of a file in a volume; names that begin with ".." are those of the volume's own parts.
std::string check_file_path(const json::value& value) {
  std::string problem = check_descending_path(value);
  if (!problem.empty())
    return problem;
  const std::string_view text = value.get_string();
  const std::string path = std::filesystem::path(text).lexically_normal().string();
  if (path.starts_with(".."))
    return "must not start with '..'";
  return text.empty() || (path != "." && !path.ends_with('/')) ? "" : "must name a file";
}

std::string check_mode(const json::value& value) {
  return value.is_int64() && value.get_int64() >= 0 && value.get_int64() <= 0777
             ? ""
             : "must be a number between 0 and 0777 (octal), both inclusive";
}

constexpr Field mode(std::string_view name) {
  return {.name = name, .type = FieldType::kInt32, .check = check_mode};
}
constexpr Field default_mode() {
  return {.name = "defaultMode", .type = FieldType::kInt32, .fallback = "420", .check = check_mode};
}

// ---- emptyDir, hostPath, persistentVolumeClaim
constexpr Field kEmptyDirFields[] = {
    {.name = "medium", .values = "Memory", .values_later = "HugePages|HugePages-2Mi|HugePages-1Gi"},
    {.name = "sizeLimit", .type = FieldType::kQuantity},
};
const Message kEmptyDir{"EmptyDirVolumeSource", kEmptyDirFields};

constexpr Field kHostPathFields[] = {
    {.name = "path", .required = true, .check = check_no_backsteps},
    {.name = "type",
     .fallback = "\"\"",
     .values = "BlockDevice|CharDevice|Directory|DirectoryOrCreate|File|FileOrCreate|Socket"},
};
const Message kHostPath{"HostPathVolumeSource", kHostPathFields};

constexpr Field kClaimFields[] = {
    {.name = "claimName", .required = true, .check = check_dns_subdomain},
    {.name = "readOnly", .type = FieldType::kBool},
};
const Message kClaim{"PersistentVolumeClaimVolumeSource", kClaimFields};

// ---- files of ConfigMaps and Secrets
constexpr Field kKeyToPathFields[] = {
    {.name = "key", .required = true},
    {.name = "path", .required = true, .check = check_file_path},
    mode("mode"),
};
const Message kKeyToPath{"KeyToPath", kKeyToPathFields};
constexpr Field kItems{.name = "items",
                       .type = FieldType::kMessage,
                       .message = &kKeyToPath,
                       .list = ListType::kAtomic};
constexpr Field kOptional{.name = "optional", .type = FieldType::kBool};
constexpr Field kConfigMapFields[] = {
    {.name = "name", .required = true}, kItems, default_mode(), kOptional};
const Message kConfigMapSource{"ConfigMapVolumeSource", kConfigMapFields};
constexpr Field kSecretFields[] = {
    {.name = "secretName", .required = true}, kItems, default_mode(), kOptional};
const Message kSecretSource{"SecretVolumeSource", kSecretFields};

// ---- the downward API
constexpr std::string_view kVolumeFields[] = {"metadata.annotations", "metadata.labels",
                                              "metadata.name", "metadata.namespace",
                                              "metadata.uid"};
std::string check_field_path(const json::value& value) {
  const std::string_view path = value.get_string();
  if (std::ranges::find(kVolumeFields, path) != std::end(kVolumeFields))
    return {};
  for (const std::string_view map : {"metadata.labels['", "metadata.annotations['"})
    if (path.starts_with(map) && path.ends_with("']") && path.size() > map.size() + 2)
      return {};
  return "a field that a volume can show: metadata.annotations, metadata.labels, metadata.name, "
         "metadata.namespace, metadata.uid, metadata.annotations['KEY'], metadata.labels['KEY']";
}
constexpr Field kFieldRefFields[] = {
    {.name = "apiVersion", .fallback = "\"v1\"", .values = "v1"},
    {.name = "fieldPath", .required = true, .check = check_field_path},
};
const Message kFieldRef{"ObjectFieldSelector", kFieldRefFields};

constexpr Field kDownwardFileFields[] = {
    {.name = "path", .required = true, .check = check_file_path},
    part("fieldRef", kFieldRef),
    part("resourceFieldRef", kResourceFieldRef),
    mode("mode"),
};
void check_downward_file(const json::object& file, std::string_view path, Causes& causes) {
  const bool field = file.contains("fieldRef"), resource = file.contains("resourceFieldRef");
  if (!field && !resource)
    causes.required(std::string(path), "one of fieldRef and resourceFieldRef is required");
  if (field && resource)
    causes.invalid(std::string(path), json::string("resource"),
                   "fieldRef and resourceFieldRef can not be specified simultaneously");
  if (resource && find_string(file, "resourceFieldRef.containerName").empty())
    causes.required(child_path(path, "resourceFieldRef.containerName"));
}
const Message kDownwardFile{
    .name = "DownwardAPIVolumeFile", .fields = kDownwardFileFields, .check = check_downward_file};
constexpr Field kDownwardItems{.name = "items",
                               .type = FieldType::kMessage,
                               .message = &kDownwardFile,
                               .list = ListType::kAtomic};
constexpr Field kDownwardFields[] = {kDownwardItems, default_mode()};
const Message kDownward{"DownwardAPIVolumeSource", kDownwardFields};

// ---- projected
constexpr Field kConfigProjectionFields[] = {{.name = "name", .required = true}, kItems, kOptional};
const Message kConfigProjection{"ConfigMapProjection", kConfigProjectionFields};
const Message kSecretProjection{"SecretProjection", kConfigProjectionFields};
constexpr Field kDownwardProjectionFields[] = {kDownwardItems};
const Message kDownwardProjection{"DownwardAPIProjection", kDownwardProjectionFields};
constexpr Field kProjectionFields[] = {
    part("configMap", kConfigProjection),
    part("secret", kSecretProjection),
    part("downwardAPI", kDownwardProjection),
    later("serviceAccountToken"),
    later("clusterTrustBundle"),
    later("podCertificate"),
};
const Message kProjection{"VolumeProjection", kProjectionFields};
constexpr Field kProjectedFields[] = {
    {.name = "sources",
     .type = FieldType::kMessage,
     .message = &kProjection,
     .list = ListType::kAtomic},
    default_mode(),
};
void check_projected(const json::object& projected, std::string_view path, Causes& causes) {
  const json::array* sources = find_array(projected, "sources");
  std::set<std::string, std::less<>> paths;
  for (std::size_t i = 0; sources && i < sources->size(); ++i) {
    const json::object* source = (*sources)[i].if_object();
    if (!source)
      continue;
    const std::string at = item_path(child_path(path, "sources"), i);
    if (source->empty())
      causes.required(at, "one of configMap, secret and downwardAPI is required");
    if (source->size() > 1)
      forbidden(causes, at, "may not specify more than 1 volume type");
    for (const auto& [type, value] : *source) {
      const json::object* body = value.if_object();
      const json::array* items = body ? find_array(*body, "items") : nullptr;
      for (std::size_t k = 0; items && k < items->size(); ++k) {
        const json::object* item = (*items)[k].if_object();
        const std::string_view file = item ? find_string(*item, "path") : std::string_view();
        if (!file.empty() && !paths.emplace(file).second)
          causes.invalid(std::string(path), json::string(file), "conflicting duplicate paths");
      }
    }
  }
}
const Message kProjected{
    .name = "ProjectedVolumeSource", .fields = kProjectedFields, .check = check_projected};

// ---- a volume
constexpr Field kVolumeTable[] = {
    {.name = "name", .required = true, .check = check_dns_label},
    part("emptyDir", kEmptyDir),
    part("hostPath", kHostPath),
    part("configMap", kConfigMapSource),
    part("secret", kSecretSource),
    part("downwardAPI", kDownward),
    part("projected", kProjected),
    part("persistentVolumeClaim", kClaim),
    later("awsElasticBlockStore"),
    later("azureDisk"),
    later("azureFile"),
    later("cephfs"),
    later("cinder"),
    later("csi"),
    later("ephemeral"),
    later("fc"),
    later("flexVolume"),
    later("flocker"),
    later("gcePersistentDisk"),
    later("gitRepo"),
    later("glusterfs"),
    later("image"),
    later("iscsi"),
    later("nfs"),
    later("photonPersistentDisk"),
    later("portworxVolume"),
    later("quobyte"),
    later("rbd"),
    later("scaleIO"),
    later("storageos"),
    later("vsphereVolume"),
};
// Kubernetes: a volume that names no source is an empty folder.
void fill_volume(json::object& volume) {
  if (volume.size() == 1 && volume.contains("name"))
    volume["emptyDir"].emplace_object();
}
void check_volume(const json::object& volume, std::string_view path, Causes& causes) {
  std::size_t sources = 0;
  for (const auto& [type, value] : volume)
    if (type != "name" && ++sources > 1)
      forbidden(causes, child_path(path, type), "may not specify more than 1 volume type");
}

// ---- where a container sees it
constexpr Field kMountFields[] = {
    {.name = "name", .required = true},
    {.name = "mountPath", .required = true},
    {.name = "subPath", .check = check_descending_path},
    {.name = "subPathExpr", .check = check_descending_path},
    {.name = "readOnly", .type = FieldType::kBool},
    {.name = "recursiveReadOnly", .values = "Disabled|Enabled|IfPossible"},
    {.name = "mountPropagation", .values = "Bidirectional|HostToContainer|None"},
};
void check_mount(const json::object& mount, std::string_view path, Causes& causes) {
  const auto given = [&](std::string_view field) { return find_string(mount, field); };
  if (!given("subPath").empty() && !given("subPathExpr").empty())
    causes.invalid(child_path(path, "subPathExpr"), json::string(given("subPathExpr")),
                   "subPathExpr and subPath are mutually exclusive");
  const std::string_view recursive = given("recursiveReadOnly");
  if (recursive.empty() || recursive == "Disabled")
    return;
  const std::string at = child_path(path, "recursiveReadOnly");
  const json::value* read_only = mount.if_contains("readOnly");
  if (!read_only || *read_only != json::value(true))
    forbidden(causes, at, "may only be specified when readOnly is true");
  if (const std::string_view propagation = given("mountPropagation");
      !propagation.empty() && propagation != "None")
    forbidden(causes, at, "may only be specified when mountPropagation is None or not specified");
}

}  // namespace

const Message kVolume{
    .name = "Volume", .fields = kVolumeTable, .fill = fill_volume, .check = check_volume};
const Message kVolumeMount{.name = "VolumeMount", .fields = kMountFields, .check = check_mount};

void check_container_mounts(const json::object& spec, const json::object& container,
                            std::string_view path, Causes& causes) {
  const json::array* mounts = find_array(container, "volumeMounts");
  const json::array* volumes = find_array(spec, "volumes");
  const json::value* privileged = find_path(container, "securityContext.privileged");
  for (std::size_t i = 0; mounts && i < mounts->size(); ++i) {
    const json::object* mount = (*mounts)[i].if_object();
    if (!mount)
      continue;
    const std::string at = item_path(child_path(path, "volumeMounts"), i);
    const std::string_view name = find_string(*mount, "name");
    const auto is = [&](const json::value& volume) {
      return volume.is_object() && find_string(volume.get_object(), "name") == name;
    };
    if (!name.empty() && (!volumes || std::ranges::none_of(*volumes, is)))
      causes.add(child_path(at, "name"), "FieldValueNotFound",
                 fmt::format("Not found: \"{}\"", name));
    if (find_string(*mount, "mountPropagation") == "Bidirectional" &&
        !(privileged && *privileged == json::value(true)))
      forbidden(causes, child_path(at, "mountPropagation"),
                "Bidirectional mount propagation is available only to privileged containers");
  }
}

}  // namespace shoal::api
