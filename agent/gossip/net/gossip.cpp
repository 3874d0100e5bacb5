// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/net/gossip.h"

#include "agent/gossip/net/seal.h"
#include "agent/gossip/net/sealed_streams.h"
#include "agent/gossip/net/udp_port.h"

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <fmt/format.h>
#include <iterator>
#include <set>
#include <spdlog/spdlog.h>
#include <utility>
#include <variant>

namespace shoal::gossip {
namespace {

constexpr int kPortTriesMax = 16;  // for a port that is free on both UDP and TCP
constexpr std::chrono::seconds kWrongKeyReport{60};
constexpr std::chrono::seconds kWrongKeyGather{2};  // longer than a round of what is sent aside
constexpr char kAside = '\xff';           // no wire version: it is no packet of the protocol
constexpr std::size_t kStrangersMax = 4;  // named in one report

}  // namespace

struct Gossip::Impl : std::enable_shared_from_this<Impl> {
  Impl(boost::asio::io_context& context, Config c, const Clock& a_clock, Random& a_random)
      : io(context), config(std::move(c)), clock(a_clock), random(a_random), timer(context),
        stranger_timer(context) {}

  Result<> start();
  Result<> bind();
  void close();

  // Runs one input of the core and carries out what it asked for.
  template <class Input>
  auto drive(Input input);
  void carry_out();
  void perform(Effect& effect);
  void arm();
  void on_timer();
  void note_stranger(const SocketAddress& from);
  void report_strangers();

  void on_sealed_datagram(const SocketAddress& from, std::string_view bytes);

  boost::asio::io_context& io;
  Config config;
  const Clock& clock;
  Random& random;
  std::unique_ptr<Core> core;
  std::unique_ptr<UdpPort> udp;
  std::unique_ptr<SealedStreams> streams;
  std::unique_ptr<DatagramSealer> sealer;

  boost::asio::steady_timer timer;
  std::set<std::pair<MonoTime, std::uint64_t>> timers;
  MonoTime armed_for = MonoTime::max();

  std::deque<Effect> effects;
  bool carrying_out = false;
  bool stopped = false;

  MemberCallback on_member;
  EntryCallback on_entry;
  DesiredCallback on_desired;
  std::function<void(std::uint64_t)> on_start_id;
  std::function<void()> on_left;
  std::function<void(std::string_view)> on_aside;

  Metrics counters;
  std::set<SocketAddress> strangers;  // since the last report
  std::uint64_t strange_packets = 0;
  MonoTime next_stranger_report;
  boost::asio::steady_timer stranger_timer;
  bool stranger_report_due = false;
};

// ---------------------------------------------------------------------------- the core's inputs

template <class Input>
auto Gossip::Impl::drive(Input input) {
  SHOAL_ASSERT(core);
  using R = decltype(input(*core, clock.now(), std::declval<Effects&>()));
  const auto self = shared_from_this();  // a callback may let go of the Gossip
  Effects out;
  if constexpr (std::is_void_v<R>) {
    if (stopped)
      return;
    input(*core, clock.now(), out);
    std::ranges::move(out, std::back_inserter(effects));
    carry_out();
  } else {
    if (stopped)
      return R(fail(Errc::kCancelled, "gossip has been stopped"));
    R result = input(*core, clock.now(), out);
    std::ranges::move(out, std::back_inserter(effects));
    carry_out();
    return result;
  }
}

// ---------------------------------------------------------------------------- sockets

Result<> Gossip::Impl::start() {
  if (core)
    return fail(Errc::kExists, "gossip: started already");
  if (config.keys.empty())
    return fail(Errc::kInvalid,
                "gossip: no cluster key; join a cluster or make one with `shoal init`");
  if (config.cluster_id.empty())
    return fail(Errc::kInvalid, "gossip: the cluster id must not be empty");
  SHOAL_TRY(validate(config.protocol));
  SHOAL_TRY(bind());
  MemberMeta& meta = config.protocol.meta;
  if (meta.gossip_address.port == 0)
    meta.gossip_address.port = udp->local_address().port;
  sealer = std::make_unique<DatagramSealer>(config.keys, config.cluster_id, random);
  core = std::make_unique<Core>(config.protocol, random);
  drive([](Core& c, MonoTime now, Effects& out) { c.start(now, out); });
  return {};
}

// UDP and TCP on one port. A port of 0 is chosen by UDP, and may be taken on TCP: then once more.
Result<> Gossip::Impl::bind() {
  Result<> bound;
  for (int attempt = 0; attempt < kPortTriesMax; ++attempt) {
    udp = std::make_unique<UdpPort>(
        io,
        [this](const SocketAddress& from, std::string_view bytes) {
          on_sealed_datagram(from, bytes);
        },
        [this](const SocketAddress& to) {
          drive([&](Core& c, MonoTime now, Effects& out) { c.on_refused(to, now, out); });
        });
    streams = std::make_unique<SealedStreams>(
        io, config.keys, config.cluster_id, random,
        [this](const SocketAddress& from, const std::string& bytes) {
          drive([&](Core& c, MonoTime now, Effects& out) {
            c.on_stream_message(from, bytes, now, out);
          });
        },
        [this](const SocketAddress& from) { note_stranger(from); });
    SHOAL_TRY(udp->bind(config.listen));
    bound = streams->listen({config.listen.ip, udp->local_address().port});
    if (bound || config.listen.port != 0)
      return bound;
  }
  return bound;
}

void Gossip::Impl::close() {
  if (std::exchange(stopped, true))
    return;
  timer.cancel();
  stranger_timer.cancel();
  if (udp)
    udp->close();
  if (streams)
    streams->stop();
  effects.clear();
}

void Gossip::Impl::on_sealed_datagram(const SocketAddress& from, std::string_view bytes) {
  counters.datagram_bytes_in += bytes.size();
  std::string plain;
  switch (sealer->open(bytes, plain)) {
  case Opened::kOk:
    if (plain.starts_with(kAside)) {
      if (on_aside && !stopped)
        on_aside(std::string_view(plain).substr(1));
      return;
    }
    drive([&](Core& c, MonoTime now, Effects& out) { c.on_datagram(from, plain, now, out); });
    return;
  case Opened::kWrongKey:
    ++counters.datagrams_wrong_key;
    note_stranger(from);
    return;
  case Opened::kUnauthentic:
    ++counters.datagrams_unauthentic;
    return;
  }
}

// Said once a minute, however often it happens: it is a mistake to mend or somebody else's noise.
// A host also sends from addresses that are not its own (kAside), and those first as well as not:
// a little later both have been seen.
void Gossip::Impl::note_stranger(const SocketAddress& from) {
  ++strange_packets;
  if (strangers.size() < kStrangersMax)
    strangers.insert(from);
  if (stopped || stranger_report_due || clock.now() < next_stranger_report)
    return;
  stranger_report_due = true;
  stranger_timer.expires_after(kWrongKeyGather);
  stranger_timer.async_wait([this, self = shared_from_this()](const boost::system::error_code& ec) {
    if (!ec && !stopped)
      report_strangers();
  });
}

void Gossip::Impl::report_strangers() {
  stranger_report_due = false;
  next_stranger_report = clock.now() + kWrongKeyReport;
  std::string who;
  for (const SocketAddress& address : strangers)
    who += (who.empty() ? "" : ", ") + address.to_string();
  spdlog::warn(
      "gossip: wrong cluster key: {} packets from {} are sealed under a key or for a cluster id "
      "that this host does not know. If that host belongs to this cluster and `shoal members` on "
      "others shows it alive, this host's pki/gossip.key is the wrong one, otherwise that host's: "
      "put the file back from a backup, or let that one join again with a new token (`shoal token "
      "create`)",
      strange_packets, who);
  strangers.clear();
  strange_packets = 0;
}

// ---------------------------------------------------------------------------- the core's effects

// In order, also when a callback leads to further inputs: those queue up behind.
void Gossip::Impl::carry_out() {
  if (std::exchange(carrying_out, true))
    return;
  while (!effects.empty()) {
    Effect effect = std::move(effects.front());
    effects.pop_front();
    perform(effect);
  }
  carrying_out = false;
  arm();
}

void Gossip::Impl::perform(Effect& effect) {
  if (auto* d = std::get_if<SendDatagram>(&effect)) {
    const std::string sealed = sealer->seal(d->bytes);
    counters.datagram_bytes_out += sealed.size();
    if (!udp->send(d->to, sealed))
      ++counters.datagrams_unsendable;
  } else if (auto* s = std::get_if<SendStream>(&effect)) {
    streams->send(s->to, std::move(s->bytes));
  } else if (const auto* t = std::get_if<ArmTimer>(&effect)) {
    timers.emplace(t->at, t->token);
  } else if (const auto* m = std::get_if<MemberChanged>(&effect)) {
    if (on_member)
      on_member(*m);
  } else if (const auto* e = std::get_if<EntryChanged>(&effect)) {
    if (on_entry)
      on_entry(*e);
  } else if (const auto* c = std::get_if<DesiredComplete>(&effect)) {
    if (on_desired)
      on_desired(c->revision);
  } else if (const auto* r = std::get_if<StartIdRaised>(&effect)) {
    spdlog::warn("gossip: the cluster knows a later start of this host; going on as start {}",
                 r->start_id);
    if (on_start_id)
      on_start_id(r->start_id);
  } else if (const auto* n = std::get_if<NameConflict>(&effect)) {
    spdlog::error("gossip: a live host at {} has the name {} too; give each host its own node name",
                  n->other.to_string(), core->self().name);
  } else if (std::holds_alternative<LeaveDone>(effect)) {
    if (auto done = std::exchange(on_left, nullptr))
      done();
  }
}

void Gossip::Impl::arm() {
  if (stopped || timers.empty() || timers.begin()->first >= armed_for)
    return;
  armed_for = timers.begin()->first;
  timer.expires_after(std::max(armed_for - clock.now(), Duration(0)));
  timer.async_wait([self = shared_from_this()](boost::system::error_code error) {
    if (!error && !self->stopped)
      self->on_timer();
  });
}

void Gossip::Impl::on_timer() {
  armed_for = MonoTime::max();
  // What has arrived goes first: after a pause it holds the answers that the timers would miss.
  udp->drain();
  const MonoTime now = clock.now();
  while (!stopped && !timers.empty() && timers.begin()->first <= now) {
    const std::uint64_t token = timers.begin()->second;
    timers.erase(timers.begin());
    drive([&](Core& c, MonoTime at, Effects& out) { c.on_timer(token, at, out); });
  }
  arm();
}

// ---------------------------------------------------------------------------- the facade

Gossip::Gossip(boost::asio::io_context& io, Config config, const Clock& clock, Random& random)
    : impl_(std::make_shared<Impl>(io, std::move(config), clock, random)) {}

Gossip::~Gossip() { stop(); }

void Gossip::on_member(MemberCallback callback) { impl_->on_member = std::move(callback); }
void Gossip::on_entry(EntryCallback callback) { impl_->on_entry = std::move(callback); }
void Gossip::on_desired_complete(DesiredCallback callback) {
  impl_->on_desired = std::move(callback);
}
void Gossip::on_start_id_raised(std::function<void(std::uint64_t)> callback) {
  impl_->on_start_id = std::move(callback);
}

void Gossip::on_aside(std::function<void(std::string_view)> callback) {
  impl_->on_aside = std::move(callback);
}

std::string Gossip::seal_aside(std::string_view text) {
  SHOAL_ASSERT(impl_->sealer);
  return impl_->sealer->seal(kAside + std::string(text));
}

Result<> Gossip::start() { return impl_->start(); }

void Gossip::join(std::vector<SocketAddress> seeds) {
  impl_->drive([&](Core& c, MonoTime now, Effects& out) { c.join(seeds, now, out); });
}

void Gossip::leave(std::function<void()> done) {
  impl_->on_left = std::move(done);
  impl_->drive([](Core& c, MonoTime now, Effects& out) { c.leave(now, out); });
}

void Gossip::stop() { impl_->close(); }

SocketAddress Gossip::local_address() const { return impl_->udp->local_address(); }
const Member& Gossip::self() const { return impl_->core->self(); }
std::vector<Member> Gossip::members() const { return impl_->core->members(); }
std::optional<Member> Gossip::member(std::string_view name) const {
  return impl_->core->member(name);
}

void Gossip::update_meta(MemberMeta meta) {
  impl_->drive(
      [&](Core& c, MonoTime now, Effects& out) { c.update_meta(std::move(meta), now, out); });
}

Result<> Gossip::forget(std::string_view name) {
  return impl_->drive(
      [&](Core& c, MonoTime now, Effects& out) { return c.forget(name, now, out); });
}

Result<> Gossip::publish(std::string_view key, std::optional<std::string> value) {
  return impl_->drive([&](Core& c, MonoTime now, Effects& out) {
    return c.publish(key, std::move(value), now, out);
  });
}

void Gossip::publish_settled() {
  impl_->drive([](Core& c, MonoTime now, Effects& out) { c.publish_settled(now, out); });
}

Result<> Gossip::publish_desired(std::span<const DesiredEvent> events, std::uint64_t complete_to) {
  return impl_->drive([&](Core& c, MonoTime now, Effects& out) {
    return c.publish_desired(events, complete_to, now, out);
  });
}

Result<> Gossip::publish_desired_snapshot(std::span<const DesiredEvent> values,
                                          std::uint64_t revision) {
  return impl_->drive([&](Core& c, MonoTime now, Effects& out) {
    return c.publish_desired_snapshot(values, revision, now, out);
  });
}

std::optional<Entry> Gossip::entry(std::string_view origin, std::string_view key) const {
  return impl_->core->entry(origin, key);
}

void Gossip::for_each_entry(
    std::string_view origin,
    const std::function<void(std::string_view key, const Entry&)>& visit) const {
  impl_->core->for_each_entry(origin, visit);
}

std::uint64_t Gossip::desired_complete_to() const { return impl_->core->desired_complete_to(); }

void Gossip::set_keys(KeyRing keys) {
  SHOAL_ASSERT(!keys.empty());
  impl_->config.keys = std::move(keys);
  if (!impl_->core)
    return;
  impl_->sealer =
      std::make_unique<DatagramSealer>(impl_->config.keys, impl_->config.cluster_id, impl_->random);
  impl_->streams->set_keys(impl_->config.keys);
}

Metrics Gossip::metrics() const {
  Metrics m = impl_->counters;
  if (!impl_->core)
    return m;
  m.core = impl_->core->stats();
  m.health = impl_->core->health();
  for (const Member& member : impl_->core->members()) {
    m.members_alive += member.state == MemberState::kAlive ? 1 : 0;
    m.members_suspect += member.state == MemberState::kSuspect ? 1 : 0;
    m.members_dead += member.state == MemberState::kDead ? 1 : 0;
  }
  const StreamStats& s = impl_->streams->stats();
  m.streams_open = s.open;
  m.stream_bytes_in = s.bytes_in;
  m.stream_bytes_out = s.bytes_out;
  m.streams_wrong_key = s.wrong_key;
  m.streams_failed = s.failed;
  m.stream_messages_dropped = s.dropped;
  return m;
}

}  // namespace shoal::gossip
