// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/net/seal.h"

#include <algorithm>
#include <cstring>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

namespace shoal::gossip {
namespace {

constexpr std::uint8_t kSealVersion = 1;
constexpr std::size_t kHeaderBytes = kSealBytes - kTagBytes;
constexpr std::size_t kNonceBytes = 12;

const std::uint8_t* data(std::string_view text) {
  return reinterpret_cast<const std::uint8_t*>(text.data());
}

// OpenSSL fails here only without memory or without its default provider.
Key hkdf(const Key& key, std::string_view salt, std::string_view info) {
  struct FreeKdf {
    void operator()(EVP_KDF* kdf) const { EVP_KDF_free(kdf); }
    void operator()(EVP_KDF_CTX* context) const { EVP_KDF_CTX_free(context); }
  };
  static const std::unique_ptr<EVP_KDF, FreeKdf> kdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  SHOAL_ASSERT(kdf);
  const std::unique_ptr<EVP_KDF_CTX, FreeKdf> context(EVP_KDF_CTX_new(kdf.get()));
  char digest[] = "SHA256";
  Key ikm = key;
  std::string salt_copy(salt);
  std::string info_copy(info);
  const OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, ikm.data(), ikm.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt_copy.data(), salt_copy.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info_copy.data(), info_copy.size()),
      OSSL_PARAM_construct_end()};
  Key out{};
  SHOAL_ASSERT(context && EVP_KDF_derive(context.get(), out.data(), out.size(), params) == 1);
  return out;
}

std::array<std::uint8_t, kNonceBytes> nonce(std::uint64_t counter) {
  std::array<std::uint8_t, kNonceBytes> out{};
  for (std::size_t i = 0; i < 8; ++i)
    out[kNonceBytes - 1 - i] = static_cast<std::uint8_t>(counter >> (8 * i));
  return out;
}

template <std::size_t N>
std::string_view view(const std::array<std::uint8_t, N>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), N};
}

template <std::size_t N>
std::array<std::uint8_t, N> take(std::string_view bytes) {
  std::array<std::uint8_t, N> out{};
  std::memcpy(out.data(), bytes.data(), N);
  return out;
}

}  // namespace

void put_u64(std::string& out, std::uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(value >> shift));
}

std::uint64_t get_u64(std::string_view bytes) {
  SHOAL_ASSERT(bytes.size() >= 8);
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i)
    value = value << 8 | static_cast<std::uint8_t>(bytes[i]);
  return value;
}

// ---------------------------------------------------------------------------- one key

void Aead::Free::operator()(void* context) const {
  EVP_CIPHER_CTX_free(static_cast<EVP_CIPHER_CTX*>(context));
}

Aead::Aead(const Key& key) : context_(EVP_CIPHER_CTX_new()), key_(key) { SHOAL_ASSERT(context_); }

void Aead::seal(std::uint64_t counter, std::string_view aad, std::string_view plain,
                std::string& out) {
  auto* c = static_cast<EVP_CIPHER_CTX*>(context_.get());
  const std::size_t begin = out.size();
  out.resize(begin + plain.size() + kTagBytes);
  auto* to = reinterpret_cast<std::uint8_t*>(out.data()) + begin;
  int n = 0;
  const bool ok = EVP_EncryptInit_ex(c, EVP_chacha20_poly1305(), nullptr, key_.data(),
                                     nonce(counter).data()) == 1 &&
                  EVP_EncryptUpdate(c, nullptr, &n, data(aad), static_cast<int>(aad.size())) == 1 &&
                  EVP_EncryptUpdate(c, to, &n, data(plain), static_cast<int>(plain.size())) == 1 &&
                  EVP_EncryptFinal_ex(c, to + n, &n) == 1 &&
                  EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, static_cast<int>(kTagBytes),
                                      to + plain.size()) == 1;
  SHOAL_ASSERT(ok);  // no input of ours can make it fail
}

std::optional<std::string> Aead::open(std::uint64_t counter, std::string_view aad,
                                      std::string_view sealed) {
  if (sealed.size() < kTagBytes)
    return std::nullopt;
  auto* c = static_cast<EVP_CIPHER_CTX*>(context_.get());
  const std::size_t size = sealed.size() - kTagBytes;
  std::string plain(size, '\0');
  auto* to = reinterpret_cast<std::uint8_t*>(plain.data());
  auto tag = take<kTagBytes>(sealed.substr(size));
  int n = 0;
  const bool ok =
      EVP_DecryptInit_ex(c, EVP_chacha20_poly1305(), nullptr, key_.data(), nonce(counter).data()) ==
          1 &&
      EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, static_cast<int>(kTagBytes), tag.data()) == 1 &&
      EVP_DecryptUpdate(c, nullptr, &n, data(aad), static_cast<int>(aad.size())) == 1 &&
      EVP_DecryptUpdate(c, to, &n, data(sealed), static_cast<int>(size)) == 1 &&
      EVP_DecryptFinal_ex(c, to + n, &n) == 1;
  return ok ? std::optional(std::move(plain)) : std::nullopt;
}

// ---------------------------------------------------------------------------- keys

KeySchedule::KeySchedule(const KeyRing& ring, std::string_view cluster_id, std::string_view use)
    : info_("shoal gossip 1 ") {
  info_.append(use).push_back('\0');
  info_.append(cluster_id);
  std::string id_info("shoal gossip 1 key id");
  id_info.push_back('\0');
  id_info.append(cluster_id);
  for (const Key& key : ring.keys())
    keys_.emplace_back(take<kKeyIdBytes>(view(hkdf(key, {}, id_info))), key);
}

std::optional<Key> KeySchedule::derive(const KeyId& id, const Salt& salt) const {
  const auto found = std::ranges::find(keys_, id, &std::pair<KeyId, Key>::first);
  if (found == keys_.end())
    return std::nullopt;
  return hkdf(found->second, view(salt), info_);
}

// ---------------------------------------------------------------------------- datagrams

DatagramSealer::DatagramSealer(const KeyRing& ring, std::string_view cluster_id, Random& random)
    : schedule_(ring, cluster_id, "datagram") {
  Salt salt{};
  random.fill(salt);
  sealer_ = std::make_unique<Aead>(*schedule_.derive(schedule_.primary(), salt));
  header_.push_back(static_cast<char>(kSealVersion));
  header_.append(view(schedule_.primary())).append(view(salt));
}

std::string DatagramSealer::seal(std::string_view plain) {
  std::string out = header_;
  put_u64(out, counter_);
  const std::string aad = out;
  sealer_->seal(counter_++, aad, plain, out);
  return out;
}

Opened DatagramSealer::open(std::string_view sealed, std::string& plain) {
  if (sealed.size() < kSealBytes || static_cast<std::uint8_t>(sealed[0]) != kSealVersion)
    return Opened::kUnauthentic;
  const std::string_view aad = sealed.substr(0, kHeaderBytes);
  const SenderId id{take<kKeyIdBytes>(aad.substr(1)),
                    take<kSaltBytes>(aad.substr(1 + kKeyIdBytes))};
  const std::uint64_t counter = get_u64(aad.substr(kHeaderBytes - 8));
  const auto known = openers_.find(id);
  std::unique_ptr<Aead> fresh;
  if (known == openers_.end()) {
    const auto key = schedule_.derive(id.first, id.second);
    if (!key)
      return Opened::kWrongKey;
    fresh = std::make_unique<Aead>(*key);
  }
  Aead& aead = fresh ? *fresh : *known->second.aead;
  auto opened = aead.open(counter, aad, sealed.substr(kHeaderBytes));
  if (!opened)
    return Opened::kUnauthentic;
  plain = std::move(*opened);
  if (!fresh) {
    recent_.splice(recent_.begin(), recent_, known->second.place);
    return Opened::kOk;
  }
  // Only what opened is kept: forged salts cannot push out the keys of real senders.
  recent_.push_front(id);
  openers_.emplace(id, Opener{std::move(fresh), recent_.begin()});
  if (openers_.size() > kOpenersMax) {
    openers_.erase(recent_.back());
    recent_.pop_back();
  }
  return Opened::kOk;
}

}  // namespace shoal::gossip
