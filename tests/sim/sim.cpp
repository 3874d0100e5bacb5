// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim.h"

#include "netplane/base/hash.h"

#include <algorithm>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <variant>

namespace shoal::sim {
namespace {

// What sealing adds to a packet, and IP and UDP to a datagram.
constexpr std::size_t kSealBytes = 41;
constexpr std::size_t kIpUdpBytes = 28;
constexpr Duration kTcpRetransmit = std::chrono::milliseconds(200);
constexpr std::uint64_t kMirrorEvery = 5000;  // events

}  // namespace

Sim::Sim(std::uint64_t seed, std::size_t hosts) : seed_(seed), random_(seed) {
  for (std::size_t i = 0; i < hosts; ++i) {
    Host host;
    host.name = fmt::format("h{}", i + 1);
    host.address = {IpAddress::v4(0xc6120000U + static_cast<std::uint32_t>(i) + 11), 7946};
    by_address_[host.address] = i;
    hosts_.push_back(std::move(host));
  }
}

// ---------------------------------------------------------------------------- the clockwork

void Sim::schedule(MonoTime at, std::function<void()> run) {
  queue_.push(Event{std::max(at, now_), ++sequence_, std::move(run)});
}

void Sim::at(Duration after, std::function<void()> action) {
  schedule(now_ + after, std::move(action));
}

void Sim::step() {
  Event event = queue_.top();
  queue_.pop();
  now_ = event.at;
  ++events_;
  trace(static_cast<std::uint64_t>(now_.time_since_epoch().count()));
  event.run();
  if (events_ % kMirrorEvery == 0)
    for (const Host& host : hosts_)
      if (host.core)
        checker.check_mirror(host.name, *host.core);
}

void Sim::run_for(Duration span) {
  const MonoTime end = now_ + span;
  while (!queue_.empty() && queue_.top().at <= end)
    step();
  now_ = end;
}

bool Sim::run_until(const std::function<bool()>& condition, Duration at_most) {
  const MonoTime end = now_ + at_most;
  // Looked at once a simulated millisecond: conditions walk all hosts.
  while (now_ < end) {
    if (condition())
      return true;
    run_for(std::chrono::milliseconds(1));
  }
  return condition();
}

void Sim::trace(std::uint64_t value) { trace_ = mix64(trace_ ^ value); }

bool Sim::chance(double probability) {
  return probability > 0 && static_cast<double>(random_.below(1'000'000)) < probability * 1'000'000;
}

Duration Sim::some_delay() {
  const auto span = static_cast<std::uint64_t>((net.delay_max - net.delay_min).count()) + 1;
  return net.delay_min + Duration(static_cast<Duration::rep>(random_.below(span)));
}

// ---------------------------------------------------------------------------- hosts

void Sim::start(std::size_t i, const std::vector<std::size_t>& seeds) {
  Host& host = hosts_.at(i);
  ASSERT_FALSE(host.core);
  ++host.life;
  gossip::ProtocolConfig config = tuning;
  config.name = host.name;
  config.start_id = 1000 + host.life;
  config.meta.gossip_address = host.address;
  config.meta.version = "0.1.0";
  config.meta.underlay = host.address.ip;
  checker.started(host.name, config.start_id);
  checker.restarted(host.name);
  host.random = std::make_unique<SeededRandom>(random_.next());
  host.core = std::make_unique<gossip::Core>(config, *host.random);
  std::vector<SocketAddress> addresses;
  for (const std::size_t seed : seeds)
    addresses.push_back(hosts_.at(seed).address);
  command(i, [&](gossip::Core& core, gossip::Effects& out) {
    core.start(now_, out);
    core.join(addresses, now_, out);
  });
}

void Sim::start_all() {
  for (std::size_t i = 0; i < hosts_.size(); ++i)
    start(i, {0});
}

void Sim::kill(std::size_t i) { hosts_.at(i).core.reset(); }

void Sim::pause(std::size_t i, Duration span) { hosts_.at(i).paused_until = now_ + span; }

void Sim::command(std::size_t i, const std::function<void(gossip::Core&, gossip::Effects&)>& run) {
  Host& host = hosts_.at(i);
  ASSERT_TRUE(host.core);
  gossip::Effects effects;
  run(*host.core, effects);
  carry_out(i, effects);
}

void Sim::publish(std::size_t i, const std::string& key, std::optional<std::string> value) {
  checker.published(hosts_.at(i).name, key,
                    value ? std::make_shared<const std::string>(*value) : nullptr);
  command(i, [&](gossip::Core& core, gossip::Effects& out) {
    EXPECT_TRUE(core.publish(key, std::move(value), now_, out));
  });
}

void Sim::publish_settled(std::size_t i) {
  command(i, [&](gossip::Core& core, gossip::Effects& out) { core.publish_settled(now_, out); });
}

void Sim::publish_desired(std::size_t i, const std::vector<gossip::DesiredEvent>& events,
                          std::uint64_t complete_to) {
  for (const auto& e : events)
    if (e.value)
      checker.published(std::string(gossip::kDesiredOrigin), e.key,
                        std::make_shared<const std::string>(*e.value));
  command(i, [&](gossip::Core& core, gossip::Effects& out) {
    EXPECT_TRUE(core.publish_desired(events, complete_to, now_, out));
  });
}

void Sim::publish_snapshot(std::size_t i, const std::vector<gossip::DesiredEvent>& values,
                           std::uint64_t revision) {
  for (const auto& e : values)
    checker.published(std::string(gossip::kDesiredOrigin), e.key,
                      std::make_shared<const std::string>(*e.value));
  command(i, [&](gossip::Core& core, gossip::Effects& out) {
    EXPECT_TRUE(core.publish_desired_snapshot(values, revision, now_, out));
  });
}

void Sim::deliver(std::size_t to, const SocketAddress& from, const std::string& bytes,
                  bool stream) {
  Host& host = hosts_.at(to);
  if (!host.core)
    return;
  if (now_ < host.paused_until) {  // waits in the socket
    schedule(host.paused_until, [=, this] { deliver(to, from, bytes, stream); });
    return;
  }
  trace(hash64(bytes, to));
  command(to, [&](gossip::Core& core, gossip::Effects& out) {
    if (stream)
      core.on_stream_message(from, bytes, now_, out);
    else
      core.on_datagram(from, bytes, now_, out);
  });
}

void Sim::fire(std::size_t i, std::uint64_t life, std::uint64_t token) {
  Host& host = hosts_.at(i);
  if (!host.core || host.life != life)
    return;
  if (now_ < host.paused_until) {
    schedule(host.paused_until, [=, this] { fire(i, life, token); });
    return;
  }
  trace(token ^ i << 48);
  command(i, [&](gossip::Core& core, gossip::Effects& out) { core.on_timer(token, now_, out); });
}

void Sim::carry_out(std::size_t i, gossip::Effects& effects) {
  Host& host = hosts_.at(i);
  for (gossip::Effect& effect : effects) {
    if (auto* d = std::get_if<gossip::SendDatagram>(&effect)) {
      EXPECT_LE(d->bytes.size(), tuning.datagram_bytes_max);
      transmit(i, d->to, std::move(d->bytes), false);
    } else if (auto* s = std::get_if<gossip::SendStream>(&effect)) {
      EXPECT_LE(s->bytes.size(), gossip::kStreamMessageBytesMax);
      transmit(i, s->to, std::move(s->bytes), true);
    } else if (const auto* t = std::get_if<gossip::ArmTimer>(&effect)) {
      schedule(t->at, [this, i, life = host.life, token = t->token] { fire(i, life, token); });
    } else if (const auto* m = std::get_if<gossip::MemberChanged>(&effect)) {
      checker.observe(host.name, *host.core, *m, now_);
    } else if (const auto* e = std::get_if<gossip::EntryChanged>(&effect)) {
      checker.observe(host.name, *e, now_);
    } else if (const auto* r = std::get_if<gossip::StartIdRaised>(&effect)) {
      checker.started(host.name, r->start_id);
    }
  }
  checker.check(host.name, *host.core);
}

// ---------------------------------------------------------------------------- the network

void Sim::cut_groups(std::size_t first_of_second) {
  for (std::size_t a = 0; a < first_of_second; ++a)
    for (std::size_t b = first_of_second; b < hosts_.size(); ++b) {
      cut(a, b);
      cut(b, a);
    }
}

void Sim::transmit(std::size_t from, const SocketAddress& to, std::string bytes, bool stream) {
  Host& host = hosts_.at(from);
  host.bytes_out += bytes.size() + kSealBytes + kIpUdpBytes;
  ++host.datagrams_out;
  const auto target = by_address_.find(to);
  if (target == by_address_.end())
    return;
  const std::size_t i = target->second;
  if (cuts_.contains({from, i}) || (stream && cuts_.contains({i, from})))
    return;
  if (stream) {
    Duration delay = some_delay() * 3;  // connect and send
    while (chance(net.loss))
      delay += kTcpRetransmit;
    MonoTime& free = stream_free_[{from, i}];
    free = std::max(free, now_ + delay);
    schedule(free, [this, i, address = host.address, bytes = std::move(bytes)] {
      deliver(i, address, bytes, true);
    });
    return;
  }
  const int copies = chance(net.loss) ? 0 : chance(net.duplicate) ? 2 : 1;
  for (int n = 0; n < copies; ++n) {
    std::string copy = bytes;
    if (chance(net.corrupt) && !copy.empty())
      copy[random_.below(copy.size())] = static_cast<char>(random_.below(256));
    schedule(now_ + some_delay(), [this, i, address = host.address, copy = std::move(copy)] {
      deliver(i, address, copy, false);
    });
  }
}

// ---------------------------------------------------------------------------- the whole

bool Sim::all_see(std::size_t subject, gossip::MemberState state) {
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    if (i == subject || !is_up(i))
      continue;
    const auto member = core(i).member(hosts_.at(subject).name);
    if (!member || member->state != state)
      return false;
  }
  return true;
}

bool Sim::all_converged() {
  std::optional<std::uint64_t> summary;
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    if (!is_up(i))
      continue;
    if (summary.value_or(core(i).summary()) != core(i).summary())
      return false;
    summary = core(i).summary();
    for (const gossip::Member& m : core(i).members()) {
      const auto at = std::ranges::find(hosts_, m.name, &Host::name);
      if ((m.state == gossip::MemberState::kAlive) != (at->core != nullptr))
        return false;
    }
  }
  return true;
}

}  // namespace shoal::sim
