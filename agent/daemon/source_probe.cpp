// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/source_probe.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::daemon {
namespace {

constexpr std::string_view kWord = "source";

const gossip::Member* member_of(const std::vector<gossip::Member>& members, std::string_view name) {
  const auto at = std::ranges::find(members, name, &gossip::Member::name);
  return at == members.end() ? nullptr : &*at;
}

bool is_probed(const gossip::Member& member, std::string_view self) {
  return member.name != self && member.is_live() && member.meta.underlay &&
         member.meta.gossip_address.ip.is_v4();
}

}  // namespace

std::optional<IpAddress> foreign_source(const std::vector<IpPrefix>& pools,
                                        const std::vector<gossip::Member>& members,
                                        std::string_view self, std::string_view peer,
                                        const std::vector<IpAddress>& announced) {
  const auto leads_elsewhere = [&](const IpAddress& ip) {
    return std::ranges::find(announced, ip) == announced.end() &&
           std::ranges::none_of(members, [&](const gossip::Member& member) {
             return (member.name == self || member.name == peer) && member.meta.underlay == ip;
           });
  };
  for (const IpPrefix& pool : pools) {
    if (!pool.address().is_v4())
      continue;
    for (std::uint64_t n = 0; n < kPoolLookMax && pool.contains(pool.address().plus(n)); n++)
      if (const IpAddress ip = pool.address().plus(n); leads_elsewhere(ip))
        return ip;
  }
  for (const gossip::Member& member : members)
    if (is_probed(member, self) && member.name != peer && member.meta.underlay->is_v4())
      return *member.meta.underlay;
  return std::nullopt;
}

std::string encode(const SourceWord& word) {
  return fmt::format("{} {} {} {} {}", kWord, word.round.start, word.round.number,
                     word.foreign ? 1 : 0, word.sender);
}

std::optional<SourceWord> decode_source_word(std::string_view text) {
  const auto parts = split(text, ' ');
  if (parts.size() != 5 || parts[0] != kWord || parts[4].empty())
    return std::nullopt;
  const auto start = parse_uint(parts[1], UINT64_MAX);
  const auto number = parse_uint(parts[2], UINT64_MAX);
  const auto foreign = parse_uint(parts[3], 1);
  if (!start || !number || !foreign)
    return std::nullopt;
  return SourceWord{std::string(parts[4]), {*start, *number}, *foreign == 1};
}

SourceProbe::SourceProbe(boost::asio::io_context& loop, gossip::Gossip& gossip, const Clock& clock,
                         Inputs inputs)
    : gossip_(gossip), clock_(clock), inputs_(std::move(inputs)), timer_(loop) {}

Result<> SourceProbe::start(const std::set<std::string>& presumed) {
  for (const std::string& host : presumed)
    verdicts_.presume_drops(host);
  gossip_.on_aside([this, alive = alive_](std::string_view text) {
    if (*alive)
      on_word(text);
  });
  socket_ = SHOAL_TRY_WRAP(apply::open_raw_udp(), "probe the network for foreign sources");
  arm();
  return {};
}

void SourceProbe::arm() {
  timer_.expires_after(kSourceProbeInterval);
  timer_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
    if (!*alive || error)
      return;
    tick();
    arm();
  });
}

void SourceProbe::tick() {
  const std::vector<gossip::Member> members = gossip_.members();  // by name
  const std::string& self = gossip_.self().name;
  std::vector<const gossip::Member*> peers;
  for (const gossip::Member& member : members)
    if (is_probed(member, self))
      peers.push_back(&member);
  verdicts_.keep_only(inputs_.hosts());
  ++round_;
  const auto first = std::ranges::upper_bound(peers, last_, {}, &gossip::Member::name);
  std::ranges::rotate(peers, first);
  if (peers.size() > kProbedMax)
    peers.resize(kProbedMax);
  for (const gossip::Member* peer : peers) {
    probe(*peer, members);
    last_ = peer->name;
  }
}

// What cannot be sent now is one round that says nothing.
void SourceProbe::probe(const gossip::Member& peer, const std::vector<gossip::Member>& members) {
  const gossip::Member& self = gossip_.self();
  const auto foreign =
      foreign_source(inputs_.pools, members, self.name, peer.name, inputs_.announced());
  if (!foreign || !self.meta.underlay)
    return;
  const SocketAddress own{*self.meta.underlay, self.meta.gossip_address.port};
  SourceWord word{self.name, {self.start_id, round_}, false};
  const auto send = [&](const IpAddress& from) {
    return socket_->send({from, own.port}, peer.meta.gossip_address,
                         gossip_.seal_aside(encode(word)));
  };
  // The foreign one first: what this host itself does not let out says nothing of the network.
  word.foreign = true;
  if (!send(*foreign))
    return;
  word.foreign = false;
  static_cast<void>(send(own.ip));
}

void SourceProbe::on_word(std::string_view text) {
  const auto word = decode_source_word(text);
  if (!word)
    return;
  const std::vector<gossip::Member> members = gossip_.members();
  if (word->sender == gossip_.self().name || member_of(members, word->sender) == nullptr)
    return;
  if (verdicts_.heard(word->sender, word->round, word->foreign, clock_.now()))
    inputs_.changed(word->sender);
}

std::vector<std::pair<std::string, SourceVerdict>> SourceProbe::peers() const {
  std::vector<std::pair<std::string, SourceVerdict>> out;
  for (const gossip::Member& member : gossip_.members())
    if (is_probed(member, gossip_.self().name))
      out.emplace_back(member.name, verdicts_.verdict(member.name));
  return out;
}

}  // namespace shoal::daemon
