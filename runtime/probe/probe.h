// SPDX-License-Identifier: Apache-2.0
// Probe: when a container's next probe is due and what its results mean. Pure: time comes in as
// values, the socket work is agent/node's. The rules are Kubernetes': first probe after the initial
// delay, then one a period; success_threshold passes in a row make it pass, failure_threshold
// failures in a row make it fail; a probe that takes longer than its timeout has failed.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/result.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

struct ProbeTiming {
  std::uint32_t initial_delay_ms = 0;
  std::uint32_t period_ms = 10'000;
  std::uint32_t timeout_ms = 1'000;
  std::uint32_t success_threshold = 1;
  std::uint32_t failure_threshold = 3;
  bool operator==(const ProbeTiming&) const = default;
};

class ProbeMachine {
public:
  // A readiness probe begins failed (passing = false), a liveness probe passing.
  ProbeMachine(const ProbeTiming& timing, MonoTime container_started, bool passing = false);

  // When the next one is to start; never while one is under way.
  MonoTime due() const { return due_; }
  // A probe starts now. Its result must carry the token; any other is ignored, as it is late.
  std::uint64_t begin(MonoTime now);
  bool under_way() const { return under_way_; }
  // The probe could not be made: it counts as neither, and the next is due after a period.
  void skip(std::uint64_t token, MonoTime now);
  // True when passing() changed.
  bool finish(std::uint64_t token, bool ok, MonoTime now);
  bool passing() const { return passing_; }
  // As often in a row as the threshold has it, and the last time too.
  bool failed() const { return run_ >= timing_.failure_threshold && !last_ok_; }

private:
  bool ended(std::uint64_t token, MonoTime now);

  ProbeTiming timing_;
  MonoTime due_;
  MonoTime began_;
  std::uint64_t token_ = 0;
  std::uint32_t run_ = 0;  // equal results in a row
  bool last_ok_ = false;
  bool passing_;
  bool under_way_ = false;
};

// The status code of an HTTP response's first line ("HTTP/1.1 200 OK"). kCorrupt when it is none.
Result<int> parse_http_status(std::string_view head);
constexpr bool http_probe_passes(int status) { return status >= 200 && status < 400; }

struct HttpHeader {
  std::string name;
  std::string value;
  bool operator==(const HttpHeader&) const = default;
};
// A GET with Connection: close. kInvalid when a part holds a byte that would end its line.
Result<std::string> http_probe_request(std::string_view host, std::uint16_t port,
                                       std::string_view path,
                                       const std::vector<HttpHeader>& headers);

}  // namespace shoal::runtime
