// SPDX-License-Identifier: Apache-2.0
// How applying went, for the next apply and for views: what the last one could not do, object by
// object, and the counters of both kinds of data plane.
#pragma once

#include "netplane/apply/data_plane.h"
#include "netplane/apply/views.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::apply {

class ApplyLog {
public:
  void applied(const ApplyReport& report);
  // Work between two applies, which says nothing of the desired state as a whole.
  void worked(const ApplyReport& report);
  void audited(const AuditReport& report);
  void mended(std::size_t operations) { operations_ += operations; }
  void failed(std::size_t errors) { errors_ += errors; }

  bool clean() const { return clean_; }  // the last apply met no error
  std::vector<std::string> errors_of(std::string_view object) const;
  void fill(Counters& counters) const;

private:
  bool clean_ = false;
  std::map<std::string, std::vector<std::string>, std::less<>> errors_of_;
  std::uint64_t plans_ = 0, operations_ = 0, errors_ = 0, repairs_ = 0;
};

// Nothing when `desired` is for this host.
std::optional<ObjectError> refuse_other_host(const model::Desired& desired,
                                             const std::string& node_name);
std::vector<std::string> sorted_ids(const std::vector<model::ServicePort>& services);

}  // namespace shoal::apply
