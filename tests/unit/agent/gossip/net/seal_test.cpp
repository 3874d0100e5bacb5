// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/net/seal.h"

#include <gtest/gtest.h>
#include <set>

namespace shoal::gossip {
namespace {

Key key(std::uint8_t fill) {
  Key k;
  k.fill(fill);
  return k;
}

KeyRing ring(std::vector<Key> keys) { return *KeyRing::make(std::move(keys)); }

TEST(Seal, OpensWhatAPeerSealed) {
  SeededRandom random(1);
  DatagramSealer a(ring({key(1)}), "c1", random);
  DatagramSealer b(ring({key(1)}), "c1", random);
  for (int i = 0; i < 100; ++i) {
    const std::string plain(static_cast<std::size_t>(i) * 13, 'x');
    const std::string sealed = a.seal(plain);
    EXPECT_EQ(sealed.size(), plain.size() + kSealBytes);
    std::string opened;
    ASSERT_EQ(b.open(sealed, opened), Opened::kOk);
    EXPECT_EQ(opened, plain);
  }
}

TEST(Seal, AnyChangedByteIsNoticed) {
  SeededRandom random(1);
  DatagramSealer a(ring({key(1)}), "c1", random);
  const std::string sealed = a.seal("hello");
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    std::string changed = sealed;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    std::string opened;
    EXPECT_NE(a.open(changed, opened), Opened::kOk) << "byte " << i;
  }
  std::string opened;
  for (std::size_t n = 0; n < sealed.size(); ++n)
    EXPECT_EQ(a.open(std::string_view(sealed).substr(0, n), opened), Opened::kUnauthentic);
}

TEST(Seal, AnotherKeyOrClusterIsToldApartFromForgery) {
  SeededRandom random(1);
  DatagramSealer a(ring({key(1)}), "c1", random);
  std::string opened;
  EXPECT_EQ(DatagramSealer(ring({key(2)}), "c1", random).open(a.seal("x"), opened),
            Opened::kWrongKey);
  EXPECT_EQ(DatagramSealer(ring({key(1)}), "c2", random).open(a.seal("x"), opened),
            Opened::kWrongKey);
}

TEST(Seal, KeysRotate) {
  SeededRandom random(1);
  DatagramSealer before(ring({key(1)}), "c1", random);
  DatagramSealer both(ring({key(1), key(2)}), "c1", random);
  DatagramSealer turned(ring({key(2), key(1)}), "c1", random);
  DatagramSealer after(ring({key(2)}), "c1", random);
  std::string opened;
  EXPECT_EQ(both.open(before.seal("x"), opened), Opened::kOk);
  EXPECT_EQ(before.open(both.seal("x"), opened), Opened::kOk);
  EXPECT_EQ(both.open(turned.seal("x"), opened), Opened::kOk);
  EXPECT_EQ(after.open(turned.seal("x"), opened), Opened::kOk);
  EXPECT_EQ(after.open(before.seal("x"), opened), Opened::kWrongKey);
}

TEST(Seal, SendersNeverShareAKeyStream) {
  SeededRandom random(1);
  std::set<std::string> seen;
  for (int i = 0; i < 50; ++i) {
    DatagramSealer a(ring({key(1)}), "c1", random);
    EXPECT_TRUE(seen.insert(a.seal("same").substr(25)).second);
    EXPECT_TRUE(seen.insert(a.seal("same").substr(25)).second);
  }
}

TEST(Seal, ManySendersStayBounded) {
  SeededRandom random(1);
  DatagramSealer opener(ring({key(1)}), "c1", random);
  std::string opened;
  DatagramSealer first(ring({key(1)}), "c1", random);
  for (std::size_t i = 0; i < kOpenersMax + 10; ++i)
    ASSERT_EQ(opener.open(DatagramSealer(ring({key(1)}), "c1", random).seal("x"), opened),
              Opened::kOk);
  EXPECT_EQ(opener.open(first.seal("y"), opened), Opened::kOk);
}

TEST(Seal, KeyRingsAreChecked) {
  EXPECT_FALSE(KeyRing::make({}));
  EXPECT_FALSE(KeyRing::make({key(1), key(1)}));
  EXPECT_FALSE(KeyRing::make(std::vector<Key>(kKeysMax + 1, key(1))));
  EXPECT_FALSE(KeyRing::parse_key("c2hvcnQ="));
  EXPECT_EQ(KeyRing::parse_key("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n").value(), key(1));
}

}  // namespace
}  // namespace shoal::gossip
