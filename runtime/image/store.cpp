// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/store.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "runtime/image/archive_source.h"
#include "runtime/image/blobs.h"
#include "runtime/image/layers.h"
#include "runtime/image/manifest.h"
#include "runtime/image/reference.h"
#include "runtime/image/select.h"
#include "runtime/image/sha256.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <map>
#include <mutex>
#include <set>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kRecordBytesMax = 256 << 10;
constexpr std::size_t kHolderBytesMax = 200;

Result<> sync_folder(const fs::path& dir) {
  const UniqueFd fd(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0)
    return fail_errno(fmt::format("sync {}", dir.string()));
  return {};
}

Result<> delete_file(const fs::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    return fail_errno(fmt::format("delete {}", path.string()));
  return sync_folder(path.parent_path());
}

// Each file's name and content, in a folder of small records. Temporary files of atomic writes are
// deleted.
Result<std::vector<std::pair<fs::path, std::string>>> read_records(const fs::path& dir) {
  std::vector<std::pair<fs::path, std::string>> out;
  std::error_code ec;
  for (auto it = fs::directory_iterator(dir, ec); !ec && it != fs::directory_iterator();
       it.increment(ec)) {
    if (it->path().filename().string().starts_with(".")) {
      std::error_code ignored;
      fs::remove(it->path(), ignored);
      continue;
    }
    out.emplace_back(it->path(), SHOAL_TRY(read_file(it->path(), kRecordBytesMax)));
  }
  if (ec)
    return fail_errno(ec.value(), fmt::format("read {}", dir.string()));
  return out;
}

WallTime wall_time(const timespec& time) {
  return WallTime(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
}

Result<> check_holder(std::string_view holder) {
  const bool fine = !holder.empty() && holder.size() <= kHolderBytesMax && holder.front() != '.' &&
                    std::ranges::all_of(holder, [](char c) {
                      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                             (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
                    });
  if (!fine)
    return fail(Errc::kInvalid,
                fmt::format("\"{}\" cannot hold a lease: letters, digits, '.', '_' and '-' only",
                            printable(holder)));
  return {};
}

}  // namespace

class ImageStore::Impl {
public:
  Impl(const fs::path& state_dir, StoreOptions options, UniqueFd lock, LayerDir layers)
      : options_(std::move(options)), dir_(state_dir / "images"), blobs_(dir_ / "blobs" / "sha256"),
        layers_(std::move(layers)), lock_(std::move(lock)) {}

  Result<> recover();
  Result<std::vector<ImageInfo>> load(const std::function<Result<ArchiveContent>(Staging&)>& read,
                                      const std::optional<std::string>& name, Origin origin);
  Result<ImageInfo> resolve(std::string_view text) const;
  std::vector<ImageUse> uses() const;
  Result<PreparedImage> acquire(std::string_view reference, std::string_view holder);
  Result<> release(std::string_view holder);
  std::vector<std::string> leases() const;
  std::optional<std::string> held_by(std::string_view holder) const;
  Result<RemoveReport> remove(std::string_view text);
  Result<RemoveReport> remove_unused(const std::string& digest, WallTime before);
  Claims& pulls() { return pulls_; }

  const StoreLimits& limits() const { return options_.limits; }
  const StoreOptions& options() const { return options_; }
  const fs::path& dir() const { return dir_; }
  const BlobDir& blobs() const { return blobs_; }

private:
  struct Stored {
    ImageInfo info;                  // refs are filled in when it is handed out
    std::vector<std::string> blobs;  // manifest, config, layers
    std::vector<Descriptor> layers;
    WallTime last_used{};
  };
  // What nothing names any more and has lost its name, to be deleted with no lock held.
  struct Detached {
    std::vector<fs::path> blobs;
    std::vector<std::string> layers;
  };
  // While it lives, collect() keeps these layers.
  class Pin {
  public:
    Pin(Impl& impl, std::vector<std::string> diff_ids);
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;
    ~Pin();

  private:
    Impl& impl_;
    std::vector<std::string> diff_ids_;
  };

  fs::path ref_file(const std::string& ref) const {
    return dir_ / "refs" / fmt::format("{}.json", digest_hex(sha256_digest(ref)).substr(0, 32));
  }
  fs::path lease_file(std::string_view holder) const {
    return dir_ / "leases" / fmt::format("{}.json", holder);
  }

  Result<> step(std::string_view name) const {
    return options_.on_step ? options_.on_step(name) : Result<>();
  }
  static Stored stored_of(const SelectedImage& image);
  Result<std::vector<std::string>> store_images(const std::vector<SelectedImage>& images,
                                                const std::vector<std::vector<std::string>>& names,
                                                Origin origin, Staging& staging);
  Result<> unpack_missing(const std::vector<std::string>& diff_ids,
                          const std::vector<Descriptor>& layers,
                          const std::function<Result<UniqueFd>(const std::string&)>& open_blob,
                          bool sync_due);
  Result<> tag(const std::string& ref, const SelectedImage& image, Origin origin);
  void touch(const std::string& manifest);
  Result<> sync_all() const;
  Result<> collect();  // work_ held; into detached_
  Result<std::uint64_t> erase();
  Result<RemoveReport> untag(std::unique_lock<std::mutex> work, const std::string& digest,
                             std::vector<std::string> refs);
  std::string image_id_of(const Reference& reference, const Stored& stored) const;
  ImageInfo with_refs(const Stored& stored) const;
  std::vector<std::string> holders_of(const std::string& digest) const;  // mutex_ held
  // The manifest's digest; mutex_ held.
  Result<std::string> find(const Reference& reference) const;

  StoreOptions options_;
  fs::path dir_;
  BlobDir blobs_;
  LayerDir layers_;
  UniqueFd lock_;

  Claims unpacking_;  // by diff id
  Claims pulls_;
  std::mutex work_;           // held while references, leases and names of files change: briefly
  mutable std::mutex mutex_;  // the tables below; never held during IO. Taken after work_
  std::multiset<std::string> pins_;                         // diff ids
  Detached detached_;                                       // work_
  std::uint64_t detached_count_ = 0;                        // the same; for names of this process
  std::map<std::string, Stored> images_;                    // by manifest digest
  std::map<std::string, RefRecord> refs_;                   // by reference
  std::map<std::string, LeaseRecord, std::less<>> leases_;  // by holder
};

ImageStore::Impl::Stored ImageStore::Impl::stored_of(const SelectedImage& image) {
  Stored stored;
  stored.info = describe(image);
  stored.blobs = {image.manifest_entry.digest, image.manifest.config.digest};
  for (const Descriptor& layer : image.manifest.layers)
    stored.blobs.push_back(layer.digest);
  stored.layers = image.manifest.layers;
  return stored;
}

// Under work_: whoever looks for what to delete has either deleted it by now, or sees the pin.
ImageStore::Impl::Pin::Pin(Impl& impl, std::vector<std::string> diff_ids)
    : impl_(impl), diff_ids_(std::move(diff_ids)) {
  const std::lock_guard work(impl_.work_);
  const std::lock_guard guard(impl_.mutex_);
  impl_.pins_.insert(diff_ids_.begin(), diff_ids_.end());
}

ImageStore::Impl::Pin::~Pin() {
  const std::lock_guard guard(impl_.mutex_);
  for (const std::string& id : diff_ids_)
    impl_.pins_.erase(impl_.pins_.find(id));
}

// The time is kept by the file, so that it outlives the agent; one that cannot be set is no loss.
void ImageStore::Impl::touch(const std::string& manifest) {
  const fs::path file = blobs_.file(manifest);
  struct stat st{};
  if (::utimensat(AT_FDCWD, file.c_str(), nullptr, 0) != 0 || ::stat(file.c_str(), &st) != 0)
    return;
  const std::lock_guard guard(mutex_);
  if (const auto it = images_.find(manifest); it != images_.end())
    it->second.last_used = wall_time(st.st_mtim);
}

// A record or an image that cannot be read is dropped: the image must be loaded again, which says
// so when a pod asks for it. A lease stays, so that no layer goes from under a container that runs.
Result<> ImageStore::Impl::recover() {
  const Staging staging = SHOAL_TRY(Staging::make(dir_ / "tmp", blobs_));
  const auto know = [&](const std::string& manifest) -> Result<> {
    if (images_.contains(manifest))
      return {};
    struct stat st{};
    if (::stat(blobs_.file(manifest).c_str(), &st) != 0)
      return fail_errno(fmt::format("blob {}", manifest));
    const Descriptor entry{"", manifest, static_cast<std::uint64_t>(st.st_size), {}, {}};
    Stored stored = stored_of(SHOAL_TRY(read_image(entry, staging, options_)));
    stored.last_used = wall_time(st.st_mtim);
    images_.emplace(manifest, std::move(stored));
    return {};
  };
  for (const auto& [path, text] : SHOAL_TRY(read_records(dir_ / "refs"))) {
    auto record = parse_ref(text);
    if (record && know(record->manifest))
      refs_.emplace(record->ref, *record);
    else
      SHOAL_TRY(delete_file(path));
  }
  for (const auto& [path, text] : SHOAL_TRY(read_records(dir_ / "leases"))) {
    auto record = parse_lease(text);
    if (!record) {
      SHOAL_TRY(delete_file(path));
      continue;
    }
    (void)know(record->manifest);
    leases_.emplace(record->holder, *record);
  }
  SHOAL_TRY(collect());
  SHOAL_TRY(erase());
  return {};
}

Result<> ImageStore::Impl::unpack_missing(
    const std::vector<std::string>& diff_ids, const std::vector<Descriptor>& layers,
    const std::function<Result<UniqueFd>(const std::string&)>& open_blob, bool sync_due) {
  for (;;) {
    std::vector<Claims::Hold> claimed;
    std::vector<LayerDir::Pending> pending;
    std::set<std::string> begun;
    std::optional<std::string> elsewhere;  // being unpacked for another image
    for (std::size_t i = 0; i < layers.size(); ++i) {
      if (layers_.holds(diff_ids[i]) || !begun.insert(diff_ids[i]).second)
        continue;
      auto claim = unpacking_.try_claim(diff_ids[i]);
      if (!claim) {
        elsewhere = diff_ids[i];
        continue;
      }
      if (layers_.holds(diff_ids[i]))
        continue;  // it was done between the two looks
      claimed.push_back(std::move(*claim));
      const UniqueFd blob = SHOAL_TRY(open_blob(layers[i].digest));
      pending.push_back(SHOAL_TRY(
          layers_.unpack(blob.get(), diff_ids[i],
                         {options_.limits.layer_bytes_max, options_.limits.layer_entries_max})));
      SHOAL_TRY(step("layer unpacked"));
    }
    if (!pending.empty() || sync_due)
      SHOAL_TRY(sync_all());
    sync_due = false;
    SHOAL_TRY(step("synced"));
    for (LayerDir::Pending& layer : pending) {
      SHOAL_TRY(layers_.commit(std::move(layer)));
      SHOAL_TRY(step("layer committed"));
    }
    if (!elsewhere)
      return {};
    // With nothing claimed. If it was not unpacked after all, the next round does it.
    claimed.clear();
    unpacking_.wait_free(*elsewhere);
  }
}

// What gets its final name next must survive a power cut whole.
Result<> ImageStore::Impl::sync_all() const {
  SHOAL_TRY(layers_.sync());
  const UniqueFd fd(::open(blobs_.dir().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat here{};
  struct stat there{};
  if (!fd || ::fstat(fd.get(), &here) != 0 || ::stat(layers_.dir().c_str(), &there) != 0)
    return fail_errno(fmt::format("open {}", blobs_.dir().string()));
  // Usually one file system holds both.
  if (here.st_dev != there.st_dev && ::syncfs(fd.get()) != 0)
    return fail_errno(fmt::format("sync {}", blobs_.dir().string()));
  return {};
}

// All that has to be on disk is, but for names: from here on it is quick.
Result<std::vector<std::string>>
ImageStore::Impl::store_images(const std::vector<SelectedImage>& images,
                               const std::vector<std::vector<std::string>>& names, Origin origin,
                               Staging& staging) {
  for (const SelectedImage& image : images)
    for (const std::string& digest : stored_of(image).blobs) {
      SHOAL_TRY(staging.commit(digest));
      SHOAL_TRY(step("blob committed"));
    }
  SHOAL_TRY(sync_folder(blobs_.dir()));
  std::vector<std::string> digests;
  for (std::size_t i = 0; i < images.size(); ++i) {
    digests.push_back(images[i].manifest_entry.digest);
    for (const std::string& ref : names[i])
      SHOAL_TRY(tag(ref, images[i], origin));
    touch(digests.back());
  }
  return digests;
}

Result<> ImageStore::Impl::tag(const std::string& ref, const SelectedImage& image, Origin origin) {
  RefRecord record{ref, image.manifest_entry.digest, image.source, origin == Origin::kLoaded};
  {
    const std::lock_guard guard(mutex_);
    images_.insert_or_assign(record.manifest, stored_of(image));
    const auto it = refs_.find(ref);
    if (it != refs_.end())
      record.pinned = record.pinned || it->second.pinned;
    if (it != refs_.end() && it->second == record)
      return {};
  }
  SHOAL_TRY(write_file_atomic(ref_file(ref), render_ref(record)));
  {
    const std::lock_guard guard(mutex_);
    refs_.insert_or_assign(ref, record);
  }
  return step("reference written");
}

Result<std::vector<ImageInfo>>
ImageStore::Impl::load(const std::function<Result<ArchiveContent>(Staging&)>& read,
                       const std::optional<std::string>& name, Origin origin) {
  const auto run = [&]() -> Result<std::vector<std::string>> {
    Staging staging = SHOAL_TRY(Staging::make(dir_ / "tmp", blobs_));
    const ArchiveContent content = SHOAL_TRY(read(staging));
    SHOAL_TRY(step("staged"));
    const std::vector<SelectedImage> images = SHOAL_TRY(select_images(content, staging, options_));
    std::vector<std::vector<std::string>> names;
    std::vector<std::string> diff_ids;
    for (std::size_t i = 0; i < images.size(); ++i) {
      names.push_back(SHOAL_TRY(references_for(images, i, name)));
      diff_ids.insert(diff_ids.end(), images[i].config.diff_ids.begin(),
                      images[i].config.diff_ids.end());
      for (const std::string& digest : stored_of(images[i]).blobs)
        if (!staging.take(digest))
          return fail(Errc::kUnavailable,
                      fmt::format("blob {} was removed meanwhile: try again", digest));
    }
    const Pin pin(*this, std::move(diff_ids));
    for (const SelectedImage& image : images)
      SHOAL_TRY(unpack_missing(
          image.config.diff_ids, image.manifest.layers,
          [&](const std::string& digest) { return staging.open(digest); }, staging.has_new()));
    const std::lock_guard work(work_);
    return store_images(images, names, origin, staging);
  };
  auto digests = run();
  // A moved reference may have left an image without a name; a failed load, blobs without an image.
  auto collected = [&]() -> Result<std::uint64_t> {
    {
      const std::lock_guard work(work_);
      SHOAL_TRY(collect());
    }
    return erase();
  }();
  if (!digests)
    return fail(std::move(digests).error());
  if (!collected)
    return fail(
        std::move(collected).error().wrap("loaded, but freeing what is not used any more failed"));
  std::vector<ImageInfo> out;
  const std::lock_guard guard(mutex_);
  for (const std::string& digest : *digests)
    if (const auto it = images_.find(digest); it != images_.end())
      out.push_back(with_refs(it->second));
  return out;
}

ImageInfo ImageStore::Impl::with_refs(const Stored& stored) const {
  ImageInfo info = stored.info;
  for (const auto& [ref, record] : refs_)
    if (record.manifest == info.digest) {
      info.refs.push_back(ref);
      info.pinned = info.pinned || record.pinned;
      if (const auto reference = parse_reference(ref))
        info.repo_digests.push_back(fmt::format("{}@{}", reference->repository, record.source));
    }
  std::ranges::sort(info.repo_digests);
  const auto twice = std::ranges::unique(info.repo_digests);
  info.repo_digests.erase(twice.begin(), twice.end());
  return info;
}

std::string ImageStore::Impl::image_id_of(const Reference& reference, const Stored& stored) const {
  if (!reference.repository.empty() && !reference.digest.empty())
    return reference.str();
  for (const auto& [ref, record] : refs_)
    if (record.manifest == stored.info.digest && ref == reference.str())
      return fmt::format("{}@{}", reference.repository, record.source);
  return stored.info.repo_digests.empty() ? stored.info.id : stored.info.repo_digests.front();
}

Result<std::string> ImageStore::Impl::find(const Reference& reference) const {
  const std::string text = reference.str();
  if (reference.digest.empty()) {
    if (const auto it = refs_.find(text); it != refs_.end())
      return it->second.manifest;
  } else {
    if (images_.contains(reference.digest))
      return reference.digest;
    for (const auto& [ref, record] : refs_)
      if (record.source == reference.digest)
        return record.manifest;
  }
  std::vector<std::string> known;
  for (const auto& [ref, record] : refs_)
    if (!reference.repository.empty() && ref.starts_with(reference.repository + ":"))
      known.push_back(ref);
  return fail(
      Errc::kNotFound,
      fmt::format("image {} is not on this host{}; load it with `shoal image load`", text,
                  known.empty() ? "" : fmt::format(" (there is {})", fmt::join(known, ", "))));
}

Result<ImageInfo> ImageStore::Impl::resolve(std::string_view text) const {
  const Reference reference = SHOAL_TRY(parse_reference(text));
  const std::lock_guard guard(mutex_);
  const std::string digest = SHOAL_TRY(find(reference));
  return with_refs(images_.at(digest));
}

std::vector<std::string> ImageStore::Impl::holders_of(const std::string& digest) const {
  std::vector<std::string> out;
  for (const auto& [holder, record] : leases_)
    if (record.manifest == digest)
      out.push_back(holder);
  return out;
}

std::vector<ImageUse> ImageStore::Impl::uses() const {
  const std::lock_guard guard(mutex_);
  std::vector<ImageUse> out;
  for (const auto& [digest, stored] : images_) {
    out.push_back({with_refs(stored), holders_of(digest), stored.last_used});
  }
  std::ranges::sort(out, [](const ImageUse& a, const ImageUse& b) {
    return std::tie(a.info.refs, a.info.digest) < std::tie(b.info.refs, b.info.digest);
  });
  return out;
}

Result<PreparedImage> ImageStore::Impl::acquire(std::string_view text, std::string_view holder) {
  SHOAL_TRY(check_holder(holder));
  const Reference reference = SHOAL_TRY(parse_reference(text));
  Stored stored;
  PreparedImage prepared;
  {
    const std::lock_guard work(work_);
    bool leased = false;
    {
      const std::lock_guard guard(mutex_);
      const std::string digest = SHOAL_TRY(find(reference));
      stored = images_.at(digest);
      stored.info = with_refs(stored);
      prepared.image_id = image_id_of(reference, stored);
      if (const auto it = leases_.find(holder); it != leases_.end()) {
        if (it->second.manifest != digest)
          return fail(Errc::kConflict, fmt::format("{} holds another image, {}: release that first",
                                                   holder, it->second.manifest));
        leased = true;
      }
    }
    if (!leased) {
      const LeaseRecord record{std::string(holder), stored.info.digest, stored.info.diff_ids,
                               prepared.image_id};
      SHOAL_TRY(write_file_atomic(lease_file(holder), render_lease(record)));
      const std::lock_guard guard(mutex_);
      leases_.emplace(record.holder, record);
    }
    touch(stored.info.digest);
  }
  // The lease keeps all that the image needs.
  SHOAL_TRY(unpack_missing(
      stored.info.diff_ids, stored.layers,
      [&](const std::string& digest) -> Result<UniqueFd> {
        UniqueFd fd(::open(blobs_.file(digest).c_str(), O_RDONLY | O_CLOEXEC));
        if (!fd)
          return fail_errno(fmt::format("blob {}", digest));
        return fd;
      },
      false));
  for (const std::string& id : stored.info.diff_ids)
    prepared.layers.push_back(layers_.path(id));
  prepared.info = std::move(stored.info);
  return prepared;
}

Result<> ImageStore::Impl::release(std::string_view holder) {
  {
    const std::lock_guard work(work_);
    bool last = false;
    std::string manifest;
    {
      const std::lock_guard guard(mutex_);
      const auto it = leases_.find(holder);
      if (it == leases_.end())
        return {};
      manifest = it->second.manifest;
      const auto same = [&](const auto& entry) { return entry.second.manifest == manifest; };
      last = std::ranges::count_if(leases_, same) == 1 && std::ranges::none_of(refs_, same);
    }
    SHOAL_TRY(delete_file(lease_file(holder)));
    {
      const std::lock_guard guard(mutex_);
      leases_.erase(leases_.find(holder));
    }
    if (!last) {
      touch(manifest);
      return {};
    }
    SHOAL_TRY(collect());
  }
  SHOAL_TRY(erase());
  return {};
}

std::vector<std::string> ImageStore::Impl::leases() const {
  const std::lock_guard guard(mutex_);
  std::vector<std::string> out;
  for (const auto& [holder, record] : leases_)
    out.push_back(holder);
  return out;
}

std::optional<std::string> ImageStore::Impl::held_by(std::string_view holder) const {
  const std::lock_guard guard(mutex_);
  const auto lease = leases_.find(holder);
  if (lease == leases_.end())
    return std::nullopt;
  if (!lease->second.image_id.empty())
    return lease->second.image_id;
  const auto image = images_.find(lease->second.manifest);  // the lease is an earlier version's
  return image == images_.end() ? std::nullopt : std::optional(image->second.info.id);
}

Result<RemoveReport> ImageStore::Impl::remove(std::string_view text) {
  const Reference reference = SHOAL_TRY(parse_reference(text));
  std::unique_lock work(work_);
  std::string digest;
  std::vector<std::string> refs;
  {
    const std::lock_guard guard(mutex_);
    digest = SHOAL_TRY(find(reference));
    for (const auto& [ref, record] : refs_)
      if (record.manifest == digest && (!reference.digest.empty() || ref == reference.str()))
        refs.push_back(ref);
  }
  return untag(std::move(work), digest, std::move(refs));
}

Result<RemoveReport> ImageStore::Impl::remove_unused(const std::string& digest, WallTime before) {
  std::unique_lock work(work_);
  std::vector<std::string> refs;
  {
    const std::lock_guard guard(mutex_);
    const auto image = images_.find(digest);
    if (image == images_.end())
      return fail(Errc::kNotFound, fmt::format("image {} is not on this host", digest));
    const auto same = [&](const auto& entry) { return entry.second.manifest == digest; };
    const bool pinned =
        std::ranges::any_of(refs_, [&](const auto& ref) { return same(ref) && ref.second.pinned; });
    if (pinned || image->second.last_used >= before || std::ranges::any_of(leases_, same))
      return fail(Errc::kConflict, fmt::format("image {} is in use", digest));
    for (const auto& [ref, record] : refs_)
      if (record.manifest == digest)
        refs.push_back(ref);
  }
  return untag(std::move(work), digest, std::move(refs));
}

// `work` holds work_ since it was found out what the references name: nobody has moved one since.
Result<RemoveReport> ImageStore::Impl::untag(std::unique_lock<std::mutex> work,
                                             const std::string& digest,
                                             std::vector<std::string> refs) {
  RemoveReport report;
  for (const std::string& ref : refs) {
    SHOAL_TRY(delete_file(ref_file(ref)));
    const std::lock_guard guard(mutex_);
    refs_.erase(ref);
  }
  SHOAL_TRY(step("references removed"));
  SHOAL_TRY(collect());
  {
    const std::lock_guard guard(mutex_);
    report.deleted = !images_.contains(digest);
    for (const auto& [ref, record] : refs_)
      if (record.manifest == digest)
        report.refs.push_back(ref);
    report.holders = holders_of(digest);
  }
  work.unlock();
  report.untagged = std::move(refs);
  report.freed_bytes = SHOAL_TRY(erase());
  return report;
}

// Forgets images that nothing names; takes every blob and layer that no image, lease or load needs
// out of its place.
Result<> ImageStore::Impl::collect() {
  std::set<std::string> blobs;
  std::set<std::string> layers;
  {
    const std::lock_guard guard(mutex_);
    std::set<std::string> named;
    for (const auto& [ref, record] : refs_)
      named.insert(record.manifest);
    for (const auto& [holder, record] : leases_) {
      named.insert(record.manifest);
      layers.insert(record.layers.begin(), record.layers.end());
    }
    layers.insert(pins_.begin(), pins_.end());
    std::erase_if(images_, [&](const auto& entry) { return !named.contains(entry.first); });
    for (const auto& [digest, stored] : images_) {
      blobs.insert(stored.blobs.begin(), stored.blobs.end());
      layers.insert(stored.info.diff_ids.begin(), stored.info.diff_ids.end());
    }
  }
  std::error_code ec;
  for (auto it = fs::directory_iterator(blobs_.dir(), ec); !ec && it != fs::directory_iterator();
       it.increment(ec)) {
    if (blobs.contains("sha256:" + it->path().filename().string()))
      continue;
    const fs::path gone = dir_ / "tmp" / fmt::format("gone-{}", detached_count_++);
    if (::rename(it->path().c_str(), gone.c_str()) != 0)
      return fail_errno(fmt::format("rename {}", it->path().string()));
    detached_.blobs.push_back(gone);
  }
  if (ec)
    return fail_errno(ec.value(), fmt::format("read {}", blobs_.dir().string()));
  SHOAL_TRY(step("blobs freed"));
  return layers_.detach(layers, detached_.layers);
}

// Takes its time, and holds up nobody.
Result<std::uint64_t> ImageStore::Impl::erase() {
  Detached gone;
  {
    const std::lock_guard work(work_);
    gone = std::exchange(detached_, {});
  }
  std::uint64_t freed = 0;
  for (const fs::path& blob : gone.blobs) {
    struct stat st{};
    if (::lstat(blob.c_str(), &st) == 0 && st.st_nlink == 1)
      freed += static_cast<std::uint64_t>(st.st_blocks) * 512;
    if (::unlink(blob.c_str()) != 0 && errno != ENOENT)
      return fail_errno(fmt::format("delete {}", blob.string()));
  }
  return freed + SHOAL_TRY(layers_.erase(gone.layers));
}

Result<std::unique_ptr<ImageStore>> ImageStore::open(const fs::path& state_dir,
                                                     StoreOptions options) {
  const fs::path dir = state_dir / "images";
  const auto run = [&]() -> Result<std::unique_ptr<ImageStore>> {
    SHOAL_TRY(make_dirs(dir));
    UniqueFd lock = SHOAL_TRY(lock_file(dir / "lock"));
    std::error_code ec;
    fs::remove_all(dir / "tmp", ec);
    if (ec)
      return fail_errno(ec.value(), "empty tmp");
    for (const char* sub : {"blobs/sha256", "refs", "leases", "tmp"})
      SHOAL_TRY(make_dirs(dir / sub, 0700));
    LayerDir layers = SHOAL_TRY(LayerDir::open(state_dir / "layers"));
    auto impl =
        std::make_unique<Impl>(state_dir, std::move(options), std::move(lock), std::move(layers));
    SHOAL_TRY(impl->recover());
    return std::unique_ptr<ImageStore>(new ImageStore(std::move(impl)));
  };
  auto opened = run();
  if (!opened)
    return fail(std::move(opened).error().wrap(fmt::format("open image store {}", dir.string())));
  return opened;
}

ImageStore::ImageStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ImageStore::~ImageStore() = default;

Result<std::vector<ImageInfo>> ImageStore::load(const fs::path& source,
                                                std::optional<std::string> name, Origin origin) {
  const auto read = [&](Staging& staging) -> Result<ArchiveContent> {
    struct stat st{};
    if (::stat(source.c_str(), &st) != 0)
      return fail_errno("open");
    if (S_ISDIR(st.st_mode))
      return read_layout_folder(source, staging, impl_->limits(), origin == Origin::kPulled);
    const UniqueFd fd(::open(source.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd)
      return fail_errno("open");
    return read_archive(fd.get(), staging, impl_->limits());
  };
  auto loaded = impl_->load(read, name, origin);
  if (!loaded)
    return fail(std::move(loaded).error().wrap(fmt::format("load image {}", source.string())));
  return loaded;
}

Result<std::vector<ImageInfo>> ImageStore::load_fd(int fd, std::optional<std::string> name) {
  auto loaded =
      impl_->load([&](Staging& staging) { return read_archive(fd, staging, impl_->limits()); },
                  name, Origin::kLoaded);
  if (!loaded)
    return fail(std::move(loaded).error().wrap("load image"));
  return loaded;
}

Result<ImageInfo> ImageStore::resolve(std::string_view reference) const {
  return impl_->resolve(reference);
}
std::vector<ImageInfo> ImageStore::list() const {
  std::vector<ImageInfo> out;
  for (ImageUse& use : impl_->uses())
    out.push_back(std::move(use.info));
  return out;
}
std::vector<ImageUse> ImageStore::uses() const { return impl_->uses(); }
std::optional<fs::path> ImageStore::blob_file(std::string_view digest) const {
  return impl_->blobs().size(digest) ? std::optional(impl_->blobs().file(digest)) : std::nullopt;
}
fs::path ImageStore::pull_dir() const { return impl_->dir() / "pulls"; }
Claims& ImageStore::pulls() { return impl_->pulls(); }
const StoreOptions& ImageStore::options() const { return impl_->options(); }
Result<PreparedImage> ImageStore::acquire(std::string_view reference, std::string_view holder) {
  return impl_->acquire(reference, holder);
}
Result<> ImageStore::release(std::string_view holder) { return impl_->release(holder); }
std::vector<std::string> ImageStore::leases() const { return impl_->leases(); }
std::optional<std::string> ImageStore::held_by(std::string_view holder) const {
  return impl_->held_by(holder);
}
Result<RemoveReport> ImageStore::remove(std::string_view reference) {
  return impl_->remove(reference);
}
Result<RemoveReport> ImageStore::remove_unused(std::string_view digest, WallTime before) {
  return impl_->remove_unused(std::string(digest), before);
}

}  // namespace shoal::runtime
