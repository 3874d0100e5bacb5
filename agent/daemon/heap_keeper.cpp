// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/heap_keeper.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <malloc.h>
#include <unistd.h>

namespace shoal::daemon {
namespace {

// Of memory that no file stands behind; 0 when it cannot be told.
std::size_t anonymous_bytes() {
  const auto text = read_file("/proc/self/statm", 4096);
  if (!text)
    return 0;
  const auto words = split(trim(*text), ' ');
  if (words.size() < 3)
    return 0;
  const auto resident = parse_uint(words[1]);
  const auto shared = parse_uint(words[2]);
  if (!resident || !shared || *resident < *shared)
    return 0;
  return (*resident - *shared) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

void HeapKeeper::arm() {
  timer_.expires_after(interval_);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error)
      return;
    look();
    arm();
  });
}

void HeapKeeper::look() {
  const struct mallinfo2 heap = ::mallinfo2();
  const std::size_t used = heap.uordblks + heap.hblkhd;
  const std::size_t before = anonymous_bytes();
  if (before < used + std::max(kHeapSlackBytesMin, used / 8)) {
    interval_ = kHeapLookFirst;
    return;
  }
  ::malloc_trim(0);
  const bool helped = anonymous_bytes() + kHeapSlackBytesMin / 4 < before;
  interval_ = helped ? kHeapLookFirst : std::min(interval_ * 2, kHeapLookMax);
}

}  // namespace shoal::daemon
