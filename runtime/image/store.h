// SPDX-License-Identifier: Apache-2.0
// ImageStore: the images of one host. It owns <state_dir>/images and <state_dir>/layers:
//
//   images/lock                  held while the store is open: a second process is refused by name
//   images/blobs/sha256/<hex>    manifests, configs and layers, content-addressed, never changed
//                                A manifest's mtime is when its image was last used
//   images/refs/<hash>.json      one file a reference: {"ref", "manifest", "source", "pinned"}
//   images/leases/<holder>.json  who runs what: {"holder", "manifest", "imageID"}
//   images/pulls/                what is being pulled (pull.h)
//   images/tmp/, layers/.tmp-*   unfinished work; emptied at open
//   layers/<hex of diff id>/     an unpacked layer in overlayfs form, never changed once it has its
//   name
//
// A load is all or nothing (of an archive with several images, each of them): every byte is checked
// against its digest while it streams in, layers are unpacked and their diff ids checked,
// everything is synced, and the reference file is written last. What a crash leaves behind is
// unreferenced and freed by the next open. A layer is unpacked once, however many loads want it at
// a time, and holds up nobody else.
//
// An image lives as long as a reference or a lease names it. A container takes a lease before its
// rootfs is mounted and gives it back after the unmount, so that no layer goes from under a running
// container; leases are files and outlive the agent.
//
// Needs root (ownership, whiteouts, trusted xattrs). Format: OCI image layout 1.0 as a folder or a
// tar archive (plain, gzip or zstd), and `docker save` archives. Untrusted input is bounded: see
// StoreLimits. Threading: every method may be called from any thread. resolve, list, uses, leases
// and held_by answer from memory at once; the others do blocking IO: call them on a worker. Only
// load takes long; it holds up no acquire, release or remove.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/result.h"
#include "runtime/image/claims.h"
#include "runtime/image/image.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

// Bounds on what an archive may ask for.
struct StoreLimits {
  std::uint64_t blob_bytes_max = 16ULL << 30;
  std::uint64_t archive_bytes_max = 64ULL << 30;  // all entries of an archive together
  std::uint64_t archive_entries_max = 100'000;
  std::uint64_t layer_bytes_max = 32ULL << 30;  // unpacked file content of one layer
  std::uint64_t layer_entries_max = 2'000'000;
  std::size_t json_bytes_max = 4 << 20;  // index, manifest, config
  std::size_t layers_max = 127;          // of one image, as other engines have it
};

// Which entry of a multi-platform index is wanted.
struct Platform {
  std::string os = "linux";
  std::string architecture;  // Go's names: "amd64", "arm64"
  std::string variant;       // "" matches any
};
Platform host_platform();

struct StoreOptions {
  StoreLimits limits;
  Platform platform = host_platform();
  // Called between the steps of load and remove with the step's name; an error is treated as that
  // step's failure. For fault injection; empty in production.
  std::function<Result<>(std::string_view step)> on_step;
};

struct PreparedImage {
  ImageInfo info;
  std::vector<std::filesystem::path> layers;  // unpacked, the base first
  // What a pod's status calls it: "repository@sha256:..." of the asked repository, or the id.
  std::string image_id;
};

// An image and who needs it.
struct ImageUse {
  ImageInfo info;
  std::vector<std::string> holders;  // of leases, sorted
  WallTime last_used{};              // loaded, pulled, acquired or released
};

// Where an image comes from. Loaded ones stay until they are removed by name; a reference that was
// ever loaded keeps that.
enum class Origin : std::uint8_t { kLoaded, kPulled };

struct RemoveReport {
  std::vector<std::string> untagged;  // references that went
  bool deleted = false;  // the image itself went; false while another ref or a lease names it
  // What names it still.
  std::vector<std::string> refs;
  std::vector<std::string> holders;
  std::uint64_t freed_bytes = 0;  // of blobs and unpacked layers
};

class ImageStore {
public:
  // Takes the lock (kConflict when another process has it) and frees what a crash left.
  static Result<std::unique_ptr<ImageStore>> open(const std::filesystem::path& state_dir,
                                                  StoreOptions options = {});
  ~ImageStore();
  ImageStore(const ImageStore&) = delete;
  ImageStore& operator=(const ImageStore&) = delete;

  // A layout folder or an archive file. `name` replaces the archive's own names (only when it holds
  // one image); without either the load is refused. A reference that exists is moved. Returns the
  // images, by reference.
  Result<std::vector<ImageInfo>> load(const std::filesystem::path& source,
                                      std::optional<std::string> name = {},
                                      Origin origin = Origin::kLoaded);
  // The same from a stream (a pipe, a socket); read to its end. The fd stays the caller's.
  Result<std::vector<ImageInfo>> load_fd(int fd, std::optional<std::string> name = {});

  // From memory. kNotFound says what is known under that repository.
  Result<ImageInfo> resolve(std::string_view reference) const;
  std::vector<ImageInfo> list() const;  // by reference
  std::vector<ImageUse> uses() const;   // the same, with who needs them
  // Where a blob that the store holds is; it may go any moment, unless an image in use names it.
  std::optional<std::filesystem::path> blob_file(std::string_view digest) const;
  // A folder on the store's file system, for what is being pulled; kept over restarts.
  std::filesystem::path pull_dir() const;
  // By the name of a folder in it: who works there.
  Claims& pulls();
  const StoreOptions& options() const;

  // Leases the image to `holder` (a container's id: [A-Za-z0-9._-], at most 200) and returns its
  // layers, unpacked again where they are missing. The same holder may ask again; another image for
  // it is kConflict.
  Result<PreparedImage> acquire(std::string_view reference, std::string_view holder);
  Result<> release(std::string_view holder);  // an unknown holder is fine
  std::vector<std::string> leases() const;    // holders, sorted: for the sweep after a restart
  // PreparedImage::image_id, as the holder got it.
  std::optional<std::string> held_by(std::string_view holder) const;

  // By reference: that reference goes. By digest: all references to the image go. What nothing
  // names any more is freed: blobs and layers that other images share stay.
  Result<RemoveReport> remove(std::string_view reference);
  // The image of that digest, with all its references; kConflict when it is leased or pinned, or
  // was used since `before`.
  Result<RemoveReport> remove_unused(std::string_view digest, WallTime before);

private:
  class Impl;
  explicit ImageStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::runtime
