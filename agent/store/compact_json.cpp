// SPDX-License-Identifier: Apache-2.0
#include "agent/store/compact_json.h"

#include <memory>
#include <new>

namespace shoal::store {

namespace json = boost::json;

namespace {

constexpr std::size_t aligned(std::size_t at, std::size_t align) {
  return (at + align - 1) / align * align;
}

// Counts what a Block needs.
class Meter final : public json::memory_resource {
public:
  std::size_t bytes() const { return bytes_; }

protected:
  void* do_allocate(std::size_t bytes, std::size_t align) override {
    bytes_ = aligned(bytes_, align) + bytes;
    return memory_.storage()->allocate(bytes, align);
  }
  void do_deallocate(void*, std::size_t, std::size_t) override {}
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

private:
  ParseMemory memory_;
  std::size_t bytes_ = 0;
};

// Given out from front to back; what lies in it is freed with all of it. Once it is full, which is
// when the object has been made, it may be used from any thread.
class Block final : public json::memory_resource {
public:
  explicit Block(std::size_t bytes)
      : memory_(std::make_unique_for_overwrite<std::byte[]>(bytes)), bytes_(bytes) {}

protected:
  void* do_allocate(std::size_t bytes, std::size_t align) override {
    const std::size_t at = aligned(used_, align);
    if (at > bytes_ || bytes_ - at < bytes)
      return ::operator new(bytes, std::align_val_t(align));
    used_ = at + bytes;
    return memory_.get() + at;
  }
  void do_deallocate(void* at, std::size_t bytes, std::size_t align) override {
    const auto* const first = static_cast<std::byte*>(at);
    if (first < memory_.get() || first >= memory_.get() + bytes_)
      ::operator delete(at, bytes, std::align_val_t(align));
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

private:
  std::unique_ptr<std::byte[]> memory_;
  std::size_t bytes_;
  std::size_t used_ = 0;
};

}  // namespace

json::object compact(const json::object& object) {
  Meter meter;
  {
    const json::object measured(object, &meter);
  }
  return json::object(object, json::make_shared_resource<Block>(meter.bytes()));
}

}  // namespace shoal::store
