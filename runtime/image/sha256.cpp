// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/sha256.h"

#include "netplane/base/result.h"
#include "netplane/base/strings.h"
#include "runtime/image/reference.h"

#include <openssl/evp.h>

namespace shoal::runtime {

// EVP_* can only fail here when memory runs out or the library lacks SHA-256.
Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  SHOAL_ASSERT(context_ && EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() { EVP_MD_CTX_free(context_); }

void Sha256::update(std::string_view bytes) {
  SHOAL_ASSERT(EVP_DigestUpdate(context_, bytes.data(), bytes.size()) == 1);
}

std::string Sha256::digest() {
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  SHOAL_ASSERT(EVP_DigestFinal_ex(context_, bytes, &length) == 1);
  return "sha256:" + hex(std::string_view(reinterpret_cast<const char*>(bytes), length));
}

std::string sha256_digest(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.digest();
}

std::string_view digest_hex(std::string_view digest) {
  SHOAL_ASSERT(is_sha256_digest(digest));
  return digest.substr(digest.find(':') + 1);
}

}  // namespace shoal::runtime
