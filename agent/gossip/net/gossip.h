// SPDX-License-Identifier: Apache-2.0
// Gossip: the gossip core on real sockets. UDP and TCP on one port, both sealed under the cluster's
// key ring; timers; callbacks.
//
// Threading: the io_context's one thread. Callbacks run on it, never from within a call of this
// class that the same callback's owner made before start(), but possibly from within publish() and
// the like: they report news of other hosts, in order. They may call back into Gossip. Errors:
// kInvalid for a bad config or value, kIo / kPermission / kExists from the sockets, with the
// address and what to do. What comes from the network never ends in an error here: it is counted.
#pragma once

#include "agent/gossip/core/config.h"
#include "agent/gossip/core/core.h"
#include "agent/gossip/core/effects.h"
#include "agent/gossip/net/key_ring.h"
#include "netplane/base/clock.h"
#include "netplane/base/random.h"
#include "netplane/base/result.h"

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::gossip {

struct Config {
  // protocol.meta.gossip_address is what peers are told; a port of 0 there is replaced by the bound
  // one.
  ProtocolConfig protocol;
  SocketAddress listen;  // UDP and TCP; port 0: any that is free on both
  // Bound into every packet: a packet of another cluster is never taken for one of ours.
  std::string cluster_id;
  KeyRing keys;
};

struct Metrics {
  Stats core;
  unsigned health = 0;
  std::uint64_t members_alive = 0, members_suspect = 0, members_dead = 0;
  // Datagrams
  std::uint64_t datagram_bytes_in = 0,
                datagram_bytes_out = 0;     // as on the wire, without IP and UDP
  std::uint64_t datagrams_wrong_key = 0;    // sealed under a key that this host does not hold
  std::uint64_t datagrams_unauthentic = 0;  // our key, but changed on the way or forged
  std::uint64_t datagrams_unsendable = 0;   // the kernel refused them (buffer full, no route)
  // Streams
  std::uint64_t streams_open = 0, stream_bytes_in = 0, stream_bytes_out = 0;
  std::uint64_t streams_wrong_key = 0, streams_failed = 0;
  std::uint64_t stream_messages_dropped = 0;  // an outgoing queue was full or its peer away
};

class Gossip {
public:
  using MemberCallback = std::function<void(const MemberChanged&)>;
  using EntryCallback = std::function<void(const EntryChanged&)>;
  using DesiredCallback = std::function<void(std::uint64_t complete_to)>;

  // clock and random must outlive it.
  Gossip(boost::asio::io_context& io, Config config, const Clock& clock, Random& random);
  ~Gossip();
  Gossip(const Gossip&) = delete;
  Gossip& operator=(const Gossip&) = delete;

  // Set before start().
  void on_member(MemberCallback callback);
  void on_entry(EntryCallback callback);               // entries of other hosts, and "desired"
  void on_desired_complete(DesiredCallback callback);  // after the entries that it speaks of
  // Datagrams of another use that come to this port, as others have sealed them by seal_aside().
  // May be set at any time.
  void on_aside(std::function<void(std::string_view)> callback);
  // The cluster knew a later start id of this host: persist it (save_start_id).
  void on_start_id_raised(std::function<void(std::uint64_t)> callback);

  Result<> start();  // binds the sockets
  // Asks the seeds, again and again, until another member is known; also later when all are lost.
  void join(std::vector<SocketAddress> seeds);
  // Tells the others, then runs done. stop() after it.
  void leave(std::function<void()> done);
  void stop();  // closes everything; no callback runs afterwards

  SocketAddress local_address() const;  // the bound one
  const Member& self() const;
  std::vector<Member> members() const;  // by name, this host included
  std::optional<Member> member(std::string_view name) const;
  void update_meta(MemberMeta meta);
  Result<> forget(std::string_view name);  // a dead or left member, everywhere

  // See core.h for what these promise.
  Result<> publish(std::string_view key, std::optional<std::string> value);
  void publish_settled();
  Result<> publish_desired(std::span<const DesiredEvent> events, std::uint64_t complete_to);
  Result<> publish_desired_snapshot(std::span<const DesiredEvent> values, std::uint64_t revision);
  std::optional<Entry> entry(std::string_view origin, std::string_view key) const;
  void for_each_entry(std::string_view origin,
                      const std::function<void(std::string_view key, const Entry&)>& visit) const;
  std::uint64_t desired_complete_to() const;

  // What a socket of somebody else's is to send to another host's port. After start().
  std::string seal_aside(std::string_view text);

  // Rotation: add a key everywhere, make it primary everywhere, remove the old one everywhere.
  void set_keys(KeyRing keys);
  Metrics metrics() const;

private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace shoal::gossip
