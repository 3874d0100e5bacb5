// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/fs.h"
#include "netplane/base/random.h"
#include "netplane/ipam/lease_store.h"
#include "tests/fakes/fake_clock.h"

#include <set>

namespace shoal::ipam {
namespace {

const IpPrefix kCidr = *IpPrefix::parse("10.244.1.0/28");  // 14 addresses to lease

TEST(LeasePool, LeavesOutTheEdgesAndReusesLate) {
  FakeClock clock;
  auto pool =
      *LeasePool::make(kCidr, {std::chrono::seconds(30), {*IpAddress::parse("10.244.1.5")}});
  std::set<IpAddress> given;
  for (int i = 0; i < 13; i++)
    given.insert(pool.allocate(fmt::format("pod{}", i), "b", clock.wall())->ip);
  EXPECT_EQ(given.size(), 13U);
  for (const char* never : {"10.244.1.0", "10.244.1.5", "10.244.1.15"})
    EXPECT_FALSE(given.contains(*IpAddress::parse(never))) << never;
  const auto full = pool.allocate("one more", "b", clock.wall());
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), Errc::kExhausted);
  EXPECT_THAT(full.error().message(), testing::HasSubstr("13 leased"));
}

TEST(LeasePool, QuarantineAndGenerations) {
  FakeClock clock;
  auto pool = *LeasePool::make(*IpPrefix::parse("10.244.1.0/30"), {std::chrono::seconds(30), {}});
  const Lease first = *pool.allocate("a", "b", clock.wall());
  EXPECT_EQ(*pool.allocate("a", "b", clock.wall()), first);
  ASSERT_TRUE(pool.allocate("c", "b", clock.wall()));
  ASSERT_TRUE(pool.release(first.ip, clock.wall()));
  EXPECT_FALSE(pool.release(first.ip, clock.wall()));
  EXPECT_FALSE(pool.allocate("d", "b", clock.wall())) << "its quarantine is not over";
  clock.advance(std::chrono::seconds(31));
  const Lease again = *pool.allocate("d", "b", clock.wall());
  EXPECT_EQ(again.ip, first.ip);
  EXPECT_EQ(again.generation, first.generation + 1);
}

TEST(LeasePool, RefusesWhatItCannotHold) {
  for (const char* text : {"10.244.0.0/15", "10.244.1.0/31", "2001:db8::/120"})
    EXPECT_FALSE(LeasePool::make(*IpPrefix::parse(text))) << text;
}

class LeaseStoreTest : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/shoal-leases.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  Result<LeaseStore> open(std::string boot = "boot1") {
    return LeaseStore::open(dir_ / "leases", kCidr, std::move(boot), clock_,
                            {std::chrono::seconds(30), {}});
  }
  std::filesystem::path dir_;
  FakeClock clock_;
};

TEST_F(LeaseStoreTest, SurvivesAReopen) {
  Lease a, b;
  {
    auto store = open();
    ASSERT_TRUE(store) << store.error().message();
    a = *store->allocate("a");
    b = *store->allocate("b");
    ASSERT_TRUE(store->release(b.ip));
  }
  auto store = open("boot2");
  ASSERT_TRUE(store) << store.error().message();
  EXPECT_EQ(store->pool().leases(), std::vector<Lease>{a});
  const Lease c = *store->allocate("c");
  EXPECT_NE(c.ip, b.ip) << "in quarantine, also after a restart";
  EXPECT_EQ(c.boot_id, "boot2");
  const auto swept =
      store->release_unless([](const Lease& lease) { return lease.boot_id == "boot2"; });
  ASSERT_TRUE(swept);
  EXPECT_EQ(*swept, std::vector<Lease>{a});
}

TEST_F(LeaseStoreTest, ASecondProcessIsRefusedAndACidrDoesNotChangeUnderLeases) {
  auto store = open();
  ASSERT_TRUE(store->allocate("a"));
  EXPECT_EQ(open().error().code(), Errc::kConflict);
  store = fail(Errc::kInternal, "closed");
  const auto other =
      LeaseStore::open(dir_ / "leases", *IpPrefix::parse("10.244.2.0/28"), "b", clock_);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), Errc::kConflict);
}

// Cut at every byte: whatever whole lines are left is the state, and the store goes on.
TEST_F(LeaseStoreTest, ATornTailIsCutOffAtEveryByte) {
  std::vector<std::size_t> sizes;          // of the journal after each acknowledged change
  std::vector<std::vector<Lease>> states;  // and what it must hold
  {
    auto store = open();
    const auto note = [&] {
      sizes.push_back(std::filesystem::file_size(dir_ / "leases"));
      states.push_back(store->pool().leases());
    };
    note();
    for (const char* owner : {"a", "b", "c"}) {
      ASSERT_TRUE(store->allocate(owner));
      note();
    }
    ASSERT_TRUE(store->release_owner("b"));
    note();
  }
  const std::string journal = *read_file(dir_ / "leases", 1 << 20);
  for (std::size_t cut = sizes.front(); cut <= journal.size(); cut++) {
    ASSERT_TRUE(write_file_atomic(dir_ / "leases", journal.substr(0, cut)));
    auto store = open();
    ASSERT_TRUE(store) << "cut at " << cut << ": " << store.error().message();
    const auto at = static_cast<std::size_t>(std::upper_bound(sizes.begin(), sizes.end(), cut) -
                                             sizes.begin()) -
                    1;
    ASSERT_EQ(store->pool().leases(), states[at]) << "cut at " << cut;
    ASSERT_TRUE(store->allocate("new"));
  }
}

TEST_F(LeaseStoreTest, DamageInTheMiddleIsRefusedWithItsLine) {
  {
    auto store = open();
    for (const char* owner : {"a", "b", "c"})
      ASSERT_TRUE(store->allocate(owner));
  }
  std::string journal = *read_file(dir_ / "leases", 1 << 20);
  journal[journal.find("\nlease") + 9] ^= 1;
  ASSERT_TRUE(write_file_atomic(dir_ / "leases", journal));
  const auto damaged = open();
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code(), Errc::kCorrupt);
  EXPECT_THAT(damaged.error().message(), testing::HasSubstr("line 2"));
}

// Against a dumb twin: a map of owners, and the rules restated.
TEST_F(LeaseStoreTest, AgreesWithATwinOverRandomHistories) {
  const std::uint64_t seed = 20261123;
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  std::map<std::string, IpAddress> twin;
  std::map<IpAddress, std::pair<std::uint16_t, WallTime>> released;
  auto store = open();
  for (int i = 0; i < 400; i++) {
    clock_.advance(std::chrono::seconds(random.below(10)));
    const std::string owner = fmt::format("pod{}", random.below(20));
    if (random.below(40) == 0) {
      store = fail(Errc::kInternal, "closed");
      store = open();
      ASSERT_TRUE(store) << store.error().message();
    } else if (random.below(2) == 0) {
      const auto lease = store->allocate(owner);
      if (!lease) {
        ASSERT_EQ(lease.error().code(), Errc::kExhausted);
        continue;
      }
      if (twin.contains(owner)) {
        ASSERT_EQ(lease->ip, twin[owner]);
      }
      for (const auto& [other, ip] : twin) {
        if (other != owner) {
          ASSERT_NE(ip, lease->ip);
        }
      }
      if (const auto it = released.find(lease->ip); it != released.end() && !twin.contains(owner)) {
        ASSERT_GE(clock_.wall() - it->second.second, std::chrono::seconds(30));
        ASSERT_NE(lease->generation, it->second.first);
      }
      twin[owner] = lease->ip;
    } else {
      const auto held = store->pool().find_owner(owner);
      ASSERT_EQ(held.has_value(), twin.contains(owner));
      ASSERT_EQ(*store->release_owner(owner), twin.erase(owner) == 1);
      if (held)
        released[held->ip] = {held->generation, clock_.wall()};
    }
  }
}

}  // namespace
}  // namespace shoal::ipam
