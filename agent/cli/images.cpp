// SPDX-License-Identifier: Apache-2.0
// The images of this host: shown, loaded, pulled, pushed, built.
#include "agent/cli/answer.h"
#include "agent/cli/commands.h"
#include "agent/cli/output.h"
#include "agent/cli/selection.h"
#include "netplane/base/fs.h"
#include "netplane/base/process.h"
#include "netplane/base/strings.h"
#include "netplane/base/unique_fd.h"

#include <boost/json.hpp>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace shoal::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kCredentialsBytesMax = 1 << 20;
constexpr std::size_t kShortDigest = 7 + 12;

// "-": standard input. So that no password is ever on a command line.
Result<std::string> read_credentials(const std::string& path) {
  if (path.empty())
    return std::string();
  if (path != "-")
    return read_file(path, kCredentialsBytesMax);
  std::string out;
  char buffer[4096];
  for (;;) {
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail_errno("read the credentials from standard input");
    if (n == 0)
      return out;
    out.append(buffer, static_cast<std::size_t>(n));
    if (out.size() > kCredentialsBytesMax)
      return fail(Errc::kInvalid, "the credentials on standard input are too long");
  }
}

Errc code_named(std::string_view name) {
  for (const Errc code : {Errc::kInvalid, Errc::kNotFound, Errc::kExhausted, Errc::kTimeout,
                          Errc::kPermission, Errc::kUnsupported, Errc::kCorrupt, Errc::kCancelled})
    if (name == to_string(code))
      return code;
  return Errc::kUnavailable;
}

// What shoald says while it pulls or pushes, a line at a time.
class Progress {
public:
  Progress(const Context& context, bool as_json)
      : context_(context), as_json_(as_json), terminal_(::isatty(STDERR_FILENO) == 1) {}

  bool take(std::string_view bytes) {
    rest_ += bytes;
    for (std::size_t end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n')) {
      line(std::string_view(rest_).substr(0, end));
      rest_.erase(0, end + 1);
    }
    return true;
  }
  Result<json::object> end() {
    if (shown_)
      context_.streams.err("\n");
    if (!last_)
      return fail(Errc::kUnavailable, "shoald ended before it said how it went");
    return std::move(*last_);
  }

private:
  void line(std::string_view text) {
    boost::system::error_code error;
    const json::value value = json::parse(text, error);
    if (error || !value.is_object())
      return;
    const json::object& object = value.get_object();
    if (!object.contains("phase")) {
      last_ = object;
      return;
    }
    if (as_json_)
      return;
    const std::string phase = text_at(object, "phase");
    const std::uint64_t total = number_at(object, "totalBytes");
    const std::string image = text_at(object, "image");
    if (!terminal_) {
      // A log gets a line at each turn, not at each look.
      if (std::exchange(phase_, phase) != phase)
        context_.streams.err(fmt::format("{} {}\n", phase, image));
      return;
    }
    shown_ = true;
    const std::uint64_t bytes = number_at(object, "bytes");
    context_.streams.err(
        total == 0 ? fmt::format("\r\x1b[K{} {}", phase, image)
                   : fmt::format("\r\x1b[K{} {}  {} {} of {}  layers {} of {}", phase, image,
                                 bar(bytes, total), human_bytes(bytes), human_bytes(total),
                                 text_at(object, "layers"), text_at(object, "totalLayers")));
  }
  static std::string bar(std::uint64_t bytes, std::uint64_t total) {
    constexpr std::size_t kWidth = 20;
    const std::size_t done = std::min<std::size_t>(kWidth, bytes * kWidth / total);
    return fmt::format("[{}{}]", std::string(done, '#'), std::string(kWidth - done, ' '));
  }

  const Context& context_;
  bool as_json_;
  bool terminal_;
  bool shown_ = false;
  std::string phase_;
  std::string rest_;
  std::optional<json::object> last_;
};

Result<json::object> follow(const Context& context, const std::string& target,
                            const std::string& credentials_file, bool as_json) {
  const std::string credentials = SHOAL_TRY_WRAP(read_credentials(credentials_file), "credentials");
  Progress progress(context, as_json);
  const Response response = SHOAL_TRY(
      context.client.stream({.method = "POST",
                             .target = target,
                             .body = json::serialize(json::object{{"credentials", credentials}}),
                             .accept = "application/x-ndjson, application/json"},
                            [&](std::string_view bytes) { return progress.take(bytes); }));
  if (!response.ok())
    return fail(to_error(read_refusal(response)));
  json::object last = SHOAL_TRY(progress.end());
  if (last.contains("error")) {
    const json::object& error = object_at(last, "error");
    return fail(code_named(text_at(error, "code")), text_at(error, "message"));
  }
  return last;
}

TextTable image_table(const json::array& images) {
  TextTable table({"IMAGE", "DIGEST", "PLATFORM", "LAYERS", "SIZE", "USED BY", "LAST USED"});
  for (const json::value& item : images) {
    const json::object& image = object_of(item);
    const std::string digest = text_at(image, "digest").substr(0, kShortDigest);
    const std::string platform =
        fmt::format("{}/{}", text_at(image, "os"), text_at(image, "architecture"));
    const std::string size = human_bytes(number_at(image, "sizeBytes"));
    const std::size_t pods = list_at(image, "usedBy").size();
    const std::string used_by = pods == 0   ? "-"
                                : pods == 1 ? cell(list_at(image, "usedBy").front())
                                            : fmt::format("{} pods", pods);
    const json::array& refs = list_at(image, "refs");
    const auto add = [&](std::string name) {
      table.add({std::move(name), digest, platform, text_at(image, "layers"), size, used_by,
                 text_at(image, "lastUsed")});
    };
    if (refs.empty())
      add("<none>");
    for (const json::value& ref : refs)
      add(cell(ref));
  }
  return table;
}

// With the terminal and the environment of this command; what it says goes to standard error, as
// results only are on standard output.
Result<> run_tool(const std::vector<std::string>& argv, std::string_view package) {
  std::vector<char*> args;
  for (const std::string& arg : argv)
    args.push_back(const_cast<char*>(arg.c_str()));
  args.push_back(nullptr);
  // The terminal's keys are the tool's, as system(3) has it: what it leaves is cleared away here.
  const auto interrupted = ::signal(SIGINT, SIG_IGN);
  const auto quit = ::signal(SIGQUIT, SIG_IGN);
  const pid_t pid = ::fork();
  if (pid < 0) {
    const int error = errno;
    ::signal(SIGINT, interrupted);
    ::signal(SIGQUIT, quit);
    errno = error;
    return fail_errno(fmt::format("fork for {}", argv[0]));
  }
  if (pid == 0) {
    ::signal(SIGINT, interrupted);
    ::signal(SIGQUIT, quit);
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
    ::execvp(args[0], args.data());
    ::_exit(errno == ENOENT ? 127 : 126);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  ::signal(SIGINT, interrupted);
  ::signal(SIGQUIT, quit);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
    return {};
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
    return fail(Errc::kUnavailable,
                fmt::format("{} is not installed: apt-get install {}", argv[0], package));
  return fail(Errc::kIo, WIFEXITED(status)
                             ? fmt::format("{} ended with {}", argv[0], WEXITSTATUS(status))
                             : fmt::format("{} was ended by signal {}", argv[0], WTERMSIG(status)));
}

// A folder that goes with its owner.
class WorkFolder {
public:
  static Result<WorkFolder> make() {
    // Images are large, and /tmp is in memory on many hosts.
    const char* asked = std::getenv("TMPDIR");
    const std::filesystem::path below = asked != nullptr && *asked != '\0' ? asked : "/var/tmp";
    std::string path = (below / "shoal-image-XXXXXX").string();
    if (!::mkdtemp(path.data()))
      return fail_errno(fmt::format("make a folder {}", path));
    return WorkFolder(path);
  }
  WorkFolder(WorkFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  WorkFolder& operator=(WorkFolder&&) = delete;
  ~WorkFolder() {
    std::error_code ignored;
    if (!path_.empty())
      std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(const char* name) const { return path_ / name; }

private:
  explicit WorkFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

std::vector<std::string> needed_by(const json::object& removed) {
  std::vector<std::string> out;
  for (const json::value& pod : list_at(removed, "usedBy"))
    out.push_back(fmt::format("a container of pod {}", cell(pod)));
  for (const json::value& ref : list_at(removed, "refs"))
    out.push_back(fmt::format("reference {}", cell(ref)));
  return out;
}

}  // namespace

Exit run_image_load(const Context& context, const std::string& path, const std::string& name,
                    bool as_json) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd)
    return fail_errno(fmt::format("open {}", path));
  struct stat st{};
  if (::fstat(fd.get(), &st) != 0)
    return fail_errno(fmt::format("stat {}", path));
  if (!S_ISREG(st.st_mode))
    return fail(Errc::kInvalid,
                fmt::format("{} is not a file: give an OCI or docker archive (for a layout folder: "
                            "`skopeo copy oci:FOLDER oci-archive:FILE`)",
                            path));
  const auto total = static_cast<std::uint64_t>(st.st_size);
  const bool progress = !as_json && ::isatty(STDERR_FILENO) == 1;
  std::uint64_t shown = UINT64_MAX;
  const auto on_progress = [&](std::uint64_t sent) {
    const std::uint64_t now = total == 0 ? 100 : sent * 100 / total;
    if (progress && now != std::exchange(shown, now))
      context.streams.err(
          fmt::format("\rsending {} of {} ({}%) ", human_bytes(sent), human_bytes(total), now));
  };
  auto response = context.client.upload({.method = "POST",
                                         .target = "/shoal/v1/images" + query({{"name", name}}),
                                         .content_type = "application/x-tar"},
                                        fd.get(), total, on_progress);
  if (progress)
    context.streams.err("\n");
  const Response answer = SHOAL_TRY_WRAP(std::move(response), path);
  const json::value value = SHOAL_TRY_WRAP(parse_body(answer), path);
  if (as_json) {
    print_json(context, object_of(value));
    return 0;
  }
  for (const json::value& image : list_at(object_of(value), "images"))
    for (const json::value& ref : list_at(object_of(image), "refs"))
      context.streams.out(fmt::format("loaded {}\n", cell(ref)));
  return 0;
}

Exit run_image_list(const Context& context, bool as_json) {
  const json::object answer = SHOAL_TRY(ask(context, {.target = "/shoal/v1/images"}));
  if (as_json) {
    print_json(context, answer);
    return 0;
  }
  const TextTable table = image_table(list_at(answer, "images"));
  if (table.empty())
    context.streams.err(
        "no images on this host; pull one with `shoal image pull NAME`, or load one "
        "with `shoal image load ARCHIVE`\n");
  else
    context.streams.out(table.str());
  for (const json::value& item : list_at(answer, "pulls"))
    context.streams.err(fmt::format("{} {}\n", text_at(object_of(item), "phase"),
                                    text_at(object_of(item), "image")));
  return 0;
}

Exit run_image_pull(const Context& context, const ImageOptions& options, bool as_json) {
  const json::object answer =
      SHOAL_TRY(follow(context, "/shoal/v1/images/pull" + query({{"name", options.name}}),
                       options.credentials, as_json));
  if (as_json) {
    print_json(context, answer);
    return 0;
  }
  const json::object& image = object_at(answer, "image");
  for (const json::value& ref : list_at(image, "refs"))
    context.streams.out(fmt::format(
        "{} {}\n",
        answer.at("wasHere").is_bool() && answer.at("wasHere").get_bool() ? "up to date:"
                                                                          : "pulled",
        cell(ref)));
  return 0;
}

Exit run_image_push(const Context& context, const ImageOptions& options, bool as_json) {
  const std::string target = "/shoal/v1/images/push" +
                             query({{"name", options.name}, {"destination", options.destination}});
  const json::object answer = SHOAL_TRY(follow(context, target, options.credentials, as_json));
  if (as_json)
    print_json(context, answer);
  else
    context.streams.out(fmt::format(
        "pushed {} {}\n", options.destination.empty() ? options.name : options.destination,
        text_at(object_at(answer, "image"), "digest")));
  return 0;
}

// buildah has what it builds in a store of its own; the image is handed over as an archive.
Exit run_image_build(const Context& context, const BuildOptions& options, bool as_json) {
  const WorkFolder work = SHOAL_TRY(WorkFolder::make());
  const std::string id_file = work / "id";
  std::vector<std::string> build = {"buildah", "build", "--layers",  "--iidfile",
                                    id_file,   "--tag", options.name};
  if (!options.file.empty())
    build.insert(build.end(), {"--file", options.file});
  for (const std::string& argument : options.arguments)
    build.insert(build.end(), {"--build-arg", argument});
  for (const std::string& flag : options.buildah)
    build.push_back(flag);
  build.push_back(options.folder);
  SHOAL_TRY(run_tool(build, "buildah"));
  const std::string id = SHOAL_TRY(read_file(id_file, 256));
  const std::string archive = work / "image.tar";
  SHOAL_TRY(run_tool(
      {"buildah", "push", "--quiet", std::string(trim(id)), fmt::format("oci-archive:{}", archive)},
      "buildah"));
  return run_image_load(context, archive, options.name, as_json);
}

Exit run_image_remove(const Context& context, const std::vector<std::string>& references,
                      bool as_json) {
  int code = 0;
  for (const std::string& reference : references) {
    const auto answer = ask(
        context, {.method = "DELETE", .target = "/shoal/v1/images/" + percent_encode(reference)});
    if (!answer) {
      context.streams.err(fmt::format("shoal: {}\n", answer.error().message()));
      code = code == 0 ? exit_code_of(answer.error()) : code;
      continue;
    }
    if (as_json) {
      print_json(context, *answer);
      continue;
    }
    for (const json::value& ref : list_at(*answer, "untagged"))
      context.streams.out(fmt::format("untagged {}\n", cell(ref)));
    const json::value* deleted = answer->if_contains("deleted");
    if (deleted && deleted->is_bool() && deleted->get_bool())
      context.streams.out(
          fmt::format("deleted, {} freed\n", human_bytes(number_at(*answer, "freedBytes"))));
    else if (const auto needed = needed_by(*answer); !needed.empty())
      context.streams.out(fmt::format("kept: {} still {} it\n", fmt::join(needed, ", "),
                                      needed.size() == 1 ? "needs" : "need"));
    else  // an earlier shoald does not say
      context.streams.out("kept: a container or another reference still needs it\n");
  }
  return code;
}

}  // namespace shoal::cli
