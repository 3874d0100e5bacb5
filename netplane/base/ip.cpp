// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/ip.h"

#include "netplane/base/hash.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <fmt/format.h>
#include <limits>

namespace shoal {
namespace {

constexpr std::array<std::uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// Clears every bit after the first `length_mapped` of the 128.
IpAddress::Bytes masked(const IpAddress::Bytes& bytes, unsigned length_mapped) {
  IpAddress::Bytes out = bytes;
  for (unsigned i = 0; i < 16; i++) {
    const unsigned bits = length_mapped > i * 8 ? std::min(length_mapped - i * 8, 8U) : 0U;
    out[i] = static_cast<std::uint8_t>(out[i] & (0xff00U >> bits));
  }
  return out;
}

}  // namespace

std::string_view to_string(IpFamily family) { return family == IpFamily::kV4 ? "IPv4" : "IPv6"; }

std::string_view to_string(L4Proto proto) { return proto == L4Proto::kTcp ? "TCP" : "UDP"; }

Result<L4Proto> parse_l4_proto(std::string_view text) {
  if (text == "TCP")
    return L4Proto::kTcp;
  if (text == "UDP")
    return L4Proto::kUdp;
  if (text == "SCTP")
    return fail(Errc::kUnsupported, "protocol SCTP is not supported; use TCP or UDP");
  return fail(Errc::kInvalid, fmt::format("protocol \"{}\" is unknown; use TCP or UDP", text));
}

namespace {

// Four decimal numbers up to 255 without leading zeros, as inet_pton has it. Hosts read a hundred
// thousand of these when they start.
std::optional<std::uint32_t> parse_v4(std::string_view text) {
  std::uint32_t address = 0;
  std::size_t at = 0;
  for (int part = 0; part < 4; part++) {
    if (part > 0 && (at >= text.size() || text[at++] != '.'))
      return std::nullopt;
    const std::size_t begin = at;
    std::uint32_t number = 0;
    for (; at < text.size() && at < begin + 3 && text[at] >= '0' && text[at] <= '9'; at++)
      number = number * 10 + static_cast<std::uint32_t>(text[at] - '0');
    if (at == begin || number > 255 || (at > begin + 1 && text[begin] == '0'))
      return std::nullopt;
    address = address << 8 | number;
  }
  return at == text.size() ? std::optional(address) : std::nullopt;
}

}  // namespace

IpAddress IpAddress::v4(std::uint32_t host_order) {
  Bytes bytes{};
  std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin());
  for (unsigned i = 0; i < 4; i++)
    bytes[12 + i] = static_cast<std::uint8_t>(host_order >> (24 - 8 * i));
  return IpAddress(bytes);
}

Result<IpAddress> IpAddress::parse(std::string_view text) {
  if (const auto four = parse_v4(text))
    return v4(*four);
  const std::string copy(text);
  Bytes bytes{};
  if (copy.find('\0') != std::string::npos ||
      ::inet_pton(AF_INET6, copy.c_str(), bytes.data()) != 1)
    return fail(Errc::kInvalid, fmt::format("\"{}\" is not an IP address", printable(text)));
  IpAddress address(bytes);
  if (address.is_v4())
    return fail(Errc::kInvalid, fmt::format("\"{}\" is an IPv4-mapped address; write it as {}",
                                            text, address.to_string()));
  return address;
}

bool IpAddress::is_v4() const {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes_.begin());
}

bool IpAddress::is_unspecified() const {
  return is_v4() ? v4_host_order() == 0 : bytes_ == Bytes{};
}

bool IpAddress::is_loopback() const {
  if (is_v4())
    return bytes_[12] == 127;
  Bytes one{};
  one[15] = 1;
  return bytes_ == one;
}

bool IpAddress::is_multicast() const {
  return is_v4() ? (bytes_[12] & 0xf0) == 0xe0 : bytes_[0] == 0xff;
}

bool IpAddress::is_link_local() const {
  return is_v4() ? bytes_[12] == 169 && bytes_[13] == 254
                 : bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
}

std::uint32_t IpAddress::v4_host_order() const {
  SHOAL_ASSERT(is_v4());
  return (std::uint32_t{bytes_[12]} << 24) | (std::uint32_t{bytes_[13]} << 16) |
         (std::uint32_t{bytes_[14]} << 8) | std::uint32_t{bytes_[15]};
}

IpAddress IpAddress::plus(std::uint64_t offset) const {
  Bytes out = bytes_;
  std::uint64_t carry = offset;
  const unsigned first = is_v4() ? 12 : 0;
  for (unsigned i = 16; i-- > first && carry != 0;) {
    // Adding a byte at a time keeps the carry within 64 bits: it only shrinks.
    const std::uint64_t sum = out[i] + (carry & 0xff);
    out[i] = static_cast<std::uint8_t>(sum);
    carry = (carry >> 8) + (sum >> 8);
  }
  SHOAL_ASSERT(carry == 0);
  return IpAddress(out);
}

std::uint64_t IpAddress::minus(const IpAddress& base) const {
  SHOAL_ASSERT(is_v4() == base.is_v4() && *this >= base);
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  int borrow = 0;
  for (unsigned i = 16; i-- > 0;) {
    int diff = int{bytes_[i]} - int{base.bytes_[i]} - borrow;
    borrow = diff < 0 ? 1 : 0;
    const auto byte = static_cast<std::uint64_t>(diff & 0xff);
    if (i >= 8)
      low |= byte << (8 * (15 - i));
    else
      high |= byte << (8 * (7 - i));
  }
  return high ? std::numeric_limits<std::uint64_t>::max() : low;
}

std::string IpAddress::to_string() const {
  char text[INET6_ADDRSTRLEN];
  if (is_v4())
    ::inet_ntop(AF_INET, bytes_.data() + 12, text, sizeof(text));
  else
    ::inet_ntop(AF_INET6, bytes_.data(), text, sizeof(text));
  return text;
}

IpPrefix IpPrefix::containing(const IpAddress& address, unsigned length) {
  SHOAL_ASSERT(length <= (address.is_v4() ? 32U : 128U));
  IpPrefix prefix;
  prefix.length_ = length;
  prefix.address_ =
      IpAddress::from_bytes(masked(address.bytes(), address.is_v4() ? length + 96 : length));
  return prefix;
}

Result<IpPrefix> IpPrefix::make(const IpAddress& address, unsigned length) {
  if (length > (address.is_v4() ? 32U : 128U))
    return fail(Errc::kInvalid, fmt::format("prefix length /{} is out of range for {}", length,
                                            address.to_string()));
  IpPrefix prefix = containing(address, length);
  if (prefix.address_ != address)
    return fail(Errc::kInvalid, fmt::format("{}/{} has host bits set; did you mean {}?",
                                            address.to_string(), length, prefix.to_string()));
  return prefix;
}

IpPrefix IpPrefix::host(const IpAddress& address) {
  return containing(address, address.is_v4() ? 32 : 128);
}

Result<IpPrefix> IpPrefix::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos)
    return fail(Errc::kInvalid,
                fmt::format("\"{}\" is not a CIDR: the \"/length\" is missing", printable(text)));
  auto address = IpAddress::parse(text.substr(0, slash));
  const auto length = parse_uint(text.substr(slash + 1), 128);
  if (!address || !length)
    return fail(Errc::kInvalid,
                fmt::format("\"{}\" is not a CIDR such as 10.0.0.0/16", printable(text)));
  return make(*address, static_cast<unsigned>(*length));
}

bool IpPrefix::contains(const IpAddress& address) const {
  return address.is_v4() == is_v4() && masked(address.bytes(), length_mapped()) == address_.bytes();
}

bool IpPrefix::contains(const IpPrefix& other) const {
  return other.length_ >= length_ && contains(other.address_);
}

std::uint64_t IpPrefix::size() const {
  const unsigned host_bits = (is_v4() ? 32 : 128) - length_;
  return host_bits >= 64 ? std::numeric_limits<std::uint64_t>::max()
                         : std::uint64_t{1} << host_bits;
}

std::uint64_t IpPrefix::count_of(unsigned length) const {
  if (length < length_ || length > (is_v4() ? 32U : 128U))
    return 0;
  const unsigned bits = length - length_;
  return bits >= 64 ? std::numeric_limits<std::uint64_t>::max() : std::uint64_t{1} << bits;
}

Result<IpPrefix> IpPrefix::nth(unsigned length, std::uint64_t n) const {
  const std::uint64_t count = count_of(length);
  if (n >= count)
    return fail(Errc::kExhausted, fmt::format("{} holds {} prefixes of /{}; number {} is not one",
                                              to_string(), count, length, n));
  // n shifted to its place, byte by byte, since it may not fit 64 bits after the shift.
  IpAddress::Bytes bytes = address_.bytes();
  const unsigned last_bit = is_v4() ? length + 96 : length;
  for (unsigned bit = 0; bit < 64 && (n >> bit) != 0; bit++) {
    if ((n >> bit) & 1U) {
      const unsigned position = last_bit - 1 - bit;
      bytes[position / 8] =
          static_cast<std::uint8_t>(bytes[position / 8] | (0x80U >> (position % 8)));
    }
  }
  return containing(IpAddress::from_bytes(bytes), length);
}

std::string IpPrefix::to_string() const {
  return fmt::format("{}/{}", address_.to_string(), length_);
}

Result<MacAddress> MacAddress::parse(std::string_view text) {
  Bytes bytes{};
  const auto parts = split(text, ':');
  bool good = parts.size() == 6;
  for (std::size_t i = 0; good && i < 6; i++) {
    const auto byte = parse_hex(parts[i]);
    good = parts[i].size() == 2 && byte && byte->size() == 1;
    if (good)
      bytes[i] = static_cast<std::uint8_t>((*byte)[0]);
  }
  if (!good)
    return fail(Errc::kInvalid, fmt::format("\"{}\" is not a MAC address such as 02:00:5e:10:00:01",
                                            printable(text)));
  return from_bytes(bytes);
}

MacAddress MacAddress::from_name(std::string_view name) {
  const std::uint64_t h = hash64(name);
  Bytes bytes{};
  for (unsigned i = 0; i < 6; i++)
    bytes[i] = static_cast<std::uint8_t>(h >> (8 * i));
  bytes[0] = static_cast<std::uint8_t>((bytes[0] & 0xfcU) | 0x02U);
  return from_bytes(bytes);
}

std::string MacAddress::to_string() const {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", bytes_[0], bytes_[1], bytes_[2],
                     bytes_[3], bytes_[4], bytes_[5]);
}

Result<SocketAddress> SocketAddress::parse(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  std::string_view host = colon == std::string_view::npos ? text : text.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed)
    host = host.substr(1, host.size() - 2);
  const auto port =
      colon == std::string_view::npos ? std::nullopt : parse_uint(text.substr(colon + 1), 65535);
  auto ip = IpAddress::parse(host);
  if (!port || !ip || (ip->is_v6() && !bracketed))
    return fail(Errc::kInvalid,
                fmt::format("\"{}\" is not ADDRESS:PORT, such as 10.0.0.1:80 or [2001:db8::1]:80",
                            printable(text)));
  return SocketAddress{*ip, static_cast<std::uint16_t>(*port)};
}

std::string SocketAddress::to_string() const {
  return ip.is_v4() ? fmt::format("{}:{}", ip.to_string(), port)
                    : fmt::format("[{}]:{}", ip.to_string(), port);
}

}  // namespace shoal
