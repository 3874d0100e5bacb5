// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/tree_tar.h"

#include "netplane/base/strings.h"
#include "netplane/base/unique_fd.h"
#include "runtime/image/stream.h"

#include <archive.h>
#include <archive_entry.h>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <memory>
#include <optional>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace shoal::cli {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

constexpr std::size_t kPieceBytes = 128 << 10;
constexpr mode_t kModeBits = 0777;

// ---- packing

struct FreeWriter {
  void operator()(archive* a) const { archive_write_free(a); }
};
struct FreeEntry {
  void operator()(archive_entry* e) const { archive_entry_free(e); }
};

class Packer {
public:
  Packer(int fd, const Warn& warn) : fd_(fd), archive_(archive_write_new()), warn_(warn) {
    // Long names in GNU's way: what BusyBox' tar reads too.
    archive_write_set_format_gnutar(archive_.get());
    archive_write_set_bytes_in_last_block(archive_.get(), 1);
    opened_ =
        archive_write_open(archive_.get(), this, nullptr, &Packer::put, nullptr) == ARCHIVE_OK;
  }
  Packer(const Packer&) = delete;
  Packer& operator=(const Packer&) = delete;

  Result<> add(const fs::path& path, const std::string& name) {
    if (!opened_)
      return failed(name);
    struct stat info{};
    if (::lstat(path.c_str(), &info) != 0)
      return fail_errno(path.string());
    if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode) && !S_ISLNK(info.st_mode)) {
      warn_(fmt::format("{} is neither file, folder nor link: left out", path.string()));
      return {};
    }
    UniqueFd file;
    if (S_ISREG(info.st_mode)) {
      file = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
      if (!file || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode))
        return fail_errno(fmt::format("open {}", path.string()));
    }
    const std::unique_ptr<archive_entry, FreeEntry> entry(archive_entry_new());
    archive_entry_copy_stat(entry.get(), &info);
    archive_entry_set_pathname(entry.get(), name.c_str());
    if (S_ISLNK(info.st_mode)) {
      std::error_code error;
      const fs::path target = fs::read_symlink(path, error);
      if (error)
        return fail_errno(error.value(), fmt::format("read {}", path.string()));
      archive_entry_set_symlink(entry.get(), target.c_str());
      archive_entry_set_size(entry.get(), 0);
    }
    if (archive_write_header(archive_.get(), entry.get()) != ARCHIVE_OK || error_ != 0)
      return failed(name);
    return file ? copy(file.get(), static_cast<std::uint64_t>(info.st_size), path) : Result<>();
  }
  Result<> close() {
    if (archive_write_close(archive_.get()) != ARCHIVE_OK || error_ != 0)
      return failed("its end");
    return {};
  }
  // What was begun stays torn, so that the other side sees it.
  void give_up() { torn_ = true; }

private:
  // Nothing is an error to libarchive, which leaks what it has open once it has seen one.
  static la_ssize_t put(archive* /*archive*/, void* packer, const void* bytes, std::size_t length) {
    auto& self = *static_cast<Packer*>(packer);
    for (std::size_t done = 0; done < length && !self.torn_ && self.error_ == 0;) {
      const ssize_t n = ::write(self.fd_, static_cast<const char*>(bytes) + done, length - done);
      if (n >= 0)
        done += static_cast<std::size_t>(n);
      else if (errno != EINTR)
        self.error_ = errno;
    }
    return static_cast<la_ssize_t>(length);
  }
  // As many bytes as its header says: one that has grown is cut, one that has shrunk is an error.
  Result<> copy(int fd, std::uint64_t left, const fs::path& path) {
    std::vector<char> piece(kPieceBytes);
    while (left > 0) {
      const ssize_t n = ::read(fd, piece.data(), std::min<std::uint64_t>(piece.size(), left));
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        return fail_errno(fmt::format("read {}", path.string()));
      if (n == 0)
        return fail(Errc::kIo, fmt::format("{} became shorter while it was copied", path.string()));
      if (archive_write_data(archive_.get(), piece.data(), static_cast<std::size_t>(n)) != n ||
          error_ != 0)
        return failed(path.string());
      left -= static_cast<std::uint64_t>(n);
    }
    return {};
  }
  std::unexpected<Error> failed(std::string_view what) {
    if (error_ != 0)
      return fail_errno(error_, fmt::format("pack {}", what));
    const char* text = archive_error_string(archive_.get());
    return fail(Errc::kIo, fmt::format("pack {}: {}", what, text ? text : "unknown error"));
  }

  int fd_;
  int error_ = 0;  // of the first write that failed
  bool torn_ = false;
  bool opened_ = false;
  std::unique_ptr<archive, FreeWriter> archive_;
  const Warn& warn_;
};

// ---- unpacking

Result<Names> split(std::string_view path) {
  Names names;
  for (const fs::path& part : fs::path(path))
    if (part == "..")
      return fail(Errc::kInvalid, fmt::format("the archive from the pod holds the name \"{}\", "
                                              "which leads out of where it belongs: refused",
                                              printable(path)));
    else if (!part.empty() && part != "." && part != "/")
      names.push_back(part.string());
  return names;
}

std::string joined(const Names& names) {
  std::string text;
  for (const std::string& name : names)
    text += (text.empty() ? "" : "/") + name;
  return text;
}

class Unpacker {
public:
  Unpacker(UniqueFd folder, Names base, std::string name, const Warn& warn)
      : folder_(std::move(folder)), base_(std::move(base)), name_(std::move(name)), warn_(warn) {}

  Result<> add(archive_entry* entry, runtime::TarReader& tar) {
    const char* path = archive_entry_pathname(entry);
    const Names names = SHOAL_TRY(place(path ? path : ""));
    any_ = true;
    if (const char* link = archive_entry_hardlink(entry))
      return add_hard_link(names, link);
    switch (archive_entry_filetype(entry)) {
    case AE_IFDIR:
      SHOAL_TRY(open_folder(names));
      folders_.emplace_back(names, archive_entry_perm(entry) & kModeBits);
      return {};
    case AE_IFREG:
      return add_file(names, entry, tar);
    case AE_IFLNK: {
      const char* target = archive_entry_symlink(entry);
      return add_link(names, target ? target : "");
    }
    default:
      return leave_out(names, "neither file, folder nor link");
    }
  }
  // Modes of folders last, inner ones first: one that may not be written to had to be filled.
  Result<> finish() {
    for (auto at = folders_.rbegin(); at != folders_.rend(); ++at) {
      const UniqueFd folder = SHOAL_TRY(open_folder(at->first));
      if (!at->first.empty() && ::fchmod(folder.get(), at->second) != 0)
        return fail_errno(fmt::format("set the mode of {}", joined(at->first)));
    }
    if (!any_)
      return fail(Errc::kNotFound, "the pod sent nothing");
    return {};
  }

private:
  // Of what was asked for itself nothing would be left: an error.
  Result<> leave_out(const Names& names, const std::string& what) const {
    if (names.size() == (name_.empty() ? 0 : 1))
      return fail(Errc::kInvalid, fmt::format("what the path in the pod names is {}", what));
    warn_(fmt::format("{} is {}: left out", printable(joined(names)), what));
    return {};
  }

  // Where an entry goes, below the folder.
  Result<Names> place(std::string_view path) const {
    Names names = SHOAL_TRY(split(path));
    if (path.starts_with('/') || names.size() < base_.size() ||
        !std::equal(base_.begin(), base_.end(), names.begin()))
      return fail(Errc::kInvalid,
                  fmt::format("the archive from the pod holds \"{}\", which was not asked for: "
                              "refused",
                              printable(path)));
    names.erase(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(base_.size()));
    if (!name_.empty())
      names.insert(names.begin(), name_);
    return names;
  }

  // Step by step, so that no link is followed; makes what is missing.
  Result<UniqueFd> open_folder(const Names& names) const {
    UniqueFd at(::fcntl(folder_.get(), F_DUPFD_CLOEXEC, 3));
    for (std::size_t i = 0; at && i < names.size(); ++i) {
      if (::mkdirat(at.get(), names[i].c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(fmt::format("make folder {}", printable(joined(names))));
      UniqueFd next(
          ::openat(at.get(), names[i].c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (!next && (errno == ELOOP || errno == ENOTDIR))
        return fail(Errc::kInvalid,
                    fmt::format("{}: {} is a link or no folder, and is not gone through: refused",
                                printable(joined(names)), printable(names[i])));
      at = std::move(next);
    }
    if (!at)
      return fail_errno(fmt::format("open folder {}", printable(joined(names))));
    return at;
  }
  struct Spot {
    UniqueFd parent;
    std::string name;
  };
  Result<Spot> spot_of(const Names& names) const {
    if (names.empty())
      return fail(Errc::kInvalid, "a file is no folder: name the file that it becomes");
    return Spot{SHOAL_TRY(open_folder(Names(names.begin(), names.end() - 1))), names.back()};
  }
  // What is there by that name is gone, but for a folder.
  Result<Spot> clear(const Names& names) const {
    Spot spot = SHOAL_TRY(spot_of(names));
    if (::unlinkat(spot.parent.get(), spot.name.c_str(), 0) != 0 && errno != ENOENT)
      return fail_errno(fmt::format("replace {}", printable(joined(names))));
    return spot;
  }

  // There is the old file or the whole new one.
  Result<> add_file(const Names& names, archive_entry* entry, runtime::TarReader& tar) {
    const Spot spot = SHOAL_TRY(spot_of(names));
    const std::string part = fmt::format(".shoal-cp.{}", ::getpid());
    ::unlinkat(spot.parent.get(), part.c_str(), 0);
    const UniqueFd file(::openat(spot.parent.get(), part.c_str(),
                                 O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file)
      return fail_errno(fmt::format("make {}", printable(joined(names))));
    auto filled = fill(file.get(), names, entry, tar);
    if (filled &&
        ::renameat(spot.parent.get(), part.c_str(), spot.parent.get(), spot.name.c_str()) != 0)
      filled = fail_errno(fmt::format("replace {}", printable(joined(names))));
    if (!filled)
      ::unlinkat(spot.parent.get(), part.c_str(), 0);
    return filled;
  }

  static Result<> fill(int file, const Names& names, archive_entry* entry,
                       runtime::TarReader& tar) {
    runtime::TarReader::Block block;
    while (SHOAL_TRY(tar.read(block)))
      for (std::size_t done = 0; done < block.bytes.size();) {
        const ssize_t n = ::pwrite(file, block.bytes.data() + done, block.bytes.size() - done,
                                   static_cast<off_t>(block.offset + done));
        if (n < 0 && errno != EINTR)
          return fail_errno(fmt::format("write {}", printable(joined(names))));
        done += n > 0 ? static_cast<std::size_t>(n) : 0;
      }
    const timespec time{archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)};
    const std::array times{time, time};
    if (::ftruncate(file, archive_entry_size(entry)) != 0 ||  // it may end with a hole
        ::fchmod(file, archive_entry_perm(entry) & kModeBits) != 0 ||
        ::futimens(file, times.data()) != 0)
      return fail_errno(fmt::format("finish {}", printable(joined(names))));
    return {};
  }

  // One that stays within what is copied is made; it is never gone through here. Up only at its
  // begin, by folders, which names are: after a name, which may be a link itself, nobody knows
  // where
  // ".." leads.
  Result<> add_link(const Names& names, const std::string& target) {
    std::ptrdiff_t depth = static_cast<std::ptrdiff_t>(names.size()) - (name_.empty() ? 1 : 2);
    bool inside = !target.starts_with('/') && depth >= 0;
    bool named = false;
    for (const fs::path& part : fs::path(target)) {
      if (part == "..")
        inside = inside && !named && --depth >= 0;
      else
        named = named || !(part == "." || part.empty());
    }
    if (!inside)
      return leave_out(
          names, fmt::format("a link to {}, which is not in what is copied", printable(target)));
    const Spot spot = SHOAL_TRY(clear(names));
    if (::symlinkat(target.c_str(), spot.parent.get(), spot.name.c_str()) != 0)
      return fail_errno(fmt::format("make link {}", printable(joined(names))));
    return {};
  }

  Result<> add_hard_link(const Names& names, std::string_view target) {
    const Names there = SHOAL_TRY(place(target));
    if (there.empty() || there == names)
      return fail(Errc::kInvalid, fmt::format("{}: a link to nothing", printable(joined(names))));
    const UniqueFd parent = SHOAL_TRY(open_folder(Names(there.begin(), there.end() - 1)));
    const Spot spot = SHOAL_TRY(clear(names));
    struct stat info{};
    // Another name for a symbolic link would be one that nobody has looked at from there.
    if (::fstatat(parent.get(), there.back().c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(info.st_mode) ||
        ::linkat(parent.get(), there.back().c_str(), spot.parent.get(), spot.name.c_str(), 0) != 0)
      return fail(Errc::kInvalid, fmt::format("cannot make {} another name for {}",
                                              printable(joined(names)), printable(target)));
    return {};
  }

  const UniqueFd folder_;
  const Names base_;
  const std::string name_;
  const Warn& warn_;
  std::vector<std::pair<Names, mode_t>> folders_;
  bool any_ = false;
};

}  // namespace

Result<> pack_tree(int fd, const fs::path& source, const std::string& as, const Warn& warn) {
  const runtime::Utf8Locale utf8;
  Packer packer(fd, warn);
  const auto add_all = [&]() -> Result<> {
    SHOAL_TRY(packer.add(source, as));
    std::error_code error;
    if (fs::is_directory(fs::symlink_status(source, error)))
      for (auto at = fs::recursive_directory_iterator(source, error);
           !error && at != fs::recursive_directory_iterator(); at.increment(error))
        SHOAL_TRY(
            packer.add(at->path(), as + "/" + at->path().lexically_relative(source).string()));
    if (error)
      return fail_errno(error.value(), fmt::format("read {}", source.string()));
    return packer.close();
  };
  auto done = add_all();
  if (!done)
    packer.give_up();
  return done;
}

Result<> unpack_tree(int fd, const std::string& base, const fs::path& folder,
                     const std::string& name, const Warn& warn) {
  const runtime::Utf8Locale utf8;
  UniqueFd root(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root)
    return fail_errno(fmt::format("open folder {}", folder.string()));
  Unpacker unpacker(std::move(root), SHOAL_TRY(split(base)), name, warn);
  runtime::FdSource source(fd);
  runtime::TarReader tar(source);
  while (archive_entry* entry = SHOAL_TRY(tar.next()))
    SHOAL_TRY(unpacker.add(entry, tar));
  SHOAL_TRY(unpacker.finish());
  // An archive is padded, and who writes it must not find nobody there who reads that.
  while (!SHOAL_TRY(source.next()).empty()) {
  }
  return {};
}

}  // namespace shoal::cli
