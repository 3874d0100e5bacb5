// SPDX-License-Identifier: Apache-2.0
// An image's STOPSIGNAL: "SIGQUIT", "QUIT", "3", "SIGRTMIN+3". Pure.
#pragma once

#include <optional>
#include <string_view>

namespace shoal::runtime {

std::optional<int> parse_signal(std::string_view text);

}  // namespace shoal::runtime
