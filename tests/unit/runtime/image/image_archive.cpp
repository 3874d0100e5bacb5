// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/runtime/image/image_archive.h"

#include "netplane/base/result.h"
#include "runtime/image/sha256.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>
#include <sys/stat.h>

namespace shoal::testing_images {
namespace {

using runtime::digest_hex;
using runtime::sha256_digest;

long append(archive*, void* data, const void* bytes, std::size_t size) {
  static_cast<std::string*>(data)->append(static_cast<const char*>(bytes), size);
  return static_cast<long>(size);
}

void set_common(archive_entry* entry, const std::string& name, unsigned type,
                const Tar::Attributes& attributes) {
  archive_entry_copy_pathname(entry, name.c_str());
  archive_entry_set_filetype(entry, type);
  archive_entry_set_perm(entry, attributes.mode);
  archive_entry_set_uid(entry, attributes.uid);
  archive_entry_set_gid(entry, attributes.gid);
  archive_entry_set_mtime(entry, attributes.mtime, 0);
  for (const auto& [key, value] : attributes.xattrs)
    archive_entry_xattr_add_entry(entry, key.c_str(), value.data(), value.size());
}

std::string pack(const std::string& plain, Tar::Packing packing) {
  std::string out;
  archive* a = archive_write_new();
  archive_write_set_format_raw(a);
  archive_write_set_bytes_in_last_block(a, 1);
  packing == Tar::Packing::kGzip ? archive_write_add_filter_gzip(a)
                                 : archive_write_add_filter_zstd(a);
  SHOAL_ASSERT(archive_write_open(a, &out, nullptr, append, nullptr) == ARCHIVE_OK);
  archive_entry* entry = archive_entry_new();
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_write_header(a, entry);
  archive_write_data(a, plain.data(), plain.size());
  archive_entry_free(entry);
  SHOAL_ASSERT(archive_write_close(a) == ARCHIVE_OK);
  archive_write_free(a);
  return out;
}

}  // namespace

Tar::Tar(Packing packing) : archive_(archive_write_new()) {
  archive_write_set_format_pax(archive_);
  if (packing == Packing::kGzip)
    archive_write_add_filter_gzip(archive_);
  if (packing == Packing::kZstd)
    archive_write_add_filter_zstd(archive_);
  archive_write_set_bytes_in_last_block(archive_, 1);  // no padding behind compressed data
  SHOAL_ASSERT(archive_write_open(archive_, &bytes_, nullptr, append, nullptr) == ARCHIVE_OK);
}

Tar::~Tar() { archive_write_free(archive_); }

Tar& Tar::add(archive_entry* entry, const std::string& content) {
  archive_entry_set_size(entry, static_cast<la_int64_t>(content.size()));
  SHOAL_ASSERT(archive_write_header(archive_, entry) >= ARCHIVE_WARN);
  archive_write_data(archive_, content.data(), content.size());
  archive_entry_free(entry);
  return *this;
}

Tar& Tar::file(const std::string& name, const std::string& content, const Attributes& attributes) {
  archive_entry* entry = archive_entry_new();
  set_common(entry, name, AE_IFREG, attributes);
  return add(entry, content);
}

Tar& Tar::folder(const std::string& name, const Attributes& attributes) {
  archive_entry* entry = archive_entry_new();
  set_common(entry, name, AE_IFDIR, attributes);
  return add(entry, "");
}

Tar& Tar::symlink(const std::string& name, const std::string& target) {
  archive_entry* entry = archive_entry_new();
  set_common(entry, name, AE_IFLNK, {.mode = 0777, .xattrs = {}});
  archive_entry_copy_symlink(entry, target.c_str());
  return add(entry, "");
}

Tar& Tar::hard_link(const std::string& name, const std::string& target) {
  archive_entry* entry = archive_entry_new();
  set_common(entry, name, AE_IFREG, Attributes());
  archive_entry_copy_hardlink(entry, target.c_str());
  return add(entry, "");
}

Tar& Tar::device(const std::string& name, unsigned major, unsigned minor) {
  archive_entry* entry = archive_entry_new();
  set_common(entry, name, AE_IFCHR, Attributes());
  archive_entry_set_rdevmajor(entry, major);
  archive_entry_set_rdevminor(entry, minor);
  return add(entry, "");
}

Tar& Tar::fifo(const std::string& name) {
  archive_entry* entry = archive_entry_new();
  set_common(entry, name, AE_IFIFO, Attributes());
  return add(entry, "");
}

std::string Tar::bytes() {
  SHOAL_ASSERT(archive_write_close(archive_) == ARCHIVE_OK);
  return bytes_;
}

Layer plain_layer(std::string tar) {
  Layer layer;
  layer.diff_id = sha256_digest(tar);
  layer.blob = std::move(tar);
  return layer;
}

Layer packed_layer(const std::string& tar, Tar::Packing packing) {
  Layer layer = plain_layer(pack(tar, packing));
  layer.diff_id = sha256_digest(tar);
  layer.media_type += packing == Tar::Packing::kGzip ? "+gzip" : "+zstd";
  return layer;
}

std::string blob_path(const std::string& blob) {
  return fmt::format("blobs/sha256/{}", digest_hex(sha256_digest(blob)));
}

std::string decimal_size(const std::string& blob) { return fmt::format("{}", blob.size()); }

std::string entry_json(const std::string& type, const std::string& blob, const std::string& more) {
  return fmt::format(R"({{"mediaType":"{}","digest":"{}","size":{}{}}})", type, sha256_digest(blob),
                     blob.size(), more);
}

std::string add_image(Layout& layout, const ImageSpec& spec) {
  std::vector<std::string> diff_ids;
  std::vector<std::string> layers;
  for (const Layer& layer : spec.layers) {
    layout[blob_path(layer.blob)] = layer.blob;
    diff_ids.push_back(fmt::format("\"{}\"", layer.diff_id));
    layers.push_back(entry_json(layer.media_type, layer.blob, ""));
  }
  const std::string config = fmt::format(
      R"({{"created":"2024-01-01T00:00:00Z","os":"linux","architecture":"{}","config":{},)"
      R"("rootfs":{{"type":"layers","diff_ids":[{}]}}}})",
      spec.architecture, spec.config, fmt::join(diff_ids, ","));
  layout[blob_path(config)] = config;
  const std::string manifest = fmt::format(
      R"({{"schemaVersion":2,"config":{},"layers":[{}]}})",
      entry_json("application/vnd.oci.image.config.v1+json", config, ""), fmt::join(layers, ","));
  layout[blob_path(manifest)] = manifest;
  const std::string name =
      spec.name.empty()
          ? ""
          : fmt::format(R"(,"annotations":{{"org.opencontainers.image.ref.name":"{}"}})",
                        spec.name);
  return entry_json("application/vnd.oci.image.manifest.v1+json", manifest,
                    fmt::format(R"({},"platform":{{"os":"linux","architecture":"{}"}})", name,
                                spec.architecture));
}

Layout layout_of(const std::vector<ImageSpec>& images) {
  Layout layout;
  std::vector<std::string> entries;
  for (const ImageSpec& image : images)
    entries.push_back(add_image(layout, image));
  layout["oci-layout"] = R"({"imageLayoutVersion":"1.0.0"})";
  layout["index.json"] =
      fmt::format(R"({{"schemaVersion":2,"manifests":[{}]}})", fmt::join(entries, ","));
  return layout;
}

std::string archive_of(const Layout& layout, Tar::Packing packing) {
  Tar tar(packing);
  for (const auto& [path, content] : layout)
    tar.file(path, content);
  return tar.bytes();
}

}  // namespace shoal::testing_images
