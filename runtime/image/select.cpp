// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/select.h"

#include "netplane/base/strings.h"
#include "runtime/image/reference.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>
#include <sys/utsname.h>

namespace shoal::runtime {
namespace {

constexpr int kIndexDepthMax = 3;

PlatformName wanted(const StoreOptions& options) {
  return {options.platform.os, options.platform.architecture, options.platform.variant};
}

struct Picked {
  Descriptor manifest;
  std::string source;
};

// Depth first; the first manifest that fits. `seen` collects what else there was, for the error.
Result<std::optional<Picked>> pick(const std::vector<Descriptor>& entries,
                                   const std::string& source, const Staging& staging,
                                   const StoreOptions& options, int depth,
                                   std::set<std::string>& seen) {
  for (const Descriptor& entry : entries) {
    if (is_attestation(entry))
      continue;
    if (is_manifest_type(entry.media_type)) {
      if (!entry.platform || entry.platform->os.empty() ||
          platform_fits(*entry.platform, wanted(options)))
        return Picked{entry, source.empty() ? entry.digest : source};
      seen.insert(entry.platform->str());
      continue;
    }
    if (!is_index_type(entry.media_type))
      return fail(Errc::kUnsupported, fmt::format("an index entry of type {}, which is no image",
                                                  printable(entry.media_type)));
    if (depth >= kIndexDepthMax)
      return fail(Errc::kInvalid, "image indexes nest too deep");
    const std::string text = SHOAL_TRY(staging.read(entry, options.limits.json_bytes_max));
    const std::vector<Descriptor> nested = SHOAL_TRY(parse_index(text));
    auto found = SHOAL_TRY(
        pick(nested, source.empty() ? entry.digest : source, staging, options, depth + 1, seen));
    if (found)
      return found;
  }
  return std::optional<Picked>();
}

Result<std::vector<SelectedImage>> select_oci(const ArchiveContent& content, const Staging& staging,
                                              const StoreOptions& options) {
  if (content.layout)
    SHOAL_TRY(parse_layout(*content.layout));
  // Entries of one name are one image for several platforms. Unnamed ones are grouped too.
  std::vector<std::pair<std::string, std::vector<Descriptor>>> groups;
  for (Descriptor& entry : SHOAL_TRY(parse_index(*content.index))) {
    if (is_attestation(entry))
      continue;
    const std::string name = entry_name(entry);
    auto it = std::ranges::find(groups, name, [](const auto& group) { return group.first; });
    if (it == groups.end())
      it = groups.insert(groups.end(), {name, {}});
    it->second.push_back(std::move(entry));
  }
  std::vector<SelectedImage> out;
  for (const auto& [name, entries] : groups) {
    std::set<std::string> seen;
    const auto picked = SHOAL_TRY(pick(entries, "", staging, options, 0, seen));
    if (!picked)
      return fail(Errc::kUnsupported,
                  fmt::format("image \"{}\" is not made for {}; it has {}", printable(name),
                              wanted(options).str(), fmt::join(seen, ", ")));
    SelectedImage image = SHOAL_TRY(read_image(picked->manifest, staging, options));
    image.source = picked->source;
    if (!name.empty())
      image.names.push_back(name);
    out.push_back(std::move(image));
  }
  return out;
}

Result<Blob> docker_file(const ArchiveContent& content, const std::string& path) {
  const auto link = content.links.find(path);
  const auto file = content.files.find(link == content.links.end() ? path : link->second);
  if (file == content.files.end())
    return fail(Errc::kCorrupt,
                fmt::format("the archive names \"{}\" and does not hold it", printable(path, 200)));
  return file->second;
}

// A `docker save` archive has no OCI manifest: one is made, the same for the same content.
Result<std::vector<SelectedImage>> select_docker(const ArchiveContent& content, Staging& staging,
                                                 const StoreOptions& options) {
  std::vector<SelectedImage> out;
  for (const DockerArchiveImage& entry :
       SHOAL_TRY(parse_docker_manifest(*content.docker_manifest))) {
    Manifest manifest;
    const Blob config = SHOAL_TRY(docker_file(content, entry.config));
    manifest.config = {
        "application/vnd.docker.container.image.v1+json", config.digest, config.size, {}, {}};
    for (const std::string& path : entry.layers) {
      const Blob layer = SHOAL_TRY(docker_file(content, path));
      manifest.layers.push_back(
          {"application/vnd.oci.image.layer.v1.tar", layer.digest, layer.size, {}, {}});
    }
    const std::string text = render_manifest(manifest);
    bool given = false;
    const auto once = [&]() -> Result<std::string_view> {
      return std::exchange(given, true) ? std::string_view() : std::string_view(text);
    };
    const Blob blob = SHOAL_TRY(staging.add(once, "", text.size()));
    SelectedImage image = SHOAL_TRY(
        read_image({"application/vnd.oci.image.manifest.v1+json", blob.digest, blob.size, {}, {}},
                   staging, options));
    image.names = entry.repo_tags;
    out.push_back(std::move(image));
  }
  return out;
}

}  // namespace

Platform host_platform() {
  utsname name{};
  ::uname(&name);
  const std::string_view machine = name.machine;
  Platform platform;
  if (machine == "x86_64")
    platform.architecture = "amd64";
  else if (machine == "aarch64")
    platform.architecture = "arm64";
  else if (machine.starts_with("armv7"))
    platform.architecture = "arm", platform.variant = "v7";
  else if (machine == "i686" || machine == "i586")
    platform.architecture = "386";
  else
    platform.architecture = machine;  // riscv64, ppc64le, s390x, loong64 are the same in both
  return platform;
}

Result<SelectedImage> read_image(const Descriptor& entry, const Staging& staging,
                                 const StoreOptions& options) {
  SelectedImage image;
  image.manifest_entry = entry;
  image.source = entry.digest;
  const std::size_t json_max = options.limits.json_bytes_max;
  const std::string manifest = SHOAL_TRY(staging.read(entry, json_max));
  image.manifest = SHOAL_TRY(parse_manifest(manifest));
  const std::string config = SHOAL_TRY(staging.read(image.manifest.config, json_max));
  image.config = SHOAL_TRY(parse_config(config));
  const std::size_t layers = image.manifest.layers.size();
  if (layers > options.limits.layers_max)
    return fail(Errc::kExhausted, fmt::format("the image has {} layers, more than {}", layers,
                                              options.limits.layers_max));
  if (layers != image.config.diff_ids.size())
    return fail(Errc::kCorrupt, fmt::format("the manifest has {} layers, the image config {}",
                                            layers, image.config.diff_ids.size()));
  if (!platform_fits(image.config.platform, wanted(options)))
    return fail(Errc::kUnsupported,
                fmt::format("the image is made for {}, this machine is {}",
                            image.config.platform.str(), wanted(options).str()));
  for (const Descriptor& layer : image.manifest.layers) {
    const auto size = staging.size(layer.digest);
    if (!size)
      return fail(Errc::kCorrupt,
                  fmt::format("layer {} is missing: the archive is not whole", layer.digest));
    if (*size != layer.size)
      return fail(Errc::kCorrupt, fmt::format("layer {} has {} bytes, the manifest says {}",
                                              layer.digest, *size, layer.size));
  }
  return image;
}

Result<std::vector<SelectedImage>> select_images(const ArchiveContent& content, Staging& staging,
                                                 const StoreOptions& options) {
  std::vector<SelectedImage> images;
  if (content.index)
    images = SHOAL_TRY(select_oci(content, staging, options));
  else if (content.docker_manifest)
    images = SHOAL_TRY(select_docker(content, staging, options));
  else
    return fail(Errc::kInvalid,
                "no index.json: this is neither an OCI image layout nor a `docker save` archive");
  if (images.empty())
    return fail(Errc::kInvalid, "the archive holds no image");
  return images;
}

ImageInfo describe(const SelectedImage& image) {
  ImageInfo info;
  info.digest = image.manifest_entry.digest;
  info.id = image.manifest.config.digest;
  info.os = image.config.platform.os;
  info.architecture = image.config.platform.architecture;
  info.variant = image.config.platform.variant;
  info.created = image.config.created;
  info.size_bytes = image.manifest_entry.size + image.manifest.config.size;
  for (const Descriptor& layer : image.manifest.layers)
    info.size_bytes += layer.size;
  info.diff_ids = image.config.diff_ids;
  info.config = image.config.config;
  return info;
}

Result<std::vector<std::string>> references_for(const std::vector<SelectedImage>& images,
                                                std::size_t which,
                                                const std::optional<std::string>& name) {
  std::vector<std::string> names = images[which].names;
  if (name) {
    if (images.size() > 1)
      return fail(
          Errc::kInvalid,
          fmt::format("the archive holds {} images: one name cannot be given to all of them; "
                      "load it without a name",
                      images.size()));
    names = {*name};
  }
  if (names.empty())
    return fail(Errc::kInvalid,
                "the archive does not name its image: give a name, as in shoal.dev/demo/web:blue");
  std::vector<std::string> out;
  for (const std::string& text : names) {
    // A bare word in a layout is a tag by one tool and a name by another.
    if (!name && text.find_first_of("/:") == std::string::npos)
      return fail(Errc::kInvalid,
                  fmt::format("the archive names its image only \"{}\": give a full name, as in "
                              "shoal.dev/demo/web:{}",
                              printable(text), printable(text)));
    const Reference reference = SHOAL_TRY(parse_reference(text));
    // What was pulled by its digest has that for a name.
    const bool own = name && (reference.digest == images[which].source ||
                              reference.digest == images[which].manifest_entry.digest);
    if (!reference.digest.empty() && !own)
      return fail(Errc::kInvalid, fmt::format("\"{}\" is a digest: an image is loaded under a tag",
                                              printable(text, 200)));
    out.push_back(reference.str());
  }
  std::ranges::sort(out);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace shoal::runtime
