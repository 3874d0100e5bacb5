// SPDX-License-Identifier: Apache-2.0
// SharedText: an immutable text, or none, whose copies share what they hold. It reads like an
// optional string; copying costs a reference count, from any thread.
#pragma once

#include <concepts>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace shoal {

class SharedText {
public:
  using Held = std::shared_ptr<const std::string>;

  // NOLINTBEGIN(google-explicit-constructor): it is one
  SharedText() = default;
  SharedText(std::nullopt_t) {}
  SharedText(std::string text) : held_(std::make_shared<const std::string>(std::move(text))) {}
  SharedText(const char* text) : SharedText(std::string(text)) {}
  SharedText(std::optional<std::string> text) {
    if (text)
      held_ = std::make_shared<const std::string>(*std::move(text));
  }
  // NOLINTEND(google-explicit-constructor)
  explicit SharedText(Held held) : held_(std::move(held)) {}

  explicit operator bool() const { return held_ != nullptr; }
  bool has_value() const { return held_ != nullptr; }
  const std::string& operator*() const { return *held_; }
  const std::string* operator->() const { return held_.get(); }
  std::string_view value_or(std::string_view other) const { return held_ ? *held_ : other; }
  const Held& held() const { return held_; }

  bool operator==(const SharedText& other) const {
    return held_ == other.held_ || (held_ && other.held_ && *held_ == *other.held_);
  }
  template <class Text>
    requires std::convertible_to<const Text&, std::string_view>
  bool operator==(const Text& text) const {
    return held_ && *held_ == std::string_view(text);
  }

private:
  Held held_;
};

}  // namespace shoal
