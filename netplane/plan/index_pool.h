// SPDX-License-Identifier: Apache-2.0
// IndexPool: which indexes of a map are taken. A bitmap; always hands out the lowest that fit, so
// that plans are reproducible and tables stay dense. A value: the planner works on a copy.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace shoal::plan {

class IndexPool {
public:
  // Indexes first .. size - 1 are there to be given.
  explicit IndexPool(std::uint32_t size = 0, std::uint32_t first = 0);

  // The lowest run of `count` free indexes; nothing when there is none.
  std::optional<std::uint32_t> take_run(std::uint32_t count);
  std::optional<std::uint32_t> take() { return take_run(1); }
  // Marks as taken; false when part of it lies outside or is taken (then nothing is changed).
  bool claim(std::uint32_t index, std::uint32_t count = 1);
  void give_back(std::uint32_t index, std::uint32_t count = 1);  // asserts that all of it is taken

  bool taken(std::uint32_t index) const;
  std::uint32_t size() const { return size_; }
  std::uint32_t free_count() const { return free_; }
  bool operator==(const IndexPool&) const = default;

private:
  std::uint32_t next_free(std::uint32_t from) const;
  std::uint32_t next_taken(std::uint32_t from, std::uint32_t end) const;
  void mark(std::uint32_t index, std::uint32_t count, bool is_taken);

  std::vector<std::uint64_t> words_;
  std::uint32_t size_ = 0;
  std::uint32_t free_ = 0;
  std::uint32_t hint_ = 0;  // nothing below is free
};

}  // namespace shoal::plan
