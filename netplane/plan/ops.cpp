// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/ops.h"

#include <algorithm>

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

bool Plan::has_stack_backends() const {
  return std::ranges::any_of(ops, [](const Op& op) {
    const auto* set = std::get_if<SetBackends>(&op);
    return set != nullptr && std::ranges::any_of(set->items, [](const SetBackends::Item& item) {
             return item.entry.stack && (item.entry.local || item.entry.node.is_unspecified());
           });
  });
}

}  // namespace shoal::plan
