// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/message.h"

#include "agent/gossip/core/wire.h"
#include "netplane/base/strings.h"

#include <fmt/format.h>
#include <utility>

namespace shoal::gossip {
namespace {

// Bits of Sync and Delta.
constexpr std::uint8_t kComplete = 1, kReplyWanted = 2;
constexpr std::uint8_t kReset = 1, kMore = 2, kPushed = 4;
// Bits of a meta's presence byte.
constexpr std::uint8_t kHasApi = 1, kHasUnderlay = 2, kNativeRoutes = 4;
constexpr std::uint64_t kGoneMax_s = 1ULL << 32;
// Of counters that members raise by one: far from wrapping, whatever a peer says.
constexpr std::uint64_t kCounterMax = 1ULL << 62;

std::uint64_t get_counter(ByteReader& r) { return r.bounded(kCounterMax); }

void put_meta(ByteWriter& w, const MemberMeta& meta) {
  w.u8(static_cast<std::uint8_t>((meta.api_address ? kHasApi : 0) |
                                 (meta.underlay ? kHasUnderlay : 0) |
                                 (meta.native_routes ? kNativeRoutes : 0)));
  w.address(meta.gossip_address);
  if (meta.api_address)
    w.address(*meta.api_address);
  if (meta.underlay)
    w.ip(*meta.underlay);
  w.varint(meta.pod_cidrs.size());
  for (const IpPrefix& cidr : meta.pod_cidrs)
    w.prefix(cidr);
  w.text(meta.version);
}

std::string get_name(ByteReader& r) {
  const std::string_view name = r.text(kNameBytesMax);
  if (!is_member_name(name))
    r.fail();
  return std::string(name);
}

std::string get_origin(ByteReader& r) {
  const std::string_view name = r.text(kNameBytesMax);
  if (name != kDesiredOrigin && !is_member_name(name))
    r.fail();
  return std::string(name);
}

// Printable ASCII only: it ends up in tables and logs.
std::string get_version_text(ByteReader& r) {
  const std::string_view text = r.text(kVersionTextBytesMax);
  for (const char c : text)
    if (c < ' ' || c > '~')
      r.fail();
  return std::string(text);
}

MemberMeta get_meta(ByteReader& r) {
  MemberMeta meta;
  const std::uint8_t has = r.u8();
  meta.native_routes = (has & kNativeRoutes) != 0;
  meta.gossip_address = r.address();
  if ((has & kHasApi) != 0)
    meta.api_address = r.address();
  if ((has & kHasUnderlay) != 0)
    meta.underlay = r.ip();
  const auto cidrs = r.bounded(kPodCidrsMax);
  for (std::uint64_t i = 0; i < cidrs && r.ok(); ++i)
    meta.pod_cidrs.push_back(r.prefix());
  meta.version = get_version_text(r);
  return meta;
}

MemberState get_state(ByteReader& r) {
  const std::uint8_t value = r.u8();
  if (value > static_cast<std::uint8_t>(MemberState::kForgotten))
    r.fail();
  return r.ok() ? static_cast<MemberState>(value) : MemberState::kAlive;
}

void put_cursor(ByteWriter& w, const Cursor& cursor) {
  w.varint(cursor.version);
  w.text(cursor.key);
}

Cursor get_cursor(ByteReader& r) {
  Cursor cursor;
  cursor.version = get_counter(r);
  cursor.key = r.text(kKeyBytesMax);
  if (cursor.version == 0)
    r.fail();
  return cursor;
}

void put_origins(ByteWriter& w, const std::vector<OriginDigest>& origins) {
  w.varint(origins.size());
  for (const OriginDigest& o : origins) {
    w.text(o.origin);
    w.varint(o.epoch);
    w.varint(o.complete);
    w.varint(o.settled);
  }
}

std::vector<OriginDigest> get_origins(ByteReader& r) {
  std::vector<OriginDigest> out;
  const auto count = r.bounded(kOriginsMax);
  for (std::uint64_t i = 0; i < count && r.ok(); ++i) {
    OriginDigest o;
    o.origin = get_origin(r);
    o.epoch = get_counter(r);
    o.complete = get_counter(r);
    o.settled = get_counter(r);
    out.push_back(std::move(o));
  }
  return out;
}

void put(ByteWriter& w, const Ping& m) {
  w.u64_fixed(m.sequence);
  w.text(m.target);
  w.u64_fixed(m.summary);
}
void get(ByteReader& r, Ping& m) {
  m.sequence = r.u64_fixed();
  m.target = get_name(r);
  m.summary = r.u64_fixed();
}

void put(ByteWriter& w, const Ack& m) { w.u64_fixed(m.sequence); }
void get(ByteReader& r, Ack& m) { m.sequence = r.u64_fixed(); }
void put(ByteWriter& w, const Nack& m) { w.u64_fixed(m.sequence); }
void get(ByteReader& r, Nack& m) { m.sequence = r.u64_fixed(); }

void put(ByteWriter& w, const PingRequest& m) {
  w.u64_fixed(m.sequence);
  w.text(m.target);
  w.address(m.address);
}
void get(ByteReader& r, PingRequest& m) {
  m.sequence = r.u64_fixed();
  m.target = get_name(r);
  m.address = r.address();
}

void put(ByteWriter& w, const Record& m) {
  w.text(m.member.name);
  w.u8(static_cast<std::uint8_t>(m.member.state));
  w.varint(m.member.start_id);
  w.varint(m.member.incarnation);
  w.varint(m.gone_s);
  put_meta(w, m.member.meta);
}
void get(ByteReader& r, Record& m) {
  m.member.name = get_name(r);
  m.member.state = get_state(r);
  m.member.start_id = get_counter(r);
  m.member.incarnation = get_counter(r);
  m.gone_s = r.bounded(kGoneMax_s);
  m.member.meta = get_meta(r);
}

void put(ByteWriter& w, const Verdict& m) {
  w.text(m.name);
  w.u8(static_cast<std::uint8_t>(m.state));
  w.varint(m.start_id);
  w.varint(m.incarnation);
  w.varint(m.accusers.size());
  for (const std::string& name : m.accusers)
    w.text(name);
}
void get(ByteReader& r, Verdict& m) {
  m.name = get_name(r);
  m.state = get_state(r);
  m.start_id = get_counter(r);
  m.incarnation = get_counter(r);
  const auto count = r.bounded(kAccusersMax);
  for (std::uint64_t i = 0; i < count && r.ok(); ++i)
    m.accusers.push_back(get_name(r));
}

void put(ByteWriter& w, const Sync& m) {
  w.u8(static_cast<std::uint8_t>((m.complete ? kComplete : 0) |
                                 (m.reply_wanted ? kReplyWanted : 0)));
  w.varint(m.members.size());
  for (const MemberDigest& d : m.members) {
    w.text(d.name);
    w.u8(static_cast<std::uint8_t>(d.state));
    w.varint(d.start_id);
    w.varint(d.incarnation);
  }
  put_origins(w, m.origins);
}
void get(ByteReader& r, Sync& m) {
  const std::uint8_t flags = r.u8();
  m.complete = (flags & kComplete) != 0;
  m.reply_wanted = (flags & kReplyWanted) != 0;
  const auto count = r.bounded(kMembersMax);
  for (std::uint64_t i = 0; i < count && r.ok(); ++i) {
    MemberDigest d;
    d.name = get_name(r);
    d.state = get_state(r);
    d.start_id = get_counter(r);
    d.incarnation = get_counter(r);
    m.members.push_back(std::move(d));
  }
  m.origins = get_origins(r);
}

void put(ByteWriter& w, const Announce& m) { put_origins(w, m.origins); }
void get(ByteReader& r, Announce& m) { m.origins = get_origins(r); }

void put(ByteWriter& w, const Want& m) {
  w.text(m.origin);
  w.varint(m.epoch);
  put_cursor(w, m.from);
  w.u8(m.resetting ? 1 : 0);
}
void get(ByteReader& r, Want& m) {
  m.origin = get_origin(r);
  m.epoch = get_counter(r);
  m.from = get_cursor(r);
  m.resetting = r.u8() != 0;
}

// An entry: key, version, create revision, then 0 for a deletion or 1 + the value's size and the
// value.
void put(ByteWriter& w, const Delta& m) {
  w.text(m.origin);
  w.varint(m.epoch);
  put_cursor(w, m.from);
  put_cursor(w, m.to);
  w.varint(m.settled);
  w.u8(static_cast<std::uint8_t>((m.reset ? kReset : 0) | (m.more ? kMore : 0) |
                                 (m.pushed ? kPushed : 0)));
  w.varint(m.entries.size());
  for (const DeltaEntry& e : m.entries) {
    w.text(e.key);
    w.varint(e.version);
    w.varint(e.create_revision);
    w.u8(e.value ? 1 : 0);
    if (e.value)
      w.text(*e.value);
  }
}
void get(ByteReader& r, Delta& m) {
  m.origin = get_origin(r);
  m.epoch = get_counter(r);
  m.from = get_cursor(r);
  m.to = get_cursor(r);
  m.settled = get_counter(r);
  const std::uint8_t flags = r.u8();
  m.reset = (flags & kReset) != 0;
  m.more = (flags & kMore) != 0;
  m.pushed = (flags & kPushed) != 0;
  const auto count = r.bounded(kDesiredEntriesMax);
  for (std::uint64_t i = 0; i < count && r.ok(); ++i) {
    DeltaEntry e;
    e.key = r.text(kKeyBytesMax);
    e.version = get_counter(r);
    e.create_revision = get_counter(r);
    if (r.u8() != 0)
      e.value = std::make_shared<const std::string>(r.text(kValueBytesMax));
    if (e.key.empty() || e.version == 0)
      r.fail();
    if (r.ok())
      m.entries.push_back(std::move(e));
  }
}

template <class T>
bool get_message(std::string_view body, std::vector<Message>& out) {
  ByteReader r(body);
  T message;
  get(r, message);
  if (r.ok())
    out.emplace_back(std::move(message));
  return r.ok();
}

template <std::size_t... I>
bool get_any(std::uint8_t type, std::string_view body, std::vector<Message>& out,
             std::index_sequence<I...>) {
  bool ok = true;  // an unknown type is skipped
  (void)((std::variant_alternative_t<I, Message>::kType == type
              ? (ok = get_message<std::variant_alternative_t<I, Message>>(body, out), true)
              : false) ||
         ...);
  return ok;
}

}  // namespace

bool DeltaEntry::operator==(const DeltaEntry& other) const {
  const bool same_value = value && other.value ? *value == *other.value : !value && !other.value;
  return same_value && key == other.key && version == other.version &&
         create_revision == other.create_revision;
}

bool is_member_name(std::string_view name) {
  return name != kDesiredOrigin && is_dns_subdomain(name);
}

void begin_packet(std::string& out, std::string_view sender) {
  ByteWriter w(out);
  w.u8(kWireVersion);
  w.text(sender);
}

std::string encode(const Message& message) {
  std::string body;
  ByteWriter w(body);
  std::uint8_t type = 0;
  std::visit(
      [&](const auto& m) {
        type = m.kType;
        put(w, m);
      },
      message);
  std::string out;
  out.reserve(body.size() + 8);
  ByteWriter head(out);
  head.u8(type);
  head.text(body);
  return out;
}

Result<Packet> decode_packet(std::string_view bytes) {
  ByteReader r(bytes);
  Packet packet;
  if (const std::uint8_t version = r.u8(); version != kWireVersion)
    return fail(Errc::kUnsupported, fmt::format("gossip packet of version {}, this host speaks {}; "
                                                "upgrade the older of the two",
                                                version, kWireVersion));
  packet.sender = get_name(r);
  while (r.ok() && !r.at_end()) {
    if (packet.messages.size() == kMessagesPerPacketMax)
      return fail(Errc::kCorrupt, "gossip packet with too many messages");
    const std::uint8_t type = r.u8();
    const std::string_view body = r.text(kStreamMessageBytesMax);
    if (!r.ok())
      break;
    if (!get_any(type, body, packet.messages,
                 std::make_index_sequence<std::variant_size_v<Message>>()))
      return fail(Errc::kCorrupt, fmt::format("gossip message of type {} does not parse", type));
  }
  if (!r.ok())
    return fail(Errc::kCorrupt, "gossip packet is cut short or malformed");
  return packet;
}

std::size_t delta_entry_bytes(std::size_t key_bytes, std::size_t value_bytes) {
  return key_bytes + value_bytes + 3 + 4 + 10 + 10 + 1;
}

}  // namespace shoal::gossip
