// SPDX-License-Identifier: Apache-2.0
#include "runtime/spec/signal_name.h"

#include "netplane/base/strings.h"

#include <csignal>
#include <cstring>

namespace shoal::runtime {

std::optional<int> parse_signal(std::string_view text) {
  constexpr int kRealTimeFirst = 34;  // as images have it: libc keeps the two below
  if (const auto number = parse_uint(text, 64))
    return *number > 0 ? std::optional(static_cast<int>(*number)) : std::nullopt;
  if (text.starts_with("SIG"))
    text.remove_prefix(3);
  for (int signal = 1; signal < kRealTimeFirst; ++signal)
    if (const char* name = ::sigabbrev_np(signal); name && text == name)
      return signal;
  if (!text.starts_with("RTMIN"))
    return std::nullopt;
  text.remove_prefix(5);
  if (text.empty())
    return kRealTimeFirst;
  const auto above =
      text.front() == '+' ? parse_uint(text.substr(1), 64 - kRealTimeFirst) : std::nullopt;
  return above ? std::optional(kRealTimeFirst + static_cast<int>(*above)) : std::nullopt;
}

}  // namespace shoal::runtime
