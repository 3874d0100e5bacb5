// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/layout.h"

#include <array>
#include <bpf/btf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::kernel {
namespace {

using Bytes = std::vector<std::uint8_t>;

// Types as the compiler would write them down.
class Types {
public:
  Types() : btf_(btf__new_empty()) {}
  ~Types() { btf__free(btf_); }
  Types(const Types&) = delete;
  Types& operator=(const Types&) = delete;

  int number(const char* name, std::size_t bytes, int encoding = 0) {
    return btf__add_int(btf_, name, bytes, encoding);
  }
  int network(const char* name, std::size_t bytes) {
    return btf__add_typedef(btf_, name, number("number", bytes));
  }
  int array(int element, std::uint32_t count) {
    return btf__add_array(btf_, number("index", 4), element, count);
  }
  struct Field {
    const char* name;
    int type;
    std::uint32_t offset;
    std::uint32_t bits = 0;
  };
  int structure(std::uint32_t bytes, const std::vector<Field>& fields) {
    const int id = btf__add_struct(btf_, "value", bytes);
    for (const Field& field : fields)
      EXPECT_EQ(btf__add_field(btf_, field.name, field.type, field.offset * 8, field.bits), 0);
    return id;
  }
  int onion(std::uint32_t bytes, int type) {
    const int id = btf__add_union(btf_, "either", bytes);
    EXPECT_EQ(btf__add_field(btf_, "one", type, 0, 0), 0);
    return id;
  }
  Layout layout(int id) { return layout_of(btf_, static_cast<std::uint32_t>(id)).value(); }

private:
  btf* btf_;
};

class LayoutTest : public testing::Test {
protected:
  // Empty: it does not fit.
  Bytes convert(int from, int to, const Bytes& bytes) {
    const Layout old_layout = types_.layout(from), new_layout = types_.layout(to);
    EXPECT_EQ(bytes.size(), old_layout.bytes);
    Bytes out(new_layout.bytes, 0xee);
    const auto conversion = Conversion::between(old_layout, new_layout);
    EXPECT_TRUE(conversion) << conversion.error().message();
    return conversion->apply(bytes.data(), out.data()) ? out : Bytes();
  }
  Types types_;
  const int u8_ = types_.number("u8", 1);
  const int u16_ = types_.number("u16", 2);
  const int u32_ = types_.number("u32", 4);
  const int u64_ = types_.number("u64", 8);
  const int s16_ = types_.number("s16", 2, BTF_INT_SIGNED);
  const int s32_ = types_.number("s32", 4, BTF_INT_SIGNED);
  const int be16_ = types_.network("__be16", 2);
  const int be32_ = types_.network("__be32", 4);
};

TEST_F(LayoutTest, MembersGoByTheirNames) {
  const int from = types_.structure(8, {{"a", u32_, 0}, {"gone", u16_, 4}, {"b", u8_, 6}});
  const int to = types_.structure(12, {{"fresh", u32_, 0}, {"b", u8_, 4}, {"a", u32_, 8}});
  EXPECT_EQ(convert(from, to, {1, 2, 3, 4, 5, 6, 7, 8}),
            (Bytes{0, 0, 0, 0, 7, 0, 0, 0, 1, 2, 3, 4}));
  EXPECT_EQ(convert(to, from, {9, 9, 9, 9, 7, 9, 9, 9, 1, 2, 3, 4}),
            (Bytes{1, 2, 3, 4, 0, 0, 7, 0}));
}

TEST_F(LayoutTest, NumbersKeepTheirValueOrAreRefused) {
  const auto one = [&](int type, std::uint32_t bytes) {
    return types_.structure(bytes, {{"n", type, 0}});
  };
  EXPECT_EQ(convert(one(u16_, 2), one(u64_, 8), {0x34, 0x12}),
            (Bytes{0x34, 0x12, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(convert(one(u32_, 4), one(u16_, 2), {0x34, 0x12, 0, 0}), (Bytes{0x34, 0x12}));
  EXPECT_EQ(convert(one(u32_, 4), one(u16_, 2), {0, 0, 1, 0}), Bytes());
  EXPECT_EQ(convert(one(s16_, 2), one(s32_, 4), {0xfe, 0xff}), (Bytes{0xfe, 0xff, 0xff, 0xff}));
  EXPECT_EQ(convert(one(s32_, 4), one(s16_, 2), {0xfe, 0xff, 0xff, 0xff}), (Bytes{0xfe, 0xff}));
  EXPECT_EQ(convert(one(s32_, 4), one(s16_, 2), {0, 0x80, 0, 0}), Bytes());
  EXPECT_EQ(convert(one(s16_, 2), one(u32_, 4), {0xfe, 0xff}), Bytes());
  EXPECT_EQ(convert(one(s16_, 2), one(u32_, 4), {0xfe, 0x7f}), (Bytes{0xfe, 0x7f, 0, 0}));
  EXPECT_EQ(convert(one(u16_, 2), one(s16_, 2), {0xfe, 0xff}), Bytes());
  // In network order the most significant byte stands first, and stays there.
  EXPECT_EQ(convert(one(be16_, 2), one(be32_, 4), {0x12, 0x34}), (Bytes{0, 0, 0x12, 0x34}));
  EXPECT_EQ(convert(one(be32_, 4), one(be16_, 2), {0, 0, 0x12, 0x34}), (Bytes{0x12, 0x34}));
  EXPECT_EQ(convert(one(be32_, 4), one(be16_, 2), {0, 1, 0x12, 0x34}), Bytes());
  EXPECT_EQ(convert(one(be16_, 2), one(u32_, 4), {0x12, 0x34}), (Bytes{0x34, 0x12, 0, 0}));
}

TEST_F(LayoutTest, StructsWithinStructsAndArraysOfThem) {
  const int inner_from = types_.structure(4, {{"x", u16_, 0}, {"y", u16_, 2}});
  const int inner_to = types_.structure(6, {{"y", u32_, 0}, {"x", u16_, 4}});
  const int from = types_.structure(8, {{"list", types_.array(inner_from, 2), 0}});
  const int to = types_.structure(18, {{"list", types_.array(inner_to, 3), 0}});
  EXPECT_EQ(convert(from, to, {1, 0, 2, 0, 3, 0, 4, 0}),
            (Bytes{2, 0, 0, 0, 1, 0, 4, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0}));
  // Back: the third one must be nothing.
  EXPECT_EQ(convert(to, from, {2, 0, 0, 0, 1, 0, 4, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0}),
            (Bytes{1, 0, 2, 0, 3, 0, 4, 0}));
  EXPECT_EQ(convert(to, from, {2, 0, 0, 0, 1, 0, 4, 0, 0, 0, 3, 0, 0, 0, 0, 0, 1, 0}), Bytes());
}

TEST_F(LayoutTest, AnonymousStructsMembersAreTheirParents) {
  const int anonymous = types_.structure(4, {{"x", u16_, 0}, {"y", u16_, 2}});
  const int from = types_.structure(8, {{"a", u32_, 0}, {"", anonymous, 4}});
  const int to = types_.structure(4, {{"y", u16_, 0}, {"x", u16_, 2}});
  EXPECT_EQ(convert(from, to, {9, 9, 9, 9, 1, 0, 2, 0}), (Bytes{2, 0, 1, 0}));
}

TEST_F(LayoutTest, WhatIsNotUnderstoodMustNotHaveChanged) {
  const int either = types_.onion(4, u32_);
  const int from = types_.structure(8, {{"a", u32_, 0}, {"u", either, 4}});
  const int to = types_.structure(8, {{"u", either, 0}, {"a", u32_, 4}});
  EXPECT_EQ(convert(from, to, {1, 2, 3, 4, 5, 6, 7, 8}), (Bytes{5, 6, 7, 8, 1, 2, 3, 4}));
  const int wider = types_.structure(12, {{"a", u32_, 0}, {"u", types_.onion(8, u64_), 4}});
  const auto refused = Conversion::between(types_.layout(from), types_.layout(wider));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kUnsupported);
  EXPECT_EQ(refused.error().message(), "its member u is of another kind");
  // Bit fields make a struct one lump.
  const int bits = types_.structure(4, {{"b", u32_, 0, 3}});
  EXPECT_EQ(types_.layout(bits).kind, Layout::Kind::kBytes);
}

TEST_F(LayoutTest, LayoutsDifferByWhatProgramsSee) {
  const auto two = [&](const char* first, int type, std::uint32_t second_at) {
    return types_.layout(types_.structure(12, {{first, type, 0}, {"b", u32_, second_at}}));
  };
  EXPECT_EQ(two("a", u32_, 4), two("a", types_.number("another name", 4), 4));
  EXPECT_NE(two("a", u32_, 4), two("c", u32_, 4));
  EXPECT_NE(two("a", u32_, 4), two("a", u32_, 8));
  EXPECT_NE(two("a", u32_, 4), two("a", u16_, 4));
  EXPECT_NE(two("a", u32_, 4), two("a", s32_, 4));
  EXPECT_NE(two("a", u32_, 4), two("a", be32_, 4));
}

}  // namespace
}  // namespace shoal::kernel
