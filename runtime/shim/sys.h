// SPDX-License-Identifier: Apache-2.0
// The few system helpers of the static shim, without fmt and iostream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <sys/types.h>

namespace shoal::runtime::shim {

std::int64_t mono_ms();
std::int64_t wall_ns();
// At most max bytes of a file's beginning; empty when it cannot be read.
std::string read_small_file(const std::string& path, std::size_t max);
// At most max bytes of a regular file's end; empty when it cannot be read.
std::string read_file_end(const std::string& path, std::size_t max);
bool write_small_file(const std::string& path, std::string_view text);
// Under a temporary name, then renamed. Not fsynced: for files on tmpfs that only outlive the
// process, not the boot.
bool replace_file(const std::string& path, std::string_view text);
// The same, on disk when it returns: for what outlives the boot.
bool save_file(const std::string& path, std::string_view text);
// Field 22 of /proc/PID/stat, see ProcessId; 0 when there is no such process.
std::uint64_t start_ticks(pid_t pid);

}  // namespace shoal::runtime::shim
