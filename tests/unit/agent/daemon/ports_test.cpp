// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/ports.h"

#include "netplane/base/unique_fd.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <sys/socket.h>

namespace shoal::daemon {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A port of the loopback address that somebody has.
struct Held {
  explicit Held(int type) : fd(::socket(AF_INET, type | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    if (type == SOCK_STREAM) {
      EXPECT_EQ(::listen(fd.get(), 1), 0);
    }
    socklen_t size = sizeof(address);
    ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
  }
  SocketAddress address() const { return {*IpAddress::parse("127.0.0.1"), port}; }
  UniqueFd fd;
  std::uint16_t port = 0;
};

Options free_ports() {
  Options options;
  for (SocketAddress* address : {&options.api, &options.gossip, &options.metrics})
    *address = {*IpAddress::parse("127.0.0.1"), 0};  // whatever is free
  return options;
}

TEST(Ports, FreeOnesAreFree) {
  const auto checked = check_ports(free_ports());
  EXPECT_TRUE(checked) << checked.error().message();
}

TEST(Ports, EachThatIsTakenIsNamedWithItsKey) {
  const Held tcp(SOCK_STREAM);
  const Held udp(SOCK_DGRAM);
  const std::tuple<SocketAddress Options::*, const Held*, const char*, const char*> cases[] = {
      {&Options::api, &tcp, "TCP", "api.port"},
      {&Options::gossip, &tcp, "TCP", "gossip.port"},
      {&Options::gossip, &udp, "UDP", "gossip.port"},
      {&Options::metrics, &tcp, "TCP", "metrics.port"}};
  for (const auto& [member, held, proto, key] : cases) {
    Options options = free_ports();
    options.*member = held->address();
    const auto checked = check_ports(options);
    ASSERT_FALSE(checked) << key;
    EXPECT_EQ(checked.error().sys_errno(), EADDRINUSE);
    EXPECT_THAT(checked.error().message(),
                AllOf(HasSubstr(proto), HasSubstr(held->address().to_string()),
                      HasSubstr("another program has the port"), HasSubstr(key)));
  }
}

TEST(Ports, AnAddressOfSomebodyElse) {
  Options options = free_ports();
  options.api.ip = *IpAddress::parse("192.0.2.1");  // TEST-NET-1: nobody's
  const auto checked = check_ports(options);
  ASSERT_FALSE(checked);
  EXPECT_THAT(checked.error().message(), AllOf(HasSubstr("192.0.2.1"), HasSubstr("api.listen")));
}

TEST(Ports, OtherErrorsArePassedOn) {
  const auto same = explain_listen(fail(Errc::kInvalid, "no key"), "gossip");
  EXPECT_EQ(same.error().message(), "no key");
  EXPECT_TRUE(explain_listen({}, "gossip"));
}

}  // namespace
}  // namespace shoal::daemon
