// SPDX-License-Identifier: Apache-2.0
#include "netplane/ipam/lease_pool.h"

#include "netplane/base/random.h"

#include <cstdlib>
#include <deque>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

namespace shoal::ipam {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

constexpr WallTime kStart{std::chrono::seconds(1'770'000'000)};

LeasePool pool_of(const char* cidr, PoolOptions options = {}) {
  return std::move(*LeasePool::make(*IpPrefix::parse(cidr), std::move(options)));
}

std::string next_ip(LeasePool& pool, std::string_view owner, WallTime now = kStart) {
  const auto lease = pool.allocate(owner, "boot-1", now);
  return lease ? lease->ip.to_string() : lease.error().message();
}

TEST(LeasePool, LeavesOutTheFirstTheLastAndTheReserved) {
  LeasePool pool =
      pool_of("10.244.1.0/29",
              {.reserved = {*IpAddress::parse("10.244.1.1"), *IpAddress::parse("192.0.2.1")}});
  EXPECT_EQ(pool.usage(kStart).total, 5U);
  for (const char* wanted : {"10.244.1.2", "10.244.1.3", "10.244.1.4", "10.244.1.5", "10.244.1.6"})
    EXPECT_EQ(next_ip(pool, wanted), wanted);
}

// The upper 96 bits of a pod's address are the CIDR's.
TEST(LeasePool, OfAnIpv6CidrTheFirstAddressesArePool) {
  LeasePool pool = pool_of("fd10:244:0:7::/64");
  EXPECT_EQ(pool.usage(kStart).total, kPoolAddressesV6 - 2);
  EXPECT_EQ(next_ip(pool, "a"), "fd10:244:0:7::1");
  EXPECT_EQ(next_ip(pool, "b"), "fd10:244:0:7::2");
  EXPECT_TRUE(pool.find_ip(*IpAddress::parse("fd10:244:0:7::2")));
  for (const char* far : {"fd10:244:0:7::1000", "fd10:244:0:7:1::1", "fd10:244:0:8::1"}) {
    EXPECT_FALSE(pool.find_ip(*IpAddress::parse(far))) << far;
    EXPECT_EQ(pool.release(*IpAddress::parse(far), kStart).error().code(), Errc::kNotFound) << far;
    EXPECT_EQ(pool.restore(*IpAddress::parse(far), {.generation = 1}, kStart).error().code(),
              Errc::kCorrupt)
        << far;
  }
  EXPECT_EQ(pool_of("fd10:244::ff00/120").usage(kStart).total, 254U);
}

TEST(LeasePool, ExhaustionSaysHowManyAndWhatToDo) {
  LeasePool pool = pool_of("10.244.1.0/30");
  EXPECT_EQ(next_ip(pool, "a"), "10.244.1.1");
  EXPECT_EQ(next_ip(pool, "b"), "10.244.1.2");
  ASSERT_TRUE(pool.release(*IpAddress::parse("10.244.1.2"), kStart));
  const auto none = pool.allocate("c", "boot-1", kStart);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), Errc::kExhausted);
  EXPECT_THAT(none.error().message(),
              testing::AllOf(testing::HasSubstr("10.244.1.0/30"), testing::HasSubstr("1 of 2"),
                             testing::HasSubstr("1 were given back less than 30 s ago"),
                             testing::HasSubstr("larger pod CIDR")));
}

TEST(LeasePool, AnAddressIsReusedLateAndWithANewGeneration) {
  LeasePool pool = pool_of("10.244.1.0/29");
  EXPECT_EQ(next_ip(pool, "a"), "10.244.1.1");
  ASSERT_TRUE(pool.release(*IpAddress::parse("10.244.1.1"), kStart));
  const WallTime later = kStart + hours(1);  // out of quarantine, and still not the next
  EXPECT_EQ(next_ip(pool, "b", later), "10.244.1.2");
  for (const char* owner : {"c", "d", "e", "f"})
    next_ip(pool, owner, later);
  const auto again = pool.allocate("g", "boot-1", later);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->ip.to_string(), "10.244.1.1");
  EXPECT_EQ(again->generation, 2);
}

TEST(LeasePool, QuarantineHoldsAnAddressBackAndEndsAlsoWhenTheClockWasSetBack) {
  LeasePool pool = pool_of("10.244.1.0/30", {.quarantine = seconds(10)});
  next_ip(pool, "a");
  next_ip(pool, "b");
  ASSERT_TRUE(pool.release(*IpAddress::parse("10.244.1.1"), kStart));
  EXPECT_FALSE(pool.allocate("c", "boot-1", kStart + seconds(9)));
  EXPECT_TRUE(pool.allocate("c", "boot-1", kStart + seconds(10)));
  LeasePool restored = pool_of("10.244.1.0/30", {.quarantine = seconds(10)});
  ASSERT_TRUE(restored.restore(*IpAddress::parse("10.244.1.1"),
                               {.generation = 4, .released_at = kStart + hours(24)}, kStart));
  EXPECT_EQ(restored.usage(kStart).quarantined, 1U);
  EXPECT_EQ(restored.usage(kStart + seconds(10)).quarantined, 0U);
}

TEST(LeasePool, OneLeaseAnOwnerAndItComesOverAReboot) {
  LeasePool pool = pool_of("10.244.1.0/24");
  const auto first = pool.allocate("uid-1", "boot-1", kStart);
  const auto second = pool.allocate("uid-1", "boot-2", kStart);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(second->ip, first->ip);
  EXPECT_EQ(second->generation, first->generation);
  EXPECT_EQ(second->boot_id, "boot-2");
  EXPECT_EQ(pool.leases().size(), 1U);
}

TEST(LeasePool, TheGenerationIsNeverZero) {
  LeasePool pool = pool_of("10.244.1.0/30");
  ASSERT_TRUE(pool.restore(*IpAddress::parse("10.244.1.1"), {.generation = UINT16_MAX}, kStart));
  EXPECT_EQ(pool.allocate("a", "boot-1", kStart)->generation, 1);
}

TEST(LeasePool, WhatIsWrongIsRefused) {
  EXPECT_EQ(LeasePool::make(*IpPrefix::parse("10.0.0.0/31")).error().code(), Errc::kInvalid);
  EXPECT_EQ(LeasePool::make(*IpPrefix::parse("10.0.0.0/8")).error().code(), Errc::kInvalid);
  EXPECT_EQ(LeasePool::make(*IpPrefix::parse("2001:db8::/127")).error().code(), Errc::kInvalid);
  LeasePool pool = pool_of("10.244.1.0/24");
  EXPECT_EQ(pool.allocate("", "b", kStart).error().code(), Errc::kInvalid);
  EXPECT_EQ(pool.allocate("two words", "b", kStart).error().code(), Errc::kInvalid);
  EXPECT_EQ(pool.release(*IpAddress::parse("10.244.1.9"), kStart).error().code(), Errc::kNotFound);
  EXPECT_EQ(pool.release(*IpAddress::parse("10.9.9.9"), kStart).error().code(), Errc::kNotFound);
  ASSERT_TRUE(pool.allocate("a", "b", kStart));
  EXPECT_EQ(pool.restore(*IpAddress::parse("10.244.1.9"),
                         {.generation = 1, .leased = true, .owner = "a", .boot_id = "b"}, kStart)
                .error()
                .code(),
            Errc::kCorrupt);
}

// The dumb twin: a queue of free addresses in the order in which they are due, walked from the
// front.
class Twin {
public:
  Twin(IpPrefix cidr, Duration quarantine) : quarantine_(quarantine) {
    for (std::uint64_t i = 1; i + 1 < cidr.size(); ++i)
      ring_.push_back(cidr.address().plus(i));
  }
  std::optional<Lease> allocate(const std::string& owner, WallTime now) {
    for (const auto& [ip, lease] : leases_)
      if (lease.owner == owner)
        return lease;
    for (std::size_t i = 0; i < ring_.size(); ++i) {
      const IpAddress ip = ring_[i];
      if (leases_.contains(ip) || (released_.contains(ip) && now - released_[ip] < quarantine_))
        continue;
      std::rotate(ring_.begin(), ring_.begin() + static_cast<std::ptrdiff_t>(i) + 1, ring_.end());
      return leases_[ip] = Lease{ip, static_cast<std::uint16_t>(++generations_[ip]), owner, "boot"};
    }
    return std::nullopt;
  }
  bool release(const IpAddress& ip, WallTime now) {
    if (leases_.erase(ip) == 0)
      return false;
    released_[ip] = now;
    return true;
  }
  std::vector<Lease> leases() const {
    std::vector<Lease> result;
    for (const auto& [ip, lease] : leases_)
      result.push_back(lease);
    return result;
  }

private:
  Duration quarantine_;
  std::deque<IpAddress> ring_;
  std::map<IpAddress, Lease> leases_;
  std::map<IpAddress, WallTime> released_;
  std::map<IpAddress, unsigned> generations_;
};

TEST(LeasePool, AgreesWithItsDumbTwinWhateverHappens) {
  const char* wanted = std::getenv("SHOAL_TEST_SEED");
  SystemRandom entropy;
  const std::uint64_t seed = wanted ? std::strtoull(wanted, nullptr, 10) : entropy.next();
  SCOPED_TRACE(fmt::format("replay: SHOAL_TEST_SEED={}", seed));
  SeededRandom random(seed);
  const IpPrefix cidr = *IpPrefix::parse("10.244.1.0/27");
  LeasePool pool = pool_of("10.244.1.0/27", {.quarantine = seconds(5)});
  Twin twin(cidr, seconds(5));
  WallTime now = kStart;
  for (int step = 0; step < 20'000; ++step) {
    now += std::chrono::milliseconds(random.below(500));
    if (random.below(5) < 3) {
      const std::string owner = fmt::format("uid-{}", random.below(60));
      const auto ours = pool.allocate(owner, "boot", now);
      const auto theirs = twin.allocate(owner, now);
      ASSERT_EQ(ours.has_value(), theirs.has_value()) << "step " << step;
      if (ours) {
        ASSERT_EQ(*ours, *theirs) << "step " << step;
      }
    } else {
      const IpAddress ip = cidr.address().plus(random.below(cidr.size()));
      ASSERT_EQ(pool.release(ip, now).has_value(), twin.release(ip, now)) << "step " << step;
    }
    if (step % 100 == 0) {
      ASSERT_EQ(pool.leases(), twin.leases()) << "step " << step;
      const PoolUsage usage = pool.usage(now);
      ASSERT_EQ(usage.leased + usage.quarantined + usage.free, usage.total);
    }
  }
}

}  // namespace
}  // namespace shoal::ipam
