// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/pod_capture.h"

#include "agent/daemon/pod_io.h"
#include "agent/stream/frames.h"
#include "agent/stream/pcap.h"
#include "netplane/apply/pod_capture.h"
#include "netplane/base/strings.h"
#include "runtime/sandbox/shim_client.h"

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <unistd.h>

namespace shoal::daemon {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using stream::Channel;

struct Asked {
  kernel::CaptureFilter filter;
  std::optional<std::uint64_t> count;
  std::optional<std::chrono::seconds> duration;
};

Result<std::optional<std::uint64_t>> read_number(const api::Request& request, std::string_view name,
                                                 std::uint64_t min, std::uint64_t max) {
  const std::string_view text = request.query_or(name);
  if (text.empty())
    return std::optional<std::uint64_t>();
  const auto number = parse_uint(text, max);
  if (!number || *number < min)
    return fail(Errc::kInvalid, fmt::format("{} must be a number from {} to {}, not \"{}\"", name,
                                            min, max, printable(text)));
  return number;
}

Result<Asked> read_asked(const api::Request& request) {
  Asked asked;
  if (const auto snaplen =
          SHOAL_TRY(read_number(request, "snaplen", kernel::kSnaplenMin, kernel::kSnaplenMax)))
    asked.filter.snaplen = static_cast<std::uint32_t>(*snaplen);
  if (const auto port = SHOAL_TRY(read_number(request, "port", 1, 65'535)))
    asked.filter.port = static_cast<std::uint16_t>(*port);
  asked.count = SHOAL_TRY(read_number(request, "count", 1, UINT32_MAX));
  if (const auto seconds = SHOAL_TRY(read_number(request, "seconds", 1, kCaptureSecondsMax)))
    asked.duration = std::chrono::seconds(*seconds);
  return asked;
}

class CaptureRelay : public std::enable_shared_from_this<CaptureRelay> {
public:
  CaptureRelay(asio::io_context& loop, api::RawStreamPtr raw, kernel::PacketCapture capture,
               const Asked& asked, std::shared_ptr<void> place)
      : raw_(std::move(raw)), place_(std::move(place)), capture_(std::move(capture)),
        ready_(loop, ::dup(capture_->fd())), timer_(loop), asked_(asked) {}

  void start() {
    read_input();
    if (asked_.duration) {
      timer_.expires_after(*asked_.duration);
      timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
        if (!error)
          self->end("its time is over");
      });
    }
    send(stream::pcap_file_header(asked_.filter.snaplen));
  }

private:
  // No more packets are taken, those that were are sent, then the exit.
  void end(std::string_view why) {
    if (closed_ || !ended_.empty())
      return;
    ended_ = why;
    if (auto stopped = capture_->stop(); !stopped)
      failed(stopped.error());
    pump();
  }

  void failed(const Error& error) {
    error_ = error.message();
    exhausted_ = true;
  }

  // One batch at a time: while the peer takes it, packets wait in the kernel's queue.
  void pump() {
    if (writing_ || closed_)
      return;
    std::string batch = take_batch();
    if (!batch.empty())
      return send(batch);
    if (!ended_.empty() || exhausted_)
      return send_exit();
    watch();
  }

  std::string take_batch() {
    std::string batch;
    for (std::size_t n = 0; n < kCaptureBatchPackets && batch.size() < kCaptureBatchBytes; n++) {
      if (exhausted_)
        break;
      const auto packet = capture_->next();
      if (!packet && packet.error().code() == Errc::kUnavailable && !std::exchange(down_, true)) {
        ended_ = "the pod's network has ended";
        continue;  // what came before still waits
      }
      if (!packet) {
        failed(packet.error());
        break;
      }
      if (!*packet)
        break;
      stream::append_pcap_packet(batch, (*packet)->time_ns, (*packet)->original_bytes,
                                 (*packet)->bytes);
      checksums_left_ += (*packet)->checksum_left ? 1 : 0;
      captured_++;
      if (asked_.count && captured_ == *asked_.count) {
        ended_ = "its count is reached";
        exhausted_ = true;
      }
    }
    return batch;
  }

  void send(std::string_view bytes) {
    writing_ = true;
    raw_->write(stream::encode_frames(Channel::kStdout, bytes),
                [self = shared_from_this()](Result<> sent) {
                  self->writing_ = false;
                  sent ? self->pump() : self->close();
                });
  }

  void send_exit() {
    const auto dropped = capture_->dropped();
    if (!dropped && error_.empty())
      error_ = dropped.error().message();
    json::object exit{{"captured", captured_},
                      {"dropped", dropped.value_or(0)},
                      {"checksumsLeft", checksums_left_},
                      {"ended", ended_}};
    if (!error_.empty())
      exit["error"] = error_;
    writing_ = true;
    raw_->write(stream::encode_frame(Channel::kExit, json::serialize(exit)),
                [self = shared_from_this()](Result<>) { self->close(); });
  }

  void watch() {
    if (watched_)
      return;
    watched_ = true;
    ready_.async_wait(asio::posix::stream_descriptor::wait_read,
                      [self = shared_from_this()](const boost::system::error_code& error) {
                        self->watched_ = false;
                        if (!error)
                          self->pump();
                      });
  }

  void read_input() {
    raw_->read([self = shared_from_this()](Result<std::string_view> bytes) {
      if (!bytes || bytes->empty())
        return self->close();
      self->input_.append(*bytes);
      self->take_input();
    });
  }

  void take_input() {
    if (closed_)
      return;
    auto frame = input_.next();
    while (frame && *frame) {
      if ((*frame)->channel == Channel::kStdin && (*frame)->payload.empty())
        end("it was asked to");
      frame = input_.next();
    }
    frame ? read_input() : close();
  }

  void close() {
    if (std::exchange(closed_, true))
      return;
    ready_.close(ignored_);
    capture_.reset();
    place_.reset();
    timer_.cancel();
    raw_->close();
  }

  api::RawStreamPtr raw_;
  std::shared_ptr<void> place_;
  std::optional<kernel::PacketCapture> capture_;
  asio::posix::stream_descriptor ready_;
  asio::steady_timer timer_;
  Asked asked_;
  stream::FrameReader input_;
  std::uint64_t captured_ = 0;
  std::uint64_t checksums_left_ = 0;
  std::string ended_;
  std::string error_;
  bool down_ = false;
  bool exhausted_ = false;  // nothing more is read, whatever waits
  bool writing_ = false;
  bool watched_ = false;
  bool closed_ = false;
  boost::system::error_code ignored_;
};

Result<kernel::PacketCapture> open_capture(const std::filesystem::path& shim_socket,
                                           const kernel::CaptureFilter& filter) {
  const runtime::ShimFacts facts = SHOAL_TRY(runtime::ShimClient(shim_socket).state());
  return apply::open_pod_capture(facts.netns.get(), filter);
}

}  // namespace

void serve_capture(const api::ExchangePtr& x, const node::Node& pods, const view::View& view,
                   asio::io_context& loop, asio::thread_pool& workers, Places& places) {
  const api::Request& request = x->request();
  const std::string& name = request.params.at("name");
  const auto asked = read_asked(request);
  if (!asked)
    return x->reply_error(asked.error());
  const auto pod = find_local_pod(pods, view, request.params.at("namespace"), name);
  if (!pod)
    return x->reply_error(pod.error());
  if ((*pod)->spec().host_network)
    return x->reply_error(
        Error(Errc::kInvalid,
              fmt::format("pod {} is in the network of its host: run tcpdump there, for its ports",
                          name)));
  if (!(*pod)->local())
    return x->reply_error(
        Error(Errc::kUnavailable,
              fmt::format("pod {} has no network now: it has not started yet, or has ended (shoal "
                          "get pods)",
                          name)));
  std::shared_ptr<void> place = places.take();
  if (!place)
    return x->reply_error(
        Error(Errc::kExhausted,
              fmt::format("{} captures run on this host, which is all that may at once: end one "
                          "first",
                          kCapturesMax)));
  asio::post(workers, [x = x, &loop, name, asked = *asked, place = std::move(place),
                       socket = pods.sandboxes().socket((*pod)->spec().uid)]() mutable {
    auto opened =
        std::make_shared<Result<kernel::PacketCapture>>(open_capture(socket, asked.filter));
    asio::post(loop, [x = std::move(x), &loop, name, asked, place = std::move(place),
                      opened = std::move(opened)]() mutable {
      if (!*opened)
        return x->reply_error(
            Error(opened->error()).wrap(fmt::format("capture the packets of pod {}", name)));
      x->upgrade(stream::kCaptureProtocol, [&loop, asked, place = std::move(place),
                                            opened](api::RawStreamPtr raw) {
        std::make_shared<CaptureRelay>(loop, std::move(raw), std::move(**opened), asked, place)
            ->start();
      });
    });
  });
}

}  // namespace shoal::daemon
