// SPDX-License-Identifier: Apache-2.0
#include "runtime/stats/group_stats.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <fmt/format.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFileBytesMax = 256 << 10;
constexpr std::uint64_t kNsPerUs = 1000;
constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
// cgroup v1's word for "no limit" is the largest multiple of a page: far beyond any memory there
// is.
constexpr std::uint64_t kNoLimit = UINT64_C(1) << 60;

std::optional<std::string> text_of(const fs::path& path) {
  auto text = read_file(path, kFileBytesMax);
  return text ? std::optional(std::move(*text)) : std::nullopt;
}

std::optional<std::uint64_t> number_of(const fs::path& path) {
  const auto text = text_of(path);
  return text ? parse_uint(trim(*text)) : std::nullopt;
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> out;
  for (const std::string_view word : split(line, ' '))
    if (!trim(word).empty())
      out.push_back(trim(word));
  return out;
}

// "key value" lines.
template <class Take>
void each_pair(std::string_view text, Take take) {
  for (const std::string_view line : split(text, '\n')) {
    const std::size_t blank = line.find(' ');
    if (blank == std::string_view::npos)
      continue;
    if (const auto value = parse_uint(trim(line.substr(blank))))
      take(line.substr(0, blank), *value);
  }
}

std::optional<std::uint64_t> cpu_of(const CgroupTree& tree, const std::string& cgroup) {
  if (!tree.cpuacct_v1.empty())
    return number_of(tree.cpuacct_v1 / cgroup / "cpuacct.usage");
  if (tree.v2.empty())
    return std::nullopt;
  const auto text = text_of(tree.v2 / cgroup / "cpu.stat");
  return text ? parse_cpu_stat(*text) : std::nullopt;
}

std::optional<std::uint64_t> pids_of(const CgroupTree& tree, const std::string& cgroup) {
  const bool v2 = tree.layout == CgroupLayout::kV2;
  if (!v2 && tree.pids_v1.empty())
    return std::nullopt;
  return number_of((v2 ? tree.v2 : tree.pids_v1) / cgroup / "pids.current");
}

std::optional<IoStats> io_of(const CgroupTree& tree, const std::string& cgroup) {
  if (tree.layout == CgroupLayout::kV2) {
    const auto text = text_of(tree.v2 / cgroup / "io.stat");
    return text ? std::optional(parse_io_stat(*text)) : std::nullopt;
  }
  if (tree.blkio_v1.empty())
    return std::nullopt;
  const fs::path group = tree.blkio_v1 / cgroup;
  for (const char* suffix : {"_recursive", ""}) {
    const auto bytes = text_of(group / fmt::format("blkio.throttle.io_service_bytes{}", suffix));
    const auto operations = text_of(group / fmt::format("blkio.throttle.io_serviced{}", suffix));
    if (bytes && operations)
      return parse_blkio(*bytes, *operations);
  }
  return std::nullopt;
}

MemoryStats host_memory(std::string_view meminfo, std::string_view memory_stat) {
  const std::uint64_t total = parse_meminfo(meminfo, "MemTotal").value_or(0);
  const std::uint64_t free = parse_meminfo(meminfo, "MemFree").value_or(0);
  return parse_memory_stat(memory_stat, total - std::min(total, free), false);
}

}  // namespace

MemoryStats parse_memory_stat(std::string_view text, std::uint64_t usage_bytes, bool v1) {
  MemoryStats out;
  out.usage_bytes = usage_bytes;
  std::uint64_t inactive_file = 0;
  constexpr std::string_view kTotal = "total_";
  each_pair(text, [&](std::string_view key, std::uint64_t value) {
    if (v1) {
      if (!key.starts_with(kTotal))
        return;
      key.remove_prefix(kTotal.size());
    }
    if (key == (v1 ? "rss" : "anon"))
      out.rss_bytes = value;
    else if (key == "inactive_file")
      inactive_file = value;
    else if (key == "pgfault")
      out.page_faults = value;
    else if (key == "pgmajfault")
      out.major_page_faults = value;
  });
  out.working_set_bytes = usage_bytes - std::min(usage_bytes, inactive_file);
  return out;
}

std::optional<std::uint64_t> parse_cpu_stat(std::string_view text) {
  std::optional<std::uint64_t> out;
  each_pair(text, [&](std::string_view key, std::uint64_t value) {
    if (key == "usage_usec")
      out = value * kNsPerUs;
  });
  return out;
}

IoStats parse_io_stat(std::string_view text) {
  IoStats out;
  for (const std::string_view line : split(text, '\n'))
    for (const std::string_view word : words_of(line)) {
      const std::size_t equals = word.find('=');
      if (equals == std::string_view::npos)
        continue;  // the device
      const auto value = parse_uint(word.substr(equals + 1));
      const std::string_view key = word.substr(0, equals);
      if (!value)
        continue;
      if (key == "rbytes")
        out.read_bytes += *value;
      else if (key == "wbytes")
        out.write_bytes += *value;
      else if (key == "rios")
        out.reads += *value;
      else if (key == "wios")
        out.writes += *value;
    }
  return out;
}

IoStats parse_blkio(std::string_view bytes, std::string_view operations) {
  IoStats out;
  const auto sum = [](std::string_view text, std::uint64_t& reads, std::uint64_t& writes) {
    for (const std::string_view line : split(text, '\n')) {
      const auto words = words_of(line);  // "8:0 Read 4096"
      const auto value = words.size() == 3 ? parse_uint(words[2]) : std::nullopt;
      if (value && words[1] == "Read")
        reads += *value;
      else if (value && words[1] == "Write")
        writes += *value;
    }
  };
  sum(bytes, out.read_bytes, out.write_bytes);
  sum(operations, out.reads, out.writes);
  return out;
}

std::vector<LinkStats> parse_net_dev(std::string_view text) {
  constexpr std::size_t kColumns = 16;  // eight each way
  std::vector<LinkStats> out;
  for (const std::string_view line : split(text, '\n')) {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos)
      continue;  // the two lines of heading
    const auto words = words_of(line.substr(colon + 1));
    LinkStats link;
    link.name = trim(line.substr(0, colon));
    if (words.size() < kColumns || link.name == "lo")
      continue;
    const auto column = [&](std::size_t i) { return parse_uint(words[i]).value_or(0); };
    link.rx_bytes = column(0);
    link.rx_packets = column(1);
    link.rx_errors = column(2);
    link.rx_dropped = column(3);
    link.tx_bytes = column(8);
    link.tx_packets = column(9);
    link.tx_errors = column(10);
    link.tx_dropped = column(11);
    out.push_back(std::move(link));
  }
  return out;
}

std::optional<std::uint64_t> parse_meminfo(std::string_view text, std::string_view field) {
  for (const std::string_view line : split(text, '\n')) {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || line.substr(0, colon) != field)
      continue;
    const auto words = words_of(line.substr(colon + 1));
    const auto kib = words.empty() ? std::nullopt : parse_uint(words[0], UINT64_MAX / 1024);
    return kib ? std::optional(*kib * 1024) : std::nullopt;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> parse_proc_stat(std::string_view text) {
  const auto words = words_of(text.substr(0, text.find('\n')));
  constexpr std::size_t kFields = 9;  // cpu user nice system idle iowait irq softirq steal
  if (words.size() < kFields || words[0] != "cpu")
    return std::nullopt;
  std::uint64_t ticks = 0;
  for (const std::size_t busy : {1, 2, 3, 6, 7})
    ticks += parse_uint(words[busy]).value_or(0);
  return ticks * (kNsPerSecond / static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK)));
}

std::optional<MemoryStats> read_memory_stats(const CgroupTree& tree, const std::string& cgroup) {
  const bool v2 = tree.layout == CgroupLayout::kV2;
  if (!v2 && tree.memory_v1.empty())
    return std::nullopt;
  const fs::path group = (v2 ? tree.v2 : tree.memory_v1) / cgroup;
  const auto usage = number_of(group / (v2 ? "memory.current" : "memory.usage_in_bytes"));
  const auto text = text_of(group / "memory.stat");
  if (!usage || !text)
    return std::nullopt;
  MemoryStats out = parse_memory_stat(*text, *usage, !v2);
  const auto limit = number_of(group / (v2 ? "memory.max" : "memory.limit_in_bytes"));
  if (limit && *limit < kNoLimit)
    out.limit_bytes = limit;
  return out;
}

GroupStats read_group_stats(const CgroupTree& tree, const std::string& cgroup) {
  return {cpu_of(tree, cgroup), read_memory_stats(tree, cgroup), pids_of(tree, cgroup),
          io_of(tree, cgroup)};
}

GroupStats read_host_stats(const CgroupTree& tree) {
  GroupStats out = read_group_stats(tree, "");
  if (!out.cpu_ns)
    if (const auto text = text_of("/proc/stat"))
      out.cpu_ns = parse_proc_stat(*text);
  if (!out.memory)
    if (const auto text = text_of("/proc/meminfo"))
      out.memory = host_memory(
          *text, tree.v2.empty() ? "" : text_of(tree.v2 / "memory.stat").value_or(std::string()));
  return out;
}

Result<std::vector<LinkStats>> read_link_stats(const ProcessId& process) {
  const std::string text =
      SHOAL_TRY(read_file(fmt::format("/proc/{}/net/dev", process.pid), kFileBytesMax));
  // Its number may have become another one's meanwhile.
  if (SHOAL_TRY(identify_process(process.pid)) != process)
    return fail(Errc::kNotFound, fmt::format("process {} is gone", process.pid));
  return parse_net_dev(text);
}

}  // namespace shoal::runtime
