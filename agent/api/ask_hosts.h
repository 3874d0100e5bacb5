// SPDX-License-Identifier: Apache-2.0
// Asks other hosts' servers one question, with this host's certificate, as relay.h does for one:
// all of them beside each other, at most kHostsAtOnce at a time, each bounded in time and size. For
// answers that are put together out of what each host knows of itself.
//
// The header kRelayedHeader tells a host that only its own part is wanted. The loop thread.
#pragma once

#include "agent/api/relay.h"

#include <functional>
#include <string>
#include <vector>

namespace shoal::api {

inline constexpr std::size_t kHostsAtOnce = 16;
inline constexpr std::size_t kHostAnswerBytesMax = 16 << 20;
inline constexpr std::chrono::milliseconds kHostAnswerTimeout{4'000};  // from the call to the end

// done gets, in the order of `hosts`, the body of what was answered with 200, or why there is none.
// Never from within the call.
void ask_hosts(boost::asio::io_context& loop, const RelayOptions& options,
               std::vector<PeerHost> hosts, std::string target,
               std::function<void(std::vector<Result<std::string>>)> done);

}  // namespace shoal::api
