// SPDX-License-Identifier: Apache-2.0
// logs, exec and attach.
#include "agent/cli/answer.h"
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
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

namespace shoal::cli {
namespace {

namespace json = boost::json;
using stream::Channel;
using stream::encode_frame;

constexpr int kSignalled = 128;  // and the signal's number

std::string flag(bool on) { return on ? "true" : ""; }

std::optional<json::object> terminal_size() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
    return std::nullopt;
  return json::object{{"width", size.ws_col}, {"height", size.ws_row}};
}

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

  // hint: for who sits at the terminal, once what he types is not lost any more.
  Exit run(std::string_view hint = {}) {
    const UniqueFd signals = watch_signals();
    const RawTerminal terminal(options_.tty);
    if (options_.tty && !hint.empty())
      context_.streams.err(hint);
    if (options_.tty)
      tell_size();  // it may have changed since the request
    bool input = options_.stdin_open;
    for (;;) {
      if (const auto code = SHOAL_TRY(take_frames()))
        return *code;
      if (context_.streams.closed())
        return fail(Errc::kCancelled, "its output is not wanted any more");
      // What the command does not take yet waits here, and input waits for that: meanwhile the
      // command may have to be read from before it takes anything.
      const short wanted = static_cast<short>(unsent_.empty() ? POLLIN : POLLIN | POLLOUT);
      std::array<pollfd, 3> fds = {{{connection_.fd.get(), wanted, 0},
                                    {input && unsent_.empty() ? options_.input : -1, POLLIN, 0},
                                    {signals.get(), POLLIN, 0}}};
      if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR)
        return fail_errno("poll");
      if (fds[2].revents != 0) {
        signalfd_siginfo info{};
        [[maybe_unused]] const ssize_t n = ::read(signals.get(), &info, sizeof(info));
        if (info.ssi_signo != SIGWINCH)
          return kSignalled + static_cast<int>(info.ssi_signo);
        tell_size();
      }
      if (fds[1].revents != 0)
        input = take_input();
      send();
      if ((fds[0].revents & ~POLLOUT) != 0)
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
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
      return {};
    if (n <= 0)
      return fail(Errc::kUnavailable, "shoald ended the connection before the command ended");
    reader_.append(std::string_view(buffer.data(), static_cast<std::size_t>(n)));
    return {};
  }

  // False at the end of input.
  bool take_input() {
    std::array<char, 16384> buffer;
    const ssize_t n = ::read(options_.input, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR)
      return true;
    const std::string_view bytes(buffer.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
    unsent_ += encode_frame(Channel::kStdin, bytes);
    return n > 0;
  }

  // As much as is taken now. A peer that takes no more may have said how the command ended.
  void send() {
    while (!unsent_.empty()) {
      const ssize_t n =
          ::send(connection_.fd.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0 && errno == EAGAIN)
        return;
      unsent_.erase(0, n < 0 ? unsent_.size() : static_cast<std::size_t>(n));
    }
  }

  void tell_size() {
    if (const auto size = terminal_size())
      unsent_ += encode_frame(Channel::kResize, json::serialize(*size));
  }

  // Also those that end the program: not before the terminal is what it was.
  UniqueFd watch_signals() const {
    if (!options_.tty)
      return UniqueFd();
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGWINCH, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE})
      sigaddset(&set, signal);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC));
  }

  const Context& context_;
  const ExecOptions& options_;
  Upgraded connection_;
  stream::FrameReader reader_;
  std::string unsent_;
};

// The container that is asked for, as the pod's spec has it.
Result<json::object> container_of(const json::object& pod, const std::string& name,
                                  const std::string& wanted) {
  std::vector<json::object> found;
  const json::object& spec = object_at(pod, "spec");
  for (const char* list : {"containers", "initContainers"}) {
    const json::value* all = spec.if_contains(list);
    if (!all || !all->is_array() || (wanted.empty() && list != std::string_view("containers")))
      continue;
    for (const json::value& container : all->get_array())
      if (container.is_object() &&
          (wanted.empty() || text_at(container.get_object(), "name") == wanted))
        found.push_back(container.get_object());
  }
  if (found.empty())
    return fail(Errc::kInvalid, fmt::format("container {} is not in pod {}", wanted, name));
  if (found.size() > 1)
    return fail(Errc::kInvalid,
                fmt::format("pod {} has {} containers: name one (-c)", name, found.size()));
  return std::move(found.front());
}

bool flag_at(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && value->is_bool() && value->get_bool();
}

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

Exit run_exec(const Context& context, const ExecOptions& asked) {
  ExecOptions options = asked;
  if (options.tty && options.stdin_open && ::isatty(STDIN_FILENO) == 0) {
    context.streams.err(
        "Unable to use a TTY - input is not a terminal or the right kind of file\n");
    options.tty = false;
  }
  const std::string pod = SHOAL_TRY(pod_name(options.pod));
  json::array command;
  for (const std::string& word : options.command)
    command.emplace_back(word);
  json::object body{{"container", options.container},
                    {"command", std::move(command)},
                    {"stdin", options.stdin_open},
                    {"tty", options.tty}};
  if (const auto size = terminal_size(); options.tty && size)
    body["size"] = *size;
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

Exit run_attach(const Context& context, const AttachOptions& asked) {
  const std::string name = SHOAL_TRY(pod_name(asked.pod));
  const std::string path = (*find_kind("pods"))->path(asked.ns, name);
  const Response shown = SHOAL_TRY(context.client.send({.target = path}));
  if (!shown.ok())
    return fail(to_error(read_refusal(shown)));
  boost::system::error_code error;
  const json::value pod = json::parse(shown.body, error);
  if (error || !pod.is_object())
    return fail(Errc::kCorrupt, "shoald's answer cannot be read");
  const std::string phase = text_at(object_at(pod.get_object(), "status"), "phase");
  if (phase == "Succeeded" || phase == "Failed")
    return fail(
        Errc::kUnavailable,
        fmt::format("cannot attach a container in a completed pod; current phase is {}", phase));
  const json::object container = SHOAL_TRY(container_of(pod.get_object(), name, asked.container));
  const bool tty = flag_at(container, "tty");
  if (asked.tty && !tty)
    context.streams.err(fmt::format("Unable to use a TTY - container {} did not allocate one\n",
                                    text_at(container, "name")));
  // The local terminal is the container's only for who types into it.
  ExecOptions options{.stdin_open = asked.stdin_open, .tty = tty && asked.stdin_open};
  if (options.tty && ::isatty(STDIN_FILENO) == 0)
    options.tty = false;
  Response refused;
  Upgraded connection =
      SHOAL_TRY(context.client.upgrade({.method = "POST",
                                        .target = path + "/attach" +
                                                  query({{"container", text_at(container, "name")},
                                                         {"stdin", flag(asked.stdin_open)},
                                                         {"stdout", "true"},
                                                         {"stderr", flag(!tty)},
                                                         {"tty", flag(tty)}})},
                                       stream::kExecProtocol, refused));
  if (!connection.fd)
    return fail(to_error(read_refusal(refused)));
  return ExecRelay(context, options, std::move(connection))
      .run("If you don't see a command prompt, try pressing enter.\r\n");
}

}  // namespace shoal::cli
