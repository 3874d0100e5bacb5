// SPDX-License-Identifier: Apache-2.0
// The joining host's side of `shoal join`: one HTTPS exchange with a member, trusted by the CA
// fingerprint in the token before the secret is sent. Blocks up to the timeout: worker threads
// only.
#pragma once

#include "agent/daemon/cluster_files.h"
#include "agent/pki/pki.h"

#include <chrono>

namespace shoal::daemon {

inline constexpr std::chrono::seconds kJoinTimeout{20};
inline constexpr std::string_view kJoinPath = "/shoal/v1/node-join";

// What the member is asked, as JSON: {"secret": base64, "node": name, "address": ip, "csr": pem}.
struct JoinRequest {
  std::string secret;
  std::string node_name;
  IpAddress address;  // underlay
  std::string csr;
};
std::string to_json(const JoinRequest& request);
Result<JoinRequest> join_request_from_json(std::string_view text);

// And what it answers: everything a member keeps but its own key.
std::string join_answer_to_json(const ClusterFiles& files);
Result<ClusterFiles> join_answer_from_json(std::string_view text);

// Errors: kUnavailable (not reached), kPermission (not the cluster the token is for, or the token
// was used or has expired), kExists (a host of this name is a member already), what the member said
// otherwise.
Result<ClusterFiles> join_cluster(const SocketAddress& member, const pki::JoinToken& token,
                                  const std::string& node_name, const IpAddress& address,
                                  const Clock& clock);

}  // namespace shoal::daemon
