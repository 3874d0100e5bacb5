// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/heap_keeper.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <gtest/gtest.h>
#include <memory>
#include <vector>

namespace shoal::daemon {
namespace {

// Of this process, in pages.
std::uint64_t resident_pages() {
  return parse_uint(split(read_file("/proc/self/statm", 4096).value(), ' ').at(1)).value();
}

// The sanitizers' allocator is not the one that keeps what is freed.
#if defined(__SANITIZE_ADDRESS__)
#define SHOAL_OWN_ALLOCATOR 0
#elif defined(__has_feature)
#define SHOAL_OWN_ALLOCATOR !__has_feature(address_sanitizer)
#else
#define SHOAL_OWN_ALLOCATOR 1
#endif

TEST(HeapKeeper, GivesBackWhatLiesBetweenPiecesInUse) {
  if (!SHOAL_OWN_ALLOCATOR)
    GTEST_SKIP() << "not with this allocator";
  constexpr std::size_t kPieces = 400'000;  // of 200 bytes: 80 MB
  std::vector<std::unique_ptr<char[]>> pieces(kPieces);
  for (auto& piece : pieces) {
    piece = std::make_unique<char[]>(200);
    piece[0] = 1;
  }
  const std::uint64_t full = resident_pages();
  for (std::size_t i = 0; i < kPieces; i++)
    if (i % 1000 != 0)
      pieces[i].reset();
  pieces.back() = std::make_unique<char[]>(200);  // the heap's end is in use
  const std::uint64_t sparse = resident_pages();
  ASSERT_GT(sparse * 10, full * 9) << "the allocator gave it back by itself";
  boost::asio::io_context loop;
  HeapKeeper(loop).look();
  EXPECT_LT(resident_pages() * 2, full);
}

}  // namespace
}  // namespace shoal::daemon
