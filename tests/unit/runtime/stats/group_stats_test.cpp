// SPDX-License-Identifier: Apache-2.0
// The kernel's counters: as text, and as files of each layout.
#include "runtime/stats/group_stats.h"

#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStatV1 = "cache 1\nrss 2\ninactive_file 3\npgfault 4\n"
                                     "hierarchical_memory_limit 9223372036854771712\n"
                                     "total_rss 4096\ntotal_inactive_file 1000\n"
                                     "total_pgfault 7\ntotal_pgmajfault 2\n";
constexpr std::string_view kStatV2 =
    "anon 8192\nfile 5000\ninactive_file 300\npgfault 9\npgmajfault 1\n";

TEST(GroupStats, MemoryOfTheWholeSubtree) {
  const MemoryStats v1 = parse_memory_stat(kStatV1, 10'000, true);
  EXPECT_EQ(v1, (MemoryStats{10'000, 9'000, 4096, 7, 2, std::nullopt}));
  const MemoryStats v2 = parse_memory_stat(kStatV2, 10'000, false);
  EXPECT_EQ(v2, (MemoryStats{10'000, 9'700, 8192, 9, 1, std::nullopt}));
  // The two numbers are not read at one moment.
  EXPECT_EQ(parse_memory_stat(kStatV2, 200, false).working_set_bytes, 0U);
  EXPECT_EQ(parse_memory_stat("anon x\nanon\n\n", 5, false).rss_bytes, 0U);
}

TEST(GroupStats, CpuInNanoseconds) {
  EXPECT_EQ(parse_cpu_stat("usage_usec 12\nuser_usec 3\n"), 12'000U);
  EXPECT_EQ(parse_cpu_stat("nr_periods 0\n"), std::nullopt);
  const auto hz = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  EXPECT_EQ(parse_proc_stat("cpu  10 20 30 9999 9999 1 2 9999 0 0\ncpu0 1 1\n"),
            63 * (1'000'000'000 / hz));
  EXPECT_EQ(parse_proc_stat("intr 1\n"), std::nullopt);
}

TEST(GroupStats, IoOfAllDevices) {
  EXPECT_EQ(parse_io_stat("8:0 rbytes=100 wbytes=20 rios=3 wios=4 dbytes=0 dios=0\n"
                          "8:16 rbytes=1 wbytes=2 rios=3 wios=4\n7:0 \n"),
            (IoStats{101, 22, 6, 8}));
  EXPECT_EQ(parse_blkio("8:0 Read 100\n8:0 Write 20\n8:0 Sync 7\n8:0 Total 120\nTotal 120\n",
                        "8:0 Read 3\n8:0 Write 4\nTotal 7\n"),
            (IoStats{100, 20, 3, 4}));
}

TEST(GroupStats, InterfacesWithoutTheLoopback) {
  const auto links =
      parse_net_dev("Inter-|   Receive                                                |  Transmit\n"
                    " face |bytes    packets errs drop fifo frame compressed multicast|bytes ...\n"
                    "    lo:     100       1    0    0    0     0          0         0      100    "
                    "   1    0    0 "
                    "   0     0       0          0\n"
                    "  eth0:12345      10    1    2    0     0          0         0   678      9   "
                    " 3    4    0   "
                    "  0       0          0\n"
                    "  bad: 1 2 3\n");
  ASSERT_EQ(links.size(), 1U);
  EXPECT_EQ(links[0], (LinkStats{"eth0", 12'345, 10, 1, 2, 678, 9, 3, 4}));
}

TEST(GroupStats, Meminfo) {
  constexpr std::string_view kText = "MemTotal:       24684092 kB\nMemFree:  100 kB\nOdd:\n";
  EXPECT_EQ(parse_meminfo(kText, "MemFree"), 102'400U);
  EXPECT_EQ(parse_meminfo(kText, "Odd"), std::nullopt);
  EXPECT_EQ(parse_meminfo(kText, "Mem"), std::nullopt);
}

class GroupFiles : public ::testing::Test {
protected:
  GroupFiles() {
    std::string name = ::testing::TempDir() + "shoal-stats-XXXXXX";
    dir = ::mkdtemp(name.data());
  }
  ~GroupFiles() override { fs::remove_all(dir); }
  void write(const fs::path& path, std::string_view text) const {
    fs::create_directories((dir / path).parent_path());
    std::ofstream(dir / path) << text;
  }
  fs::path dir;
};

TEST_F(GroupFiles, UnifiedLayout) {
  write("s/pod/cpu.stat", "usage_usec 5\n");
  write("s/pod/memory.current", "4000\n");
  write("s/pod/memory.stat", kStatV2);
  write("s/pod/memory.max", "max\n");
  write("s/pod/pids.current", "3\n");
  write("s/pod/io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n");
  CgroupTree tree;
  tree.v2 = dir;
  const GroupStats stats = read_group_stats(tree, "s/pod");
  EXPECT_EQ(stats.cpu_ns, 5'000U);
  ASSERT_TRUE(stats.memory);
  EXPECT_EQ(stats.memory->working_set_bytes, 3'700U);
  EXPECT_EQ(stats.memory->limit_bytes, std::nullopt);
  EXPECT_EQ(stats.pids, 3U);
  EXPECT_EQ(stats.io, (IoStats{1, 2, 3, 4}));
  write("s/pod/memory.max", "1048576\n");
  EXPECT_EQ(read_memory_stats(tree, "s/pod")->limit_bytes, 1'048'576U);
  EXPECT_EQ(read_group_stats(tree, "s/none"), GroupStats{});
}

// Controllers where v1 has them; cgroup2 counts CPU time by itself.
TEST_F(GroupFiles, SplitLayouts) {
  write("memory/g/memory.usage_in_bytes", "5000\n");
  write("memory/g/memory.stat", kStatV1);
  write("memory/g/memory.limit_in_bytes", "9223372036854771712\n");
  write("pids/g/pids.current", "9\n");
  write("blkio/g/blkio.throttle.io_service_bytes", "8:0 Read 7\n");
  write("blkio/g/blkio.throttle.io_serviced", "8:0 Read 1\n");
  write("unified/g/cpu.stat", "usage_usec 1\n");
  CgroupTree tree;
  tree.layout = CgroupLayout::kHybrid;
  tree.v2 = dir / "unified";
  tree.memory_v1 = dir / "memory";
  tree.pids_v1 = dir / "pids";
  tree.blkio_v1 = dir / "blkio";
  GroupStats stats = read_group_stats(tree, "g");
  EXPECT_EQ(stats.cpu_ns, 1'000U);
  ASSERT_TRUE(stats.memory);
  EXPECT_EQ(stats.memory->working_set_bytes, 4'000U);
  EXPECT_EQ(stats.memory->rss_bytes, 4'096U);
  EXPECT_EQ(stats.memory->limit_bytes, std::nullopt);
  EXPECT_EQ(stats.pids, 9U);
  EXPECT_EQ(stats.io, (IoStats{7, 0, 1, 0}));
  write("cpuacct/g/cpuacct.usage", "77\n");
  write("blkio/g/blkio.throttle.io_service_bytes_recursive", "8:0 Read 8\n");
  write("blkio/g/blkio.throttle.io_serviced_recursive", "8:0 Read 2\n");
  tree.cpuacct_v1 = dir / "cpuacct";
  stats = read_group_stats(tree, "g");
  EXPECT_EQ(stats.cpu_ns, 77U);
  EXPECT_EQ(stats.io, (IoStats{8, 0, 2, 0}));
  // No controllers at all: nothing is known, and nothing is made up.
  EXPECT_EQ(read_group_stats(CgroupTree{.layout = CgroupLayout::kV1}, "g"), GroupStats{});
}

TEST_F(GroupFiles, TheHostIsAlwaysKnown) {
  const GroupStats host = read_host_stats(CgroupTree{.layout = CgroupLayout::kV2, .v2 = dir});
  EXPECT_GT(host.cpu_ns.value_or(0), 0U);
  ASSERT_TRUE(host.memory);
  EXPECT_GT(host.memory->working_set_bytes, 0U);
}

TEST(LinkStatsOfAProcess, TellWhenItIsAnotherOne) {
  const auto self = identify_process(::getpid());
  ASSERT_TRUE(self);
  EXPECT_TRUE(read_link_stats(*self));
  EXPECT_EQ(read_link_stats({self->pid, self->start_ticks + 1}).error().code(), Errc::kNotFound);
}

}  // namespace
}  // namespace shoal::runtime
