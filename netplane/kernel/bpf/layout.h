// SPDX-License-Identifier: Apache-2.0
// What lies where in the keys and values of a BPF map, by their BTF, and how an entry of one layout
// becomes one of another.
//
// A conversion goes by names: a member gets the value of the member of the same name, wherever that
// lies and however wide it is; members that only the new layout has are 0, members that only the
// old one has are dropped. So it needs no list of versions and works both ways. It is right as long
// as a member that keeps its name keeps its meaning (bpf/abi/shoal_abi.h says what to do
// otherwise).
//
// Numbers keep their value when their width or byte order changes (__be16 and the like are in
// network order, all else in this host's); arrays are converted element by element. Unions, bit
// fields and pointers are bytes that must not have changed.
//
// Layouts are compared by what BPF programs see: names, offsets and sizes of members; names of
// types do not count.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <string>
#include <vector>

struct btf;

namespace shoal::kernel {

struct Member;

struct Layout {
  enum class Kind : std::uint8_t { kNumber, kStruct, kArray, kBytes };
  Kind kind = Kind::kBytes;
  std::uint32_t bytes = 0;
  bool is_signed = false;           // kNumber
  bool network_order = false;       // kNumber
  std::vector<Member> members;      // kStruct; kArray: one, that stands for every element
  std::uint32_t element_count = 0;  // kArray
  bool operator==(const Layout&) const;
};

struct Member {
  std::string name;
  std::uint32_t offset = 0;  // in bytes
  Layout layout;
  bool operator==(const Member&) const = default;
};

// kInvalid when the type has no size.
Result<Layout> layout_of(const btf* types, std::uint32_t type_id);

class Conversion {
public:
  // kUnsupported where a member's kind has changed; the error names the member.
  static Result<Conversion> between(const Layout& from, const Layout& to);
  // False when a number or an array does not fit. Writes all of `to`: what has no source is 0.
  [[nodiscard]] bool apply(const std::uint8_t* from, std::uint8_t* to) const;

private:
  struct Step {
    enum class Kind : std::uint8_t { kCopy, kNumber, kMustBeZero };
    Kind kind = Kind::kCopy;
    std::uint32_t from = 0, from_bytes = 0;
    std::uint32_t to = 0, to_bytes = 0;
    bool from_signed = false, from_network_order = false;
    bool to_signed = false, to_network_order = false;
  };

  Result<> add(const Layout& from, std::uint32_t from_at, const Layout& to, std::uint32_t to_at,
               const std::string& name);
  void add(const Step& step);
  static bool convert_number(const Step& step, const std::uint8_t* from, std::uint8_t* to);

  std::vector<Step> steps_;
  std::uint32_t to_bytes_ = 0;
};

}  // namespace shoal::kernel
