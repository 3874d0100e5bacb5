// SPDX-License-Identifier: Apache-2.0
// Makes tar layers and OCI archives in memory, good and hostile ones: nothing is checked here.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

struct archive;
struct archive_entry;

namespace shoal::testing_images {

class Tar {
public:
  enum class Packing : std::uint8_t { kPlain, kGzip, kZstd };
  explicit Tar(Packing packing = Packing::kPlain);
  ~Tar();
  Tar(const Tar&) = delete;
  Tar& operator=(const Tar&) = delete;

  struct Attributes {
    unsigned mode = 0644;
    std::int64_t uid = 0;
    std::int64_t gid = 0;
    std::int64_t mtime = 1'700'000'000;
    std::map<std::string, std::string> xattrs;
  };
  Tar& file(const std::string& name, const std::string& content, const Attributes& attributes);
  Tar& file(const std::string& name, const std::string& content) {
    return file(name, content, Attributes());
  }
  Tar& folder(const std::string& name, const Attributes& attributes);
  Tar& folder(const std::string& name) { return folder(name, {.mode = 0755, .xattrs = {}}); }
  Tar& symlink(const std::string& name, const std::string& target);
  Tar& hard_link(const std::string& name, const std::string& target);
  Tar& device(const std::string& name, unsigned major, unsigned minor);
  Tar& fifo(const std::string& name);
  std::string bytes();  // ends it

private:
  Tar& add(archive_entry* entry, const std::string& content);

  std::string bytes_;
  archive* archive_;
};

struct Layer {
  std::string blob;     // as it lies in the archive
  std::string diff_id;  // of the plain tar
  std::string media_type = "application/vnd.oci.image.layer.v1.tar";
};
Layer plain_layer(std::string tar);
Layer packed_layer(const std::string& tar, Tar::Packing packing);

// A layout as path -> content.
using Layout = std::map<std::string, std::string>;

struct ImageSpec {
  std::string name = "shoal.dev/test/app:1";
  std::string architecture = "amd64";
  std::string config =
      R"({"Entrypoint":["/bin/app"],"Cmd":["run"],"Env":["A=b"],"User":"1000:1000",)"
      R"("WorkingDir":"/w","StopSignal":"SIGQUIT","ExposedPorts":{"80/tcp":{}}})";
  std::vector<Layer> layers;
};
// Adds the image's blobs and returns its index entry.
std::string add_image(Layout& layout, const ImageSpec& spec);
Layout layout_of(const std::vector<ImageSpec>& images);
std::string entry_json(const std::string& type, const std::string& blob, const std::string& more);

std::string archive_of(const Layout& layout, Tar::Packing packing = Tar::Packing::kPlain);
std::string blob_path(const std::string& blob);
std::string decimal_size(const std::string& blob);

}  // namespace shoal::testing_images
