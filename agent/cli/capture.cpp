// SPDX-License-Identifier: Apache-2.0
// capture: a pod's packets as a pcap file, for tcpdump and Wireshark.
#include "agent/cli/answer.h"
#include "agent/cli/commands.h"
#include "agent/cli/output.h"
#include "agent/cli/selection.h"
#include "agent/stream/frames.h"
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <array>
#include <boost/json.hpp>
#include <cerrno>
#include <climits>
#include <csignal>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

namespace shoal::cli {
namespace {

namespace json = boost::json;
using stream::Channel;

// SIGINT and SIGTERM as a readable fd while it lives.
class Signals {
public:
  Signals() {
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &wanted, &before_);
    fd_ = UniqueFd(::signalfd(-1, &wanted, SFD_CLOEXEC));
  }
  ~Signals() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int fd() const { return fd_.get(); }
  int take() const {
    signalfd_siginfo info{};
    const ssize_t n = ::read(fd_.get(), &info, sizeof(info));
    return n == sizeof(info) ? static_cast<int>(info.ssi_signo) : SIGINT;
  }

private:
  sigset_t before_{};
  UniqueFd fd_;
};

// Where the file goes: it is written only when it takes bytes, so that a signal is seen meanwhile.
class PcapOutput {
public:
  // path "" and "-": standard output.
  static Result<PcapOutput> open(const std::string& path) {
    if (path.empty() || path == "-")
      return PcapOutput(UniqueFd(), STDOUT_FILENO, "standard output");
    // Packets hold secrets: for its owner only.
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd)
      return fail_errno(fmt::format("open {} for the packets (-w)", path));
    const int number = fd.get();
    return PcapOutput(std::move(fd), number, path);
  }

  void add(std::string bytes) { pending_ += bytes; }
  bool empty() const { return pending_.empty(); }
  int fd() const { return fd_; }

  Result<> write_some() {
    const std::size_t size = std::min<std::size_t>(pending_.size(), whole_ ? SIZE_MAX : PIPE_BUF);
    const ssize_t n = ::write(fd_, pending_.data(), size);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
      return {};
    if (n < 0)
      return fail_errno(fmt::format("write the packets to {}", name_));
    pending_.erase(0, static_cast<std::size_t>(n));
    return {};
  }

private:
  PcapOutput(UniqueFd owned, int fd, std::string name)
      : owned_(std::move(owned)), fd_(fd), name_(std::move(name)) {
    struct stat st{};
    whole_ = ::fstat(fd_, &st) == 0 && S_ISREG(st.st_mode);
  }

  UniqueFd owned_;
  int fd_;
  std::string name_;
  bool whole_ = false;  // a regular file: never waited for
  std::string pending_;
};

class CaptureRelay {
public:
  CaptureRelay(const Context& context, Upgraded connection, PcapOutput output)
      : context_(context), connection_(std::move(connection)), output_(std::move(output)) {
    reader_.append(connection_.early);
  }

  Exit run(const Signals& signals) {
    for (;;) {
      SHOAL_TRY(take_frames());
      if (exit_ && output_.empty())
        return finish();
      const bool reads = !exit_ && output_.empty();
      std::array<pollfd, 3> fds = {{{signals.fd(), POLLIN, 0},
                                    {output_.empty() ? -1 : output_.fd(), POLLOUT, 0},
                                    {reads ? connection_.fd.get() : -1, POLLIN, 0}}};
      if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR)
        return fail_errno("poll");
      if (fds[0].revents != 0) {
        const int signal = signals.take();
        if (std::exchange(asked_to_end_, true))
          return 128 + signal;  // the second one: at once, as a shell says it
        SHOAL_TRY(
            write_all(connection_.fd.get(), stream::encode_frame(Channel::kStdin, std::string())));
      }
      if (fds[1].revents != 0)
        SHOAL_TRY(output_.write_some());
      if (fds[2].revents != 0)
        SHOAL_TRY(receive());
    }
  }

private:
  Result<> take_frames() {
    while (auto frame = SHOAL_TRY(reader_.next())) {
      if (frame->channel == Channel::kStdout)
        output_.add(std::move(frame->payload));
      else if (frame->channel == Channel::kExit)
        exit_ = std::move(frame->payload);
    }
    return {};
  }

  Result<> receive() {
    std::array<char, 65536> buffer;
    const ssize_t n = ::read(connection_.fd.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR)
      return {};
    if (n <= 0)
      return fail(Errc::kUnavailable,
                  "shoald ended the connection before the capture ended: it was stopped, or the "
                  "packets were not taken for half a minute (a reader that hangs?)");
    reader_.append(std::string_view(buffer.data(), static_cast<std::size_t>(n)));
    return {};
  }

  Exit finish() const {
    boost::system::error_code error;
    const json::value value = json::parse(*exit_, error);
    if (error || !value.is_object())
      return fail(Errc::kCorrupt, "shoald's answer to capture cannot be read");
    const json::object& exit = value.get_object();
    const std::uint64_t dropped = number_at(exit, "dropped");
    const std::uint64_t left = number_at(exit, "checksumsLeft");
    context_.streams.err(fmt::format("{} packets captured, {} dropped by the kernel: {}\n",
                                     number_at(exit, "captured"), dropped, text_at(exit, "ended")));
    if (dropped > 0)
      context_.streams.err("they came faster than they were read: narrow it with --port or "
                           "--snaplen, or write to a file (-w)\n");
    if (left > 0)
      context_.streams.err(
          fmt::format("{} were seen before their checksum was filled in (offload): "
                      "readers call it wrong, and it is not\n",
                      left));
    if (const std::string message = text_at(exit, "error"); !message.empty())
      return fail(Errc::kIo, message);
    return 0;
  }

  const Context& context_;
  Upgraded connection_;
  PcapOutput output_;
  stream::FrameReader reader_;
  std::optional<std::string> exit_;
  bool asked_to_end_ = false;
};

std::string number(const std::optional<std::uint64_t>& value) {
  return value ? fmt::format("{}", *value) : "";
}

}  // namespace

Exit run_capture(const Context& context, const CaptureOptions& options) {
  const bool to_stdout = options.file.empty() || options.file == "-";
  if (to_stdout && ::isatty(STDOUT_FILENO) == 1) {
    context.streams.err(fmt::format(
        "shoal: packets are not for a terminal: shoal capture {} | tcpdump -nr -, or -w FILE\n",
        options.pod));
    return kExitUsage;
  }
  const std::string pod = SHOAL_TRY(pod_name(options.pod));
  Response refused;
  Upgraded connection = SHOAL_TRY(context.client.upgrade(
      {.method = "POST",
       .target =
           fmt::format("/shoal/v1/capture/{}/{}", percent_encode(options.ns), percent_encode(pod)) +
           query({{"snaplen", fmt::format("{}", options.snaplen)},
                  {"count", number(options.count)},
                  {"seconds", number(options.duration_s)},
                  {"port", number(options.port)}})},
      stream::kCaptureProtocol, refused));
  if (!connection.fd)
    return fail(to_error(read_refusal(refused)));
  PcapOutput output = SHOAL_TRY(PcapOutput::open(options.file));
  const Signals signals;
  context.streams.err(
      fmt::format("capturing what {}/{} sends and receives; Ctrl-C ends it\n", options.ns, pod));
  return CaptureRelay(context, std::move(connection), std::move(output)).run(signals);
}

}  // namespace shoal::cli
