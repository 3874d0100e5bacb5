// SPDX-License-Identifier: Apache-2.0
// JSON objects that live long and never change, each in one piece of memory of exactly its size:
// about two thirds of what as many small allocations take, and one call to free it.
#pragma once

#include <boost/json/memory_resource.hpp>
#include <boost/json/monotonic_resource.hpp>
#include <boost/json/object.hpp>
#include <boost/json/storage_ptr.hpp>
#include <cstddef>

namespace shoal::store {

// Where an object is put together before it is made compact. Must outlive what is made there.
class ParseMemory {
public:
  boost::json::storage_ptr storage() { return &resource_; }

private:
  static constexpr std::size_t kBytes = 16 << 10;  // more than most objects need
  unsigned char buffer_[kBytes];
  boost::json::monotonic_resource resource_{buffer_, kBytes};
};

// A copy. It may be copied and changed like any other: what does not fit is allocated by itself.
boost::json::object compact(const boost::json::object& object);

}  // namespace shoal::store
