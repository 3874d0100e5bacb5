// SPDX-License-Identifier: Apache-2.0
// SHA-256 over a stream, and digests as the OCI specifications write them.
#pragma once

#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace shoal::runtime {

class Sha256 {
public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(std::string_view bytes);
  std::string digest();  // "sha256:<hex>"; ends the stream

private:
  evp_md_ctx_st* context_;
};

std::string sha256_digest(std::string_view bytes);
// The hex part of a digest that is_sha256_digest() holds for.
std::string_view digest_hex(std::string_view digest);

}  // namespace shoal::runtime
