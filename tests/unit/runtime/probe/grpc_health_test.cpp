// SPDX-License-Identifier: Apache-2.0
// A Check against nghttp2's server, by way of strings.
#include "runtime/probe/grpc_health.h"

#include "tests/fakes/grpc_health_server.h"

#include <gtest/gtest.h>

namespace shoal::runtime {
namespace {

using fakes::GrpcHealthConnection;
using fakes::HealthAnswer;

constexpr std::chrono::milliseconds kTimeout{1000};
constexpr int kTurnsMax = 20;

GrpcHealthCall call(std::string_view service = {}) {
  auto made = GrpcHealthCall::make("10.0.0.1:5000", service, kTimeout);
  EXPECT_TRUE(made.has_value());
  return std::move(*made);
}

void talk(GrpcHealthCall& client, GrpcHealthConnection& server, std::size_t bytes_max) {
  for (int i = 0; i < kTurnsMax && !client.verdict(); ++i) {
    server.receive(client.take_output());
    const std::string said = server.take_output();
    for (std::size_t at = 0; at < said.size(); at += bytes_max)
      client.receive(std::string_view(said).substr(at, bytes_max));
  }
}

GrpcVerdict verdict_on(const HealthAnswer& answer, std::size_t bytes_max = 4096) {
  GrpcHealthConnection server([&](std::string_view) { return answer; });
  GrpcHealthCall client = call();
  talk(client, server, bytes_max);
  EXPECT_TRUE(client.verdict().has_value());
  return client.verdict().value_or(GrpcVerdict{false, "no verdict"});
}

HealthAnswer raw(std::string message) {
  std::string prefix(4, '\0');
  prefix.push_back(static_cast<char>(message.size()));
  HealthAnswer answer;
  answer.raw = prefix + message;
  return answer;
}

TEST(GrpcHealthTest, ServingOnlyIsHealthy) {
  EXPECT_TRUE(verdict_on({}).serving);
  EXPECT_TRUE(verdict_on({}, 1).serving);  // byte by byte
  for (const auto& [status, name] :
       {std::pair{2, "NOT_SERVING"}, {0, "UNKNOWN"}, {3, "SERVICE_UNKNOWN"}, {7, "7"}}) {
    HealthAnswer answer;
    answer.serving_status = status;
    const GrpcVerdict verdict = verdict_on(answer);
    EXPECT_FALSE(verdict.serving);
    EXPECT_EQ(verdict.message, fmt::format("service unhealthy (responded with \"{}\")", name));
  }
}

TEST(GrpcHealthTest, TheServiceIsAskedFor) {
  std::string asked = "nothing";
  GrpcHealthConnection server([&](std::string_view service) {
    asked = service;
    return HealthAnswer{};
  });
  GrpcHealthCall client = call("shop.Cart");
  talk(client, server, 4096);
  EXPECT_EQ(asked, "shop.Cart");
  EXPECT_TRUE(client.verdict()->serving);
}

TEST(GrpcHealthTest, ErrorsAreTheKubelets) {
  HealthAnswer answer;
  answer.grpc_status = 12;
  answer.grpc_message = "unknown service grpc.health.v1.Health";
  EXPECT_EQ(verdict_on(answer).message,
            "error: this server does not implement the grpc health protocol "
            "(grpc.health.v1.Health): unknown service grpc.health.v1.Health");
  answer.grpc_status = 5;
  answer.grpc_message = "unknown%20service%0A100%";
  EXPECT_EQ(verdict_on(answer).message,
            "error: health rpc probe failed: rpc error: code = NotFound desc = unknown "
            "service\\x0a100%");
  answer.grpc_status = 4;
  EXPECT_EQ(verdict_on(answer).message, "timeout: health rpc did not complete within 1s");
  answer.grpc_status = 77;
  answer.grpc_message = "x";
  EXPECT_EQ(verdict_on(answer).message,
            "error: health rpc probe failed: rpc error: code = Code(77) desc = x");
}

TEST(GrpcHealthTest, ServersThatSpeakNoGrpc) {
  HealthAnswer answer;
  answer.http_status = "404";
  EXPECT_EQ(verdict_on(answer).message,
            "error: this server does not implement the grpc health protocol "
            "(grpc.health.v1.Health): unexpected HTTP status code received from server: 404");
  answer.http_status = "503";
  EXPECT_NE(verdict_on(answer).message.find("code = Unavailable"), std::string::npos);
  answer = {};
  answer.content_type = "text/html";
  EXPECT_NE(verdict_on(answer).message.find("unexpected content-type \"text/html\""),
            std::string::npos);
  answer = {};
  answer.reset = 7;
  EXPECT_NE(verdict_on(answer).message.find("code = Unavailable desc = stream terminated by "
                                            "RST_STREAM with error code: REFUSED_STREAM"),
            std::string::npos);
  GrpcHealthCall http1 = call();
  http1.receive("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
  http1.take_output();
  ASSERT_TRUE(http1.verdict().has_value());
  EXPECT_TRUE(http1.verdict()->message.starts_with(
      "error: failed to connect service at \"10.0.0.1:5000\": error reading server preface: "))
      << http1.verdict()->message;
}

TEST(GrpcHealthTest, MessagesThatAreNone) {
  EXPECT_TRUE(verdict_on(raw(std::string("\x12\x02xx\x08\x01", 6))).serving);  // a later field
  EXPECT_FALSE(verdict_on(raw("")).serving);
  for (const HealthAnswer& bad :
       {raw("\x08"), raw("\x12\x09x"), raw("\x0f"), raw(std::string("\x00\x01", 2)),
        [] {
          HealthAnswer compressed = raw("\x08\x01");
          compressed.raw[0] = 1;
          return compressed;
        }(),
        [] {
          HealthAnswer cut;
          cut.raw = std::string("\0\0\0\0\x09\x08\x01", 7);
          return cut;
        }()})
    EXPECT_NE(verdict_on(bad).message.find("code = Internal"), std::string::npos);
  HealthAnswer huge;
  huge.raw.assign(10'000, 'x');
  EXPECT_NE(verdict_on(huge).message.find("code = ResourceExhausted"), std::string::npos);
}

TEST(GrpcHealthTest, TimeAndTheConnectionEnd) {
  GrpcHealthCall unconnected = call();
  unconnected.expired();
  EXPECT_EQ(unconnected.verdict()->message,
            "timeout: failed to connect service \"10.0.0.1:5000\" within 1s: context deadline "
            "exceeded");
  const auto connected = [] {
    HealthAnswer silent;
    silent.silent = true;
    GrpcHealthConnection server([&](std::string_view) { return silent; });
    GrpcHealthCall client = call();
    talk(client, server, 4096);
    EXPECT_FALSE(client.verdict().has_value());
    return client;
  };
  GrpcHealthCall late = connected();
  late.expired();
  EXPECT_EQ(late.verdict()->message, "timeout: health rpc did not complete within 1s");
  GrpcHealthCall cut = connected();
  cut.ended("EOF");
  cut.expired();  // the first verdict holds
  EXPECT_EQ(cut.verdict()->message, "error: health rpc probe failed: rpc error: code = Unavailable "
                                    "desc = error reading from server: EOF");
  EXPECT_EQ(grpc_connect_timeout("a:1", std::chrono::milliseconds(90'000)),
            "timeout: failed to connect service \"a:1\" within 1m30s: context deadline exceeded");
}

}  // namespace
}  // namespace shoal::runtime
