// SPDX-License-Identifier: Apache-2.0
// The kinds that Shoal serves, with the names people type for them. Pure.
#pragma once

#include "netplane/base/result.h"

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::cli {

struct Kind {
  std::string_view kind;         // "Deployment"
  std::string_view api_version;  // "apps/v1"
  std::string_view resource;     // "deployments"
  std::string_view singular;     // "deployment"
  std::string_view aliases;      // "deploy"; blank-separated
  bool namespaced;

  // "deployment.apps", as messages name it; "pod" for the core group.
  std::string full_name() const;
  // "/apis/apps/v1/namespaces/NS/deployments[/NAME]". An empty ns: all namespaces.
  std::string path(std::string_view ns, std::string_view name = {}) const;
};

std::span<const Kind> kinds();
// By resource, singular, alias or kind, in any case; "deployments.apps" too.
Result<const Kind*> find_kind(std::string_view text);
// "po,svc" -> both.
Result<std::vector<const Kind*>> find_kinds(std::string_view text);
// By what a manifest says. kUnsupported names what there is.
Result<const Kind*> find_manifest_kind(std::string_view api_version, std::string_view kind);

}  // namespace shoal::cli
