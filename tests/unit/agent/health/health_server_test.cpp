// SPDX-License-Identifier: Apache-2.0
#include "agent/health/health_server.h"

#include "tests/fakes/asio_loop.h"

#include <boost/asio/buffers_iterator.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <optional>

namespace shoal::health {
namespace {

namespace asio = boost::asio;
using desired::HealthCheck;
using tcp = asio::ip::tcp;

class HealthServerTest : public testing::Test {
protected:
  // A port of loopback that nothing listens on.
  std::uint16_t free_port() {
    tcp::acceptor taken(loop_.context(), {tcp::v4(), 0});
    return taken.local_endpoint().port();
  }
  static HealthCheck check(std::uint16_t port, std::uint32_t ready, std::string name = "web") {
    return {port, "default", std::move(name), ready};
  }
  // The whole answer to one request, or nothing when nobody listens.
  std::optional<std::string> get(std::uint16_t port, std::string_view path = "/healthz") {
    tcp::socket socket(loop_.context());
    asio::streambuf answer;
    const std::string request =
        fmt::format("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    bool done = false, refused = false;
    socket.async_connect({asio::ip::address_v4::loopback(), port}, [&](auto error) {
      if (error) {
        done = refused = true;
        return;
      }
      asio::async_write(socket, asio::buffer(request), [&](auto, std::size_t) {
        asio::async_read(socket, answer, [&](auto, std::size_t) { done = true; });
      });
    });
    EXPECT_TRUE(loop_.run_until([&] { return done; }));
    if (refused)
      return std::nullopt;
    return std::string(asio::buffers_begin(answer.data()), asio::buffers_end(answer.data()));
  }

  fakes::AsioLoop loop_;
  bool healthy_ = true;
  HealthServer server_{loop_.context(),
                       [this] { return healthy_; },
                       {.ipv6 = true, .retry_interval = std::chrono::milliseconds(5)}};
};

TEST_F(HealthServerTest, AnswersAsKubeProxyDoes) {
  const std::uint16_t port = free_port();
  server_.update({check(port, 2)});
  const std::string good = get(port).value_or("");
  EXPECT_THAT(good, testing::StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(good, testing::HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_THAT(good, testing::HasSubstr("X-Content-Type-Options: nosniff\r\n"));
  EXPECT_THAT(good, testing::HasSubstr("X-Load-Balancing-Endpoint-Weight: 2\r\n"));
  EXPECT_THAT(good, testing::EndsWith(R"({"service":{"namespace":"default","name":"web"},)"
                                      R"("localEndpoints":2,"serviceProxyHealthy":true})"));
  EXPECT_EQ(get(port, "/"), good) << "any path";
  server_.update({check(port, 0)});
  const std::string none = get(port).value_or("");
  EXPECT_THAT(none, testing::StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_THAT(none, testing::HasSubstr("X-Load-Balancing-Endpoint-Weight: 0\r\n"));
  EXPECT_THAT(none, testing::EndsWith(R"("localEndpoints":0,"serviceProxyHealthy":true})"));
  server_.update({check(port, 1)});
  healthy_ = false;
  const std::string ill = get(port).value_or("");
  EXPECT_THAT(ill, testing::StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(ill, testing::EndsWith(R"("localEndpoints":1,"serviceProxyHealthy":false})"));
}

TEST_F(HealthServerTest, PortsComeAndGoWithTheirServices) {
  const std::uint16_t a = free_port(), b = free_port();
  server_.update({check(a, 1, "a"), check(b, 1, "b")});
  EXPECT_THAT(get(a).value_or(""), testing::HasSubstr(R"("name":"a")"));
  EXPECT_THAT(get(b).value_or(""), testing::HasSubstr(R"("name":"b")"));
  server_.update({check(b, 1, "c")});
  EXPECT_FALSE(get(a));
  EXPECT_THAT(get(b).value_or(""), testing::HasSubstr(R"("name":"c")"));
  server_.update({check(a, 1, "a")});
  EXPECT_TRUE(get(a));
  EXPECT_FALSE(get(b));
}

TEST_F(HealthServerTest, APortThatIsTakenIsNamedAndTriedAgain) {
  std::optional<tcp::acceptor> other(std::in_place, loop_.context(), tcp::endpoint(tcp::v4(), 0));
  const std::uint16_t port = other->local_endpoint().port();
  server_.update({check(port, 1)});
  ASSERT_EQ(server_.errors().size(), 1U);
  EXPECT_THAT(server_.errors()[0], testing::HasSubstr(fmt::format(
                                       "healthCheckNodePort {} of Service default/web", port)));
  other.reset();
  EXPECT_TRUE(loop_.run_until([&] { return server_.errors().empty(); }));
  EXPECT_TRUE(get(port));
}

TEST_F(HealthServerTest, MoreClientsThanItTakesAreTurnedAway) {
  const std::uint16_t port = free_port();
  server_.update({check(port, 1)});
  std::vector<tcp::socket> idle;
  idle.reserve(HealthServer::kConnectionsMax + 8);
  std::size_t connected = 0;
  for (std::size_t i = 0; i < HealthServer::kConnectionsMax + 8; ++i) {
    idle.emplace_back(loop_.context());
    idle.back().async_connect({asio::ip::address_v4::loopback(), port}, [&](auto) { ++connected; });
  }
  EXPECT_TRUE(loop_.run_until([&] { return connected == idle.size(); }));
  // Those that are too many were closed at once; when the idle ones go there is room again.
  idle.clear();
  EXPECT_TRUE(loop_.run_until([&] { return get(port).value_or("").starts_with("HTTP/1.1 200"); }));
}

}  // namespace
}  // namespace shoal::health
