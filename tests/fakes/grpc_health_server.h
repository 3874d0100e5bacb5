// SPDX-License-Identifier: Apache-2.0
// A server of grpc.health.v1.Health by nghttp2, one connection of it: bytes in, bytes out. For unit
// tests of the probe, and for the program that lab tests put into a pod.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace shoal::fakes {

// What is answered to a Check of one service.
struct HealthAnswer {
  int grpc_status = 0;
  std::string grpc_message;
  int serving_status = 1;
  std::string http_status = "200";
  std::string content_type = "application/grpc";
  std::string raw;      // in place of the message and its prefix
  bool silent = false;  // no answer
  unsigned reset = 0;   // RST_STREAM with that code
};

class GrpcHealthConnection {
public:
  explicit GrpcHealthConnection(std::function<HealthAnswer(std::string_view service)> answer);
  ~GrpcHealthConnection();
  GrpcHealthConnection(const GrpcHealthConnection&) = delete;
  GrpcHealthConnection& operator=(const GrpcHealthConnection&) = delete;

  bool receive(std::string_view bytes);  // false: close the connection
  std::string take_output();

  struct Impl;

private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::fakes
