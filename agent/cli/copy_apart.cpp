// SPDX-License-Identifier: Apache-2.0
// `shoal cp` of the program that has none of it: shoal-cp beside it goes on in its place.
#include "agent/cli/commands.h"
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <cerrno>
#include <filesystem>
#include <fmt/format.h>
#include <system_error>
#include <unistd.h>

namespace shoal::cli {

constexpr std::size_t kArgumentBytesMax = 4 << 20;  // more than the kernel passes

Exit run_copy(const Context& /*context*/, const CopyOptions& /*options*/) {
  std::string arguments =
      SHOAL_TRY_WRAP(read_file("/proc/self/cmdline", kArgumentBytesMax), "cp: read the arguments");
  std::vector<char*> argv;
  for (std::size_t at = 0; at < arguments.size(); at = arguments.find('\0', at) + 1)
    argv.push_back(arguments.data() + at);
  argv.push_back(nullptr);
  std::error_code ec;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", ec);
  if (ec)
    return fail_errno(ec.value(), "cp: find this program");
  const std::string program = self.parent_path() / "shoal-cp";
  ::execv(program.c_str(), argv.data());
  return fail_errno(fmt::format("cp: run {}, which belongs beside {}", program, self.string()));
}

}  // namespace shoal::cli
