// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/apply_log.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::apply {

void ApplyLog::applied(const ApplyReport& report) {
  plans_++;
  worked(report);
  clean_ = report.ok();
  errors_of_.clear();
  for (const ObjectError& error : report.errors)
    errors_of_[error.object].push_back(error.error.message());
}

void ApplyLog::worked(const ApplyReport& report) {
  operations_ += report.operations;
  errors_ += report.errors.size();
}

void ApplyLog::audited(const AuditReport& report) {
  repairs_ += report.findings.size();
  errors_ += report.errors.size();
}

std::vector<std::string> ApplyLog::errors_of(std::string_view object) const {
  const auto at = errors_of_.find(object);
  return at == errors_of_.end() ? std::vector<std::string>() : at->second;
}

void ApplyLog::fill(Counters& counters) const {
  counters.plans = plans_;
  counters.operations = operations_;
  counters.errors = errors_;
  counters.repairs = repairs_;
}

std::optional<ObjectError> refuse_other_host(const model::Desired& desired,
                                             const std::string& node_name) {
  if (desired.self == node_name)
    return std::nullopt;
  return ObjectError{
      "host " + node_name,
      Error(Errc::kInvalid, fmt::format("the desired state is for host '{}'", desired.self))};
}

std::vector<std::string> sorted_ids(const std::vector<model::ServicePort>& services) {
  std::vector<std::string> ids;
  for (const model::ServicePort& service : services)
    ids.push_back(service.id());
  std::ranges::sort(ids);
  return ids;
}

}  // namespace shoal::apply
