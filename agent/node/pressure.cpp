// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pressure.h"

#include "agent/images/disk_use.h"
#include "agent/node/pod_resources.h"
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <spdlog/spdlog.h>

namespace shoal::node {

namespace asio = boost::asio;

namespace {

constexpr std::size_t kProcFileBytesMax = 64 << 10;

std::optional<std::int64_t> number_in(const std::filesystem::path& path) {
  const auto text = read_file(path, 64);
  const auto number = text ? parse_uint(trim(*text), INT64_MAX) : std::nullopt;
  return number ? std::optional(static_cast<std::int64_t>(*number)) : std::nullopt;
}

std::optional<Level> memory_level(const runtime::SandboxEnv& env) {
  const auto meminfo = read_file("/proc/meminfo", kProcFileBytesMax);
  const auto available = meminfo ? runtime::parse_meminfo(*meminfo, "MemAvailable") : std::nullopt;
  const auto total = meminfo ? runtime::parse_meminfo(*meminfo, "MemTotal") : std::nullopt;
  if (!available || !total)
    return std::nullopt;
  Level out{static_cast<std::int64_t>(*available), static_cast<std::int64_t>(*total)};
  const auto pods = runtime::read_memory_stats(env.cgroups, env.slice);
  if (pods && pods->limit_bytes) {
    const auto limit = static_cast<std::int64_t>(*pods->limit_bytes);
    const std::int64_t left = limit - static_cast<std::int64_t>(pods->working_set_bytes);
    if (left < out.available)
      out = {std::max<std::int64_t>(left, 0), limit};
  }
  return out;
}

// "0.10 0.20 0.30 2/345 6789": processes and threads that there are, behind the slash.
std::optional<Level> pid_level() {
  const auto load = read_file("/proc/loadavg", 256);
  const auto most = number_in("/proc/sys/kernel/pid_max");
  const auto threads = number_in("/proc/sys/kernel/threads-max");
  if (!load || !most || !threads)
    return std::nullopt;
  const auto words = split(*load, ' ');
  const auto counts = words.size() > 3 ? split(words[3], '/') : std::vector<std::string_view>();
  const auto there = counts.size() == 2 ? parse_uint(counts[1], INT32_MAX) : std::nullopt;
  if (!there)
    return std::nullopt;
  const std::int64_t capacity = std::min(*most, *threads);
  return Level{capacity - static_cast<std::int64_t>(*there), capacity};
}

Level level_of(std::uint64_t available, std::uint64_t capacity) {
  return {static_cast<std::int64_t>(available), static_cast<std::int64_t>(capacity)};
}

}  // namespace

Levels read_levels(const runtime::SandboxEnv& env, const std::filesystem::path& state,
                   const std::filesystem::path& images) {
  Levels out;
  if (const auto memory = memory_level(env))
    out[Signal::kMemory] = *memory;
  if (const auto disk = images::disk_use(state)) {
    out[Signal::kDisk] = level_of(disk->available_bytes, disk->capacity_bytes);
    if (disk->inodes > 0)
      out[Signal::kInodes] = level_of(disk->inodes_free, disk->inodes);
  }
  if (const auto disk = images::disk_use(images))
    out[Signal::kImages] = level_of(disk->available_bytes, disk->capacity_bytes);
  if (const auto pids = pid_level())
    out[Signal::kPids] = *pids;
  return out;
}

PressureMonitor::PressureMonitor(asio::io_context& loop, asio::thread_pool& workers,
                                 const Clock& clock, Node& node, StatsSampler& sampler,
                                 PressureOptions options, Hooks hooks)
    : loop_(loop), workers_(workers), clock_(clock), node_(node), sampler_(sampler),
      options_(options), hooks_(std::move(hooks)), timer_(loop), measure_timer_(loop),
      pressure_(options.transition) {}

PressureMonitor::~PressureMonitor() { *alive_ = false; }

void PressureMonitor::arm() {
  timer_.expires_after(kLookEvery);
  timer_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
    if (!error && *alive)
      look();
  });
}

template <class Then>
void PressureMonitor::read(Then then) {
  asio::post(workers_, [&loop = loop_, alive = alive_, levels = hooks_.read, then] {
    asio::post(loop, [alive, then, found = levels()] {
      if (*alive)
        then(found);
    });
  });
}

void PressureMonitor::look() {
  read([this](const Levels& levels) {
    looked(levels);
    arm();
  });
}

void PressureMonitor::looked(const Levels& levels) {
  const MonoTime now = clock_.now();
  const std::vector<Shortage> found = shortages(levels, options_.thresholds);
  if (const auto changed = pressure_.look(found, now); !changed.empty())
    hooks_.changed(changed);
  if (found.empty() || !options_.evict || acting_ || now < act_not_before_ || victim_lives())
    return;
  act(found.front());
}

bool PressureMonitor::victim_lives() {
  if (!victim_.empty() && (node_.is_freed(victim_) || clock_.now() - victim_since_ > kVictimMax))
    victim_.clear();
  return !victim_.empty();
}

void PressureMonitor::act(const Shortage& shortage) {
  acting_ = true;
  act_not_before_ = clock_.now() + kActEvery;
  hooks_.reclaiming(std::string(resource_of(shortage.signal)));
  if (is_of_disk(shortage.signal))
    return free_images(shortage);
  evict(shortage);
}

// That may have been enough.
void PressureMonitor::free_images(const Shortage& shortage) {
  hooks_.free_images([this, alive = alive_, shortage] {
    if (!*alive)
      return;
    read([this, shortage](const Levels& levels) {
      for (const Shortage& left : shortages(levels, options_.thresholds))
        if (left.signal == shortage.signal)
          return measure(left);
      acting_ = false;
    });
  });
}

// Who is ranked by the disk is measured before, as far as that can be done soon.
void PressureMonitor::measure(const Shortage& shortage) {
  auto once = std::make_shared<bool>(false);
  const auto go_on = [this, alive = alive_, shortage, once] {
    if (!*alive || std::exchange(*once, true))
      return;
    measure_timer_.cancel();
    evict(shortage);
  };
  measure_timer_.expires_after(kMeasureMax);
  measure_timer_.async_wait([go_on](const boost::system::error_code& error) {
    if (!error)
      go_on();
  });
  node_.measure_disks(kDiskFresh, go_on);
}

void PressureMonitor::evict(const Shortage& shortage) {
  sampler_.sample([this, alive = alive_, shortage](const StatsSampler::Sample& sample) {
    if (!*alive)
      return;
    acting_ = false;
    const auto victim = choose_victim(shortage.signal, node_.candidates(shortage.signal, *sample));
    if (!victim) {
      spdlog::warn("{} is short, and there is no pod to evict", to_string(shortage.signal));
      return;
    }
    node_.evict(*victim,
                eviction_message(shortage, node_.consumers(*victim, shortage.signal, *sample)));
    victim_ = *victim;
    victim_since_ = clock_.now();
    act_not_before_ = {};
    ++evictions_[shortage.signal];
  });
}

}  // namespace shoal::node
