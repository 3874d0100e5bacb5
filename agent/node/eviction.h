// SPDX-License-Identifier: Apache-2.0
// When a host is short of something, and which of its pods goes first: the kubelet's rules for node
// pressure (hard thresholds; Kubernetes' documentation, "Node-pressure Eviction"). Pure.
#pragma once

#include "netplane/base/clock.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::node {

// In the order in which they are dealt with.
enum class Signal : std::uint8_t { kMemory, kDisk, kInodes, kImages, kPids };
std::string_view to_string(Signal signal);    // "memory.available", "nodefs.available", ...
std::string_view resource_of(Signal signal);  // "memory", "ephemeral-storage", "inodes", "pids"
// Removing images may help.
bool is_of_disk(Signal signal);

struct Level {
  std::int64_t available = 0;
  std::int64_t capacity = 0;
};
using Levels = std::map<Signal, Level>;  // those that are known

// What is to be available at least; 0: whatever it is.
struct Thresholds {
  std::int64_t memory_bytes = 100 << 20;
  unsigned disk_percent = 10;
  unsigned inodes_percent = 5;
  unsigned images_percent = 15;  // of the file system that holds the images
  std::int64_t pids = 500;
};

struct Shortage {
  Signal signal = Signal::kMemory;
  std::int64_t threshold = 0;
  std::int64_t available = 0;
};
std::vector<Shortage> shortages(const Levels& levels, const Thresholds& thresholds);

// Node conditions: true at once, and false when there was no shortage for `transition`, so that
// they do not flap while pods come and go.
class Pressure {
public:
  enum class Kind : std::uint8_t { kMemory, kDisk, kPids };
  static constexpr Kind kKinds[] = {Kind::kMemory, Kind::kDisk, Kind::kPids};

  explicit Pressure(Duration transition) : transition_(transition) {}
  // The kinds that have changed.
  std::vector<Kind> look(const std::vector<Shortage>& found, MonoTime now);
  bool is(Kind kind) const { return on_.contains(kind); }

private:
  Duration transition_;
  std::map<Kind, MonoTime> on_;  // and when they were short last
};

struct Candidate {
  std::string uid;
  std::int64_t priority = 0;
  std::int64_t used = 0;  // of what is short
  std::int64_t request = 0;
};
// From this priority on a pod is never evicted: system-cluster-critical.
inline constexpr std::int64_t kCriticalPriority = 2'000'000'000;

// The first to go: those that use more than they requested before the others, then by priority,
// then who is most above its request. Of processes nothing is requested: by priority and number.
// Nothing: there is nobody whom it would be right to evict.
std::optional<std::string> choose_victim(Signal signal, const std::vector<Candidate>& pods);

struct Consumer {
  std::string container;
  std::int64_t used = 0;
  std::int64_t request = 0;
};
std::string eviction_message(const Shortage& shortage, const std::vector<Consumer>& containers);

}  // namespace shoal::node
