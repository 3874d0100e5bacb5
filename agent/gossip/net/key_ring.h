// SPDX-License-Identifier: Apache-2.0
// KeyRing: the cluster's gossip keys. The first is the primary and seals; all of them open.
//
// A packet names its key by four bytes derived from key and cluster id, so that a wrong key is told
// apart from a packet that was changed on the way.
#pragma once

#include "netplane/base/result.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::gossip {

inline constexpr std::size_t kKeyBytes = 32;
inline constexpr std::size_t kKeysMax = 8;

using Key = std::array<std::uint8_t, kKeyBytes>;

class KeyRing {
public:
  KeyRing() = default;
  // 1 to kKeysMax keys, all different, the primary first.
  static Result<KeyRing> make(std::vector<Key> keys);
  // Text: base64 of 32 bytes, as `shoal init` prints it.
  static Result<Key> parse_key(std::string_view base64_text);

  const std::vector<Key>& keys() const { return keys_; }
  bool empty() const { return keys_.empty(); }

private:
  std::vector<Key> keys_;
};

}  // namespace shoal::gossip
