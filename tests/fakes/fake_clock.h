// SPDX-License-Identifier: Apache-2.0
// A Clock that stands still until it is told to move.
#pragma once

#include "netplane/base/clock.h"

namespace shoal {

class FakeClock final : public Clock {
public:
  MonoTime now() const override { return now_; }
  WallTime wall() const override { return wall_; }
  void advance(Duration by) {
    now_ += by;
    wall_ += by;
  }

private:
  MonoTime now_{std::chrono::hours(1)};
  WallTime wall_{std::chrono::seconds(1'767'225'600)};  // 2026-01-01T00:00:00Z
};

}  // namespace shoal
