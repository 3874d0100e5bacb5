// SPDX-License-Identifier: Apache-2.0
#include "runtime/probe/probe.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::runtime {
namespace {

constexpr Duration ms(std::uint32_t value) { return std::chrono::milliseconds(value); }

bool breaks_line(std::string_view text) {
  return std::ranges::any_of(
      text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

ProbeMachine::ProbeMachine(const ProbeTiming& timing, MonoTime container_started, bool passing)
    : timing_(timing), due_(container_started + ms(timing.initial_delay_ms)),
      began_(container_started), passing_(passing) {
  timing_.period_ms = std::max(timing_.period_ms, 1U);
  timing_.success_threshold = std::max(timing_.success_threshold, 1U);
  timing_.failure_threshold = std::max(timing_.failure_threshold, 1U);
}

std::uint64_t ProbeMachine::begin(MonoTime now) {
  SHOAL_ASSERT(!under_way_);
  under_way_ = true;
  began_ = now;
  return ++token_;
}

bool ProbeMachine::ended(std::uint64_t token, MonoTime now) {
  if (!under_way_ || token != token_)
    return false;
  under_way_ = false;
  // A fixed rate, except that a probe that took longer than a period is not followed at once by
  // those it missed.
  due_ = std::max(began_ + ms(timing_.period_ms), now);
  return true;
}

void ProbeMachine::skip(std::uint64_t token, MonoTime now) { ended(token, now); }

bool ProbeMachine::finish(std::uint64_t token, bool ok, MonoTime now) {
  if (!ended(token, now))
    return false;
  run_ = run_ > 0 && ok == last_ok_ ? std::min(run_, UINT32_MAX - 1) + 1 : 1;
  last_ok_ = ok;
  const bool before = passing_;
  if (run_ >= (ok ? timing_.success_threshold : timing_.failure_threshold))
    passing_ = ok;
  return passing_ != before;
}

Result<int> parse_http_status(std::string_view head) {
  const std::string_view line = head.substr(0, head.find_first_of("\r\n"));
  const auto parts = split(line, ' ');
  const auto code = parts.size() >= 2 && parts[0].starts_with("HTTP/") && parts[1].size() == 3
                        ? parse_uint(parts[1], 999)
                        : std::nullopt;
  if (!code || *code < 100)
    return fail(Errc::kCorrupt, fmt::format("not an HTTP response: '{}'", printable(line)));
  return static_cast<int>(*code);
}

Result<std::string> http_probe_request(std::string_view host, std::uint16_t port,
                                       std::string_view path,
                                       const std::vector<HttpHeader>& headers) {
  if (breaks_line(host) || breaks_line(path) || path.find(' ') != std::string_view::npos)
    return fail(Errc::kInvalid,
                "httpGet: host and path must hold no blanks and no control characters");
  std::string fields;
  bool host_given = false, agent_given = false;
  for (const HttpHeader& header : headers) {
    if (header.name.empty() || breaks_line(header.name) || breaks_line(header.value) ||
        header.name.find_first_of(" :") != std::string::npos)
      return fail(Errc::kInvalid,
                  fmt::format("httpGet: header '{}' is malformed", printable(header.name)));
    const std::string name = to_lower(header.name);
    host_given = host_given || name == "host";
    agent_given = agent_given || name == "user-agent";
    if (name != "connection")
      fields += fmt::format("{}: {}\r\n", header.name, header.value);
  }
  std::string request =
      fmt::format("GET {}{} HTTP/1.1\r\n", path.starts_with('/') ? "" : "/", path);
  if (!host_given)
    request += host.find(':') == std::string_view::npos
                   ? fmt::format("Host: {}:{}\r\n", host, port)
                   : fmt::format("Host: [{}]:{}\r\n", host, port);
  if (!agent_given)
    request += "User-Agent: shoal-probe/1\r\n";
  return request + "Accept: */*\r\n" + fields + "Connection: close\r\n\r\n";
}

}  // namespace shoal::runtime
