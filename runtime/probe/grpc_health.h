// SPDX-License-Identifier: Apache-2.0
// GrpcHealthCall: one grpc.health.v1.Health/Check over plaintext HTTP/2 (RFC 9113 by nghttp2; the
// gRPC protocol over HTTP/2, and its health checking protocol), as the kubelet's gRPC probe makes
// it. No IO: bytes of the server go in, bytes for it come out, and at some point there is a
// verdict. What a server sends is bounded: a longer answer is a failure.
#pragma once

#include "netplane/base/result.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace shoal::runtime {

struct GrpcVerdict {
  bool serving = false;
  std::string message;  // of one that is not, in the kubelet's words
};

class GrpcHealthCall {
public:
  // authority: "10.244.1.5:5000". service may be empty: the server as a whole. timeout is what the
  // server is told; the caller keeps to it.
  static Result<GrpcHealthCall> make(std::string_view authority, std::string_view service,
                                     std::chrono::milliseconds timeout);
  GrpcHealthCall(GrpcHealthCall&&) noexcept;
  GrpcHealthCall& operator=(GrpcHealthCall&&) noexcept;
  ~GrpcHealthCall();

  // To be sent now; empty: nothing. There may be a verdict then: the end of what is no HTTP/2.
  std::string take_output();
  void receive(std::string_view bytes);
  void ended(std::string_view why);  // by the connection: "EOF", "connection reset by peer"
  void expired();                    // by the caller's clock
  const std::optional<GrpcVerdict>& verdict() const;

private:
  struct Impl;
  explicit GrpcHealthCall(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Of a server that cannot be reached within the timeout, or at all.
std::string grpc_connect_timeout(std::string_view authority, std::chrono::milliseconds timeout);
std::string grpc_connect_failure(std::string_view authority, std::string_view why);

}  // namespace shoal::runtime
