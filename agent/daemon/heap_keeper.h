// SPDX-License-Identifier: Apache-2.0
// Gives memory back that bulk work (reading the store at start, a full transfer by gossip) took and
// freed again: the allocator keeps what lies between pieces that are in use. Looked at every few
// seconds; less often while it does not help. Threading: the loop thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>

namespace shoal::daemon {

inline constexpr std::chrono::seconds kHeapLookFirst{3};
inline constexpr std::chrono::seconds kHeapLookMax{300};
inline constexpr std::size_t kHeapSlackBytesMin = 4 << 20;  // less is left where it is

class HeapKeeper {
public:
  explicit HeapKeeper(boost::asio::io_context& loop) : timer_(loop) { arm(); }
  void look();

private:
  void arm();

  boost::asio::steady_timer timer_;
  std::chrono::seconds interval_ = kHeapLookFirst;
};

}  // namespace shoal::daemon
