// SPDX-License-Identifier: Apache-2.0
// A full disk: a tmpfs of a few megabytes in a mount namespace of the test's own.
//
//   [test] --- SqliteStore --- <tmp>/state.db  (tmpfs, 4 MB)
#include "tests/unit/agent/store/store_fixture.h"

#include "netplane/base/unique_fd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>

namespace shoal::store {
namespace {

TEST(SqliteFullDiskTest, NothingIsWrittenAndTheStoreGoesOn) {
  const TempDir dir;
  ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << "needs root: ctest -L root";
  ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  ASSERT_EQ(::mount("shoal-test", dir.path().c_str(), "tmpfs", 0, "size=4m"), 0);
  const auto filler = dir.path() / "filler";
  const SqliteOptions options{.path = dir.path() / "state.db", .log_events_max = 100};
  Revision before = 0;
  {
    Opened s(options);
    ASSERT_TRUE(s.store) << s.error->message();
    ASSERT_TRUE(s.put("/small", "first"));
    {
      const UniqueFd fd(::open(filler.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
      const std::string block(4096, 'f');
      while (::write(fd.get(), block.data(), block.size()) > 0) {
      }
    }
    before = s.snapshot().revision;
    // Many at once: a group that does not fit must not take one down that would.
    int done = 0, failed = 0;
    for (int i = 0; i < 20; ++i)
      s.store->txn({{{fmt::format("/big{}", i), 0}},
                    {{fmt::format("/big{}", i), std::string(100'000, 'v')}}},
                   [&](Result<TxnResult> result) {
                     ++done;
                     if (result)
                       return;
                     ++failed;
                     EXPECT_EQ(result.error().code(), Errc::kExhausted) << result.error().message();
                     EXPECT_THAT(result.error().message(), testing::HasSubstr("disk is full"));
                   });
    ASSERT_TRUE(s.loop.run_until([&] { return done == 20; }));
    EXPECT_EQ(failed, 20);
    EXPECT_EQ(s.snapshot().revision, before) << "nothing was written";
    EXPECT_EQ(s.snapshot().values.size(), 1U) << "reads go on";

    std::filesystem::remove(filler);
    const auto after = s.put("/small", "second");
    ASSERT_TRUE(after) << after.error().message();
    EXPECT_EQ(after->revision, before + 1);
  }
  Opened s(options);
  ASSERT_TRUE(s.store) << s.error->message();
  EXPECT_EQ(s.snapshot().values, (std::vector<Event>{{"/small", "second", 1, before + 1}}));
  s.store.reset();
  ::umount2(dir.path().c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace shoal::store
