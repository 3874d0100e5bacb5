// SPDX-License-Identifier: Apache-2.0
// The real kernel. CTest runs this binary in mount, net and pid namespaces of its own; each host is
// one more network namespace, entered by the test's thread, with its own bpffs and cgroup.
#include "scenario_host.h"

#include "netplane/base/process.h"
#include "netplane/kernel/bpf/bpf_maps.h"
#include "netplane/kernel/bpf/loader.h"
#include "netplane/kernel/nft/nft.h"
#include "netplane/kernel/rtnl/netns.h"

#include <cerrno>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sstream>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace shoal::apply {
namespace {

void sh(const std::string& command) {
  const Result<std::string> done = run_checked({"sh", "-ec", command});
  if (!done)
    throw std::runtime_error(command + ": " + done.error().message());
}

class Sandboxed final : public ScenarioHost {
public:
  Sandboxed() {
    std::string name = "/tmp/shoal-apply.XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name;
    EXPECT_EQ(::mount("tmpfs", dir_.c_str(), "tmpfs", 0, ""), 0) << errno;
    for (const char* folder : {"bpf", "cgroup"})
      std::filesystem::create_directory(dir_ / folder);
    EXPECT_EQ(::mount("bpffs", (dir_ / "bpf").c_str(), "bpf", 0, ""), 0) << errno;
    EXPECT_EQ(::mount("cgroup2", (dir_ / "cgroup").c_str(), "cgroup2", 0, ""), 0) << errno;
    cgroup_ = dir_ / "cgroup" / fmt::format("shoal-apply-{}", name.substr(name.size() - 6));
    std::filesystem::create_directory(cgroup_);

    netns_ = *kernel::create_netns();
    scope_.emplace(*kernel::NetnsScope::enter(netns_.get()));
    sh("ip link set lo up; ip link add eth0 type veth peer name lan; ip link set lan up;"
       "ip link set eth0 up; ip addr add 198.18.0.11/24 dev eth0");
  }
  ~Sandboxed() override {
    (void)kernel::remove_data_plane(dir_ / "bpf" / "shoal");
    pods_.clear();
    scope_.reset();
    netns_.reset();
    std::error_code ignored;
    std::filesystem::remove(cgroup_, ignored);
    for (const char* folder : {"bpf", "cgroup", ""})
      ::umount2((dir_ / folder).c_str(), MNT_DETACH);
    std::filesystem::remove(dir_, ignored);
  }

  Config config() const override {
    Config config;
    config.node_name = "h1";
    config.uplink = "eth0";
    config.bpffs = dir_ / "bpf" / "shoal";
    config.cgroup_root = cgroup_;
    config.sizes = {.services = 1024,
                    .frontends = 1024,
                    .vips = 1024,
                    .backends = 4096,
                    .ring_blocks = 8192,
                    .pods = 128,
                    .nodes = 128,
                    .flows = 4096,
                    .udp_flows = 4096};
    return config;
  }
  Result<KernelPorts> ports(const Config& config) override {
    KernelPorts ports = SHOAL_TRY(open_kernel_ports(config));
    ports.maps = std::make_unique<ForwardingMaps>(std::move(ports.maps), faults);
    return ports;
  }
  model::DataPlane maps() override { return *other_hands().read(); }
  // Without neighbours that the kernel has learned meanwhile.
  std::string network() override {
    auto rtnl = *kernel::open_rtnl();
    std::istringstream all(*kernel::dump_network(*rtnl) + *(*kernel::open_nft())->dump());
    std::string out;
    for (std::string line; std::getline(all, line);)
      if (!line.starts_with("neighbour ") || line.ends_with(" permanent"))
        out += line + "\n";
    return out;
  }
  int new_pod_netns() override { return pods_.emplace_back(*kernel::create_netns()).get(); }
  void delete_route(const IpPrefix& destination) override {
    sh("ip route del " + destination.to_string());
  }
  void delete_link(const std::string& name) override { sh("ip link del " + name); }
  void spoil_table() override { sh("nft flush table inet shoal"); }
  kernel::DataMaps& other_hands() override {
    if (!hands_) {
      const auto folder = dir_ / "bpf" / "shoal" / fmt::format("v{}", abi_version());
      hands_ = *kernel::open_bpf_maps(folder);
    }
    return *hands_;
  }

private:
  // The only folder of maps there is.
  std::string abi_version() const {
    for (const auto& entry : std::filesystem::directory_iterator(dir_ / "bpf" / "shoal"))
      if (const std::string name = entry.path().filename(); name.starts_with("v"))
        return name.substr(1);
    return "?";
  }

  std::filesystem::path dir_;
  std::filesystem::path cgroup_;
  UniqueFd netns_;
  std::optional<kernel::NetnsScope> scope_;
  std::vector<UniqueFd> pods_;
  std::unique_ptr<kernel::DataMaps> hands_;
};

}  // namespace

std::unique_ptr<ScenarioHost> make_scenario_host() { return std::make_unique<Sandboxed>(); }

}  // namespace shoal::apply
