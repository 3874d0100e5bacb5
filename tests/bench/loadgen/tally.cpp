// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/loadgen/loadgen.h"

#include <algorithm>
#include <cstdio>

namespace loadgen {
namespace {

constexpr std::size_t kFailuresKept = 100'000;
// "How many failed from second S on": what shows that a takeover is over.
constexpr int kSinceSeconds[] = {1, 2, 3, 5, 10};

std::string counts(const std::map<std::string, std::int64_t>& values) {
  std::string out = "{";
  for (const auto& [name, value] : values)
    out += (out.size() > 1 ? "," : "") + json_quote(name) + ":" + std::to_string(value);
  return out + "}";
}

std::string seconds(Nanos duration) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6f", static_cast<double>(duration) / 1e9);
  return text;
}

}  // namespace

std::string json_quote(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", byte);
      out += escaped;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

void Tally::succeed(const std::string& version, Nanos latency) {
  requests++;
  seen[version]++;
  latency_us.push_back(static_cast<std::uint32_t>(std::min<Nanos>(latency / 1000, UINT32_MAX)));
}

void Tally::fail(const std::string& kind, Nanos due) {
  requests++;
  failed++;
  failures[kind]++;
  last_failure = std::max(last_failure, due);
  if (failed_at.size() < kFailuresKept)
    failed_at.push_back((due - began) / 1'000'000'000);
}

std::string Tally::to_json(const std::string& type, Nanos now) const {
  std::vector<std::uint32_t> sorted = latency_us;
  std::sort(sorted.begin(), sorted.end());
  const auto percentile = [&](double p) {
    return sorted.empty()
               ? std::string("null")
               : std::to_string(
                     sorted[static_cast<std::size_t>(p * static_cast<double>(sorted.size() - 1))]);
  };
  std::string since = "{";
  for (const int s : kSinceSeconds) {
    const auto n =
        std::count_if(failed_at.begin(), failed_at.end(), [s](std::int64_t at) { return at >= s; });
    since += (since.size() > 1 ? ",\"" : "\"") + std::to_string(s) + "\":" + std::to_string(n);
  }
  return "{\"type\":" + json_quote(type) + ",\"name\":" + json_quote(name) +
         ",\"seconds\":" + seconds(now - began) + ",\"requests\":" + std::to_string(requests) +
         ",\"failed\":" + std::to_string(failed) + ",\"failures\":" + counts(failures) +
         ",\"seen\":" + counts(seen) +
         ",\"last_failure_s\":" + (failed ? seconds(last_failure - began) : "null") +
         ",\"failed_since\":" + since + "}" + ",\"latency_us\":{\"p50\":" + percentile(0.5) +
         ",\"p99\":" + percentile(0.99) + ",\"max\":" + percentile(1.0) + "}}";
}

}  // namespace loadgen
