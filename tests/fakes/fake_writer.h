// SPDX-License-Identifier: Apache-2.0
// FakeWriter: notes down every write and answers when, and as, the test says.
#pragma once

#include "agent/api/writer.h"

#include <deque>
#include <fmt/format.h>
#include <string>
#include <vector>

namespace shoal::fakes {

class FakeWriter final : public api::Writer {
public:
  struct Write {
    std::string what;  // "create web-1", "delete web-1"
    boost::json::object body;
    api::WriteDone done;
  };

  void create(boost::json::object body, api::WriteDone done) override {
    note("create", std::move(body), std::move(done));
  }
  void update(boost::json::object body, api::WriteDone done) override {
    note("update", std::move(body), std::move(done));
  }
  void update_status(boost::json::object body, api::WriteDone done) override {
    note("status", std::move(body), std::move(done));
  }
  void merge_patch(std::string_view, std::string_view, std::string_view name, boost::json::object,
                   api::WriteDone done) override {
    writes.push_back({fmt::format("patch {}", name), {}, std::move(done)});
  }
  void remove(std::string_view, std::string_view, std::string_view name, api::Preconditions,
              std::optional<std::int64_t>, api::WriteDone done) override {
    writes.push_back({fmt::format("delete {}", name), {}, std::move(done)});
  }
  void event(const store::Object& about, std::string_view type, std::string_view reason,
             std::string_view message, std::string_view) override {
    events.push_back(fmt::format("{} {} {}: {}", type, about.name, reason, message));
  }

  // Answers the oldest write.
  void answer(api::WriteResult result = api::Written{}) {
    Write first = std::move(writes.front());
    writes.pop_front();
    first.done(std::move(result));
  }
  static api::WriteResult error(int code) {
    return std::unexpected(api::ApiError{code, "Test", "the test says no", {}});
  }

  std::deque<Write> writes;  // not answered yet
  std::vector<std::string> events;

private:
  void note(std::string_view verb, boost::json::object body, api::WriteDone done) {
    const auto* metadata = body.if_contains("metadata");
    const std::string name(metadata->as_object().at("name").as_string());
    writes.push_back({fmt::format("{} {}", verb, name), std::move(body), std::move(done)});
  }
};

}  // namespace shoal::fakes
