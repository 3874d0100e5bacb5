// SPDX-License-Identifier: Apache-2.0
// Writes the entries of one layer below a folder. See unpack.h for what is kept, left out and
// refused.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"
#include "runtime/image/stream.h"
#include "runtime/image/unpack.h"

#include <ctime>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <utility>
#include <vector>

namespace shoal::runtime {

class LayerWriter {
public:
  explicit LayerWriter(int root_fd) : root_fd_(root_fd) {}

  // The content of a regular file is read from `tar`, which stands at the entry.
  Result<> add(archive_entry* entry, TarReader& tar);
  // Folder times, which writing into them would have changed.
  Result<> finish();

  UnpackStats stats;

private:
  using Path = std::vector<std::string>;
  // What stood at a name before an entry took it.
  struct Slot {
    bool folder_kept = false;
    bool was_whiteout = false;
  };

  Result<> add_at(archive_entry* entry, TarReader& tar, const Path& path);
  Result<> add_file(archive_entry* entry, TarReader& tar, int parent, const char* name);
  Result<> add_folder(archive_entry* entry, int parent, const char* name, const Slot& slot);
  Result<> add_special(archive_entry* entry, int parent, const char* name);
  Result<> add_hard_link(const char* target, int parent, const char* name);
  Result<> add_whiteout(int parent, std::string_view name);
  Result<> set_attributes(int fd, archive_entry* entry);

  // The folder of path without its last part; made where missing. The fd stays the writer's, until
  // the next call.
  Result<int> parent_of(const Path& path, bool make);
  Result<UniqueFd> resolve_folder(const std::string& path) const;
  Result<UniqueFd> make_folders(const Path& path, std::size_t count);
  // Makes room for an entry: removes what is in the way.
  Result<Slot> clear(int parent, const char* name, bool for_folder);

  int root_fd_;
  std::string parent_path_;  // what parent_ was opened by
  UniqueFd parent_;
  std::vector<std::pair<std::string, timespec>> folder_times_;
};

}  // namespace shoal::runtime
