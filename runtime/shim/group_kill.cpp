// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/group_kill.h"

#include "runtime/shim/sys.h"

#include <csignal>
#include <cstdlib>
#include <dirent.h>
#include <string_view>
#include <sys/types.h>
#include <unistd.h>

namespace shoal::runtime::shim {
namespace {

constexpr int kDepthMax = 16;
constexpr std::size_t kProcsBytesMax = 1 << 20;

// How many processes there were. Whoever is past the bounds is met on a later round.
std::size_t kill_each(const std::string& folder, int depth) {
  std::size_t found = 0;
  const std::string procs = read_small_file(folder + "/cgroup.procs", kProcsBytesMax);
  for (const char* at = procs.c_str(); *at != '\0';) {
    char* end = nullptr;
    const long pid = std::strtol(at, &end, 10);
    if (end == at)
      break;
    if (pid > 1) {
      ::kill(static_cast<pid_t>(pid), SIGKILL);
      ++found;
    }
    at = *end == '\n' ? end + 1 : end;
  }
  DIR* dir = depth < kDepthMax ? ::opendir(folder.c_str()) : nullptr;
  while (dir != nullptr) {
    const dirent* entry = ::readdir(dir);
    if (entry == nullptr)
      break;
    const std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..")
      found += kill_each(folder + "/" + entry->d_name, depth + 1);
  }
  if (dir != nullptr)
    ::closedir(dir);
  return found;
}

bool kill_v2(const std::string& folder) {
  if (write_small_file(folder + "/cgroup.kill", "1"))
    return read_small_file(folder + "/cgroup.events", 256).find("populated 1") == std::string::npos;
  // Kernels before 5.14. What is frozen here does not fork, and dies all the same.
  write_small_file(folder + "/cgroup.freeze", "1");
  return kill_each(folder, 0) == 0;
}

// What is frozen here does not fork, and dies when it is let go.
bool kill_v1(const std::string& folder) {
  write_small_file(folder + "/freezer.state", "FROZEN");
  const std::size_t found = kill_each(folder, 0);
  write_small_file(folder + "/freezer.state", "THAWED");
  return found == 0;
}

}  // namespace

bool kill_group(const ProcessGroup& group) {
  const std::string& folder = group.cgroup2.empty() ? group.freezer_v1 : group.cgroup2;
  if (folder.empty() || ::access(folder.c_str(), F_OK) != 0)
    return true;
  return group.cgroup2.empty() ? kill_v1(folder) : kill_v2(folder);
}

}  // namespace shoal::runtime::shim
