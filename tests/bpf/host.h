// SPDX-License-Identifier: Apache-2.0
// A host's data plane for tests: a private bpffs, programs loaded, devices made. The test binary
// runs inside a sandbox of its own (unshare, see shoal_test's label root), so that nothing here can
// reach or outlive anything.
#pragma once

#include "netplane/base/process.h"
#include "netplane/kernel/bpf/data_maps.h"
#include "netplane/kernel/bpf/loader.h"
#include "tests/bpf/packet.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace shoal::bpftest {

// Once a process: tmpfs on /run (for `ip netns`), a bpffs; returns the latter.
const std::filesystem::path& sandbox();

// "ip link add ..." split at blanks; a failure is a failure of the test.
void sh(const std::string& command);
std::uint32_t ifindex_of(const std::string& device);

// Runs f in a thread whose network namespace is `ip netns`' `name`; sockets made there stay there.
void in_netns(const std::string& name, const std::function<void()>& f);

// Small maps, so that a test opens in milliseconds.
kernel::MapSizes small_sizes();

struct Outcome {
  int verdict = 0;
  Frame out;
  std::uint32_t mark = 0;  // of the packet, for netfilter
};

// Loads into a fresh folder of the sandbox's bpffs, which it removes at its end.
class Host {
public:
  explicit Host(const std::string& name = "host", const kernel::Features& allowed = {},
                const kernel::MapSizes& sizes = small_sizes());
  ~Host();
  kernel::Loader& loader() { return *loader_; }
  kernel::DataMaps& maps() { return *maps_; }
  const std::filesystem::path& root() const { return options_.root; }
  const kernel::LoaderOptions& options() const { return options_; }
  void reopen();  // as a restarted agent does
  int program(const std::string& name) const;

  // Runs a program of this host on a frame that has come in by `ifindex` (0: loopback).
  Outcome run(const std::string& program, const Frame& frame, std::uint32_t ifindex = 0);
  // gso_size: the frame is many TCP segments of that size in one.
  Outcome run_fd(int prog_fd, const Frame& frame, std::uint32_t ifindex,
                 std::uint32_t gso_size = 0);

  // The XDP program, on a frame that has come in by `ifindex`, where it is attached.
  Outcome run_xdp(const Frame& frame, std::uint32_t ifindex);

  // One ring over `backends` (slots in the order given), in block `block`, switched at once.
  void ring(model::ServiceIndex service, const std::vector<model::BackendId>& slots,
            std::uint32_t block);
  // The same in place of the ring in force, whose owners it remembers. `slots`: a power of two of
  // at least 64; empty: a ring of that of the one in force that refuses.
  void change_ring(model::ServiceIndex service, std::vector<model::BackendId> slots,
                   std::uint32_t block);
  void backend(model::BackendId id, const std::string& address, const model::BackendEntry& rest);
  void frontend(const std::string& address, L4Proto proto, model::ServiceIndex service,
                bool north_south, bool announced = false);
  void frontend(const std::string& address, L4Proto proto, const model::FrontendEntry& entry);
  std::uint64_t drops(std::string_view reason);
  void age_flows(std::uint32_t seconds);  // as if nothing of any had come for so much longer
  static std::uint64_t now_s();           // of the clock that the programs stamp with

private:
  kernel::LoaderOptions options_;
  std::unique_ptr<kernel::Loader> loader_;
  std::unique_ptr<kernel::DataMaps> maps_;
};

inline constexpr std::size_t kShortestRun =
    34;                              // BPF_PROG_TEST_RUN itself refuses IPv4 frames below
inline constexpr int kPass = -1;     // TC_ACT_UNSPEC
inline constexpr int kShot = 2;      // TC_ACT_SHOT
inline constexpr int kRedirect = 7;  // TC_ACT_REDIRECT
inline constexpr int kXdpDrop = 1, kXdpPass = 2, kXdpTx = 3;

}  // namespace shoal::bpftest
