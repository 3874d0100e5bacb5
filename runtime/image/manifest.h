// SPDX-License-Identifier: Apache-2.0
// The JSON documents of an image, read strictly where Shoal depends on them and leniently
// elsewhere, as the OCI image specification 1.1 and Docker's schema 2 have them. Pure: text in,
// values or an error out. Input is untrusted.
#pragma once

#include "netplane/base/result.h"
#include "runtime/image/image.h"

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

struct PlatformName {
  std::string os, architecture, variant;
  std::string str() const;  // "linux/arm64/v8"
  bool operator==(const PlatformName&) const = default;
};

struct Descriptor {
  std::string media_type;
  std::string digest;
  std::uint64_t size = 0;
  std::map<std::string, std::string> annotations;
  std::optional<PlatformName> platform;
};

struct Manifest {
  Descriptor config;
  std::vector<Descriptor> layers;  // the base first
};

struct ConfigDocument {
  PlatformName platform;
  std::string created;
  std::vector<std::string> diff_ids;
  ImageConfig config;
};

// One image of a `docker save` archive: paths inside it.
struct DockerArchiveImage {
  std::string config;
  std::vector<std::string> repo_tags;
  std::vector<std::string> layers;
};

bool is_index_type(std::string_view media_type);
bool is_manifest_type(std::string_view media_type);

Result<std::vector<Descriptor>> parse_index(std::string_view json);
// Refuses what is no container image (another kind of artifact, encrypted or foreign layers), by
// name.
Result<Manifest> parse_manifest(std::string_view json);
Result<ConfigDocument> parse_config(std::string_view json);
// Of an index or a manifest as a registry sends it; where the document does not name its type, by
// its members.
Result<std::string> document_type(std::string_view json);
Result<> parse_layout(std::string_view json);  // oci-layout: version 1.0.x
Result<std::vector<DockerArchiveImage>> parse_docker_manifest(std::string_view json);

// A manifest for an image that came without one; the same bytes for the same image, always.
std::string render_manifest(const Manifest& manifest);

// The index.json of a layout that holds one image or one index of images.
std::string render_layout_index(const Descriptor& entry);

// The name an index entry carries: containerd's full name, or the reference annotation; "" without
// either.
std::string entry_name(const Descriptor& entry);
// An entry that describes another image (a signature, a build attestation), not an image itself.
bool is_attestation(const Descriptor& entry);
// Whether an image made for `have` runs where `want` is asked for. An empty variant fits any.
bool platform_fits(const PlatformName& have, const PlatformName& want);

// The store's own small records.
struct RefRecord {
  std::string ref;
  std::string manifest;
  std::string
      source;  // the digest users may know the image by: of the index it came in, or the manifest's
  bool pinned = true;  // loaded by hand: there may be nowhere to pull it from again
  bool operator==(const RefRecord&) const = default;
};
struct LeaseRecord {
  std::string holder;
  std::string manifest;
  std::vector<std::string> layers;  // diff ids: kept even when the manifest cannot be read any more
  std::string image_id;             // as PreparedImage has it
};
std::string render_ref(const RefRecord& record);
std::string render_lease(const LeaseRecord& record);
Result<RefRecord> parse_ref(std::string_view json);
Result<LeaseRecord> parse_lease(std::string_view json);

}  // namespace shoal::runtime
