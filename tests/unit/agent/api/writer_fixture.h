// SPDX-License-Identifier: Apache-2.0
// A writer over a fake store, and its replica.
#pragma once

#include "agent/api/selector.h"
#include "agent/api/store_writer.h"
#include "netplane/base/random.h"
#include "tests/fakes/asio_loop.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_store.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <string>

namespace shoal::api {

namespace json = boost::json;
using store::ObjectPtr;

inline json::object parse(std::string_view text) { return json::parse(text).get_object(); }
inline json::object service(std::string_view name, std::string_view spec = "",
                            std::string_view weights = "") {
  json::object body = parse(fmt::format(
      R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}","namespace":"default"}},
          "spec":{{"selector":{{"app":"web"}},"ports":[{{"port":80}}]{}}}}})",
      name, spec));
  if (!weights.empty())
    body["metadata"].get_object()["annotations"] = json::object{{"shoal.dev/weights", weights}};
  return body;
}
inline json::object pod(std::string_view name, std::string_view more = "") {
  return parse(fmt::format(
      R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"default",
          "labels":{{"app":"web","version":"blue"}}}},
          "spec":{{"containers":[{{"name":"main","image":"web:1"}}]{}}}}})",
      name, more));
}

class WriterTest : public testing::Test {
protected:
  WriterTest() {
    store_.watch([this](store::Revision revision, std::span<const store::Event> events) {
      replica_.apply(events, revision);
    });
    store_.commit(bootstrap_txn(clock_, random_));
    replica_.reset(store_.now());
    writer_ = make(options_);
  }
  std::unique_ptr<Writer> make(WriterOptions options) {
    return make_writer(
        replica_, [this](store::Txn t, TxnDone d) { store_.txn(std::move(t), std::move(d)); },
        loop_.poster(), clock_, random_, std::move(options));
  }
  template <class Call>
  WriteResult wait(Call call) {
    std::optional<WriteResult> answer;
    call([&](WriteResult result) { answer = std::move(result); });
    EXPECT_FALSE(answer) << "done before the call returned";
    EXPECT_TRUE(loop_.run_until([&] { return answer.has_value(); }));
    return std::move(*answer);
  }
  WriteResult create(json::object body) {
    return wait([&](WriteDone d) { writer_->create(std::move(body), std::move(d)); });
  }
  WriteResult update(json::object body) {
    return wait([&](WriteDone d) { writer_->update(std::move(body), std::move(d)); });
  }
  WriteResult status(json::object body) {
    return wait([&](WriteDone d) { writer_->update_status(std::move(body), std::move(d)); });
  }
  WriteResult patch(std::string_view resource, std::string_view name, std::string_view text) {
    return wait([&](WriteDone d) {
      writer_->merge_patch(resource, "default", name, parse(text), std::move(d));
    });
  }
  WriteResult remove(std::string_view resource, std::string_view ns, std::string_view name,
                     Preconditions preconditions = {}, std::optional<std::int64_t> grace = {}) {
    return wait([&](WriteDone d) {
      writer_->remove(resource, ns, name, std::move(preconditions), grace, std::move(d));
    });
  }
  static std::string text(const WriteResult& result) {
    return result ? "done"
                  : fmt::format("{} {}: {}", result.error().code, result.error().reason,
                                result.error().message);
  }

  fakes::AsioLoop loop_;
  FakeClock clock_;
  SeededRandom random_{7};
  store::Replica replica_;
  fakes::FakeStore store_{loop_.poster()};
  WriterOptions options_{.service_cidrs = {*IpPrefix::parse("10.96.0.0/28")},
                         .load_balancer_pools = {*IpPrefix::parse("198.18.0.200/30")}};
  std::unique_ptr<Writer> writer_;
};

}  // namespace shoal::api
