// SPDX-License-Identifier: Apache-2.0
// What a cgroup and a network namespace have used, as the kernel counts it, in each of the three
// layouts (runtime/sandbox/cgroup.h). The cgroup "" is the host's root, as far as this process sees
// one.
//
// A counter whose controller or file is not there is absent, never 0: a reader can tell "none" from
// "not known". The parsers are pure; the readers block for some tens of microseconds a cgroup:
// worker threads only. Formats: Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst, proc(5).
#pragma once

#include "netplane/base/process.h"
#include "netplane/base/result.h"
#include "runtime/sandbox/cgroup.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

struct MemoryStats {
  std::uint64_t usage_bytes = 0;
  std::uint64_t working_set_bytes = 0;  // usage without what the kernel would drop first
  std::uint64_t rss_bytes = 0;          // anonymous
  std::uint64_t page_faults = 0;
  std::uint64_t major_page_faults = 0;
  std::optional<std::uint64_t> limit_bytes;
  bool operator==(const MemoryStats&) const = default;
};

struct IoStats {
  std::uint64_t read_bytes = 0;
  std::uint64_t write_bytes = 0;
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  bool operator==(const IoStats&) const = default;
};

struct GroupStats {
  std::optional<std::uint64_t> cpu_ns;  // since the cgroup was made
  std::optional<MemoryStats> memory;
  std::optional<std::uint64_t> pids;  // processes and threads
  std::optional<IoStats> io;
  bool operator==(const GroupStats&) const = default;
};

struct LinkStats {
  std::string name;
  std::uint64_t rx_bytes = 0, rx_packets = 0, rx_errors = 0, rx_dropped = 0;
  std::uint64_t tx_bytes = 0, tx_packets = 0, tx_errors = 0, tx_dropped = 0;
  bool operator==(const LinkStats&) const = default;
};

// ---- pure
// memory.stat and the total beside it. `v1`: its counters of a whole subtree begin with "total_".
MemoryStats parse_memory_stat(std::string_view text, std::uint64_t usage_bytes, bool v1);
std::optional<std::uint64_t> parse_cpu_stat(std::string_view text);  // cgroup v2's cpu.stat, in ns
IoStats parse_io_stat(std::string_view text);                        // cgroup v2's io.stat
// blkio.throttle.io_service_bytes and io_serviced, or their _recursive twins.
IoStats parse_blkio(std::string_view bytes, std::string_view operations);
std::vector<LinkStats> parse_net_dev(std::string_view text);  // without the loopback
// /proc/meminfo's field in bytes.
std::optional<std::uint64_t> parse_meminfo(std::string_view text, std::string_view field);
std::optional<std::uint64_t> parse_proc_stat(std::string_view text);  // CPU time of all, in ns

// ---- reading
GroupStats read_group_stats(const CgroupTree& tree, const std::string& cgroup);
std::optional<MemoryStats> read_memory_stats(const CgroupTree& tree, const std::string& cgroup);
// The same of the host. What the root cgroup does not count is taken from /proc.
GroupStats read_host_stats(const CgroupTree& tree);
// The interfaces of the network namespace that a process is in; kNotFound when it is gone.
Result<std::vector<LinkStats>> read_link_stats(const ProcessId& process);

}  // namespace shoal::runtime
