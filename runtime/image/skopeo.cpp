// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/skopeo.h"

#include "netplane/base/fs.h"
#include "netplane/base/process_watch.h"
#include "netplane/base/strings.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

constexpr std::size_t kMessageBytesMax = 1000;
// There is always a watch; poll(2) counts milliseconds in an int.
constexpr std::chrono::hours kNoTimeout{24 * 20};

Error classify(std::string message) {
  const auto has = [&](std::string_view word) { return message.find(word) != std::string::npos; };
  Errc code = Errc::kUnavailable;
  if (has("no space left on device"))
    code = Errc::kExhausted;
  else if (has("manifest unknown") || has("name unknown") || has("not found"))
    code = Errc::kNotFound;
  else if (has("unauthorized") || has("authentication required") || has("denied"))
    code = Errc::kPermission;
  else if (has("igest") && (has("mismatch") || has("did not match") || has("does not match")))
    code = Errc::kCorrupt;
  return Error(code, std::move(message));
}

// A file without a name: nobody else can open it, and it goes with the last process that has it.
Result<UniqueFd> nameless(std::string_view content) {
  UniqueFd fd(::memfd_create("auth", MFD_CLOEXEC));
  if (!fd)
    return fail_errno("keep the credentials in memory");
  SHOAL_TRY(write_all(fd.get(), content));
  return fd;
}

}  // namespace

Result<> not_cancelled(const std::atomic<bool>* cancelled) {
  if (cancelled && cancelled->load())
    return fail(Errc::kCancelled, "cancelled: nobody waits for it any more");
  return {};
}

Result<std::string> run_skopeo(const PullOptions& options, const SkopeoRun& run,
                               const std::atomic<bool>* cancelled) {
  SHOAL_TRY(not_cancelled(cancelled));
  // Neither root's own credentials nor a configuration of its home.
  const UniqueFd auth = SHOAL_TRY(nameless(options.auth.empty() ? "{}" : options.auth));
  std::vector<std::string> argv = {options.skopeo, "--tmpdir", run.work_dir.string(),
                                   "--insecure-policy"};
  // Debian 12's skopeo does not know CONTAINERS_REGISTRIES_CONF.
  if (!options.registries_conf.empty())
    argv.insert(argv.end(), {"--registries-conf", options.registries_conf.string()});
  argv.insert(argv.end(),
              {run.arguments.at(0), "--authfile", fmt::format("/proc/self/fd/{}", auth.get())});
  argv.insert(argv.end(), run.arguments.begin() + 1, run.arguments.end());
  RunOptions how;
  how.timeout = kNoTimeout;
  how.output_bytes_max = run.output_bytes_max;
  how.env = {"HOME=" + run.work_dir.string(), "LC_ALL=C"};
  for (const char* name : {"PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
                           "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"})
    if (const char* value = std::getenv(name))
      how.env.push_back(fmt::format("{}={}", name, value));
  how.in_child = [fd = auth.get(), parent = ::getpid()] {
    if (::fcntl(fd, F_SETFD, 0) != 0 || ::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
      return errno;
    return ::getppid() == parent ? 0 : ESRCH;  // it went before it was asked to tell
  };
  const auto began = std::chrono::steady_clock::now();
  auto output = run_watched(
      argv, how,
      [&]() -> Result<> {
        SHOAL_TRY(not_cancelled(cancelled));
        if (run.watch)
          return run.watch();
        if (std::chrono::steady_clock::now() - began >= options.stall)
          return fail(Errc::kTimeout, fmt::format("the registry did not answer within {} s",
                                                  options.stall.count() / 1000));
        return {};
      },
      kSkopeoLook);
  if (!output && output.error().sys_errno() == ENOENT)
    return fail(Errc::kUnavailable,
                fmt::format("{} is not installed: registries need it (apt-get install skopeo)",
                            options.skopeo));
  if (!output)
    return fail(std::move(output).error());
  if (output->exit_code != 0)
    return fail(classify(output->err.empty()
                             ? fmt::format("skopeo ended with {}", output->exit_code)
                             : skopeo_message(output->err)));
  return std::move(output->out);
}

std::string skopeo_message(std::string_view text) {
  text = trim(text);
  text = text.substr(text.rfind('\n') == std::string_view::npos ? 0 : text.rfind('\n') + 1);
  constexpr std::string_view kField = " msg=\"";
  const std::size_t at = text.find(kField);
  if (at == std::string_view::npos)
    return printable(text, kMessageBytesMax);
  std::string out;
  for (std::size_t i = at + kField.size(); i < text.size() && text[i] != '"'; ++i) {
    if (text[i] == '\\' && i + 1 < text.size())
      ++i;
    out += text[i];
  }
  return printable(out, kMessageBytesMax);
}

}  // namespace shoal::runtime
