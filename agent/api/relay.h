// SPDX-License-Identifier: Apache-2.0
// Sends a request on to another host's server, with this host's certificate, and what that answers
// back: one answer, a streamed one, or an upgraded connection, whose bytes then go both ways. For
// what only the host that runs a pod can do, so that any host answers for it.
//
// A request is sent on once: the header kRelayedHeader says that it was. Errors that the client
// gets from here: 503 when the host cannot be reached. Both ends go together: when one is gone, so
// is the other. The loop thread.
#pragma once

#include "agent/api/server.h"

namespace shoal::api {

inline constexpr std::string_view kRelayedHeader = "shoal-relayed";

struct RelayOptions {
  std::filesystem::path certificate;
  std::filesystem::path key;
  std::filesystem::path ca;
  std::chrono::milliseconds timeout_ms{10'000};  // to connect, and for the head of the answer
};

struct PeerHost {
  std::string name;     // is checked against its certificate
  std::string address;  // IP
  std::uint16_t port = 6443;
};

// Its path and query as they were sent, percent-encoded.
std::string target_of(const Request& request);

void relay(boost::asio::io_context& loop, const RelayOptions& options, PeerHost host,
           ExchangePtr x);

}  // namespace shoal::api
