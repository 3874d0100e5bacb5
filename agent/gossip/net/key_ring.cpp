// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/net/key_ring.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

namespace shoal::gossip {

Result<KeyRing> KeyRing::make(std::vector<Key> keys) {
  if (keys.empty() || keys.size() > kKeysMax)
    return fail(Errc::kInvalid, fmt::format("gossip key ring: {} keys given, 1 to {} are allowed",
                                            keys.size(), kKeysMax));
  for (auto it = keys.begin(); it != keys.end(); ++it)
    if (std::find(it + 1, keys.end(), *it) != keys.end())
      return fail(Errc::kInvalid, "gossip key ring: the same key twice");
  KeyRing ring;
  ring.keys_ = std::move(keys);
  return ring;
}

Result<Key> KeyRing::parse_key(std::string_view text) {
  const auto bytes = parse_base64(trim(text));
  if (!bytes || bytes->size() != kKeyBytes)
    return fail(Errc::kInvalid,
                fmt::format("gossip key: base64 of {} bytes is needed, as `shoal init` makes it "
                            "(`head -c {} /dev/urandom | base64`)",
                            kKeyBytes, kKeyBytes));
  Key key{};
  std::memcpy(key.data(), bytes->data(), key.size());
  return key;
}

}  // namespace shoal::gossip
