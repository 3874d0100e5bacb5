// SPDX-License-Identifier: Apache-2.0
// The cluster's certificate authority and its hosts' certificates: X.509 v3 (RFC 5280) over Ed25519
// (RFC 8410), on OpenSSL. Pure but for the time and random source that are handed in: files are the
// caller's.
//
// The CA's key lives on the store's host alone. A host's certificate has CN = node name, O =
// "shoal:nodes", its name and addresses as subject alternative names, and serves both sides of TLS.
// All texts are PEM.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/ip.h"
#include "netplane/base/random.h"
#include "netplane/base/result.h"

#include <string>
#include <string_view>
#include <vector>

namespace shoal::pki {

inline constexpr std::string_view kNodesOrganization = "shoal:nodes";
inline constexpr std::chrono::hours kCaLifetime{24 * 3650};
inline constexpr std::chrono::hours kNodeLifetime{24 * 365};
// Clocks of hosts differ: a certificate is valid from this long before it was made.
inline constexpr std::chrono::hours kBackdate{1};

struct KeyPair {
  std::string key;   // PKCS #8
  std::string cert;  // the certificate
};

struct NodeIdentity {
  std::string name;
  std::vector<IpAddress> addresses;
};

std::string ca_name(std::string_view cluster_id);  // the CA's common name
Result<KeyPair> make_ca(std::string_view cluster_id, const Clock& clock, Random& random);

struct Request {
  std::string key;  // stays on the host
  std::string csr;  // PKCS #10
};
Result<Request> make_request(std::string_view node_name);

// Signs a request whose own signature is checked. The identity is the signer's word, not the
// request's: whatever names the request asks for beside its key are ignored.
Result<std::string> sign_request(const KeyPair& ca, std::string_view csr,
                                 const NodeIdentity& identity, const Clock& clock, Random& random);

// SHA-256 of the certificate's DER form, in lower-case hex.
Result<std::string> fingerprint(std::string_view cert);
Result<std::string> common_name(std::string_view cert);
Result<WallTime> not_after(std::string_view cert);
// That cert was signed by ca and is valid at that time.
Result<> verify(std::string_view ca, std::string_view cert, WallTime when);
// That key is the one that cert was made for.
Result<> check_key(std::string_view cert, std::string_view key);

// A one-time join token: "shoal1." and base64url (no padding) of the CA's fingerprint (32 bytes)
// and a secret (16 bytes). The joining host trusts the cluster by the fingerprint, the cluster
// trusts the host by the secret, of which only the hash is stored.
struct JoinToken {
  std::string ca_fingerprint;  // hex
  std::string secret;          // raw bytes
  std::string to_string() const;
  static Result<JoinToken> parse(std::string_view text);
  static JoinToken make(std::string ca_fingerprint, Random& random);
  std::string secret_hash() const;  // SHA-256, hex
};

}  // namespace shoal::pki
