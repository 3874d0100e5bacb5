// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_etc.h"

#include "tests/unit/agent/node/pod_plan_fixture.h"

namespace shoal::node {
namespace {

const std::vector<IpAddress> kAddresses = {*IpAddress::parse("10.244.1.5"),
                                           *IpAddress::parse("fd10:244::5")};

TEST(HostsFile, NamesThePodAndItsAliases) {
  PodSpec spec = pod();
  spec.hostname = "web-1";
  const std::string plain = hosts_file(spec, kAddresses, "ignored");
  EXPECT_TRUE(plain.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"))
      << plain;
  EXPECT_TRUE(plain.ends_with("\n10.244.1.5\tweb-1\nfd10:244::5\tweb-1\n")) << plain;
  spec.subdomain = "sub";
  spec.host_aliases = {{"123.45.67.89", {"foo", "bar"}}};
  const std::string more = hosts_file(spec, {kAddresses[0]}, "");
  EXPECT_TRUE(more.ends_with("\n10.244.1.5\tweb-1.sub.default.svc.cluster.local\tweb-1\n"
                             "\n# Entries added by HostAliases.\n123.45.67.89\tfoo\tbar\n"))
      << more;
}

TEST(HostsFile, InTheHostsNetworkIsTheHosts) {
  PodSpec spec = pod();
  spec.host_network = true;
  EXPECT_EQ(hosts_file(spec, kAddresses, "198.18.0.11 h1"),
            "# Kubernetes-managed hosts file (host network).\n198.18.0.11 h1\n");
  spec.host_aliases = {{"123.45.67.89", {"foo"}}};
  EXPECT_EQ(hosts_file(spec, kAddresses, ""), "# Kubernetes-managed hosts file (host network).\n"
                                              "\n# Entries added by HostAliases.\n"
                                              "123.45.67.89\tfoo\n");
}

TEST(ResolvConf, IsTheHostsWithWhatThePodAdds) {
  constexpr std::string_view kHost = "# made by hand\nsearch old.example\nnameserver\t192.0.2.1\n"
                                     "search a.example  b.example ; here\nnameserver 192.0.2.2\n"
                                     "options ndots:1 rotate\n";
  PodSpec spec = pod();
  EXPECT_EQ(resolv_conf(spec, kHost),
            "search a.example b.example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n"
            "options ndots:1 rotate\n");
  spec.dns = {{"192.0.2.2", "192.0.2.3", "192.0.2.4"}, {"c.example"}, {"ndots:5", "edns0"}};
  EXPECT_EQ(resolv_conf(spec, kHost),
            "search a.example b.example c.example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n"
            "nameserver 192.0.2.3\noptions rotate ndots:5 edns0\n");
  spec.dns_none = true;
  EXPECT_EQ(resolv_conf(spec, kHost),
            "search c.example\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
            "nameserver 192.0.2.4\noptions ndots:5 edns0\n");
  EXPECT_EQ(resolv_conf(pod(), ""), "");
}

}  // namespace
}  // namespace shoal::node
