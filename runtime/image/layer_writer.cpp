// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/layer_writer.h"

#include "netplane/base/strings.h"
#include "runtime/image/tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <limits>
#include <linux/openat2.h>
#include <span>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kOpaqueMarker = ".wh..wh..opq";
constexpr std::string_view kAufsPrefix = ".wh..wh.";  // aufs' own files: nothing to overlayfs
constexpr const char* kOpaqueXattr = "trusted.overlay.opaque";
constexpr mode_t kImplicitFolderMode = 0755;
constexpr mode_t kModeBits = 07777;

bool is_whiteout(const struct stat& st) {
  return S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0);
}

Result<> make_opaque(int folder) {
  if (::fsetxattr(folder, kOpaqueXattr, "y", 1, 0) != 0)
    return fail_errno("set trusted.overlay.opaque");
  return {};
}

std::string join(std::span<const std::string> parts) {
  return fmt::format("{}", fmt::join(parts, "/"));
}

Result<uid_t> id_of(la_int64_t id) {
  // The largest value means "leave as it is" to chown.
  if (id < 0 || id >= std::numeric_limits<uid_t>::max())
    return fail(Errc::kInvalid, fmt::format("owner {} is out of range", id));
  return static_cast<uid_t>(id);
}

timespec mtime_of(archive_entry* entry) {
  return {archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)};
}

Result<> set_times(int fd, const char* name, timespec mtime, int flags) {
  const timespec times[2] = {mtime, mtime};
  if (::utimensat(fd, name, times, flags) != 0)
    return fail_errno("set times");
  return {};
}

}  // namespace

Result<> LayerWriter::add(archive_entry* entry, TarReader& tar) {
  const char* name = archive_entry_pathname(entry);
  if (!name)
    return fail(Errc::kInvalid, "an entry's name cannot be read");
  const Path path = SHOAL_TRY(entry_components(name));
  auto added = add_at(entry, tar, path);
  if (!added)
    return fail(std::move(added).error().wrap(fmt::format("entry \"{}\"", printable(name, 200))));
  return {};
}

Result<> LayerWriter::add_at(archive_entry* entry, TarReader& tar, const Path& path) {
  const mode_t type = archive_entry_filetype(entry);
  const char* link = archive_entry_hardlink(entry);
  if (path.empty()) {
    if (type != AE_IFDIR)
      return fail(Errc::kInvalid, "the layer's root is not a folder");
    folder_times_.emplace_back(".", mtime_of(entry));
    return set_attributes(root_fd_, entry);
  }
  const int parent = SHOAL_TRY(parent_of(path, true));
  const char* name = path.back().c_str();
  if (path.back().starts_with(kWhiteoutPrefix))
    return add_whiteout(parent, path.back());
  if (!link && (type == AE_IFCHR || type == AE_IFBLK || type == AE_IFSOCK)) {
    ++stats.devices_left_out;
    return {};
  }
  if (link)
    return add_hard_link(link, parent, name);
  const Slot slot = SHOAL_TRY(clear(parent, name, type == AE_IFDIR));
  switch (type) {
  case AE_IFREG:
    return add_file(entry, tar, parent, name);
  case AE_IFDIR:
    folder_times_.emplace_back(join(path), mtime_of(entry));
    return add_folder(entry, parent, name, slot);
  case AE_IFLNK:
  case AE_IFIFO:
    return add_special(entry, parent, name);
  default:
    return fail(Errc::kInvalid, "an entry of unknown type");
  }
}

Result<> LayerWriter::add_file(archive_entry* entry, TarReader& tar, int parent, const char* name) {
  UniqueFd fd(::openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd)
    return fail_errno("create");
  TarReader::Block block;
  while (SHOAL_TRY(tar.read(block))) {
    while (!block.bytes.empty()) {
      const ssize_t n = ::pwrite(fd.get(), block.bytes.data(), block.bytes.size(),
                                 static_cast<off_t>(block.offset));
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        return fail_errno("write");
      block.bytes.remove_prefix(static_cast<std::size_t>(n));
      block.offset += static_cast<std::uint64_t>(n);
    }
  }
  // A sparse file may end in a hole.
  if (::ftruncate(fd.get(), archive_entry_size(entry)) != 0)
    return fail_errno("set size");
  SHOAL_TRY(set_attributes(fd.get(), entry));
  const timespec times[2] = {mtime_of(entry), mtime_of(entry)};
  if (::futimens(fd.get(), times) != 0)
    return fail_errno("set times");
  return {};
}

Result<> LayerWriter::add_folder(archive_entry* entry, int parent, const char* name,
                                 const Slot& slot) {
  if (!slot.folder_kept && ::mkdirat(parent, name, kImplicitFolderMode) != 0)
    return fail_errno("mkdir");
  const UniqueFd folder = SHOAL_TRY(open_folder(parent, name));
  if (slot.was_whiteout)
    SHOAL_TRY(make_opaque(folder.get()));
  return set_attributes(folder.get(), entry);
}

Result<> LayerWriter::add_special(archive_entry* entry, int parent, const char* name) {
  if (archive_entry_filetype(entry) == AE_IFIFO) {
    if (::mknodat(parent, name, S_IFIFO | 0600, 0) != 0)
      return fail_errno("make FIFO");
  } else {
    const char* target = archive_entry_symlink(entry);
    if (!target || *target == '\0')
      return fail(Errc::kInvalid, "a symlink without a target");
    if (::symlinkat(target, parent, name) != 0)
      return fail_errno("symlink");
  }
  const uid_t uid = SHOAL_TRY(id_of(archive_entry_uid(entry)));
  const gid_t gid = SHOAL_TRY(id_of(archive_entry_gid(entry)));
  if (::fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW) != 0)
    return fail_errno("chown");
  // The name was just made here and is a FIFO, so no link is followed.
  if (archive_entry_filetype(entry) == AE_IFIFO &&
      ::fchmodat(parent, name, archive_entry_perm(entry) & kModeBits, 0) != 0)
    return fail_errno("chmod");
  return set_times(parent, name, mtime_of(entry), AT_SYMLINK_NOFOLLOW);
}

Result<> LayerWriter::add_hard_link(const char* target, int parent, const char* name) {
  const Path path = SHOAL_TRY(entry_components(target));
  if (path.empty())
    return fail(Errc::kInvalid, "a hard link to the root");
  // parent is only held until the next lookup.
  const UniqueFd here(::fcntl(parent, F_DUPFD_CLOEXEC, 0));
  if (!here)
    return fail_errno("dup");
  const auto missing = [&](std::string_view why) {
    return fail(Errc::kInvalid,
                fmt::format("hard link to \"{}\": {}", printable(target, 200), why));
  };
  auto folder = parent_of(path, false);
  if (!folder)
    return missing("the layer holds no such file");
  struct stat source{};
  if (::fstatat(*folder, path.back().c_str(), &source, AT_SYMLINK_NOFOLLOW) != 0 ||
      is_whiteout(source))
    return missing("the layer holds no such file");
  if (S_ISDIR(source.st_mode))
    return missing("it is a folder");
  struct stat present{};
  if (::fstatat(here.get(), name, &present, AT_SYMLINK_NOFOLLOW) == 0 &&
      present.st_ino == source.st_ino && present.st_dev == source.st_dev)
    return {};
  const UniqueFd from(::fcntl(*folder, F_DUPFD_CLOEXEC, 0));
  if (!from)
    return fail_errno("dup");
  SHOAL_TRY(clear(here.get(), name, false));
  if (::linkat(from.get(), path.back().c_str(), here.get(), name, 0) != 0)
    return fail_errno(fmt::format("hard link to \"{}\"", printable(target, 200)));
  return {};
}

Result<> LayerWriter::add_whiteout(int parent, std::string_view name) {
  if (name == kOpaqueMarker)
    return make_opaque(parent);
  if (name.starts_with(kAufsPrefix))
    return {};
  const std::string hidden(name.substr(kWhiteoutPrefix.size()));
  if (hidden.empty() || hidden == "." || hidden == "..")
    return fail(Errc::kInvalid, "a whiteout that names nothing");
  struct stat st{};
  if (::fstatat(parent, hidden.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
    // A whiteout is about the layers below: what this layer holds itself stays, and hides what is
    // below it.
    if (!S_ISDIR(st.st_mode))
      return {};
    const UniqueFd folder = SHOAL_TRY(open_folder(parent, hidden.c_str()));
    return make_opaque(folder.get());
  }
  if (::mknodat(parent, hidden.c_str(), S_IFCHR, makedev(0, 0)) != 0)
    return fail_errno("make whiteout");
  return {};
}

// chown clears set-id bits and capabilities, so the order is owner, mode, xattrs.
Result<> LayerWriter::set_attributes(int fd, archive_entry* entry) {
  const uid_t uid = SHOAL_TRY(id_of(archive_entry_uid(entry)));
  const gid_t gid = SHOAL_TRY(id_of(archive_entry_gid(entry)));
  if (::fchown(fd, uid, gid) != 0)
    return fail_errno("chown");
  if (::fchmod(fd, archive_entry_perm(entry) & kModeBits) != 0)
    return fail_errno("chmod");
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  archive_entry_xattr_reset(entry);
  while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
    const std::string_view key(name ? name : "");
    const bool keep = key == "security.capability" ||
                      (key.starts_with("user.") && !key.starts_with("user.overlay."));
    if (!keep) {
      ++stats.xattrs_left_out;
      continue;
    }
    if (::fsetxattr(fd, name, value, size, 0) != 0)
      return fail_errno(fmt::format("set xattr {}", printable(key)));
  }
  return {};
}

Result<UniqueFd> LayerWriter::resolve_folder(const std::string& path) const {
  open_how how{};
  how.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  UniqueFd fd(static_cast<int>(::syscall(SYS_openat2, root_fd_, path.c_str(), &how, sizeof(how))));
  if (!fd)
    return fail_errno(fmt::format("open folder \"{}\"", printable(path, 200)));
  return fd;
}

Result<int> LayerWriter::parent_of(const Path& path, bool make) {
  if (path.size() == 1)
    return root_fd_;
  const std::size_t count = path.size() - 1;
  std::string folder = join(std::span(path).first(count));
  if (parent_ && folder == parent_path_)
    return parent_.get();
  auto opened = resolve_folder(folder);
  if (!opened && make)
    opened = make_folders(path, count);
  if (!opened)
    return fail(std::move(opened).error());
  parent_ = std::move(*opened);
  parent_path_ = std::move(folder);
  return parent_.get();
}

// Folders that the layer does not list get root's ownership and 0755, as other engines do it.
Result<UniqueFd> LayerWriter::make_folders(const Path& path, std::size_t count) {
  UniqueFd above(::fcntl(root_fd_, F_DUPFD_CLOEXEC, 0));
  if (!above)
    return fail_errno("dup");
  for (std::size_t i = 1; i <= count; ++i) {
    const std::string sofar = join(std::span(path).first(i));
    auto opened = resolve_folder(sofar);
    if (!opened) {
      const char* name = path[i - 1].c_str();
      struct stat st{};
      const bool there = ::fstatat(above.get(), name, &st, AT_SYMLINK_NOFOLLOW) == 0;
      if (there && !is_whiteout(st))
        return fail(Errc::kInvalid, fmt::format("its folder \"{}\" is a file or a dangling link",
                                                printable(sofar, 200)));
      if (there && ::unlinkat(above.get(), name, 0) != 0)
        return fail_errno("replace a whiteout");
      if (::mkdirat(above.get(), name, kImplicitFolderMode) != 0)
        return fail_errno(fmt::format("mkdir \"{}\"", printable(sofar, 200)));
      opened = open_folder(above.get(), name);
      if (opened && there)
        SHOAL_TRY(make_opaque(opened->get()));
    }
    if (!opened)
      return fail(std::move(opened).error());
    above = std::move(*opened);
  }
  return above;
}

Result<LayerWriter::Slot> LayerWriter::clear(int parent, const char* name, bool for_folder) {
  Slot slot;
  struct stat st{};
  if (::fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT)
      return slot;
    return fail_errno("stat");
  }
  if (for_folder && S_ISDIR(st.st_mode)) {
    slot.folder_kept = true;
    return slot;
  }
  slot.was_whiteout = is_whiteout(st);
  SHOAL_TRY(remove_tree(parent, name));
  // The cached folder may have been reached through what has just gone.
  if (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode))
    parent_path_.clear();
  return slot;
}

Result<> LayerWriter::finish() {
  for (const auto& [path, mtime] : folder_times_) {
    // The folder may have been replaced by a later entry.
    auto folder = resolve_folder(path);
    if (!folder)
      continue;
    const timespec times[2] = {mtime, mtime};
    if (::futimens(folder->get(), times) != 0)
      return fail_errno(fmt::format("set times of {}", printable(path)));
  }
  return {};
}

}  // namespace shoal::runtime
