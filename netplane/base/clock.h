// SPDX-License-Identifier: Apache-2.0
// Clock: time, injected. Code that decides takes a Clock& (or a time point); only main makes the
// real one.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace shoal {

using Duration = std::chrono::nanoseconds;
using MonoTime = std::chrono::time_point<std::chrono::steady_clock, Duration>;
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

class Clock {
public:
  virtual ~Clock() = default;
  virtual MonoTime now() const = 0;   // CLOCK_MONOTONIC: for intervals
  virtual WallTime wall() const = 0;  // CLOCK_REALTIME: for people and certificates
};

class SystemClock final : public Clock {
public:
  MonoTime now() const override;
  WallTime wall() const override;
};

// RFC 3339 in UTC. rfc3339: seconds (Kubernetes' metav1.Time); rfc3339_nano: nine digits (CRI
// logs).
std::string rfc3339(WallTime time);
std::string rfc3339_nano(WallTime time);

}  // namespace shoal
