// SPDX-License-Identifier: Apache-2.0
// IP addresses, prefixes and MAC addresses of both families, as values.
//
// Bytes are kept in network order. An IPv4 address is held as its IPv4-mapped IPv6 form (RFC 4291,
// 2.5.5.2), the form that the BPF maps use too, so that one key type serves both families. A
// literal
// "::ffff:a.b.c.d" is therefore refused by parse: it would be an IPv4 address under another name.
// Text follows RFC 5952 for IPv6.
#pragma once

#include "netplane/base/result.h"

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace shoal {

enum class L4Proto : std::uint8_t { kTcp = 6, kUdp = 17 };  // IANA protocol numbers
std::string_view to_string(L4Proto proto);              // "TCP", "UDP", as Kubernetes spells them
Result<L4Proto> parse_l4_proto(std::string_view text);  // SCTP gives kUnsupported

enum class IpFamily : std::uint8_t { kV4, kV6 };
std::string_view to_string(IpFamily family);  // "IPv4", "IPv6", as Kubernetes spells them

class IpAddress {
public:
  using Bytes = std::array<std::uint8_t, 16>;

  constexpr IpAddress() = default;  // "::", the unspecified IPv6 address; is_unspecified()
  static constexpr IpAddress from_bytes(const Bytes& bytes) { return IpAddress(bytes); }
  static IpAddress v4(std::uint32_t host_order);
  static Result<IpAddress> parse(std::string_view text);

  bool is_v4() const;
  bool is_v6() const { return !is_v4(); }
  IpFamily family() const { return is_v4() ? IpFamily::kV4 : IpFamily::kV6; }
  bool is_unspecified() const;  // 0.0.0.0 or ::
  bool is_loopback() const;
  bool is_multicast() const;
  bool is_link_local() const;           // 169.254.0.0/16 or fe80::/10
  std::uint32_t v4_host_order() const;  // asserts is_v4()
  const Bytes& bytes() const { return bytes_; }
  // The address `offset` further on. Asserts that it does not wrap.
  IpAddress plus(std::uint64_t offset) const;
  // Distance from `base` (this - base), saturated at UINT64_MAX; asserts the same family and this
  // >= base.
  std::uint64_t minus(const IpAddress& base) const;
  std::string to_string() const;

  auto operator<=>(const IpAddress&) const = default;

private:
  explicit constexpr IpAddress(const Bytes& bytes) : bytes_(bytes) {}
  Bytes bytes_{};
};

// A CIDR. Host bits are zero: parse refuses "10.0.0.1/8" and says what was probably meant.
class IpPrefix {
public:
  IpPrefix() = default;
  static Result<IpPrefix> make(const IpAddress& address, unsigned length);  // host bits must be 0
  static IpPrefix host(const IpAddress& address);                           // /32 or /128
  static IpPrefix containing(const IpAddress& address, unsigned length);    // host bits cleared
  static Result<IpPrefix> parse(std::string_view text);

  const IpAddress& address() const { return address_; }
  unsigned length() const { return length_; }  // in the address's own family: 0..32 or 0..128
  unsigned length_mapped() const { return address_.is_v4() ? length_ + 96U : length_; }
  bool is_v4() const { return address_.is_v4(); }
  IpFamily family() const { return address_.family(); }
  bool contains(const IpAddress& address) const;
  bool contains(const IpPrefix& other) const;
  bool overlaps(const IpPrefix& other) const { return contains(other) || other.contains(*this); }
  // How many addresses it holds, saturated at UINT64_MAX.
  std::uint64_t size() const;
  // How many prefixes of `length` it holds, and the n-th of them.
  std::uint64_t count_of(unsigned length) const;
  Result<IpPrefix> nth(unsigned length, std::uint64_t n) const;
  std::string to_string() const;

  auto operator<=>(const IpPrefix&) const = default;

private:
  IpAddress address_;
  unsigned length_ = 0;
};

class MacAddress {
public:
  using Bytes = std::array<std::uint8_t, 6>;
  constexpr MacAddress() = default;
  static constexpr MacAddress from_bytes(const Bytes& bytes) {
    MacAddress mac;
    mac.bytes_ = bytes;
    return mac;
  }
  static Result<MacAddress> parse(std::string_view text);
  // A locally administered unicast address derived from a name: the same name gives the same
  // address.
  static MacAddress from_name(std::string_view name);
  const Bytes& bytes() const { return bytes_; }
  std::string to_string() const;
  auto operator<=>(const MacAddress&) const = default;

private:
  Bytes bytes_{};
};

// An address and a port (host byte order). Text: "10.0.0.1:80", "[2001:db8::1]:80".
struct SocketAddress {
  IpAddress ip;
  std::uint16_t port = 0;
  static Result<SocketAddress> parse(std::string_view text);
  std::string to_string() const;
  auto operator<=>(const SocketAddress&) const = default;
};

}  // namespace shoal
