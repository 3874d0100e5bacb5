// SPDX-License-Identifier: Apache-2.0
// Random: randomness, injected. Decisions take a Random&, so that a seed replays them.
// SystemRandom is getrandom(2), fit for keys and tokens. SeededRandom is xoshiro256** (Blackman and
// Vigna 2018) seeded by splitmix64: for tests and simulation, never for secrets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace shoal {

class Random {
public:
  virtual ~Random() = default;
  virtual std::uint64_t next() = 0;
  virtual void fill(std::span<std::uint8_t> out);
  // Uniform in [0, bound), without modulo bias. bound must not be 0.
  std::uint64_t below(std::uint64_t bound);
};

class SystemRandom final : public Random {
public:
  std::uint64_t next() override;
  void fill(std::span<std::uint8_t> out) override;
};

class SeededRandom final : public Random {
public:
  explicit SeededRandom(std::uint64_t seed);
  std::uint64_t next() override;

private:
  std::uint64_t state_[4];
};

}  // namespace shoal
