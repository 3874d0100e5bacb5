// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/ops.h"

namespace shoal::plan {
namespace {

struct Namer {
  std::string_view operator()(const OpenServices&) const { return "open-services"; }
  std::string_view operator()(const SetBackends&) const { return "set-backends"; }
  std::string_view operator()(const WriteRings&) const { return "write-rings"; }
  std::string_view operator()(const SwitchRings&) const { return "switch-rings"; }
  std::string_view operator()(const AddSourceRanges&) const { return "add-source-ranges"; }
  std::string_view operator()(const SetFrontends&) const { return "set-frontends"; }
  std::string_view operator()(const SetVips&) const { return "set-vips"; }
  std::string_view operator()(const DeleteFrontends&) const { return "delete-frontends"; }
  std::string_view operator()(const DeleteVips&) const { return "delete-vips"; }
  std::string_view operator()(const RemoveSourceRanges&) const { return "remove-source-ranges"; }
  std::string_view operator()(const RetireBackends&) const { return "retire-backends"; }
  std::string_view operator()(const RetireServices&) const { return "retire-services"; }
  std::string_view operator()(const FreeBackends&) const { return "free-backends"; }
};

}  // namespace

std::string_view name_of(const Op& op) { return std::visit(Namer(), op); }

}  // namespace shoal::plan
