// SPDX-License-Identifier: Apache-2.0
// Kubernetes resource quantities: "100m", "1.5", "128Mi", "2e3". parse_quantity answers in
// thousandths (so that "100m" of CPU is 100), rounded up as Kubernetes does; kInvalid for anything
// else, negatives included.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace shoal::api {

Result<std::int64_t> parse_quantity_milli(std::string_view text);  // cpu
Result<std::int64_t> parse_quantity(std::string_view text);  // memory: whole units, rounded up

// Bytes as Kubernetes prints them: by the largest binary unit that leaves nothing behind the point.
std::string binary_quantity(std::int64_t bytes);

}  // namespace shoal::api
