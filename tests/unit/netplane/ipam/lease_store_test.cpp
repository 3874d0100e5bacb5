// SPDX-License-Identifier: Apache-2.0
#include "netplane/ipam/lease_store.h"

#include "netplane/base/fs.h"
#include "netplane/base/random.h"
#include "netplane/ipam/lease_journal.h"
#include "tests/fakes/fake_clock.h"

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace shoal::ipam {
namespace {

namespace fs = std::filesystem;
using std::chrono::hours;
using std::chrono::seconds;

const IpPrefix kCidr = *IpPrefix::parse("10.244.1.0/24");

class LeaseStoreTest : public testing::Test {
protected:
  void SetUp() override {
    // In memory where there is one: each change waits for the disk, and nobody pulls a plug here.
    const fs::path base = fs::is_directory("/dev/shm") ? "/dev/shm" : fs::temp_directory_path();
    std::string folder = (base / "shoal-leases-XXXXXX").string();
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    path_ = folder_ / "leases";
  }
  void TearDown() override { fs::remove_all(folder_); }

  Result<LeaseStore> open(std::string boot = "boot-1", const IpPrefix& cidr = kCidr) {
    return LeaseStore::open(path_, cidr, std::move(boot), clock_);
  }
  std::string content() { return *read_file(path_, 1 << 24); }
  void put(std::string_view bytes) { std::ofstream(path_, std::ios::binary) << bytes; }

  fs::path folder_;
  fs::path path_;
  FakeClock clock_;
};

TEST_F(LeaseStoreTest, LeasesGenerationsAndTheTurnOutliveTheProcess) {
  Lease first;
  Lease second;
  {
    auto store = open();
    ASSERT_TRUE(store) << store.error().message();
    first = *store->allocate("uid-1");
    second = *store->allocate("uid-2");
    ASSERT_TRUE(store->release(first.ip));
  }
  auto store = open();
  ASSERT_TRUE(store) << store.error().message();
  EXPECT_EQ(store->pool().leases(), std::vector{second});
  EXPECT_EQ(store->pool().usage(clock_.wall()).quarantined, 1U);
  EXPECT_EQ(store->allocate("uid-3")->ip.to_string(), "10.244.1.3");
  EXPECT_EQ(*store->allocate("uid-2"), second);
  clock_.advance(hours(1));
  for (int i = 0; i < 251; ++i)
    ASSERT_TRUE(store->allocate(fmt::format("filler-{}", i)));
  const auto reused = store->allocate("uid-4");
  ASSERT_TRUE(reused);
  EXPECT_EQ(reused->ip, first.ip);
  EXPECT_EQ(reused->generation, first.generation + 1);
}

// A journal cut at any byte holds the state after some whole number of changes, and goes on from
// there.
TEST_F(LeaseStoreTest, ACrashAtAnyByteLosesOnlyWhatWasNotAnswered) {
  std::vector<std::pair<std::size_t, std::vector<Lease>>> states;  // journal size, leases
  {
    auto store = open();
    ASSERT_TRUE(store);
    states.emplace_back(content().size(), store->pool().leases());
    for (int i = 0; i < 12; ++i) {
      if (i % 3 == 2) {
        ASSERT_TRUE(store->release_owner(fmt::format("uid-{}", i - 1)).value());
      } else {
        ASSERT_TRUE(store->allocate(fmt::format("uid-{}", i)));
      }
      states.emplace_back(content().size(), store->pool().leases());
    }
  }
  const std::string whole = content();
  for (std::size_t size = states.front().first; size <= whole.size(); ++size) {
    put(whole.substr(0, size));
    auto store = open();
    ASSERT_TRUE(store) << "cut at " << size << ": " << store.error().message();
    const auto wanted = std::find_if(states.rbegin(), states.rend(),
                                     [&](const auto& state) { return state.first <= size; });
    EXPECT_EQ(store->pool().leases(), wanted->second) << "cut at " << size;
    ASSERT_TRUE(store->allocate("after")) << "cut at " << size;
    const auto leases = store->pool().leases();
    *store = std::move(*LeaseStore::open(folder_ / "elsewhere", kCidr, "b", clock_));
    EXPECT_EQ(open()->pool().leases(), leases) << "cut at " << size;
    fs::remove(folder_ / "elsewhere");
  }
}

// A child leases as fast as it can and says what it was given; it is killed in the middle.
TEST_F(LeaseStoreTest, KillNineLosesNothingThatWasAnswered) {
  SystemRandom random;
  for (int round = 0; round < 10; ++round) {
    int answers[2];
    ASSERT_EQ(::pipe(answers), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      auto store = open();
      for (int i = 0; store && i < 200; ++i) {
        const auto lease = store->allocate(fmt::format("round-{}-{}", round, i));
        if (!lease || ::write(answers[1], lease->owner.c_str(), lease->owner.size() + 1) < 0)
          break;
        if (i % 2 == 1)
          static_cast<void>(store->release(lease->ip));
      }
      ::pause();
      ::_exit(0);
    }
    ::close(answers[1]);
    // Some way into its work, between any two of its system calls.
    std::string told(1 + random.below(1000), '\0');
    std::size_t heard = 0;
    while (heard < told.size()) {
      const ssize_t n = ::read(answers[0], told.data() + heard, told.size() - heard);
      ASSERT_GT(n, 0);
      heard += static_cast<std::size_t>(n);
    }
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    char buffer[4096];
    for (ssize_t n = 0; (n = ::read(answers[0], buffer, sizeof(buffer))) > 0;)
      told.append(buffer, static_cast<std::size_t>(n));
    ::close(answers[0]);
    auto store = open();
    ASSERT_TRUE(store) << store.error().message();
    std::size_t number = 0;
    for (std::size_t at = 0; at < told.size(); at = told.find('\0', at) + 1) {
      if (number++ % 2 == 0) {  // every other one is kept
        EXPECT_TRUE(store->pool().find_owner(told.c_str() + at)) << told.c_str() + at;
      }
    }
    for (const Lease& lease : store->pool().leases())
      ASSERT_TRUE(store->release(lease.ip));
    clock_.advance(hours(1));
  }
}

TEST_F(LeaseStoreTest, LeasesOfAnEarlierBootAreKeptAndSaySo) {
  {
    auto store = open("boot-1");
    ASSERT_TRUE(store->allocate("gone"));
    ASSERT_TRUE(store->allocate("stays"));
  }
  auto store = open("boot-2");
  ASSERT_TRUE(store);
  ASSERT_EQ(store->pool().leases().size(), 2U);
  EXPECT_EQ(store->pool().find_owner("gone")->boot_id, "boot-1");
  EXPECT_EQ(store->allocate("stays")->boot_id, "boot-2");
  EXPECT_TRUE(*store->release_owner("gone"));
  EXPECT_FALSE(*store->release_owner("gone"));
}

TEST_F(LeaseStoreTest, ThreadsTakeTurns) {
  auto store = open();
  ASSERT_TRUE(store);
  std::vector<std::thread> threads;
  for (int n = 0; n < 4; ++n)
    threads.emplace_back([&store, n] {
      for (int i = 0; i < 12; ++i) {
        const std::string owner = fmt::format("uid-{}-{}", n, i);
        EXPECT_TRUE(store->allocate(owner));
        EXPECT_TRUE(store->find_owner(owner));
        if (i % 2 == 0) {
          EXPECT_TRUE(*store->release_owner(owner));
        }
      }
    });
  for (std::thread& thread : threads)
    thread.join();
  const auto leases = store->leases();
  EXPECT_EQ(leases.size(), 24U);
  std::set<IpAddress> addresses;
  for (const Lease& lease : leases)
    addresses.insert(lease.ip);
  EXPECT_EQ(addresses.size(), leases.size());
  store = fail(Errc::kInternal, "closed");
  EXPECT_EQ(open()->leases(), leases);
}

TEST_F(LeaseStoreTest, ASecondProcessIsKeptOut) {
  auto store = open();
  ASSERT_TRUE(store);
  const auto second = open();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Errc::kConflict);
}

TEST_F(LeaseStoreTest, AnotherCidrIsRefusedWhileLeasesLive) {
  const IpPrefix other = *IpPrefix::parse("10.244.2.0/24");
  ASSERT_TRUE(open()->allocate("uid-1"));
  const auto refused = open("boot-1", other);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kConflict);
  EXPECT_THAT(refused.error().message(), testing::HasSubstr("10.244.1.0/24"));
  const auto after_reboot = open("boot-2", other);
  ASSERT_TRUE(after_reboot) << after_reboot.error().message();
  EXPECT_TRUE(after_reboot->pool().leases().empty());
}

TEST_F(LeaseStoreTest, DamageIsRefusedAndNamed) {
  {
    auto store = open();
    ASSERT_TRUE(store->allocate("uid-1"));
    ASSERT_TRUE(store->allocate("uid-2"));
  }
  std::string text = content();
  text[text.find("uid-1")] = 'U';
  put(text);
  const auto refused = open();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kCorrupt);
  EXPECT_THAT(refused.error().message(), testing::HasSubstr(path_.string()));
}

TEST_F(LeaseStoreTest, TheJournalDoesNotGrowForEver) {
  auto store = open();
  ASSERT_TRUE(store);
  std::size_t largest = 0;
  Lease lease;
  for (std::size_t i = 0; i < kJournalRecordsMax + 600; ++i) {
    lease = *store->allocate("uid");
    ASSERT_TRUE(store->release(lease.ip));
    clock_.advance(seconds(1));
    largest = std::max(largest, static_cast<std::size_t>(fs::file_size(path_)));
  }
  EXPECT_LT(fs::file_size(path_), largest / 2);
  const auto generation = lease.generation;
  EXPECT_GT(generation, 30);
  *store = std::move(*LeaseStore::open(folder_ / "elsewhere", kCidr, "b", clock_));
  auto reopened = open();
  ASSERT_TRUE(reopened);
  EXPECT_EQ(reopened->pool().slot(lease.ip).generation, generation);
}

// A full disk, played by a bound on the file's size.
TEST_F(LeaseStoreTest, AChangeThatCannotBeWrittenDidNotHappen) {
  auto store = open();
  ASSERT_TRUE(store->allocate("uid-1"));
  const auto size = fs::file_size(path_);
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit former{};
  ::getrlimit(RLIMIT_FSIZE, &former);
  const rlimit tight{size + 10, former.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &tight);
  const auto refused = store->allocate("uid-2");
  const auto kept = store->release_owner("uid-1");
  ::setrlimit(RLIMIT_FSIZE, &former);
  EXPECT_FALSE(refused);
  EXPECT_FALSE(kept);
  EXPECT_EQ(fs::file_size(path_), size);
  EXPECT_FALSE(store->pool().find_owner("uid-2"));
  EXPECT_TRUE(store->pool().find_owner("uid-1"));
  EXPECT_EQ(store->allocate("uid-2")->ip.to_string(), "10.244.1.2");
  const auto leases = store->pool().leases();
  *store = std::move(*LeaseStore::open(folder_ / "elsewhere", kCidr, "b", clock_));
  EXPECT_EQ(open()->pool().leases(), leases);
}

}  // namespace
}  // namespace shoal::ipam
