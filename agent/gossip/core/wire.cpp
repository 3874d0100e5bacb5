// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/wire.h"

#include <algorithm>

namespace shoal::gossip {
namespace {
constexpr std::uint8_t kFamily4 = 4;
constexpr std::uint8_t kFamily6 = 6;
constexpr std::size_t kMappedPrefixBytes = 12;
}  // namespace

void ByteWriter::u64_fixed(std::uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8)
    u8(static_cast<std::uint8_t>(value >> shift));
}

void ByteWriter::varint(std::uint64_t value) {
  while (value >= 0x80) {
    u8(static_cast<std::uint8_t>(value | 0x80));
    value >>= 7;
  }
  u8(static_cast<std::uint8_t>(value));
}

void ByteWriter::text(std::string_view bytes) {
  varint(bytes.size());
  out_.append(bytes);
}

void ByteWriter::ip(const IpAddress& address) {
  const auto& bytes = address.bytes();
  const std::size_t skip = address.is_v4() ? kMappedPrefixBytes : 0;
  u8(address.is_v4() ? kFamily4 : kFamily6);
  out_.append(reinterpret_cast<const char*>(bytes.data()) + skip, bytes.size() - skip);
}

void ByteWriter::address(const SocketAddress& address) {
  ip(address.ip);
  u8(static_cast<std::uint8_t>(address.port >> 8));
  u8(static_cast<std::uint8_t>(address.port));
}

void ByteWriter::prefix(const IpPrefix& prefix) {
  ip(prefix.address());
  u8(static_cast<std::uint8_t>(prefix.length()));
}

std::uint8_t ByteReader::u8() {
  if (rest_.empty()) {
    fail();
    return 0;
  }
  const auto value = static_cast<std::uint8_t>(rest_.front());
  rest_.remove_prefix(1);
  return value;
}

std::uint64_t ByteReader::u64_fixed() {
  std::uint64_t value = 0;
  for (int i = 0; i < 8; ++i)
    value = value << 8 | u8();
  return ok_ ? value : 0;
}

std::uint64_t ByteReader::varint() {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    const std::uint8_t byte = u8();
    const std::uint64_t bits = byte & 0x7fU;
    if (shift == 63 && bits > 1)
      break;  // more than 64 bits
    value |= bits << shift;
    if ((byte & 0x80U) == 0) {
      if (byte == 0 && shift != 0)
        break;  // one value, one encoding
      return ok_ ? value : 0;
    }
  }
  fail();
  return 0;
}

std::uint64_t ByteReader::bounded(std::uint64_t max) {
  const std::uint64_t value = varint();
  if (value <= max)
    return value;
  fail();
  return 0;
}

std::string_view ByteReader::text(std::size_t bytes_max) {
  return raw(static_cast<std::size_t>(bounded(bytes_max)));
}

std::string_view ByteReader::raw(std::size_t bytes) {
  if (!ok_ || bytes > rest_.size()) {
    fail();
    return {};
  }
  const std::string_view out = rest_.substr(0, bytes);
  rest_.remove_prefix(bytes);
  return out;
}

IpAddress ByteReader::ip() {
  IpAddress::Bytes bytes{};
  const std::uint8_t family = u8();
  if (family != kFamily4 && family != kFamily6) {
    fail();
    return {};
  }
  const std::size_t skip = family == kFamily4 ? kMappedPrefixBytes : 0;
  if (skip != 0)
    bytes[10] = bytes[11] = 0xff;
  const std::string_view text = raw(bytes.size() - skip);
  std::copy(text.begin(), text.end(), bytes.begin() + static_cast<std::ptrdiff_t>(skip));
  const IpAddress address = IpAddress::from_bytes(bytes);
  if (address.is_v4() != (family == kFamily4))
    fail();  // an IPv4 address under another name
  return ok_ ? address : IpAddress();
}

SocketAddress ByteReader::address() {
  SocketAddress out;
  out.ip = ip();
  const std::uint8_t high = u8();
  out.port = static_cast<std::uint16_t>(high << 8 | u8());
  return ok_ ? out : SocketAddress();
}

IpPrefix ByteReader::prefix() {
  const IpAddress address = ip();
  const std::uint8_t length = u8();
  if (!ok_)
    return {};
  auto made = IpPrefix::make(address, length);
  if (made)
    return *made;
  fail();
  return {};
}

std::size_t varint_bytes(std::uint64_t value) {
  std::size_t bytes = 1;
  while (value >= 0x80) {
    value >>= 7;
    ++bytes;
  }
  return bytes;
}

}  // namespace shoal::gossip
