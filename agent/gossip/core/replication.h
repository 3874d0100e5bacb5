// SPDX-License-Identifier: Apache-2.0
// Replication: how entries get everywhere. Three ways, each the backstop of the one before:
//   push      a fresh entry goes to a few members at once, and each that did not know it does the
//   same; announce  shortly after, a few members are told how far this host's knowledge reaches;
//   who is behind
//             asks for what it lacks (want, delta). Bursts and large values go this way only: each
//             byte then travels once to each host;
//   sync      digests are exchanged when a ping shows that two members differ.
// Only the receiver asks, one transfer an origin at a time, so that nothing is sent twice by
// design.
#pragma once

#include "agent/gossip/core/context.h"
#include "agent/gossip/core/entry_table.h"
#include "agent/gossip/core/membership.h"

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::gossip {

class Replication {
public:
  Replication(Context& context, Membership& membership);

  EntryTable& table() { return table_; }
  const EntryTable& table() const { return table_; }

  // ---- commands
  void own(std::uint64_t epoch);
  Result<> publish(std::string_view key, std::optional<std::string> value);
  void publish_settled();
  Result<> publish_desired(std::span<const DesiredEvent> events, std::uint64_t complete_to,
                           bool snapshot);
  void remove(const std::string& origin);

  // ---- packets
  void on_delta(const std::string& sender, const Delta& delta);
  void on_want(const std::string& sender, const Want& want);
  // The sender's knowledge of an origin: asks for what is missing here.
  void consider(const std::string& sender, const OriginDigest& digest);
  // Sends what this input has queued for peers; to be called at its end.
  void finish();
  // Queues an encoded message for a live member.
  void post(const std::string& to, std::string message);

  // ---- timers
  void on_flush_timer();
  void on_announce_timer();
  void on_want_timer(const std::string& origin);

private:
  struct Announcing {
    unsigned step = 0;
    MonoTime at;
  };
  struct Wanting {
    std::vector<std::string> announcers;  // the one asked first
    std::uint64_t epoch = 0;
    std::uint64_t complete = 0;
    unsigned tries = 0;
    std::uint64_t timer = 0;
  };

  bool is_acceptable(std::string_view origin, std::uint64_t epoch);
  void report(std::vector<EntryChanged> changes);
  void note_fresh(const std::string& origin, const std::set<std::uint64_t>& versions,
                  const std::string& from);
  std::vector<std::string> build_pushes();
  void push_to_some(const std::vector<std::string>& datagrams, const std::set<std::string>& not_to);
  void announce(const std::string& origin, bool at_once);
  void arm_announce();
  void send_want(const std::string& origin, Wanting& wanting);
  bool is_satisfied(const std::string& origin, const Wanting& wanting) const;
  void after_transfer(const std::string& sender, const Delta& delta, bool refused);
  void stop_wanting(const std::string& origin);

  Context& ctx_;
  Membership& membership_;
  EntryTable table_;
  std::map<std::string, std::set<std::uint64_t>> fresh_;
  std::size_t fresh_count_ = 0;
  std::set<std::string> fresh_from_;  // who pushed them to us
  std::uint64_t flush_timer_ = 0;
  MonoTime last_flush_;
  std::map<std::string, Announcing> announcing_;
  std::uint64_t announce_timer_ = 0;
  MonoTime announce_at_;
  std::map<std::string, Wanting> wanting_;
  std::map<std::string, std::vector<std::string>> posted_;
  std::size_t posted_bytes_ = 0;
};

}  // namespace shoal::gossip
