// SPDX-License-Identifier: Apache-2.0
// SharedVector: a vector as a value whose copies share what they hold until one of them is changed.
// Copying and comparing copies costs nothing, whatever the length; a change of a shared one copies
// it first. It and all its copies belong to one thread: edit() asks how many there are.
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

namespace shoal {

template <class T>
class SharedVector {
public:
  using value_type = T;
  using const_iterator = const T*;
  using iterator = const_iterator;

  SharedVector() = default;
  SharedVector(std::initializer_list<T> items) : SharedVector(std::vector<T>(items)) {}
  SharedVector(std::vector<T> items)  // NOLINT(google-explicit-constructor): it is one
      : held_(items.empty() ? nullptr : std::make_shared<std::vector<T>>(std::move(items))) {}

  std::size_t size() const { return held_ ? held_->size() : 0; }
  bool empty() const { return size() == 0; }
  const T* begin() const { return held_ ? held_->data() : nullptr; }
  const T* end() const { return begin() + size(); }
  const T& operator[](std::size_t at) const { return (*held_)[at]; }
  const T& at(std::size_t at) const { return held_->at(at); }
  const T& front() const { return held_->front(); }
  const T& back() const { return held_->back(); }

  // To be changed in place: nobody else's from now on. The reference holds until the next copy.
  std::vector<T>& edit() {
    if (!held_)
      held_ = std::make_shared<std::vector<T>>();
    else if (held_.use_count() > 1)
      held_ = std::make_shared<std::vector<T>>(*held_);
    return *held_;
  }

  void push_back(T item) { edit().push_back(std::move(item)); }
  void pop_back() { edit().pop_back(); }
  void resize(std::size_t size) { edit().resize(size); }
  void clear() { held_.reset(); }

  bool operator==(const SharedVector& other) const {
    return held_ == other.held_ ||
           (size() == other.size() && std::equal(begin(), end(), other.begin()));
  }
  auto operator<=>(const SharedVector& other) const {
    return std::lexicographical_compare_three_way(begin(), end(), other.begin(), other.end());
  }

private:
  std::shared_ptr<std::vector<T>> held_;
};

}  // namespace shoal
