// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/clock.h"

#include <cstdio>
#include <ctime>

namespace shoal {
namespace {

Duration read_clock(clockid_t id) {
  timespec ts{};
  ::clock_gettime(id, &ts);
  return std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec);
}

tm utc(WallTime time, long* nanos) {
  const auto since = time.time_since_epoch();
  auto seconds = std::chrono::floor<std::chrono::seconds>(since);
  *nanos = static_cast<long>((since - seconds).count());
  const std::time_t t = static_cast<std::time_t>(seconds.count());
  tm out{};
  ::gmtime_r(&t, &out);
  return out;
}

}  // namespace

MonoTime SystemClock::now() const { return MonoTime(read_clock(CLOCK_MONOTONIC)); }
WallTime SystemClock::wall() const { return WallTime(read_clock(CLOCK_REALTIME)); }

std::string rfc3339(WallTime time) {
  long nanos = 0;
  const tm t = utc(time, &nanos);
  char text[96];
  std::snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02dZ", t.tm_year + 1900,
                t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec);
  return text;
}

std::string rfc3339_nano(WallTime time) {
  long nanos = 0;
  const tm t = utc(time, &nanos);
  char text[112];
  std::snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", t.tm_year + 1900,
                t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, nanos);
  return text;
}

}  // namespace shoal
