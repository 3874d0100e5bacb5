// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/host_addresses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::daemon {
namespace {

IpAddress ip(std::string_view text) { return *IpAddress::parse(text); }

const std::vector<HostAddress> kAll = {{"lo", ip("127.0.0.1")},
                                       {"eth0", ip("198.18.0.11")},
                                       {"eth0", ip("198.18.7.1")},
                                       {"eth1", ip("192.0.2.1")},
                                       {"docker0", ip("172.17.0.1")}};

std::vector<std::string> chosen(const std::vector<std::string>& uplinks,
                                std::vector<const char*> prefixes) {
  std::vector<IpPrefix> parsed;
  for (const char* text : prefixes)
    parsed.push_back(*IpPrefix::parse(text));
  std::vector<std::string> out;
  for (const IpAddress& address : node_port_addresses(kAll, uplinks, ip("198.18.0.11"), parsed))
    out.push_back(address.to_string());
  return out;
}

TEST(HostAddresses, ThoseOfTheUplinksUnlessPrefixesSayOtherwise) {
  EXPECT_THAT(chosen({"eth0"}, {}), testing::ElementsAre("198.18.0.11", "198.18.7.1"));
  EXPECT_THAT(chosen({"eth0", "eth1"}, {}),
              testing::ElementsAre("192.0.2.1", "198.18.0.11", "198.18.7.1"));
  EXPECT_THAT(chosen({"gone"}, {}), testing::ElementsAre("198.18.0.11"));
  EXPECT_THAT(chosen({"eth0"}, {"192.0.2.0/24", "198.18.7.0/24"}),
              testing::ElementsAre("192.0.2.1", "198.18.7.1"));
  EXPECT_THAT(chosen({"eth0"}, {"0.0.0.0/0"}),
              testing::ElementsAre("172.17.0.1", "192.0.2.1", "198.18.0.11", "198.18.7.1"));
  EXPECT_THAT(chosen({"eth0"}, {"203.0.113.0/24"}), testing::IsEmpty());
}

TEST(HostAddresses, TheKernelsListHasLoopbackAtLeast) {
  EXPECT_THAT(list_host_addresses(false), testing::Contains(HostAddress{"lo", ip("127.0.0.1")}));
}

}  // namespace
}  // namespace shoal::daemon
