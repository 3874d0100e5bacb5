// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/index_pool.h"

#include "netplane/base/result.h"

#include <algorithm>
#include <bit>

namespace shoal::plan {
namespace {

constexpr std::uint32_t kBits = 64;

}  // namespace

IndexPool::IndexPool(std::uint32_t size, std::uint32_t first)
    : words_((size + kBits - 1) / kBits, 0), size_(size), free_(size) {
  // What lies beyond the end of the last word is nobody's to give.
  if (size % kBits != 0)
    words_.back() = ~std::uint64_t{0} << (size % kBits);
  SHOAL_ASSERT(first <= size);
  if (first > 0)
    mark(0, first, true);
}

bool IndexPool::taken(std::uint32_t index) const {
  return index >= size_ || (words_[index / kBits] >> (index % kBits) & 1U) != 0;
}

// The first free index at or after `from`; size_ when there is none.
std::uint32_t IndexPool::next_free(std::uint32_t from) const {
  if (from >= size_)
    return size_;
  std::size_t word = from / kBits;
  std::uint64_t free = ~words_[word] & ~std::uint64_t{0} << (from % kBits);
  while (free == 0) {
    if (++word == words_.size())
      return size_;
    free = ~words_[word];
  }
  return static_cast<std::uint32_t>(word * kBits) +
         static_cast<std::uint32_t>(std::countr_zero(free));
}

// The first taken index in [from, end); end when there is none.
std::uint32_t IndexPool::next_taken(std::uint32_t from, std::uint32_t end) const {
  std::size_t word = from / kBits;
  std::uint64_t used = words_[word] & ~std::uint64_t{0} << (from % kBits);
  while (used == 0) {
    if (++word * kBits >= end)
      return end;
    used = words_[word];
  }
  return std::min(end, static_cast<std::uint32_t>(word * kBits) +
                           static_cast<std::uint32_t>(std::countr_zero(used)));
}

void IndexPool::mark(std::uint32_t index, std::uint32_t count, bool is_taken) {
  for (std::uint32_t i = index; i < index + count;) {
    const std::uint32_t bit = i % kBits;
    const std::uint32_t here = std::min(kBits - bit, index + count - i);
    const std::uint64_t bits = (here == kBits ? ~std::uint64_t{0} : (std::uint64_t{1} << here) - 1)
                               << bit;
    if (is_taken)
      words_[i / kBits] |= bits;
    else
      words_[i / kBits] &= ~bits;
    i += here;
  }
  if (is_taken) {
    free_ -= count;
    if (index <= hint_ && hint_ < index + count)
      hint_ = index + count;
  } else {
    free_ += count;
    hint_ = std::min(hint_, index);
  }
}

std::optional<std::uint32_t> IndexPool::take_run(std::uint32_t count) {
  SHOAL_ASSERT(count > 0);
  if (count > free_)
    return std::nullopt;
  hint_ = next_free(hint_);
  for (std::uint32_t at = hint_; at < size_ && size_ - at >= count;) {
    const std::uint32_t end = next_taken(at, at + count);
    if (end == at + count) {
      mark(at, count, true);
      return at;
    }
    at = next_free(end);
  }
  return std::nullopt;
}

bool IndexPool::claim(std::uint32_t index, std::uint32_t count) {
  if (count == 0 || index >= size_ || size_ - index < count)
    return false;
  if (taken(index) || next_taken(index, index + count) != index + count)
    return false;
  mark(index, count, true);
  return true;
}

void IndexPool::give_back(std::uint32_t index, std::uint32_t count) {
  SHOAL_ASSERT(count > 0 && index < size_ && size_ - index >= count);
  for (std::uint32_t i = index; i < index + count; i++)
    SHOAL_ASSERT(taken(i));
  mark(index, count, false);
}

}  // namespace shoal::plan
