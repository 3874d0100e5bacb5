// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/net/sealed_streams.h"

#include "agent/gossip/core/limits.h"
#include "agent/gossip/net/endpoint.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <cstring>
#include <deque>
#include <fmt/format.h>
#include <utility>

namespace shoal::gossip {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::string_view kMagic = "SHG1";
constexpr std::size_t kPreambleBytes = 4 + kKeyIdBytes + kSaltBytes;
constexpr std::size_t kFrameBytesMax = kStreamMessageBytesMax + kTagBytes;
constexpr int kBacklog = 256;

void put_u32(std::string& out, std::size_t value) {
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(value >> shift));
}

std::size_t get_u32(const std::array<char, 4>& bytes) {
  std::size_t value = 0;
  for (const char c : bytes)
    value = value << 8 | static_cast<std::uint8_t>(c);
  return value;
}

template <std::size_t N>
std::string_view view(const std::array<std::uint8_t, N>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), N};
}

}  // namespace

struct SealedStreams::Shared : std::enable_shared_from_this<Shared> {
  Shared(asio::io_context& context, Random& source)
      : io(context), random(source), acceptor(context) {}

  void accept();
  void drop_incoming(const std::shared_ptr<Incoming>& connection, bool failed);
  void drop_outgoing(const SocketAddress& to, bool failed);

  asio::io_context& io;
  Random& random;
  tcp::acceptor acceptor;
  KeySchedule schedule;
  std::string cluster_id;
  StreamTimeouts timeouts;
  OnMessage on_message;
  OnWrongKey on_wrong_key;
  StreamStats stats;
  std::set<std::shared_ptr<Incoming>> incoming;
  std::map<SocketAddress, std::shared_ptr<Outgoing>> outgoing;
  std::size_t queued_bytes = 0;
  bool stopped = false;
};

// ---------------------------------------------------------------------------- a connection to us

class SealedStreams::Incoming : public std::enable_shared_from_this<Incoming> {
public:
  Incoming(Shared& shared, tcp::socket socket, const SocketAddress& from)
      : shared_(shared.shared_from_this()), socket_(std::move(socket)), timer_(shared.io),
        from_(from) {}

  void start() {
    wait_at_most(shared_->timeouts.handshake);
    auto self = shared_from_this();
    asio::async_read(socket_, asio::buffer(preamble_), [self](error_code error, std::size_t) {
      if (!self->has_ended(error))
        self->on_preamble();
    });
  }

  void close() {
    error_code ignored;
    socket_.close(ignored);
    timer_.cancel();
  }

private:
  // An end between frames is how a dialler hangs up; anywhere else it is a failure.
  bool has_ended(error_code error, bool may_end = false) {
    if (!error && !shared_->stopped && socket_.is_open())
      return false;
    end(!(may_end && error == asio::error::eof));
    return true;
  }

  void end(bool failed) { shared_->drop_incoming(shared_from_this(), failed); }

  void on_preamble() {
    const std::string_view bytes(preamble_.data(), preamble_.size());
    KeyId id{};
    Salt salt{};
    std::memcpy(id.data(), bytes.data() + kMagic.size(), id.size());
    std::memcpy(salt.data(), bytes.data() + kMagic.size() + id.size(), salt.size());
    if (!bytes.starts_with(kMagic)) {
      end(true);
      return;
    }
    const auto key = shared_->schedule.derive(id, salt);
    if (!key) {
      ++shared_->stats.wrong_key;
      const auto shared = shared_;
      end(false);
      shared->on_wrong_key(from_);
      return;
    }
    aead_ = std::make_unique<Aead>(*key);
    read_length();
  }

  void read_length() {
    auto self = shared_from_this();
    asio::async_read(socket_, asio::buffer(length_), [self](error_code error, std::size_t n) {
      if (!self->has_ended(error, n == 0 && self->frames_ > 0))
        self->read_frame();
    });
  }

  void read_frame() {
    const std::size_t bytes = get_u32(length_);
    // The first frame is empty: it only shows that the peer holds the key.
    if (bytes < kTagBytes || bytes > (frames_ == 0 ? kTagBytes : kFrameBytesMax)) {
      end(true);
      return;
    }
    if (frames_ > 0)
      wait_at_most(shared_->timeouts.frame);
    frame_.resize(bytes);
    auto self = shared_from_this();
    asio::async_read(socket_, asio::buffer(frame_), [self](error_code error, std::size_t) {
      if (!self->has_ended(error))
        self->on_frame();
    });
  }

  void on_frame() {
    auto plain = aead_->open(frames_, {length_.data(), length_.size()}, frame_);
    if (!plain) {
      end(true);
      return;
    }
    shared_->stats.bytes_in += length_.size() + frame_.size();
    frame_.clear();
    frame_.shrink_to_fit();
    // The dialler hangs up first when nothing comes.
    wait_at_most(shared_->timeouts.idle * 2);
    const auto self = shared_from_this();
    if (frames_++ > 0)
      shared_->on_message(from_, std::move(*plain));
    if (socket_.is_open() && !shared_->stopped)
      read_length();
  }

  void wait_at_most(std::chrono::milliseconds span) {
    timer_.expires_after(span);
    timer_.async_wait([self = shared_from_this()](error_code error) {
      if (!error && self->timer_.expiry() <= asio::steady_timer::clock_type::now())
        self->end(true);
    });
  }

  std::shared_ptr<Shared> shared_;
  tcp::socket socket_;
  asio::steady_timer timer_;
  SocketAddress from_;
  std::array<char, kPreambleBytes> preamble_{};
  std::array<char, 4> length_{};
  std::string frame_;
  std::unique_ptr<Aead> aead_;
  std::uint64_t frames_ = 0;
};

// ---------------------------------------------------------------------------- a connection from us

class SealedStreams::Outgoing : public std::enable_shared_from_this<Outgoing> {
public:
  Outgoing(Shared& shared, const SocketAddress& to)
      : shared_(shared.shared_from_this()), socket_(shared.io), timer_(shared.io), to_(to) {}

  void start() {
    wait_at_most(shared_->timeouts.connect, true);
    socket_.async_connect(to_endpoint<tcp::endpoint>(to_),
                          [self = shared_from_this()](error_code error) {
                            if (!self->has_ended(error))
                              self->on_connected();
                          });
  }

  // False: the queue is full.
  bool push(std::string bytes) {
    if (queue_bytes_ + bytes.size() > kQueueBytesMax ||
        shared_->queued_bytes + bytes.size() > kQueuedBytesMax)
      return false;
    queue_bytes_ += bytes.size();
    shared_->queued_bytes += bytes.size();
    queue_.push_back(std::move(bytes));
    if (ready_ && !writing_)
      write_next();
    return true;
  }

  void close() {
    error_code ignored;
    socket_.close(ignored);
    timer_.cancel();
    shared_->queued_bytes -= queue_bytes_;
    shared_->stats.dropped += queue_.size() + (writing_ && in_flight_ ? 1 : 0);
    queue_.clear();
    queue_bytes_ = 0;
  }

private:
  bool has_ended(error_code error) {
    if (!error && !shared_->stopped && socket_.is_open())
      return false;
    end(true);
    return true;
  }

  void end(bool failed) {
    const auto self = shared_from_this();
    const auto current = shared_->outgoing.find(to_);
    if (current != shared_->outgoing.end() && current->second == self)
      shared_->drop_outgoing(to_, failed);
  }

  void on_connected() {
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    Salt salt{};
    shared_->random.fill(salt);
    aead_ = std::make_unique<Aead>(*shared_->schedule.derive(shared_->schedule.primary(), salt));
    buffer_.assign(kMagic);
    buffer_.append(view(shared_->schedule.primary())).append(view(salt));
    add_frame({});
    watch_for_end();
    write_buffer();
  }

  void add_frame(std::string_view plain) {
    std::string length;
    put_u32(length, plain.size() + kTagBytes);
    buffer_ += length;
    aead_->seal(frames_++, length, plain, buffer_);
  }

  void write_next() {
    if (queue_.empty()) {
      writing_ = false;
      in_flight_ = false;
      wait_at_most(shared_->timeouts.idle, false);
      return;
    }
    buffer_.clear();
    add_frame(queue_.front());
    queue_bytes_ -= queue_.front().size();
    shared_->queued_bytes -= queue_.front().size();
    queue_.pop_front();
    in_flight_ = true;
    write_buffer();
  }

  void write_buffer() {
    writing_ = true;
    wait_at_most(shared_->timeouts.frame, true);
    asio::async_write(socket_, asio::buffer(buffer_),
                      [self = shared_from_this()](error_code error, std::size_t n) {
                        self->shared_->stats.bytes_out += n;
                        if (self->has_ended(error))
                          return;
                        self->in_flight_ = false;
                        self->ready_ = true;
                        self->write_next();
                      });
  }

  // The peer never writes here: a read that ends says that it has hung up, so that the next message
  // does not go into a dead connection.
  void watch_for_end() {
    socket_.async_read_some(asio::buffer(ignored_),
                            [self = shared_from_this()](error_code, std::size_t) {
                              self->end(!self->queue_.empty() || self->in_flight_);
                            });
  }

  void wait_at_most(std::chrono::milliseconds span, bool failed) {
    timer_.expires_after(span);
    timer_.async_wait([self = shared_from_this(), failed](error_code error) {
      if (!error && self->timer_.expiry() <= asio::steady_timer::clock_type::now())
        self->end(failed);
    });
  }

  std::shared_ptr<Shared> shared_;
  tcp::socket socket_;
  asio::steady_timer timer_;
  SocketAddress to_;
  std::deque<std::string> queue_;
  std::size_t queue_bytes_ = 0;
  std::unique_ptr<Aead> aead_;
  std::string buffer_;
  std::array<char, 1> ignored_{};
  std::uint64_t frames_ = 0;
  bool ready_ = false;  // the preamble is out
  bool writing_ = false;
  bool in_flight_ = false;  // a message, not the preamble
};

// ---------------------------------------------------------------------------- both

void SealedStreams::Shared::accept() {
  acceptor.async_accept([self = shared_from_this()](error_code error, tcp::socket socket) {
    if (self->stopped || error == asio::error::operation_aborted)
      return;
    error_code gone;
    const tcp::endpoint peer = error ? tcp::endpoint() : socket.remote_endpoint(gone);
    if (!error && !gone && self->incoming.size() < kIncomingMax) {
      auto connection = std::make_shared<Incoming>(*self, std::move(socket), from_endpoint(peer));
      self->incoming.insert(connection);
      ++self->stats.open;
      connection->start();
    } else if (!error) {
      ++self->stats.failed;  // too many, or gone already: closed with `socket`
    }
    if (!error) {
      self->accept();
      return;
    }
    // Out of file descriptors, say: the connection stays in the backlog, and a loop would spin on
    // it.
    auto later = std::make_shared<asio::steady_timer>(self->io, std::chrono::milliseconds(200));
    later->async_wait([self, later](error_code) {
      if (!self->stopped)
        self->accept();
    });
  });
}

void SealedStreams::Shared::drop_incoming(const std::shared_ptr<Incoming>& connection,
                                          bool failed) {
  connection->close();
  if (incoming.erase(connection) == 0)
    return;
  --stats.open;
  stats.failed += failed && !stopped ? 1 : 0;
}

void SealedStreams::Shared::drop_outgoing(const SocketAddress& to, bool was_failure) {
  const auto found = outgoing.find(to);
  const auto connection = found->second;
  outgoing.erase(found);
  connection->close();
  --stats.open;
  stats.failed += was_failure && !stopped ? 1 : 0;
}

SealedStreams::SealedStreams(asio::io_context& io, const KeyRing& ring, std::string_view cluster_id,
                             Random& random, OnMessage on_message, OnWrongKey on_wrong_key,
                             StreamTimeouts timeouts)
    : shared_(std::make_shared<Shared>(io, random)) {
  shared_->cluster_id = cluster_id;
  shared_->timeouts = timeouts;
  shared_->on_message = std::move(on_message);
  shared_->on_wrong_key = std::move(on_wrong_key);
  set_keys(ring);
}

SealedStreams::~SealedStreams() { stop(); }

void SealedStreams::set_keys(const KeyRing& ring) {
  shared_->schedule = KeySchedule(ring, shared_->cluster_id, "stream");
}

Result<> SealedStreams::listen(const SocketAddress& address) {
  const auto endpoint = to_endpoint<tcp::endpoint>(address);
  const std::string what = fmt::format("gossip: listen on TCP {}", address.to_string());
  tcp::acceptor& a = shared_->acceptor;
  error_code error;
  a.open(endpoint.protocol(), error);
  if (!error)
    a.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error)
    a.bind(endpoint, error);
  if (!error)
    a.listen(kBacklog, error);
  if (error) {
    error_code ignored;
    a.close(ignored);
    return fail(Error::from_errno(error.value(), what));
  }
  shared_->accept();
  return {};
}

void SealedStreams::send(const SocketAddress& to, std::string bytes) {
  SHOAL_ASSERT(bytes.size() <= kStreamMessageBytesMax);
  if (shared_->stopped)
    return;
  auto found = shared_->outgoing.find(to);
  if (found == shared_->outgoing.end()) {
    if (shared_->outgoing.size() >= kOutgoingMax) {
      ++shared_->stats.dropped;
      return;
    }
    found = shared_->outgoing.emplace(to, std::make_shared<Outgoing>(*shared_, to)).first;
    ++shared_->stats.open;
    found->second->start();
  }
  if (!found->second->push(std::move(bytes)))
    ++shared_->stats.dropped;
}

void SealedStreams::stop() {
  if (std::exchange(shared_->stopped, true))
    return;
  error_code ignored;
  shared_->acceptor.close(ignored);
  while (!shared_->incoming.empty())
    shared_->drop_incoming(*shared_->incoming.begin(), false);
  while (!shared_->outgoing.empty())
    shared_->drop_outgoing(shared_->outgoing.begin()->first, false);
  // The callbacks' owner may be gone before the last handler has run.
  shared_->on_message = [](const SocketAddress&, const std::string&) {};
  shared_->on_wrong_key = [](const SocketAddress&) {};
}

const StreamStats& SealedStreams::stats() const { return shared_->stats; }

}  // namespace shoal::gossip
