// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/pod_io.h"

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
  const node::PodWorker* pod = SHOAL_TRY(find_local_pod(pods, view, ns, name, "logs and exec"));
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
  LogStream(api::ExchangePtr x, asio::io_context& loop, runtime::LogReader reader, bool follow)
      : x_(std::move(x)), timer_(loop), reader_(std::move(reader)), follow_(follow) {}

  void start() {
    x_->on_gone([weak = weak_from_this()] {
      if (auto self = weak.lock())
        self->timer_.cancel();
    });
    x_->begin(200, "text/plain");
    next();
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
    if (!taken || reader_.at_limit() || (*taken == 0 && !follow_))
      return x_->end();
    if (*taken > 0)
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
  bool follow_;
};

// ---- exec

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

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

class ExecRelay : public std::enable_shared_from_this<ExecRelay> {
public:
  ExecRelay(asio::io_context& loop, api::RawStreamPtr raw, runtime::ExecSession session,
            UniqueFd in, UniqueFd out, UniqueFd err)
      : raw_(std::move(raw)), session_(std::move(session)), ended_(loop, ::dup(session_.fd())),
        in_(loop),
        outputs_{asio::posix::stream_descriptor(loop), asio::posix::stream_descriptor(loop)} {
    for (const int fd : {in.get(), out.get(), err.get()})
      set_nonblocking(fd);
    in_.assign(in.release());
    outputs_[0].assign(out.release());
    outputs_[1].assign(err.release());
  }

  void start(bool with_input) {
    if (with_input)
      read_input();
    else
      in_.close(ignored_);
    ended_.async_wait(asio::posix::stream_descriptor::wait_read,
                      [self = shared_from_this()](const boost::system::error_code& error) {
                        if (!error)
                          self->on_end();
                      });
    pump();
  }

private:
  void on_end() {
    auto result = session_.poll();
    if (!result)
      exit_ = json::serialize(json::object{{"error", result.error().message()}});
    else if (*result)
      exit_ = json::serialize(json::object{{"exitCode", (*result)->exit_code}});
    else
      exit_ = json::serialize(json::object{{"error", "the shim ended the session"}});
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
                  [self = shared_from_this()](Result<>) { self->finish(); });
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
      if (!bytes || bytes->empty())
        return self->in_.close(self->ignored_), void();
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
    if ((*frame)->channel != Channel::kStdin)
      return take_input();
    if ((*frame)->payload.empty())
      return in_.close(ignored_), void();
    input_ = std::move((*frame)->payload);
    asio::async_write(
        in_, asio::buffer(input_),
        [self = shared_from_this()](const boost::system::error_code& error, std::size_t) {
          if (!error && !self->closed_)
            self->take_input();
        });
  }

  // Destroying the session ends the command, if it still runs.
  void finish() {
    closed_ = true;
    in_.close(ignored_);
    ended_.close(ignored_);
    for (auto& output : outputs_)
      output.close(ignored_);
    raw_->close();
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
  bool writing_ = false;
  bool closed_ = false;
  boost::system::error_code ignored_;
};

struct Begun {
  runtime::ExecSession session;
  UniqueFd in;
  UniqueFd out;
  UniqueFd err;
};

Result<Begun> begin(const std::filesystem::path& socket, const std::filesystem::path& bundle,
                    const std::vector<std::string>& args, runtime::shim::ExecRequest request) {
  request.process = SHOAL_TRY(node::process_of(bundle, args));
  Pipe in = SHOAL_TRY(make_pipe());
  Pipe out = SHOAL_TRY(make_pipe());
  Pipe err = SHOAL_TRY(make_pipe());
  auto session = SHOAL_TRY(runtime::ExecSession::start(socket, request, in.read_end.get(),
                                                       out.write_end.get(), err.write_end.get()));
  return Begun{std::move(session), std::move(in.write_end), std::move(out.read_end),
               std::move(err.read_end)};
}

}  // namespace

Result<const node::PodWorker*> find_local_pod(const node::Node& pods, const view::View& view,
                                              const std::string& ns, const std::string& name,
                                              std::string_view what) {
  const auto object = view.get(view::kPods, ns, name);
  if (!object)
    return fail(Errc::kNotFound, fmt::format("pods \"{}\" not found", name));
  if (const node::PodWorker* pod = pods.find(ns, name))
    return pod;
  const std::string node(view::node_of(*object));
  if (node.empty())
    return fail(Errc::kUnavailable, fmt::format("pod {} is not bound to a host yet", name));
  return fail(Errc::kUnsupported,
              fmt::format("pod {} runs on host {}; {} across hosts are not supported yet: run the "
                          "command there",
                          name, node, what));
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
  std::make_shared<LogStream>(x, loop, std::move(*reader),
                              request.query_flag("follow") && back == 1)
      ->start();
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
  if (flag("tty"))
    return x->reply_error(Error(Errc::kUnsupported, "exec: terminals (-t) are not supported yet"));
  const json::value* named = object->if_contains("container");
  const auto place = find(pods, view, request.params.at("namespace"), request.params.at("name"),
                          named && named->is_string() ? std::string_view(named->as_string()) : "");
  if (!place)
    return x->reply_error(place.error());
  const auto& seen = place->pod->seen().containers[place->container];
  if (!seen.current || seen.current->phase != runtime::shim::ContainerPhase::kRunning)
    return x->reply_error(Error(Errc::kUnavailable, "the container is not running"));
  runtime::shim::ExecRequest exec;
  exec.ref = seen.current->ref;
  const auto bundle = pods.sandboxes().pod_run_dir(place->pod->spec().uid) / "bundles" /
                      runtime::shim::container_id(exec.ref);
  const bool with_input = flag("stdin");
  const auto socket = pods.sandboxes().socket(place->pod->spec().uid);
  asio::post(workers, [x, exec, socket, bundle, args, with_input, &loop] {
    auto begun = std::make_shared<Result<Begun>>(begin(socket, bundle, args, exec));
    asio::post(loop, [x, begun, with_input, &loop] {
      if (!*begun)
        return x->reply_error(begun->error());
      x->upgrade(stream::kExecProtocol, [begun, with_input, &loop](api::RawStreamPtr raw) {
        Begun& b = **begun;
        std::make_shared<ExecRelay>(loop, std::move(raw), std::move(b.session), std::move(b.in),
                                    std::move(b.out), std::move(b.err))
            ->start(with_input);
      });
    });
  });
}

}  // namespace shoal::daemon
