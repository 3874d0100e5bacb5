// SPDX-License-Identifier: Apache-2.0
// What apply sends for an object that exists: a JSON merge patch (RFC 7386) from three sides, the
// manifest applied last, the manifest now and the live object. Fields that left the manifest are
// deleted; fields that others set and no manifest named stay. Lists are values: they are sent whole
// when the manifest's list changed or the live one lacks something of it. Pure.
//
// The manifest applied last is kept where kubectl keeps it, so that the two can take turns on an
// object.
#pragma once

#include "netplane/base/result.h"

#include <boost/json/object.hpp>
#include <string>
#include <string_view>

namespace shoal::cli {

inline constexpr std::string_view kLastApplied = "kubectl.kubernetes.io/last-applied-configuration";

// The manifest with itself as its annotation: what is created, or stands for the new state in a
// patch.
boost::json::object with_last_applied(const boost::json::object& manifest);

// The annotation of a live object; empty when it has none. kCorrupt when it is no JSON object.
Result<boost::json::object> last_applied(const boost::json::object& live);

// Empty: nothing to do.
boost::json::object three_way_patch(const boost::json::object& last, const boost::json::object& now,
                                    const boost::json::object& live);

}  // namespace shoal::cli
