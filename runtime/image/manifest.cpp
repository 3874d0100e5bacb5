// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/manifest.h"

#include "netplane/base/strings.h"
#include "runtime/image/reference.h"

#include <algorithm>
#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::runtime {
namespace {

namespace json = boost::json;

constexpr std::size_t kIndexEntriesMax = 4096;
constexpr std::size_t kListMax = 4096;
constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
constexpr std::string_view kDockerList =
    "application/vnd.docker.distribution.manifest.list.v2+json";
constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
constexpr std::string_view kDockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
constexpr std::string_view kOciConfig = "application/vnd.oci.image.config.v1+json";
constexpr std::string_view kDockerConfig = "application/vnd.docker.container.image.v1+json";
constexpr std::string_view kLayerTypes[] = {
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
};

Result<json::value> parse_value(std::string_view text, std::string_view what) {
  boost::system::error_code ec;
  json::value value = json::parse(json::string_view(text.data(), text.size()), ec);
  if (ec)
    return fail(Errc::kCorrupt, fmt::format("{} is not JSON: {}", what, ec.message()));
  return value;
}

Result<json::value> parse_object(std::string_view text, std::string_view what) {
  json::value value = SHOAL_TRY(parse_value(text, what));
  if (!value.is_object())
    return fail(Errc::kCorrupt, fmt::format("{} is not a JSON object", what));
  return value;
}

std::string_view view(const json::string& s) { return {s.data(), s.size()}; }

// "" when absent or null; an error when it is something else than a string.
Result<std::string> string_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (!value || value->is_null())
    return std::string();
  if (!value->is_string())
    return fail(Errc::kCorrupt, fmt::format("\"{}\" is not a string", key));
  return std::string(view(value->get_string()));
}

Result<std::vector<std::string>> strings_of(const json::object& object, std::string_view key) {
  std::vector<std::string> out;
  const json::value* value = object.if_contains(key);
  if (!value || value->is_null())
    return out;
  if (!value->is_array() || value->get_array().size() > kListMax)
    return fail(Errc::kCorrupt, fmt::format("\"{}\" is not a list of at most {}", key, kListMax));
  for (const json::value& item : value->get_array()) {
    if (!item.is_string())
      return fail(Errc::kCorrupt, fmt::format("\"{}\" holds something else than strings", key));
    out.emplace_back(view(item.get_string()));
  }
  return out;
}

// The keys of an object such as ExposedPorts, {"80/tcp": {}}.
std::vector<std::string> keys_of(const json::object& object, std::string_view key) {
  std::vector<std::string> out;
  if (const json::value* value = object.if_contains(key); value && value->is_object())
    for (const auto& item : value->get_object())
      out.emplace_back(item.key());
  std::ranges::sort(out);
  return out;
}

std::map<std::string, std::string> map_of(const json::object& object, std::string_view key) {
  std::map<std::string, std::string> out;
  if (const json::value* value = object.if_contains(key); value && value->is_object())
    for (const auto& item : value->get_object())
      if (item.value().is_string())
        out.emplace(item.key(), view(item.value().get_string()));
  return out;
}

Result<PlatformName> platform_of(const json::object& object) {
  PlatformName platform;
  platform.os = SHOAL_TRY(string_of(object, "os"));
  platform.architecture = SHOAL_TRY(string_of(object, "architecture"));
  platform.variant = SHOAL_TRY(string_of(object, "variant"));
  return platform;
}

Result<std::string> digest_of(const json::object& object, std::string_view key) {
  std::string digest = SHOAL_TRY(string_of(object, key));
  if (!is_sha256_digest(digest))
    return fail(Errc::kUnsupported, fmt::format("\"{}\" is \"{}\": only sha256 digests are read",
                                                key, printable(digest)));
  return digest;
}

Result<Descriptor> descriptor_of(const json::value* value, std::string_view what) {
  if (!value || !value->is_object())
    return fail(Errc::kCorrupt, fmt::format("{} is missing or no object", what));
  const json::object& object = value->get_object();
  Descriptor descriptor;
  descriptor.media_type = SHOAL_TRY_WRAP(string_of(object, "mediaType"), what);
  descriptor.digest = SHOAL_TRY_WRAP(digest_of(object, "digest"), what);
  const json::value* size = object.if_contains("size");
  if (!size || !size->is_int64() || size->get_int64() < 0)
    return fail(Errc::kCorrupt, fmt::format("{}: \"size\" is missing or not a size", what));
  descriptor.size = static_cast<std::uint64_t>(size->get_int64());
  descriptor.annotations = map_of(object, "annotations");
  if (const json::value* p = object.if_contains("platform"); p && p->is_object())
    descriptor.platform = SHOAL_TRY_WRAP(platform_of(p->get_object()), what);
  return descriptor;
}

json::array to_array(std::span<const std::string> items) {
  json::array out;
  for (const std::string& item : items)
    out.emplace_back(json::string_view(item));
  return out;
}

}  // namespace

std::string PlatformName::str() const {
  return variant.empty() ? fmt::format("{}/{}", os, architecture)
                         : fmt::format("{}/{}/{}", os, architecture, variant);
}

bool is_index_type(std::string_view type) { return type == kOciIndex || type == kDockerList; }
bool is_manifest_type(std::string_view type) {
  return type == kOciManifest || type == kDockerManifest;
}

Result<std::vector<Descriptor>> parse_index(std::string_view text) {
  const json::value value = SHOAL_TRY(parse_object(text, "the image index"));
  const json::value* list = value.get_object().if_contains("manifests");
  if (!list || !list->is_array())
    return fail(Errc::kCorrupt, "the image index has no \"manifests\"");
  const json::array& entries = list->get_array();
  if (entries.size() > kIndexEntriesMax)
    return fail(Errc::kExhausted, fmt::format("the image index has {} entries, more than {}",
                                              entries.size(), kIndexEntriesMax));
  std::vector<Descriptor> out;
  for (std::size_t i = 0; i < entries.size(); ++i)
    out.push_back(SHOAL_TRY(descriptor_of(&entries[i], fmt::format("index entry {}", i))));
  return out;
}

Result<std::string> document_type(std::string_view text) {
  const json::value value = SHOAL_TRY(parse_object(text, "the manifest"));
  const json::object& object = value.get_object();
  std::string type = SHOAL_TRY(string_of(object, "mediaType"));
  if (type.empty() && object.contains("manifests"))
    type = kOciIndex;
  if (type.empty() && object.contains("config") && object.contains("layers"))
    type = kOciManifest;
  if (!is_index_type(type) && !is_manifest_type(type))
    return fail(Errc::kUnsupported,
                fmt::format("the registry has a document of type \"{}\", which is no image "
                            "that can be pulled",
                            printable(type)));
  return type;
}

Result<Manifest> parse_manifest(std::string_view text) {
  const json::value value = SHOAL_TRY(parse_object(text, "the manifest"));
  const json::object& object = value.get_object();
  Manifest manifest;
  manifest.config = SHOAL_TRY(descriptor_of(object.if_contains("config"), "the manifest's config"));
  if (manifest.config.media_type != kOciConfig && manifest.config.media_type != kDockerConfig)
    return fail(Errc::kUnsupported, fmt::format("not a container image: its config is of type {}",
                                                printable(manifest.config.media_type)));
  const json::value* layers = object.if_contains("layers");
  if (!layers || !layers->is_array() || layers->get_array().size() > kListMax)
    return fail(Errc::kCorrupt, "the manifest has no \"layers\", or too many");
  for (std::size_t i = 0; i < layers->get_array().size(); ++i) {
    Descriptor layer =
        SHOAL_TRY(descriptor_of(&layers->get_array()[i], fmt::format("layer {}", i)));
    if (std::ranges::find(kLayerTypes, layer.media_type) == std::end(kLayerTypes))
      return fail(Errc::kUnsupported,
                  fmt::format("layer {} is of type {}, which is not a layer that can be unpacked",
                              i, printable(layer.media_type)));
    manifest.layers.push_back(std::move(layer));
  }
  return manifest;
}

Result<ConfigDocument> parse_config(std::string_view text) {
  const json::value value = SHOAL_TRY(parse_object(text, "the image config"));
  const json::object& object = value.get_object();
  ConfigDocument out;
  out.platform = SHOAL_TRY(platform_of(object));
  out.created = SHOAL_TRY(string_of(object, "created"));
  const json::value* rootfs = object.if_contains("rootfs");
  if (!rootfs || !rootfs->is_object())
    return fail(Errc::kCorrupt, "the image config has no \"rootfs\"");
  out.diff_ids = SHOAL_TRY(strings_of(rootfs->get_object(), "diff_ids"));
  for (const std::string& id : out.diff_ids)
    if (!is_sha256_digest(id))
      return fail(Errc::kUnsupported,
                  fmt::format("diff id \"{}\": only sha256 is read", printable(id)));
  const json::value* config = object.if_contains("config");
  if (!config || !config->is_object())
    return out;
  const json::object& c = config->get_object();
  out.config.entrypoint = SHOAL_TRY(strings_of(c, "Entrypoint"));
  out.config.cmd = SHOAL_TRY(strings_of(c, "Cmd"));
  out.config.env = SHOAL_TRY(strings_of(c, "Env"));
  out.config.user = SHOAL_TRY(string_of(c, "User"));
  out.config.working_dir = SHOAL_TRY(string_of(c, "WorkingDir"));
  out.config.stop_signal = SHOAL_TRY(string_of(c, "StopSignal"));
  out.config.exposed_ports = keys_of(c, "ExposedPorts");
  out.config.volumes = keys_of(c, "Volumes");
  out.config.labels = map_of(c, "Labels");
  return out;
}

Result<> parse_layout(std::string_view text) {
  const json::value value = SHOAL_TRY(parse_object(text, "oci-layout"));
  const std::string version = SHOAL_TRY(string_of(value.get_object(), "imageLayoutVersion"));
  if (!version.starts_with("1.0."))
    return fail(Errc::kUnsupported,
                fmt::format("OCI layout version \"{}\": only 1.0 is read", printable(version)));
  return {};
}

Result<std::vector<DockerArchiveImage>> parse_docker_manifest(std::string_view text) {
  const json::value value = SHOAL_TRY(parse_value(text, "manifest.json"));
  if (!value.is_array() || value.get_array().size() > kIndexEntriesMax)
    return fail(Errc::kCorrupt, "manifest.json is not a list of images");
  std::vector<DockerArchiveImage> out;
  for (const json::value& item : value.get_array()) {
    if (!item.is_object())
      return fail(Errc::kCorrupt, "manifest.json holds something else than images");
    DockerArchiveImage image;
    image.config = SHOAL_TRY(string_of(item.get_object(), "Config"));
    image.repo_tags = SHOAL_TRY(strings_of(item.get_object(), "RepoTags"));
    image.layers = SHOAL_TRY(strings_of(item.get_object(), "Layers"));
    out.push_back(std::move(image));
  }
  return out;
}

std::string render_manifest(const Manifest& manifest) {
  const auto render = [](const Descriptor& d) {
    return json::object{{"mediaType", d.media_type}, {"digest", d.digest}, {"size", d.size}};
  };
  json::array layers;
  for (const Descriptor& layer : manifest.layers)
    layers.push_back(render(layer));
  return json::serialize(json::object{{"schemaVersion", 2},
                                      {"mediaType", json::string_view(kOciManifest)},
                                      {"config", render(manifest.config)},
                                      {"layers", std::move(layers)}});
}

std::string render_layout_index(const Descriptor& entry) {
  json::array manifests;
  manifests.push_back(json::object{
      {"mediaType", entry.media_type}, {"digest", entry.digest}, {"size", entry.size}});
  return json::serialize(json::object{{"schemaVersion", 2}, {"manifests", std::move(manifests)}});
}

std::string entry_name(const Descriptor& entry) {
  for (const char* key : {"io.containerd.image.name", "org.opencontainers.image.ref.name"})
    if (const auto it = entry.annotations.find(key); it != entry.annotations.end())
      return it->second;
  return {};
}

bool is_attestation(const Descriptor& entry) {
  return entry.annotations.contains("vnd.docker.reference.type");
}

bool platform_fits(const PlatformName& have, const PlatformName& want) {
  return have.os == want.os && have.architecture == want.architecture &&
         (have.variant.empty() || want.variant.empty() || have.variant == want.variant);
}

std::string render_ref(const RefRecord& record) {
  return json::serialize(json::object{{"ref", record.ref},
                                      {"manifest", record.manifest},
                                      {"source", record.source},
                                      {"pinned", record.pinned}}) +
         "\n";
}

std::string render_lease(const LeaseRecord& record) {
  return json::serialize(json::object{{"holder", record.holder},
                                      {"manifest", record.manifest},
                                      {"layers", to_array(record.layers)},
                                      {"imageID", record.image_id}}) +
         "\n";
}

Result<RefRecord> parse_ref(std::string_view text) {
  const json::value value = SHOAL_TRY(parse_object(text, "the reference"));
  const json::object& object = value.get_object();
  RefRecord record;
  record.ref = SHOAL_TRY(string_of(object, "ref"));
  record.manifest = SHOAL_TRY(digest_of(object, "manifest"));
  record.source = SHOAL_TRY(digest_of(object, "source"));
  // Earlier versions knew loaded images only.
  const json::value* pinned = object.if_contains("pinned");
  record.pinned = !pinned || !pinned->is_bool() || pinned->get_bool();
  return record;
}

Result<LeaseRecord> parse_lease(std::string_view text) {
  const json::value value = SHOAL_TRY(parse_object(text, "the lease"));
  const json::object& object = value.get_object();
  LeaseRecord record;
  record.holder = SHOAL_TRY(string_of(object, "holder"));
  record.manifest = SHOAL_TRY(digest_of(object, "manifest"));
  record.layers = SHOAL_TRY(strings_of(object, "layers"));
  if (!std::ranges::all_of(record.layers, is_sha256_digest))
    return fail(Errc::kCorrupt, "the lease names a layer that is no digest");
  if (const json::value* id = object.if_contains("imageID"); id && id->is_string())
    record.image_id = std::string(id->get_string());
  return record;
}

}  // namespace shoal::runtime
