// SPDX-License-Identifier: Apache-2.0
// KernelRtnl: the real Rtnl. Private to rtnl/; the rest of the program sees open_rtnl().
#pragma once

#include "netplane/base/unique_fd.h"
#include "netplane/kernel/rtnl/link_reaper.h"
#include "netplane/kernel/rtnl/nl_socket.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include <memory>

namespace shoal::kernel {

class KernelRtnl final : public Rtnl {
public:
  KernelRtnl(UniqueFd netns, NlSocket socket)
      : netns_(std::move(netns)), socket_(std::move(socket)), reaper_(netns_.get()) {}

  int netns_fd() const override { return netns_.get(); }

  Result<std::vector<Link>> links() override;
  Result<Link> link(std::string_view name) override;
  Result<std::uint32_t> link_index(std::string_view name) override;
  Result<Link> link(std::uint32_t index) override;
  Result<Link> create_veth(const VethSpec& spec) override;
  Result<Link> create_vxlan(const VxlanSpec& spec) override;
  Result<> set_link_up(std::uint32_t index, bool up) override;
  Result<> set_link_mtu(std::uint32_t index, std::uint32_t mtu) override;
  Result<> set_link_mac(std::uint32_t index, const MacAddress& mac) override;
  Result<> delete_link(std::uint32_t index) override;

  Result<std::vector<LinkAddress>> addresses() override;
  Result<> replace_address(const LinkAddress& address) override;
  Result<> delete_address(const LinkAddress& address) override;

  Result<std::vector<Route>> routes(Family family) override;
  Result<> replace_route(const Route& route) override;
  Result<> delete_route(const Route& route) override;

  Result<std::vector<Neighbour>> neighbours() override;
  Result<> replace_neighbour(const Neighbour& neighbour) override;
  Result<> delete_neighbour(const Neighbour& neighbour) override;

  Result<std::vector<Proxy>> proxies() override;
  Result<> replace_proxy(const Proxy& proxy) override;
  Result<> delete_proxy(const Proxy& proxy) override;

  Result<> set_sysctl(std::string_view key, std::string_view value) override;
  Result<std::string> sysctl(std::string_view key) override;

private:
  Result<Link> find_link(std::uint32_t index, const std::string& name);

  UniqueFd netns_;
  NlSocket socket_;
  LinkReaper reaper_;
};

}  // namespace shoal::kernel
