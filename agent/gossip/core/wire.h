// SPDX-License-Identifier: Apache-2.0
// Bytes in, bytes out: LEB128 integers, length-prefixed text, addresses. The reader checks every
// length against what is left; after the first failure it yields zeros and ok() stays false, so a
// decoder reads straight through and asks once.
#pragma once

#include "netplane/base/ip.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace shoal::gossip {

class ByteWriter {
public:
  explicit ByteWriter(std::string& out) : out_(out) {}
  void u8(std::uint8_t value) { out_.push_back(static_cast<char>(value)); }
  void u64_fixed(std::uint64_t value);  // big endian
  void varint(std::uint64_t value);
  void text(std::string_view bytes);  // varint length, bytes
  void ip(const IpAddress& address);
  void address(const SocketAddress& address);
  void prefix(const IpPrefix& prefix);

private:
  std::string& out_;
};

class ByteReader {
public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}
  bool ok() const { return ok_; }
  bool at_end() const { return rest_.empty(); }
  std::size_t left() const { return rest_.size(); }
  void fail() {
    ok_ = false;
    rest_ = {};
  }

  std::uint8_t u8();
  std::uint64_t u64_fixed();
  std::uint64_t varint();
  // A count or size that must not exceed max.
  std::uint64_t bounded(std::uint64_t max);
  std::string_view text(std::size_t bytes_max);
  std::string_view raw(std::size_t bytes);
  IpAddress ip();
  SocketAddress address();
  IpPrefix prefix();

private:
  std::string_view rest_;
  bool ok_ = true;
};

std::size_t varint_bytes(std::uint64_t value);

}  // namespace shoal::gossip
