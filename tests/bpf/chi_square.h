// SPDX-License-Identifier: Apache-2.0
// Pearson's test, for picks that should follow weights.
#pragma once

#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

namespace shoal::bpftest {

inline double chi_square(const std::vector<std::uint64_t>& seen,
                         const std::vector<double>& shares) {
  const auto total =
      static_cast<double>(std::accumulate(seen.begin(), seen.end(), std::uint64_t{0}));
  double sum = 0;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const double asked = shares[i] * total;
    sum += (static_cast<double>(seen[i]) - asked) * (static_cast<double>(seen[i]) - asked) / asked;
  }
  return sum;
}

// Exceeded by one honest run in a million (Wilson and Hilferty's approximation).
inline double chi_square_limit(std::size_t degrees) {
  constexpr double kZ = 4.753;
  const auto k = static_cast<double>(degrees);
  return k * std::pow(1 - 2 / (9 * k) + kZ * std::sqrt(2 / (9 * k)), 3);
}

}  // namespace shoal::bpftest
