// SPDX-License-Identifier: Apache-2.0
#include "runtime/sandbox/container_record.h"

#include "netplane/base/fs.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::runtime {

Result<std::vector<shim::ContainerState>> read_container_records(const std::filesystem::path& dir) {
  std::vector<shim::ContainerState> records;
  std::error_code error;
  std::filesystem::directory_iterator at(dir, error);
  for (const std::filesystem::directory_iterator end; !error && at != end; at.increment(error)) {
    const std::filesystem::path& path = at->path();
    if (path.extension() != ".state")
      continue;
    const auto bytes = read_file(path, shim::kContainerRecordBytesMax);
    auto state = bytes ? shim::decode_container_record(*bytes)
                       : Result<shim::ContainerState>(fail(bytes.error()));
    if (state && path.filename() == shim::container_record_name(state->ref.attempt))
      records.push_back(std::move(*state));
  }
  if (error && error != std::errc::no_such_file_or_directory)
    return fail_errno(error.value(), fmt::format("list records in {}", dir.string()));
  std::ranges::sort(records, {}, &shim::ContainerState::ref);
  return records;
}

Result<> write_container_record(const std::filesystem::path& dir,
                                const shim::ContainerState& state) {
  return write_file_atomic(dir / shim::container_record_name(state.ref.attempt),
                           shim::encode_container_record(state));
}

}  // namespace shoal::runtime
