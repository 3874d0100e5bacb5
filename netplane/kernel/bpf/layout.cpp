// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/layout.h"

#include <algorithm>
#include <bit>
#include <bpf/btf.h>
#include <cstring>
#include <fmt/format.h>
#include <string_view>

namespace shoal::kernel {
namespace {

constexpr int kDepthMax = 16;  // of structs within structs; ours have three

Result<Layout> read_type(const btf* types, std::uint32_t id, int depth);

Layout opaque(std::uint32_t bytes) {
  Layout out;
  out.bytes = bytes;
  return out;
}

// An anonymous struct's members are its parent's.
Result<> read_members(const btf* types, const btf_type* type, std::uint32_t base, int depth,
                      std::vector<Member>& out) {
  const btf_member* members = btf_members(type);
  for (std::uint32_t at = 0; at < btf_vlen(type); ++at) {
    const std::string name = btf__name_by_offset(types, members[at].name_off);
    const std::uint32_t offset = base + btf_member_bit_offset(type, at) / 8;
    Layout layout = SHOAL_TRY_WRAP(read_type(types, members[at].type, depth), name);
    if (name.empty() && layout.kind == Layout::Kind::kStruct)
      for (Member& inner : layout.members)
        out.push_back({inner.name, offset + inner.offset, std::move(inner.layout)});
    else
      out.push_back({name, offset, std::move(layout)});
  }
  return {};
}

bool has_bit_fields(const btf_type* type) {
  for (std::uint32_t at = 0; at < btf_vlen(type); ++at)
    if (btf_member_bitfield_size(type, at) != 0 || btf_member_bit_offset(type, at) % 8 != 0)
      return true;
  return false;
}

// Through typedefs and qualifiers, which may say that a number is in network order.
Result<Layout> read_named(const btf* types, const btf_type* type, int depth) {
  Layout out = SHOAL_TRY(read_type(types, type->type, depth));
  const std::string_view name = btf__name_by_offset(types, type->name_off);
  if (out.kind == Layout::Kind::kNumber && btf_is_typedef(type) &&
      (name == "__be16" || name == "__be32" || name == "__be64"))
    out.network_order = true;
  return out;
}

Result<Layout> read_type(const btf* types, std::uint32_t id, int depth) {
  const btf_type* type = btf__type_by_id(types, id);
  if (type == nullptr || depth > kDepthMax)
    return fail(Errc::kInvalid, fmt::format("BTF type {} cannot be read", id));
  if (btf_is_typedef(type) || btf_is_mod(type))
    return read_named(types, type, depth + 1);
  const auto size = btf__resolve_size(types, id);
  if (size < 0)
    return fail(Errc::kInvalid, fmt::format("BTF type {} has no size", id));
  Layout out = opaque(static_cast<std::uint32_t>(size));
  if (btf_is_int(type) || btf_is_any_enum(type)) {
    out.kind = Layout::Kind::kNumber;
    out.is_signed = btf_is_int(type) && (btf_int_encoding(type) & BTF_INT_SIGNED) != 0;
    if (!std::has_single_bit(out.bytes) || out.bytes > 8)
      return opaque(out.bytes);
  } else if (btf_is_array(type)) {
    out.kind = Layout::Kind::kArray;
    out.element_count = btf_array(type)->nelems;
    out.members.push_back({"", 0, SHOAL_TRY(read_type(types, btf_array(type)->type, depth + 1))});
  } else if (btf_is_struct(type) && !has_bit_fields(type)) {
    out.kind = Layout::Kind::kStruct;
    SHOAL_TRY(read_members(types, type, 0, depth + 1, out.members));
  }
  return out;
}

std::uint64_t load_number(const std::uint8_t* at, std::uint32_t bytes, bool network_order) {
  std::uint64_t out = 0;
  const bool most_significant_first = network_order || std::endian::native == std::endian::big;
  for (std::uint32_t i = 0; i < bytes; ++i)
    out = out << 8 | at[most_significant_first ? i : bytes - 1 - i];
  return out;
}

void store_number(std::uint64_t value, std::uint8_t* at, std::uint32_t bytes, bool network_order) {
  const bool most_significant_first = network_order || std::endian::native == std::endian::big;
  for (std::uint32_t i = 0; i < bytes; ++i, value >>= 8)
    at[most_significant_first ? bytes - 1 - i : i] = static_cast<std::uint8_t>(value);
}

}  // namespace

bool Layout::operator==(const Layout&) const = default;

Result<Layout> layout_of(const btf* types, std::uint32_t type_id) {
  return read_type(types, type_id, 0);
}

Result<Conversion> Conversion::between(const Layout& from, const Layout& to) {
  Conversion out;
  out.to_bytes_ = to.bytes;
  SHOAL_TRY(out.add(from, 0, to, 0, ""));
  return out;
}

Result<> Conversion::add(const Layout& from, std::uint32_t from_at, const Layout& to,
                         std::uint32_t to_at, const std::string& name) {
  using Kind = Layout::Kind;
  if (from.kind != to.kind || (from.kind == Kind::kBytes && from.bytes != to.bytes))
    return fail(Errc::kUnsupported, name.empty() ? "it is of another kind"
                                                 : "its member " + name + " is of another kind");
  if (from.kind == Kind::kBytes || (from.kind == Kind::kNumber && from == to)) {
    add({Step::Kind::kCopy, from_at, from.bytes, to_at, to.bytes});
  } else if (from.kind == Kind::kNumber) {
    add({Step::Kind::kNumber, from_at, from.bytes, to_at, to.bytes, from.is_signed,
         from.network_order, to.is_signed, to.network_order});
  } else if (from.kind == Kind::kStruct) {
    for (const Member& member : to.members) {
      const auto source = std::ranges::find(from.members, member.name, &Member::name);
      if (source != from.members.end())
        SHOAL_TRY(add(source->layout, from_at + source->offset, member.layout,
                      to_at + member.offset,
                      name.empty() ? member.name : name + "." + member.name));
    }
  } else {
    const Layout& old_element = from.members.front().layout;
    const Layout& new_element = to.members.front().layout;
    for (std::uint32_t i = 0; i < std::min(from.element_count, to.element_count); ++i)
      SHOAL_TRY(add(old_element, from_at + i * old_element.bytes, new_element,
                    to_at + i * new_element.bytes, fmt::format("{}[{}]", name, i)));
    for (std::uint32_t i = to.element_count; i < from.element_count; ++i)
      add({Step::Kind::kMustBeZero, from_at + i * old_element.bytes, old_element.bytes});
  }
  return {};
}

// What is copied side by side is copied at once.
void Conversion::add(const Step& step) {
  if (step.kind == Step::Kind::kCopy && !steps_.empty()) {
    Step& last = steps_.back();
    if (last.kind == step.kind && last.from + last.from_bytes == step.from &&
        last.to + last.to_bytes == step.to) {
      last.from_bytes += step.from_bytes;
      last.to_bytes += step.to_bytes;
      return;
    }
  }
  steps_.push_back(step);
}

bool Conversion::convert_number(const Step& step, const std::uint8_t* from, std::uint8_t* to) {
  std::uint64_t value = load_number(from + step.from, step.from_bytes, step.from_network_order);
  const unsigned from_bits = 8 * step.from_bytes, to_bits = 8 * step.to_bytes;
  const bool negative = step.from_signed && (value >> (from_bits - 1) & 1) != 0;
  if (negative && from_bits < 64)
    value |= ~std::uint64_t{0} << from_bits;
  const unsigned value_bits = step.to_signed ? to_bits - 1 : to_bits;
  const std::uint64_t rest = value_bits < 64 ? value >> value_bits : 0;
  const std::uint64_t all_ones = value_bits < 64 ? ~std::uint64_t{0} >> value_bits : 0;
  if (negative ? !step.to_signed || rest != all_ones : rest != 0)
    return false;
  store_number(value, to + step.to, step.to_bytes, step.to_network_order);
  return true;
}

bool Conversion::apply(const std::uint8_t* from, std::uint8_t* to) const {
  std::memset(to, 0, to_bytes_);
  for (const Step& step : steps_) {
    if (step.kind == Step::Kind::kCopy) {
      std::memcpy(to + step.to, from + step.from, step.to_bytes);
    } else if (step.kind == Step::Kind::kNumber) {
      if (!convert_number(step, from, to))
        return false;
    } else if (std::any_of(from + step.from, from + step.from + step.from_bytes,
                           [](std::uint8_t byte) { return byte != 0; })) {
      return false;
    }
  }
  return true;
}

}  // namespace shoal::kernel
