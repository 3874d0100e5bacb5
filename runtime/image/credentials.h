// SPDX-License-Identifier: Apache-2.0
// Which credentials of pull secrets (".dockerconfigjson") an image may be pulled with, as
// Kubernetes' keyring matches them: by the registry's host, in which "*" stands for a part of one
// label, and by the beginning of the path. Pure. Nothing of a secret's content is in an error.
#pragma once

#include "netplane/base/result.h"
#include "runtime/image/reference.h"

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

struct Credential {
  std::string auth;  // base64 of "user:password"
  bool operator==(const Credential&) const = default;
};

// To be tried in this order: the longest match first, then as the secrets stand. Each once.
Result<std::vector<Credential>> credentials_for(const Reference& reference,
                                                std::span<const std::string> docker_configs);
// containers-auth.json(5): each registry's credential, by the registry's host.
std::string render_auth_file(const std::vector<std::pair<std::string, Credential>>& logins);
// "registry.lan:5000" of "registry.lan:5000/team/app".
std::string registry_of(const Reference& reference);

}  // namespace shoal::runtime
