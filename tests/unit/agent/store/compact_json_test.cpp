// SPDX-License-Identifier: Apache-2.0
#include "agent/store/compact_json.h"

#include <boost/json.hpp>
#include <gtest/gtest.h>
#include <memory>
#include <string>

namespace shoal::store {
namespace {

namespace json = boost::json;

json::object sample(int entries) {
  json::array list;
  for (int i = 0; i < entries; ++i)
    list.push_back(json::object{{"addresses", json::array{"10.127.0." + std::to_string(i)}},
                                {"a key that is long enough for the heap", std::string(40, 'x')},
                                {"number", i},
                                {"ratio", 0.5},
                                {"ready", true},
                                {"nothing", nullptr}});
  return {{"kind", "EndpointSlice"}, {"endpoints", std::move(list)}, {"empty", json::object()}};
}

TEST(CompactJson, SaysTheSame) {
  for (const int entries : {0, 1, 10, 1000}) {
    const json::object object = sample(entries);
    EXPECT_EQ(compact(object), object) << entries;
    ParseMemory memory;
    const std::string text = json::serialize(object);
    EXPECT_EQ(json::serialize(compact(json::parse(text, memory.storage()).get_object())), text);
  }
}

TEST(CompactJson, KeepsItsMemoryWhenMoved) {
  json::object held = compact(sample(10));
  const json::storage_ptr storage = held.storage();
  EXPECT_NE(storage, json::storage_ptr());
  const json::object moved(std::move(held));
  EXPECT_EQ(moved.storage(), storage);
  EXPECT_EQ(moved, sample(10));
}

// What lies in the block stays, what is new is allocated and freed by itself (the sanitizers
// watch).
TEST(CompactJson, MayBeCopiedAndChanged) {
  auto held = std::make_unique<json::object>(compact(sample(3)));
  json::object copy = *held;
  (*held)["more"] = json::array{1, 2, 3, std::string(100, 'y')};
  held->erase("endpoints");
  (*held)["kind"] = std::string(200, 'z');
  EXPECT_EQ(copy, sample(3));
  copy["endpoints"].as_array().push_back("another");
  copy["kind"] = "other";
  held.reset();
  json::object other;
  other = copy;
  EXPECT_EQ(other.at("endpoints").as_array().size(), 4U);
  EXPECT_EQ(other.at("kind").as_string(), "other");
}

}  // namespace
}  // namespace shoal::store
