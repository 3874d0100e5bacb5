// SPDX-License-Identifier: Apache-2.0
#include "agent/metrics/metrics.h"

#include <boost/asio/buffers_iterator.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>

namespace shoal::metrics {
namespace {

namespace asio = boost::asio;

// Sends one request that closes the connection and returns the whole answer.
std::string exchange(asio::io_context& io, std::uint16_t port, std::string request) {
  auto socket = std::make_shared<asio::ip::tcp::socket>(io);
  auto answer = std::make_shared<asio::streambuf>();
  auto text = std::make_shared<std::string>(std::move(request));
  bool done = false;
  socket->async_connect({asio::ip::address_v4::loopback(), port}, [&, socket](auto error) {
    ASSERT_FALSE(error);
    asio::async_write(*socket, asio::buffer(*text), [&, socket, answer](auto, std::size_t) {
      asio::async_read(*socket, *answer, [&](auto, std::size_t) { done = true; });
    });
  });
  while (!done)
    io.run_one();
  return std::string(asio::buffers_begin(answer->data()), asio::buffers_end(answer->data()));
}

TEST(Metrics, RendersFamiliesWithTheirLabels) {
  Metrics metrics;
  metrics.add([] {
    return std::vector<Family>{{"shoal_drops_total",
                                "Packets dropped.",
                                Kind::kCounter,
                                {{{{"reason", "NO_BACKEND"}}, 3}, {{{"reason", "a\"b"}}, 1}}}};
  });
  const std::string text = metrics.render();
  EXPECT_THAT(text, testing::HasSubstr("# TYPE shoal_drops_total counter"));
  EXPECT_THAT(text, testing::HasSubstr("shoal_drops_total{reason=\"NO_BACKEND\"} 3"));
  EXPECT_THAT(text, testing::HasSubstr("{reason=\"a\\\"b\"}"));
  EXPECT_THAT(text, testing::HasSubstr("process_resident_memory_bytes"));
}

TEST(MetricsServer, AScrapeWaitsForWhatIsReadFirst) {
  asio::io_context io;
  Metrics metrics;
  int value = 0;
  metrics.add(
      [&] { return std::vector<Family>{{"shoal_x", "X.", Kind::kGauge, {{{}, double(value)}}}}; });
  metrics.before([&](std::function<void()> done) {
    asio::post(io, [&, done = std::move(done)] {
      value = 7;
      done();
    });
  });
  MetricsServer server(io, metrics);
  ASSERT_TRUE(server.listen({*IpAddress::parse("127.0.0.1"), 0}));
  EXPECT_THAT(
      exchange(io, server.port(), "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
      testing::HasSubstr("shoal_x 7"));
}

TEST(MetricsServer, ServesMetricsAndNothingElse) {
  asio::io_context io;
  Metrics metrics;
  MetricsServer server(io, metrics);
  ASSERT_TRUE(server.listen({*IpAddress::parse("127.0.0.1"), 0}));
  const auto get = [&](const std::string& path) {
    return exchange(io, server.port(),
                    "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  };
  EXPECT_THAT(get("/metrics"), testing::HasSubstr("200 OK"));
  EXPECT_THAT(get("/metrics"), testing::HasSubstr("process_open_fds"));
  EXPECT_THAT(get("/"), testing::HasSubstr("404"));
  exchange(io, server.port(), "garbage\r\n\r\n");
  EXPECT_THAT(get("/metrics"), testing::HasSubstr("200 OK"));
}

TEST(MetricsServer, APortInUseIsNamed) {
  asio::io_context io;
  Metrics metrics;
  MetricsServer first(io, metrics);
  ASSERT_TRUE(first.listen({*IpAddress::parse("127.0.0.1"), 0}));
  MetricsServer second(io, metrics);
  const auto failed = second.listen({*IpAddress::parse("127.0.0.1"), first.port()});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().sys_errno(), EADDRINUSE);
  EXPECT_THAT(failed.error().message(),
              testing::HasSubstr(fmt::format("127.0.0.1:{}", first.port())));
}

}  // namespace
}  // namespace shoal::metrics
