// SPDX-License-Identifier: Apache-2.0
// The endpoint behind `shoal capture`: the packets of a pod of this host, as a pcap file that grows
// (agent/stream/frames.h). Pods of other hosts are refused with where to ask.
//
// A capture ends when it is asked to, at its count or time, when the pod's network goes, and at
// once when the client has gone. It costs the loop at most kCaptureBatchPackets packets a turn, and
// holds one batch and the kernel's queue: a client that reads slower than packets come loses
// packets, which are counted; one that takes nothing for ServerLimits::write_timeout_ms is cut off.
// Threading: the loop thread; the socket is opened on a worker.
#pragma once

#include "agent/api/server.h"
#include "agent/daemon/places.h"
#include "agent/node/node.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <memory>

namespace shoal::daemon {

inline constexpr std::size_t kCapturesMax = 8;  // of a host, at once
inline constexpr std::size_t kCaptureBatchPackets = 256;
inline constexpr std::size_t kCaptureBatchBytes = 64 << 10;  // a packet that begins below is whole
inline constexpr std::uint64_t kCaptureSecondsMax = 24 * 3600;

void serve_capture(const api::ExchangePtr& x, const node::Node& pods, const view::View& view,
                   boost::asio::io_context& loop, boost::asio::thread_pool& workers,
                   Places& places);

}  // namespace shoal::daemon
