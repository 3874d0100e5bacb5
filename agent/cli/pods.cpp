// SPDX-License-Identifier: Apache-2.0
// logs and exec.
#include "agent/cli/commands.h"
#include "agent/cli/kinds.h"
#include "agent/cli/output.h"
#include "agent/cli/selection.h"
#include "agent/stream/frames.h"
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <array>
#include <boost/json.hpp>
#include <cerrno>
#include <csignal>
#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

namespace shoal::cli {
namespace {

namespace json = boost::json;
using stream::Channel;
using stream::encode_frame;

std::string flag(bool on) { return on ? "true" : ""; }

// The terminal in raw mode while it lives.
class RawTerminal {
public:
  explicit RawTerminal(bool wanted) {
    active_ = wanted && ::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &saved_) == 0;
    if (!active_)
      return;
    termios raw = saved_;
    ::cfmakeraw(&raw);
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
  }
  ~RawTerminal() {
    if (active_)
      ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved_);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

private:
  termios saved_{};
  bool active_ = false;
};

class ExecRelay {
public:
  ExecRelay(const Context& context, const ExecOptions& options, Upgraded connection)
      : context_(context), options_(options), connection_(std::move(connection)) {
    reader_.append(connection_.early);
  }

  Exit run() {
    const RawTerminal terminal(options_.tty);
    const UniqueFd resized = watch_size();
    if (options_.tty)
      SHOAL_TRY(send_size());
    bool input = options_.stdin_open;
    for (;;) {
      if (const auto code = SHOAL_TRY(take_frames()))
        return *code;
      std::array<pollfd, 3> fds = {{{connection_.fd.get(), POLLIN, 0},
                                    {input ? STDIN_FILENO : -1, POLLIN, 0},
                                    {resized.get(), POLLIN, 0}}};
      if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR)
        return fail_errno("poll");
      if (fds[2].revents != 0) {
        signalfd_siginfo info;
        [[maybe_unused]] const ssize_t n = ::read(resized.get(), &info, sizeof(info));
        SHOAL_TRY(send_size());
      }
      if (fds[1].revents != 0)
        input = SHOAL_TRY(send_input());
      if (fds[0].revents != 0)
        SHOAL_TRY(receive());
    }
  }

private:
  // The exit code, once its frame is there.
  Result<std::optional<int>> take_frames() {
    while (auto frame = SHOAL_TRY(reader_.next())) {
      if (frame->channel == Channel::kStdout)
        context_.streams.out(frame->payload);
      else if (frame->channel == Channel::kStderr)
        context_.streams.err(frame->payload);
      else if (frame->channel == Channel::kExit)
        return exit_of(frame->payload);
    }
    return std::optional<int>();
  }

  static Result<std::optional<int>> exit_of(const std::string& payload) {
    boost::system::error_code error;
    const json::value value = json::parse(payload, error);
    if (error || !value.is_object())
      return fail(Errc::kCorrupt, "shoald's answer to exec cannot be read");
    if (const std::string message = text_at(value.get_object(), "error"); !message.empty())
      return fail(Errc::kIo, message);
    return static_cast<int>(
        parse_uint(text_at(value.get_object(), "exitCode"), 255).value_or(kExitFailed));
  }

  Result<> receive() {
    std::array<char, 16384> buffer;
    const ssize_t n = ::read(connection_.fd.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR)
      return {};
    if (n <= 0)
      return fail(Errc::kUnavailable, "shoald ended the connection before the command ended");
    reader_.append(std::string_view(buffer.data(), static_cast<std::size_t>(n)));
    return {};
  }

  // False at the end of input.
  Result<bool> send_input() {
    std::array<char, 16384> buffer;
    const ssize_t n = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR)
      return true;
    const std::string_view bytes(buffer.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
    SHOAL_TRY(write_all(connection_.fd.get(), encode_frame(Channel::kStdin, bytes)));
    return n > 0;
  }

  Result<> send_size() {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
      return {};
    return write_all(
        connection_.fd.get(),
        encode_frame(Channel::kResize, json::serialize(json::object{{"width", size.ws_col},
                                                                    {"height", size.ws_row}})));
  }

  UniqueFd watch_size() const {
    if (!options_.tty)
      return UniqueFd();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC));
  }

  const Context& context_;
  const ExecOptions& options_;
  Upgraded connection_;
  stream::FrameReader reader_;
};

}  // namespace

Exit run_logs(const Context& context, const LogsOptions& options) {
  const std::string pod = SHOAL_TRY(pod_name(options.pod));
  const Kind* pods = *find_kind("pods");
  const std::string target =
      pods->path(options.ns, pod) + "/log" +
      query({{"container", options.container},
             {"follow", flag(options.follow)},
             {"previous", flag(options.previous)},
             {"timestamps", flag(options.timestamps)},
             {"tailLines", options.tail ? fmt::format("{}", *options.tail) : ""}});
  const Response response = SHOAL_TRY(context.client.stream(
      {.target = target, .accept = "text/plain, application/json"}, [&](std::string_view bytes) {
        context.streams.out(bytes);
        return true;
      }));
  if (!response.ok())
    return fail(to_error(read_refusal(response)));
  return 0;
}

Exit run_exec(const Context& context, const ExecOptions& options) {
  const std::string pod = SHOAL_TRY(pod_name(options.pod));
  json::array command;
  for (const std::string& word : options.command)
    command.emplace_back(word);
  const json::object body{{"container", options.container},
                          {"command", std::move(command)},
                          {"stdin", options.stdin_open},
                          {"tty", options.tty}};
  Response refused;
  Upgraded connection = SHOAL_TRY(context.client.upgrade(
      {.method = "POST",
       .target =
           fmt::format("/shoal/v1/exec/{}/{}", percent_encode(options.ns), percent_encode(pod)),
       .body = json::serialize(body)},
      stream::kExecProtocol, refused));
  if (!connection.fd)
    return fail(to_error(read_refusal(refused)));
  return ExecRelay(context, options, std::move(connection)).run();
}

}  // namespace shoal::cli
