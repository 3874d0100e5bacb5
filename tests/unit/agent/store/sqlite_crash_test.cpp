// SPDX-License-Identifier: Apache-2.0
// kill -9 in the middle of commits: every transaction that was acknowledged must be there
// afterwards, whole, and the revisions must be without gaps.
#include "tests/unit/agent/store/store_fixture.h"

#include "netplane/base/random.h"
#include "netplane/base/unique_fd.h"

#include <csignal>
#include <fmt/format.h>
#include <random>
#include <sys/wait.h>
#include <unistd.h>

namespace shoal::store {
namespace {

constexpr int kRounds = 8;
constexpr int kInFlight = 16;

// Writes as fast as it can and reports each acknowledged revision as 8 bytes.
[[noreturn]] void child(const std::filesystem::path& path, int report) {
  Opened s({.path = path, .log_events_max = 64});
  if (!s.store)
    ::_exit(1);
  std::uint64_t next = 0;
  int in_flight = 0;
  for (;;) {
    while (in_flight < kInFlight) {
      ++in_flight;
      const std::string tag = std::to_string(next++);
      // Two keys that must always agree.
      s.store->txn(
          {{},
           {{"/pair/a", tag + std::string(2000, '.')}, {"/pair/b", tag}, {"/each/" + tag, tag}}},
          [&](Result<TxnResult> result) {
            --in_flight;
            if (!result)
              ::_exit(2);
            const std::uint64_t revision = result->revision;
            if (::write(report, &revision, sizeof(revision)) != sizeof(revision))
              ::_exit(3);
          });
    }
    s.loop.run_until([&] { return in_flight < kInFlight; });
  }
}

TEST(SqliteCrashTest, AcknowledgedMeansThere) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  for (int round = 0; round < kRounds; ++round) {
    const TempDir dir;
    const auto path = dir.path() / "state.db";
    int fds[2];
    ASSERT_EQ(::pipe(fds), 0);
    const UniqueFd out(fds[0]);
    UniqueFd in(fds[1]);
    const pid_t pid = ::fork();
    ASSERT_GE(pid, 0);
    if (pid == 0)
      child(path, in.get());
    in.reset();
    // Killed after a random number of acknowledgements.
    const std::uint64_t kill_after = 1 + random.below(400);
    std::uint64_t acknowledged = 0, revision = 0;
    for (std::uint64_t i = 0; ::read(out.get(), &revision, sizeof(revision)) == sizeof(revision);
         ++i) {
      acknowledged = std::max(acknowledged, revision);
      if (i == kill_after) {
        ASSERT_EQ(::kill(pid, SIGKILL), 0);
      }
    }
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFSIGNALED(status)) << "status " << status;

    Opened s({.path = path, .log_events_max = 64});
    ASSERT_TRUE(s.store) << s.error->message();
    const Snapshot snapshot = s.snapshot();
    EXPECT_GE(snapshot.revision, acknowledged);
    std::map<std::string, std::string> values;
    for (const Event& event : snapshot.values)
      values[event.key] = *event.value;
    const std::string last = values["/pair/b"];
    EXPECT_EQ(values["/pair/a"], last + std::string(2000, '.')) << "a torn transaction";
    // Revision n wrote tag n-1: none of them may be missing.
    EXPECT_EQ(last, std::to_string(snapshot.revision - 1));
    for (Revision r = 1; r <= snapshot.revision; ++r)
      ASSERT_TRUE(values.contains("/each/" + std::to_string(r - 1)))
          << "revision " << r << " is lost";
    EXPECT_EQ(s.put("/after", "x")->revision, snapshot.revision + 1);
  }
}

}  // namespace
}  // namespace shoal::store
