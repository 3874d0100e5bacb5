// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/pod_io.h"

#include "agent/node/command.h"
#include "agent/stream/frames.h"
#include "agent/view/facts.h"
#include "netplane/base/strings.h"
#include "runtime/log/log_reader.h"
#include "runtime/sandbox/shim_client.h"

#include <algorithm>
#include <array>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/json.hpp>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace shoal::daemon {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using stream::Channel;

constexpr std::chrono::milliseconds kFollowInterval{200};

// The worker of a pod that runs here, and the index of the container asked for.
struct Place {
  const node::PodWorker* pod = nullptr;
  std::size_t container = 0;
};

Result<Place> find(const node::Node& pods, const view::View& view, const std::string& ns,
                   const std::string& name, std::string_view container) {
  const node::PodWorker* pod = SHOAL_TRY(find_local_pod(pods, view, ns, name));
  const auto& containers = pod->spec().containers;
  if (container.empty()) {
    const auto main = std::ranges::find(containers, node::Role::kMain, &node::ContainerSpec::role);
    const auto count = static_cast<std::size_t>(containers.end() - main);  // they stand last
    if (count != 1)
      return fail(Errc::kInvalid,
                  fmt::format("pod {} has {} containers: name one (-c)", name, count));
    return Place{pod, static_cast<std::size_t>(main - containers.begin())};
  }
  for (std::size_t i = 0; i < containers.size(); i++)
    if (containers[i].name == container)
      return Place{pod, i};
  return fail(Errc::kInvalid,
              fmt::format("container {} is not in pod {}", printable(container), name));
}

// ---- logs

class LogStream : public std::enable_shared_from_this<LogStream> {
public:
  // ended: whether nothing more will be written; asked where the log is to be followed.
  LogStream(api::ExchangePtr x, asio::io_context& loop, runtime::LogReader reader,
            std::function<bool()> ended)
      : x_(std::move(x)), timer_(loop), reader_(std::move(reader)), ended_(std::move(ended)) {}

  void start() {
    x_->on_gone([weak = weak_from_this()] {
      if (auto self = weak.lock())
        self->timer_.cancel();
    });
    x_->begin(200, "text/plain");
    x_->be_patient();
    // The head at once: there may be nothing to show for a long time.
    x_->write("", [self = shared_from_this()](bool ok) {
      if (ok)
        self->next();
    });
  }

private:
  void next() {
    std::string text;
    const auto taken = reader_.read(text);
    if (!text.empty())
      return x_->write(std::move(text), [self = shared_from_this()](bool ok) {
        if (ok)
          self->next();
      });
    // What came between the last read and the end is read before this ends.
    const bool over = !ended_ || std::exchange(over_, over_ || ended_());
    if (!taken || reader_.at_limit() || (*taken == 0 && over))
      return x_->end();
    if (*taken > 0 || over_)
      return asio::post(timer_.get_executor(), [self = shared_from_this()] { self->next(); });
    timer_.expires_after(kFollowInterval);
    timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
      if (!error)
        self->next();
    });
  }

  api::ExchangePtr x_;
  asio::steady_timer timer_;
  runtime::LogReader reader_;
  std::function<bool()> ended_;
  bool over_ = false;
};

// ---- exec and attach

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0)
    return fail_errno("make a pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

struct TerminalSize {
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
};
// {"width": W, "height": H}; anything else: not known.
TerminalSize size_of(const json::value& value) {
  const auto number = [&](std::string_view key) -> std::uint16_t {
    const json::value* found = value.is_object() ? value.get_object().if_contains(key) : nullptr;
    return found && found->is_int64() && found->get_int64() > 0 && found->get_int64() <= UINT16_MAX
               ? static_cast<std::uint16_t>(found->get_int64())
               : std::uint16_t{0};
  };
  return {number("height"), number("width")};
}

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

// A command that has begun, or a container that this is attached to, and our ends of the streams
// that it has. With a command's terminal, in and out are that, and there is no err; a container's
// stays with its shim.
struct Begun {
  enum class Terminal : std::uint8_t { kNone, kOurs, kOfShim };
  runtime::ExecSession session;
  UniqueFd in;
  UniqueFd out;
  UniqueFd err;
  Terminal terminal = Terminal::kNone;
};

class ExecRelay : public std::enable_shared_from_this<ExecRelay> {
public:
  ExecRelay(asio::io_context& loop, api::RawStreamPtr raw, Begun begun)
      : raw_(std::move(raw)), session_(std::move(begun.session)),
        ended_(loop, ::dup(session_.fd())), in_(loop),
        outputs_{asio::posix::stream_descriptor(loop), asio::posix::stream_descriptor(loop)},
        terminal_(begun.terminal) {
    for (const int fd : {begun.in.get(), begun.out.get(), begun.err.get()})
      if (fd >= 0)
        set_nonblocking(fd);
    if (begun.in)
      in_.assign(begun.in.release());
    if (begun.out)
      outputs_[0].assign(begun.out.release());
    if (begun.err)
      outputs_[1].assign(begun.err.release());
  }

  void start(bool with_input) {
    if (!with_input && terminal_ == Begun::Terminal::kNone)
      in_.close(ignored_);
    read_input();  // also to see that the peer goes
    raw_->on_gone([weak = weak_from_this()] {
      const auto self = weak.lock();
      if (self && !self->closed_)
        self->finish();
    });
    wait_for_end();
    pump();
  }

private:
  void wait_for_end() {
    ended_.async_wait(asio::posix::stream_descriptor::wait_read,
                      [self = shared_from_this()](const boost::system::error_code& error) {
                        if (!error && !self->closed_)
                          self->on_end();
                      });
  }

  void on_end() {
    auto result = session_.poll();
    if (result && !*result)
      return wait_for_end();  // that a resize was done
    if (!result)
      exit_ = json::serialize(json::object{{"error", result.error().message()}});
    else
      exit_ = json::serialize(json::object{{"exitCode", (*result)->exit_code}});
    pump();
  }

  // Sends what the command wrote, one frame at a time; the exit last. The peer's pace is the
  // command's.
  void pump() {
    if (writing_ || closed_)
      return;
    for (std::size_t i = 0; i < outputs_.size(); i++) {
      if (!outputs_[i].is_open())
        continue;
      const ssize_t n = ::read(outputs_[i].native_handle(), buffer_.data(), buffer_.size());
      if (n > 0)
        return send(i == 0 ? Channel::kStdout : Channel::kStderr,
                    {buffer_.data(), static_cast<std::size_t>(n)});
      if (n == 0 || (errno != EAGAIN && errno != EINTR))
        outputs_[i].close(ignored_);
      else
        watch(i);
    }
    // Something that the command left behind may hold its pipes open: the exit does not wait for
    // it.
    if (exit_) {
      closed_ = true;
      raw_->write(stream::encode_frame(Channel::kExit, *exit_),
                  [self = shared_from_this()](Result<> sent) { self->finish(sent.has_value()); });
    }
  }

  void watch(std::size_t i) {
    if (watched_[i])
      return;
    watched_[i] = true;
    outputs_[i].async_wait(asio::posix::stream_descriptor::wait_read,
                           [self = shared_from_this(), i](const boost::system::error_code& error) {
                             self->watched_[i] = false;
                             if (!error)
                               self->pump();
                           });
  }

  void send(Channel channel, std::string_view bytes) {
    writing_ = true;
    raw_->write(stream::encode_frame(channel, bytes), [self = shared_from_this()](Result<> sent) {
      self->writing_ = false;
      sent ? self->pump() : self->finish();
    });
  }

  void read_input() {
    raw_->read([self = shared_from_this()](Result<std::string_view> bytes) {
      if (self->closed_)
        return;
      // The end of input has a frame of its own: this is the peer's.
      if (!bytes || bytes->empty())
        return self->finish();
      self->frames_.append(*bytes);
      self->take_input();
    });
  }

  void take_input() {
    auto frame = frames_.next();
    if (!frame)
      return finish();
    if (!*frame)
      return read_input();
    if ((*frame)->channel == Channel::kResize && terminal_ != Begun::Terminal::kNone)
      resize((*frame)->payload);
    if ((*frame)->channel != Channel::kStdin)
      return take_input();
    // A terminal has no end of input but the character for it.
    if ((*frame)->payload.empty() && terminal_ != Begun::Terminal::kNone)
      return take_input();
    if ((*frame)->payload.empty())
      in_.close(ignored_);
    if (!in_.is_open())
      return take_input();
    input_ = std::move((*frame)->payload);
    asio::async_write(
        in_, asio::buffer(input_),
        [self = shared_from_this()](const boost::system::error_code& error, std::size_t) {
          if (self->closed_)
            return;
          if (error)
            self->in_.close(self->ignored_);  // the command reads no more
          self->take_input();
        });
  }

  void resize(const std::string& payload) {
    boost::system::error_code error;
    const json::value value = json::parse(payload, error);
    const TerminalSize size = size_of(value);
    if (size.rows == 0 || size.columns == 0)
      return;
    const winsize wanted{size.rows, size.columns, 0, 0};
    if (terminal_ == Begun::Terminal::kOurs)
      ::ioctl(in_.native_handle(), TIOCSWINSZ, &wanted);
    else
      (void)session_.resize(size.rows, size.columns);  // one that is lost is made good by the next
  }

  // Destroying the session ends the command, if it still runs. The peer sees what was said to the
  // end, though it may still be sending.
  void finish(bool all_said = false) {
    closed_ = true;
    in_.close(ignored_);
    ended_.close(ignored_);
    for (auto& output : outputs_)
      output.close(ignored_);
    all_said ? raw_->end() : raw_->close();
  }

  api::RawStreamPtr raw_;
  runtime::ExecSession session_;
  asio::posix::stream_descriptor ended_;
  asio::posix::stream_descriptor in_;
  std::array<asio::posix::stream_descriptor, 2> outputs_;
  std::array<bool, 2> watched_{};
  std::array<char, 32 * 1024> buffer_;
  std::string input_;
  stream::FrameReader frames_;
  std::optional<std::string> exit_;
  const Begun::Terminal terminal_;
  bool writing_ = false;
  bool closed_ = false;
  boost::system::error_code ignored_;
};

Result<Begun> begin_in_terminal(const node::ActionTarget& target,
                                const node::CommandRequest& request) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
    return fail_errno("make a pair of sockets");
  const UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  auto session = SHOAL_TRY(node::start_command(target, request, std::array{theirs.get()}));
  theirs.reset();
  auto terminal = runtime::receive_terminal(ours.get());
  if (!terminal) {
    // The shim's own words are better.
    SHOAL_TRY(session.poll());
    return fail(Errc::kIo, fmt::format("no terminal in the container: {}; the reason is in its "
                                       "pod's shim.log",
                                       terminal.error().message()));
  }
  UniqueFd out(::fcntl(terminal->get(), F_DUPFD_CLOEXEC, 3));
  if (!out)
    return fail_errno("duplicate a terminal");
  return Begun{std::move(session), std::move(*terminal), std::move(out), UniqueFd(),
               Begun::Terminal::kOurs};
}

Result<Begun> begin(const node::ActionTarget& target, const node::CommandRequest& request) {
  if (request.terminal)
    return begin_in_terminal(target, request);
  Pipe in = SHOAL_TRY(make_pipe());
  Pipe out = SHOAL_TRY(make_pipe());
  Pipe err = SHOAL_TRY(make_pipe());
  auto session = SHOAL_TRY(node::start_command(
      target, request, std::array{in.read_end.get(), out.write_end.get(), err.write_end.get()}));
  return Begun{std::move(session), std::move(in.write_end), std::move(out.read_end),
               std::move(err.read_end)};
}

Result<Begun> begin_attached(const std::filesystem::path& shim,
                             const runtime::shim::AttachRequest& request, bool terminal) {
  Pipe in;
  Pipe out;
  Pipe err;
  std::vector<int> theirs;
  if (request.input) {
    in = SHOAL_TRY(make_pipe());
    theirs.push_back(in.read_end.get());
  }
  if (request.output) {
    out = SHOAL_TRY(make_pipe());
    theirs.push_back(out.write_end.get());
  }
  if (request.error) {
    err = SHOAL_TRY(make_pipe());
    theirs.push_back(err.write_end.get());
  }
  auto session = SHOAL_TRY(runtime::ExecSession::attach(shim, request, theirs));
  return Begun{std::move(session), std::move(in.write_end), std::move(out.read_end),
               std::move(err.read_end),
               terminal ? Begun::Terminal::kOfShim : Begun::Terminal::kNone};
}

// Begins on a worker, and goes on as an upgraded connection.
void run_streams(const api::ExchangePtr& x, asio::io_context& loop, asio::thread_pool& workers,
                 bool with_input, std::function<Result<Begun>()> begin) {
  asio::post(workers, [x, with_input, begin = std::move(begin), &loop] {
    auto begun = std::make_shared<Result<Begun>>(begin());
    asio::post(loop, [x, begun, with_input, &loop] {
      if (!*begun)
        return x->reply_error(begun->error());
      x->upgrade(stream::kExecProtocol, [begun, with_input, &loop](api::RawStreamPtr raw) {
        std::make_shared<ExecRelay>(loop, std::move(raw), std::move(**begun))->start(with_input);
      });
    });
  });
}

bool runs(const node::PodWorker& pod, std::size_t container) {
  const auto& current = pod.seen().containers[container].current;
  return current && current->phase == runtime::shim::ContainerPhase::kRunning;
}

}  // namespace

Result<const node::PodWorker*> find_local_pod(const node::Node& pods, const view::View& view,
                                              const std::string& ns, const std::string& name) {
  const auto object = view.get(view::kPods, ns, name);
  if (!object)
    return fail(Errc::kNotFound, fmt::format("pods \"{}\" not found", name));
  if (const node::PodWorker* pod = pods.find(ns, name))
    return pod;
  const std::string node(view::node_of(*object));
  if (node.empty())
    return fail(Errc::kUnavailable, fmt::format("pod {} is not bound to a host yet", name));
  return fail(Errc::kUnavailable,
              fmt::format("pod {} is not on this host, but on {}; try again", name, node));
}

void serve_logs(const api::ExchangePtr& x, const node::Node& pods, const view::View& view,
                asio::io_context& loop, const Clock& clock) {
  const api::Request& request = x->request();
  const auto place = find(pods, view, request.params.at("namespace"), request.params.at("name"),
                          request.query_or("container"));
  if (!place)
    return x->reply_error(place.error());
  const std::string& container = place->pod->spec().containers[place->container].name;
  const auto dir = pods.sandboxes().log_dir(place->pod->spec().uid, container);
  const auto attempts = runtime::list_log_attempts(dir);
  const std::size_t back = request.query_flag("previous") ? 2 : 1;
  if (!attempts || attempts->size() < back)
    return x->reply_error(
        Error(Errc::kNotFound, fmt::format("container {} has no {}log yet", container,
                                           back == 2 ? "previous " : "")));
  runtime::LogQuery query;
  if (const auto tail = parse_uint(request.query_or("tailLines")))
    query.tail_lines = *tail;
  if (const auto limit = parse_uint(request.query_or("limitBytes")))
    query.limit_bytes = *limit;
  if (const auto since = parse_uint(request.query_or("sinceSeconds"), 1'000'000'000))
    query.since = clock.wall() - std::chrono::seconds(*since);
  query.timestamps = request.query_flag("timestamps");
  auto reader = runtime::LogReader::open(dir, (*attempts)[attempts->size() - back], query);
  if (!reader)
    return x->reply_error(reader.error());
  std::function<bool()> ended;
  if (request.query_flag("follow") && back == 1)
    ended = [&pods, ns = request.params.at("namespace"), name = request.params.at("name"),
             uid = place->pod->spec().uid, index = place->container, attempt = attempts->back()] {
      const node::PodWorker* pod = pods.find(ns, name);
      if (!pod || pod->spec().uid != uid)
        return true;
      const auto& current = pod->seen().containers[index].current;
      return current && (current->ref.attempt != attempt ||
                         current->phase == runtime::shim::ContainerPhase::kExited);
    };
  std::make_shared<LogStream>(x, loop, std::move(*reader), std::move(ended))->start();
}

void serve_exec(const api::ExchangePtr& x, const node::Node& pods, const view::View& view,
                asio::io_context& loop, asio::thread_pool& workers) {
  const api::Request& request = x->request();
  boost::system::error_code error;
  const json::value body = json::parse(request.body, error);
  const json::object* object = error ? nullptr : body.if_object();
  const json::value* command = object ? object->if_contains("command") : nullptr;
  std::vector<std::string> args;
  if (command && command->is_array())
    for (const json::value& word : command->as_array())
      if (word.is_string())
        args.emplace_back(word.as_string());
  if (args.empty())
    return x->reply_error(Error(Errc::kInvalid, "exec: \"command\" must be a list of words"));
  const auto flag = [&](std::string_view key) {
    const json::value* value = object->if_contains(key);
    return value && value->is_bool() && value->as_bool();
  };
  const json::value* named = object->if_contains("container");
  const auto place = find(pods, view, request.params.at("namespace"), request.params.at("name"),
                          named && named->is_string() ? std::string_view(named->as_string()) : "");
  if (!place)
    return x->reply_error(place.error());
  const auto& seen = place->pod->seen().containers[place->container];
  if (!runs(*place->pod, place->container))
    return x->reply_error(Error(Errc::kUnavailable, "the container is not running"));
  const std::string& uid = place->pod->spec().uid;
  const node::ActionTarget target{{},
                                  pods.sandboxes().socket(uid),
                                  pods.sandboxes().pod_run_dir(uid) / "bundles" /
                                      runtime::shim::container_id(seen.current->ref),
                                  seen.current->ref,
                                  seen.current->enterable};
  node::CommandRequest command_request{.args = std::move(args), .terminal = flag("tty")};
  if (const json::value* given = object->if_contains("size")) {
    const TerminalSize size = size_of(*given);
    command_request.rows = size.rows;
    command_request.columns = size.columns;
  }
  run_streams(x, loop, workers, flag("stdin"),
              [target, command_request] { return begin(target, command_request); });
}

void serve_attach(const api::ExchangePtr& x, const node::Node& pods, const view::View& view,
                  asio::io_context& loop, asio::thread_pool& workers) {
  const api::Request& request = x->request();
  const auto refuse = [&](Errc code, std::string text) {
    x->reply_error(Error(code, std::move(text)));
  };
  if (request.header("upgrade") != stream::kExecProtocol)
    return refuse(
        Errc::kUnsupported,
        fmt::format("attach: the request must ask for Upgrade: {}; WebSocket and SPDY, as "
                    "kubectl speaks them, are not there yet",
                    stream::kExecProtocol));
  const auto place = find(pods, view, request.params.at("namespace"), request.params.at("name"),
                          request.query_or("container"));
  if (!place)
    return x->reply_error(place.error());
  const node::ContainerSpec& container = place->pod->spec().containers[place->container];
  if (!runs(*place->pod, place->container))
    return refuse(Errc::kUnavailable, fmt::format("container not running ({})", container.name));
  if (request.query_flag("tty") && !container.tty)
    return refuse(
        Errc::kInvalid,
        fmt::format("Unable to use a TTY - container {} did not allocate one", container.name));
  runtime::shim::AttachRequest attach{place->pod->seen().containers[place->container].current->ref,
                                      request.query_flag("stdin"), request.query_flag("stdout"),
                                      request.query_flag("stderr") && !container.tty};
  if (!attach.input && !attach.output && !attach.error)
    return refuse(Errc::kInvalid, "you must specify at least 1 of stdin, stdout, stderr");
  if (attach.input && !container.open_stdin)
    return refuse(Errc::kInvalid,
                  fmt::format("container {} has no stdin to attach to: its spec does not say "
                              "\"stdin: true\"",
                              container.name));
  run_streams(x, loop, workers, attach.input,
              [shim = pods.sandboxes().socket(place->pod->spec().uid), attach,
               tty = container.tty] { return begin_attached(shim, attach, tty); });
}

}  // namespace shoal::daemon
