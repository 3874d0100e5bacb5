// SPDX-License-Identifier: Apache-2.0
// Image references, normalised as every container tool does it:
//   busybox               docker.io/library/busybox:latest
//   me/app:1              docker.io/me/app:1
//   shoal.dev/demo/web    shoal.dev/demo/web:latest
//   app@sha256:...        docker.io/library/app@sha256:...   (a tag beside a digest is dropped)
//   sha256:...            the image of that digest, whatever its name
// Pure. Grammar: the distribution specification's, as github.com/distribution/reference reads it.
#pragma once

#include "netplane/base/result.h"

#include <string>
#include <string_view>

namespace shoal::runtime {

struct Reference {
  std::string repository;  // "docker.io/library/busybox"; empty for a bare digest
  std::string tag;         // "latest"; empty when there is a digest
  std::string digest;      // "sha256:..." or empty

  // The normal form, as above.
  std::string str() const;
  bool operator==(const Reference&) const = default;
};

// kInvalid says which part is wrong.
Result<Reference> parse_reference(std::string_view text);

bool is_sha256_digest(std::string_view text);  // "sha256:" and 64 lower-case hex digits

}  // namespace shoal::runtime
