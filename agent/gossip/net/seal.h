// SPDX-License-Identifier: Apache-2.0
// Sealing: ChaCha20-Poly1305 (RFC 8439) under keys derived by HKDF-SHA256 (RFC 5869).
//
// A sender draws a salt of 96 bits at its start (and with each new key ring) and derives a sending
// key of its own from the cluster's key, the salt and the cluster id. Its nonces are a plain
// counter: no two packets of a cluster ever share key and nonce, however many hosts there are and
// however long it runs, which random nonces under one common key could not promise.
//
// A datagram is  version (1) | key id (4) | salt (12) | counter (8) | ciphertext | tag (16), the
// first 25 bytes being associated data. The cluster id is in the derived key: a packet of another
// cluster does not open. A replayed packet does: incarnations and versions make it harmless, as UDP
// may double it anyway.
#pragma once

#include "agent/gossip/net/key_ring.h"
#include "netplane/base/random.h"

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shoal::gossip {

inline constexpr std::size_t kSaltBytes = 12;
inline constexpr std::size_t kKeyIdBytes = 4;
inline constexpr std::size_t kTagBytes = 16;
inline constexpr std::size_t kSealBytes = 1 + kKeyIdBytes + kSaltBytes + 8 + kTagBytes;
inline constexpr std::size_t kOpenersMax = 2048;  // senders' keys kept at hand

using Salt = std::array<std::uint8_t, kSaltBytes>;
using KeyId = std::array<std::uint8_t, kKeyIdBytes>;

// One key; nonces are 96 bits with the counter in the last 64.
class Aead {
public:
  explicit Aead(const Key& key);
  void seal(std::uint64_t counter, std::string_view aad, std::string_view plain, std::string& out);
  std::optional<std::string> open(std::uint64_t counter, std::string_view aad,
                                  std::string_view sealed);

private:
  struct Free {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, Free> context_;
  Key key_;
};

// What the ring's keys become for one cluster and one use ("datagram", "stream").
class KeySchedule {
public:
  KeySchedule() = default;
  KeySchedule(const KeyRing& ring, std::string_view cluster_id, std::string_view use);
  const KeyId& primary() const { return keys_.front().first; }
  // Nothing when this host does not hold the key.
  std::optional<Key> derive(const KeyId& id, const Salt& salt) const;

private:
  std::vector<std::pair<KeyId, Key>> keys_;
  std::string info_;
};

enum class Opened : std::uint8_t { kOk, kWrongKey, kUnauthentic };

class DatagramSealer {
public:
  DatagramSealer(const KeyRing& ring, std::string_view cluster_id, Random& random);
  std::string seal(std::string_view plain);
  Opened open(std::string_view sealed, std::string& plain);

private:
  using SenderId = std::pair<KeyId, Salt>;
  struct Opener {
    std::unique_ptr<Aead> aead;
    std::list<SenderId>::iterator place;
  };

  KeySchedule schedule_;
  std::string header_;  // of what we seal, without the counter
  std::unique_ptr<Aead> sealer_;
  std::uint64_t counter_ = 0;
  std::map<SenderId, Opener> openers_;
  std::list<SenderId> recent_;  // of openers_, the latest first
};

void put_u64(std::string& out, std::uint64_t value);  // big endian
std::uint64_t get_u64(std::string_view bytes);

}  // namespace shoal::gossip
