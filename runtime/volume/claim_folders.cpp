// SPDX-License-Identifier: Apache-2.0
#include "runtime/volume/claim_folders.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "netplane/base/unique_fd.h"
#include "runtime/rootfs/remove_tree.h"
#include "runtime/sandbox/mounts.h"
#include "runtime/volume/folder.h"

#include <algorithm>
#include <fcntl.h>
#include <fmt/format.h>
#include <tuple>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRevision = ".revision";
constexpr std::string_view kDeleted = ".deleted";
constexpr std::size_t kUidBytes = 36;
constexpr std::size_t kNameBytesMax = 200;  // with uid and suffix less than what a folder may hold

fs::path beside(const fs::path& dir, const ClaimFolder& claim, std::string_view suffix) {
  fs::path path = claim_path(dir, claim);
  path += suffix;
  return path;
}

Result<> sync_folder(const fs::path& dir) {
  const UniqueFd fd(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0)
    return fail_errno(fmt::format("sync {}", dir.string()));
  return {};
}

}  // namespace

fs::path claim_path(const fs::path& dir, const ClaimFolder& claim) {
  return dir / claim.ns / fmt::format("{}-{}", claim.name.substr(0, kNameBytesMax), claim.uid);
}

Result<fs::path> make_claim_folder(const fs::path& dir, const ClaimFolder& claim) {
  if (claim.uid.size() != kUidBytes || !is_dns_label(claim.uid) || !is_dns_label(claim.ns))
    return fail(Errc::kInvalid, fmt::format("claim {}/{} has the uid '{}'", claim.ns, claim.name,
                                            printable(claim.uid)));
  const fs::path path = claim_path(dir, claim);
  std::error_code ignored;
  if (fs::is_directory(path, ignored))
    return path;
  SHOAL_TRY(make_dirs(path.parent_path(), 0711));
  SHOAL_TRY(write_file_atomic(beside(dir, claim, kRevision), std::to_string(claim.revision), 0600));
  SHOAL_TRY(make_open_folder(path));
  SHOAL_TRY(sync_folder(path.parent_path()));
  return path;
}

Result<> mark_claim_folder(const fs::path& dir, const ClaimFolder& claim, bool deleted) {
  const fs::path mark = beside(dir, claim, kDeleted);
  if (deleted)
    return write_file_atomic(mark, "", 0600);
  if (::unlink(mark.c_str()) != 0 && errno != ENOENT)
    return fail_errno(fmt::format("remove {}", mark.string()));
  return sync_folder(mark.parent_path());
}

Result<std::vector<ClaimFolder>> list_claim_folders(const fs::path& dir) {
  std::vector<ClaimFolder> out;
  std::error_code error;
  fs::directory_iterator spaces(dir, error);
  if (error == std::errc::no_such_file_or_directory)
    return out;
  for (const fs::directory_iterator end; !error && spaces != end; spaces.increment(error)) {
    if (!spaces->is_directory(error))
      continue;
    fs::directory_iterator at(spaces->path(), error);
    for (const fs::directory_iterator last; !error && at != last; at.increment(error)) {
      // By the file that is written first and removed last.
      std::string name = at->path().filename().string();
      if (!name.ends_with(kRevision))
        continue;
      name.resize(name.size() - kRevision.size());
      if (name.size() < kUidBytes + 2)
        continue;
      const auto text = read_file(at->path(), 64);
      const auto revision = text ? parse_uint(trim(*text)) : std::nullopt;
      if (!revision)
        continue;  // a hand's work; nothing is removed on a guess
      out.push_back({spaces->path().filename().string(),
                     name.substr(0, name.size() - kUidBytes - 1),
                     name.substr(name.size() - kUidBytes), *revision, false});
      out.back().deleted = fs::exists(beside(dir, out.back(), kDeleted), error);
    }
  }
  if (error)
    return fail_errno(error.value(), fmt::format("list {}", dir.string()));
  std::ranges::sort(out, {}, [](const ClaimFolder& c) { return std::tie(c.ns, c.name, c.uid); });
  return out;
}

Result<> remove_claim_folder(const fs::path& dir, const ClaimFolder& claim) {
  const fs::path path = claim_path(dir, claim);
  SHOAL_TRY(unmount_below(path));
  SHOAL_TRY(remove_tree(path));
  for (const std::string_view suffix : {kDeleted, kRevision})  // by the last it is found
    if (const fs::path file = beside(dir, claim, suffix);
        ::unlink(file.c_str()) != 0 && errno != ENOENT)
      return fail_errno(fmt::format("remove {}", file.string()));
  ::rmdir((dir / claim.ns).c_str());  // the last one of its namespace
  return {};
}

}  // namespace shoal::runtime
