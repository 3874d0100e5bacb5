// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/layers.h"

#include "netplane/base/fs.h"
#include "runtime/image/reference.h"
#include "runtime/image/sha256.h"
#include "runtime/image/tree.h"

#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace shoal::runtime {
namespace {

constexpr std::string_view kTemporary = ".tmp-";

std::string temporary_name() {
  static std::atomic<std::uint64_t> counter{0};
  return fmt::format("{}{}-{}", kTemporary, ::getpid(), counter.fetch_add(1));
}

}  // namespace

Result<LayerDir> LayerDir::open(const std::filesystem::path& dir) {
  SHOAL_TRY(make_dirs(dir, 0755));
  // Image content belongs to containers: nobody else on the host gets at set-id files in it.
  if (::chmod(dir.c_str(), 0700) != 0)
    return fail_errno(fmt::format("chmod {}", dir.string()));
  LayerDir layers(dir, SHOAL_TRY(open_folder(AT_FDCWD, dir.c_str())));
  for (const std::string& name : SHOAL_TRY(layers.names()))
    if (name.starts_with(kTemporary))
      SHOAL_TRY_WRAP(remove_tree(layers.fd_.get(), name), dir.string());
  return layers;
}

std::filesystem::path LayerDir::path(std::string_view diff_id) const {
  return dir_ / digest_hex(diff_id);
}

bool LayerDir::holds(std::string_view diff_id) const {
  struct stat st{};
  return ::fstatat(fd_.get(), std::string(digest_hex(diff_id)).c_str(), &st, AT_SYMLINK_NOFOLLOW) ==
         0;
}

LayerDir::Pending::~Pending() {
  if (owner_)
    (void)remove_tree(owner_->fd_.get(), name_);  // what stays is deleted at the next open
}

Result<LayerDir::Pending> LayerDir::unpack(int blob_fd, std::string_view diff_id,
                                           const UnpackLimits& limits) const {
  Pending pending(this, temporary_name(), std::string(diff_id));
  if (::mkdirat(fd_.get(), pending.name_.c_str(), 0755) != 0)
    return fail_errno(fmt::format("mkdir {}", (dir_ / pending.name_).string()));
  const UniqueFd root = SHOAL_TRY(open_folder(fd_.get(), pending.name_.c_str()));
  // The umask must not take anything from a root that the layer does not describe.
  if (::fchmod(root.get(), 0755) != 0)
    return fail_errno("chmod");
  SHOAL_TRY_WRAP(unpack_layer(blob_fd, diff_id, root.get(), limits),
                 fmt::format("unpack layer {}", diff_id));
  return pending;
}

Result<> LayerDir::sync() const {
  if (::syncfs(fd_.get()) != 0)
    return fail_errno(fmt::format("sync {}", dir_.string()));
  return {};
}

Result<> LayerDir::commit(Pending pending) const {
  const std::string name(digest_hex(pending.diff_id_));
  if (::renameat(fd_.get(), pending.name_.c_str(), fd_.get(), name.c_str()) != 0) {
    // The image lists one layer twice, and it is there by now.
    if (errno == EEXIST || errno == ENOTEMPTY)
      return {};
    return fail_errno(fmt::format("rename layer {}", name));
  }
  pending.owner_ = nullptr;
  if (::fsync(fd_.get()) != 0)
    return fail_errno(fmt::format("sync {}", dir_.string()));
  return {};
}

Result<std::vector<std::string>> LayerDir::names() const {
  std::vector<std::string> out;
  std::error_code ec;
  for (auto it = std::filesystem::directory_iterator(dir_, ec);
       !ec && it != std::filesystem::directory_iterator(); it.increment(ec))
    out.push_back(it->path().filename().string());
  if (ec)
    return fail_errno(ec.value(), fmt::format("read {}", dir_.string()));
  return out;
}

Result<> LayerDir::detach(const std::set<std::string>& keep,
                          std::vector<std::string>& detached) const {
  for (const std::string& name : SHOAL_TRY(names())) {
    const std::string diff_id = "sha256:" + name;
    if (!is_sha256_digest(diff_id) || keep.contains(diff_id))
      continue;
    // A layer must not keep its name while it is half gone.
    std::string doomed = temporary_name();
    if (::renameat(fd_.get(), name.c_str(), fd_.get(), doomed.c_str()) != 0)
      return fail_errno(fmt::format("rename layer {}", name));
    detached.push_back(std::move(doomed));
  }
  return {};
}

Result<std::uint64_t> LayerDir::erase(const std::vector<std::string>& detached) const {
  std::uint64_t freed = 0;
  for (const std::string& name : detached)
    freed += SHOAL_TRY_WRAP(remove_tree(fd_.get(), name), dir_.string());
  return freed;
}

}  // namespace shoal::runtime
