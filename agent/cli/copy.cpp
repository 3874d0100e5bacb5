// SPDX-License-Identifier: Apache-2.0
// cp: files and folders from and to containers, by the container's own tar, as kubectl does it.
#include "agent/cli/commands.h"
#include "agent/cli/tree_tar.h"
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "netplane/base/unique_fd.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <thread>
#include <unistd.h>

namespace shoal::cli {
namespace {

namespace fs = std::filesystem;

constexpr int kCannotRun = 126;  // what a command that cannot be run ends with, and
constexpr int kNotThere = 127;   // one that is not in the container

// "PATH", "POD:PATH" or "NAMESPACE/POD:PATH".
struct Place {
  std::string ns;
  std::string pod;  // empty: here
  std::string path;
};

Result<Place> parse_place(const std::string& text, const std::string& ns) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos || text.starts_with('/') || text.starts_with('.'))
    return text.empty() ? Result<Place>(fail(Errc::kInvalid, "cp: a path is empty"))
                        : Place{{}, {}, text};
  Place place{ns, text.substr(0, colon), text.substr(colon + 1)};
  if (const std::size_t slash = place.pod.find('/'); slash != std::string::npos) {
    place.ns = place.pod.substr(0, slash);
    place.pod.erase(0, slash + 1);
  }
  if (place.pod.empty() || place.ns.empty() || place.path.empty())
    return fail(Errc::kInvalid,
                fmt::format("cp: \"{}\" is not POD:PATH or NAMESPACE/POD:PATH", text));
  return place;
}

// A path's folder and its last name; "." and "..", "/" too, have none.
struct Parts {
  std::string folder;
  std::string name;
};
Parts parts_of(const std::string& path) {
  fs::path clean = fs::path(path).lexically_normal();
  if (!clean.has_filename() && clean.has_relative_path())
    clean = clean.parent_path();
  if (clean == "." || clean.filename() == ".." || !clean.has_relative_path())
    return {clean.string(), ""};
  const std::string folder = clean.parent_path().string();
  return {folder.empty() ? "." : folder, clean.filename().string()};
}

// What a command says: its errors are kept for the one line that is told, its output goes to a
// pipe.
class CommandStreams final : public Streams {
public:
  explicit CommandStreams(UniqueFd out = UniqueFd()) : out_(std::move(out)) {}
  void out(std::string_view text) override {
    if (out_ && !write_all(out_.get(), text))
      out_.reset();
    closed_ = closed_ || !out_;
  }
  void err(std::string_view text) override {
    said_.append(text.substr(0, kSaidBytesMax - std::min(kSaidBytesMax, said_.size())));
  }
  bool closed() const override { return closed_; }
  void end() { out_.reset(); }
  // On one line, and none of the terminal's own words.
  std::string said() const {
    std::string text;
    for (const std::string_view line : split(said_, '\n'))
      if (!line.empty())
        text += (text.empty() ? "" : "; ") + printable(line, kSaidBytesMax);
    return text;
  }

private:
  static constexpr std::size_t kSaidBytesMax = 4096;
  UniqueFd out_;
  bool closed_ = false;
  std::string said_;
};

Result<> check_tar(const Exit& exit, const CommandStreams& streams, const Place& place) {
  if (!exit)
    return fail(Error(exit.error()));
  if (*exit == 0)
    return {};
  if (*exit == kNotThere || *exit == kCannotRun)
    return fail(Errc::kUnsupported,
                fmt::format("cp needs a tar program in the container, and pod {} has none that "
                            "runs: {}",
                            place.pod, streams.said()));
  return fail(Errc::kIo,
              fmt::format("tar in pod {} ended with {}: {}", place.pod, *exit, streams.said()));
}

class Copy {
public:
  Copy(const Context& context, const CopyOptions& options)
      : context_(context), options_(options), warn_([this](std::string_view text) {
          context_.streams.err(fmt::format("warning: {}\n", text));
        }) {}

  Result<> to_pod(const std::string& source, Place place) const {
    std::error_code error;
    if (!fs::exists(fs::symlink_status(source, error)))
      return fail(Errc::kNotFound, fmt::format("{} does not exist", source));
    const std::string own = parts_of(fs::absolute(source).string()).name;
    const bool whole = parts_of(source).name.empty() || own.empty();
    // Into a folder that is there, under its own name; else it becomes what is named.
    if (is_folder(place) && !whole)
      place.path += "/" + own;
    Parts to = parts_of(place.path);
    if (to.name.empty() && !whole)
      return fail(Errc::kInvalid, fmt::format("cp: {} names no file or folder", place.path));
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
      return fail_errno("make a pipe");
    UniqueFd in(ends[0]);
    UniqueFd out(ends[1]);
    Result<> packed;
    std::thread packing([&] {
      packed = pack_tree(out.get(), source, to.name.empty() ? "." : to.name, warn_);
      out.reset();
    });
    CommandStreams said;
    const Exit exit = command(place, {"tar", "-xmf", "-", "-C", to.folder}, said, in.get());
    in.reset();
    packing.join();
    // Where tar has ended early, packing could not go on, and tar knows why.
    if (!packed && packed.error().sys_errno() != EPIPE)
      return packed;
    SHOAL_TRY(check_tar(exit, said, place));
    return packed;
  }

  Result<> from_pod(const Place& place, const std::string& target) const {
    const Parts from = parts_of(place.path);
    if (fs::path(from.folder).filename() == ".." && from.name.empty())
      return fail(Errc::kInvalid, fmt::format("cp: {} names no file or folder", place.path));
    std::error_code error;
    Parts to = parts_of(target);
    if (fs::is_directory(target, error))
      to = {target, from.name};
    else if (to.name.empty())
      return fail(Errc::kInvalid, fmt::format("cp: {} is no folder", target));
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
      return fail_errno("make a pipe");
    UniqueFd in(ends[0]);
    CommandStreams streams{UniqueFd(ends[1])};
    Result<> unpacked;
    std::thread unpacking([&] {
      unpacked = unpack_tree(in.get(), from.name, to.folder, to.name, warn_);
      in.reset();
    });
    std::string name = from.name.empty() ? "." : from.name;
    if (name.starts_with('-'))
      name = "./" + name;  // no option
    const Exit exit = command(place, {"tar", "cf", "-", "-C", from.folder, name}, streams);
    streams.end();
    unpacking.join();
    // Ours first: where it has ended, tar was not let finish. Nothing came: tar knows why.
    const bool nothing = !unpacked && unpacked.error().code() == Errc::kNotFound &&
                         unpacked.error().sys_errno() == 0;
    if (!unpacked && (!nothing || (exit && *exit == 0)))
      return unpacked;
    return check_tar(exit, streams, place);
  }

private:
  Exit command(const Place& place, std::vector<std::string> words, Streams& streams,
               int input = -1) const {
    return run_exec({context_.client, streams}, {.pod = place.pod,
                                                 .ns = place.ns,
                                                 .container = options_.container,
                                                 .command = std::move(words),
                                                 .stdin_open = input >= 0,
                                                 .input = input});
  }
  bool is_folder(const Place& place) const {
    CommandStreams ignored;
    const Exit exit = command(place, {"test", "-d", place.path}, ignored);
    return exit && *exit == 0;
  }

  const Context& context_;
  const CopyOptions& options_;
  const Warn warn_;
};

}  // namespace

Exit run_copy(const Context& context, const CopyOptions& options) {
  const Place from = SHOAL_TRY(parse_place(options.source, options.ns));
  const Place to = SHOAL_TRY(parse_place(options.target, options.ns));
  if (from.pod.empty() == to.pod.empty())
    return fail(Errc::kInvalid, "cp: one of the two must be in a pod, as POD:PATH, and one here");
  ::signal(SIGPIPE, SIG_IGN);  // a tar that ends early is seen by its exit code
  const Copy copy(context, options);
  SHOAL_TRY(to.pod.empty() ? copy.from_pod(from, to.path) : copy.to_pod(from.path, to));
  return 0;
}

}  // namespace shoal::cli
