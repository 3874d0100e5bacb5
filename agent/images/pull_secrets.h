// SPDX-License-Identifier: Apache-2.0
// imagePullSecrets: what the Secrets that a pod names hold, in the one form that credentials are
// read from. Pure. No value of a Secret is in an error.
#pragma once

#include "agent/store/replica.h"
#include "netplane/base/result.h"

#include <optional>
#include <string>
#include <string_view>

namespace shoal::images {

// ".dockerconfigjson" of kubernetes.io/dockerconfigjson, ".dockercfg" of kubernetes.io/dockercfg as
// such. Nothing: a Secret of another type, which holds no login for a registry.
std::optional<std::string> docker_config(const store::Object& secret);

// What people have for one login: "user:password", or a whole docker config. Of a login, one for
// that registry.
Result<std::string> docker_config_of_login(std::string_view text, std::string_view registry);

}  // namespace shoal::images
