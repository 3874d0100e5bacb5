// SPDX-License-Identifier: Apache-2.0
// MemoryStore: the store contract on a map. Answers through the loop, as the contract says.
#pragma once

#include "agent/store/store.h"
#include "tests/fakes/test_loop.h"

#include <map>

namespace shoal::fakes {

class MemoryStore final : public store::Store {
public:
  explicit MemoryStore(TestLoop& loop) : loop_(loop) {}

  void txn(store::Txn txn, std::function<void(Result<store::TxnResult>)> done) override {
    loop_.post([this, t = std::move(txn), run = std::move(done)] { run(commit(t)); });
  }
  void snapshot(std::function<void(Result<store::Snapshot>)> done) override {
    loop_.post([this, run = std::move(done)] { run(now()); });
  }
  void watch(std::function<void(store::Revision, std::span<const store::Event>)> on) override {
    watchers_.push_back(std::move(on));
  }

  store::Snapshot now() const {
    store::Snapshot out{revision_, {}};
    for (const auto& [key, event] : values_)
      out.values.push_back(event);
    return out;
  }
  const std::map<std::string, store::Event>& values() const { return values_; }

private:
  store::TxnResult commit(const store::Txn& txn) {
    store::TxnResult result;
    for (const store::Compare& compare : txn.compares) {
      const auto found = values_.find(compare.key);
      const store::Revision present = found == values_.end() ? 0 : found->second.revision;
      if (present == compare.mod_revision)
        continue;
      result.lost.push_back(compare.key);
      result.present.push_back(found != values_.end()
                                   ? found->second
                                   : store::Event{compare.key, std::nullopt, 0, revision_});
    }
    result.committed = result.lost.empty();
    if (result.committed) {
      ++revision_;
      for (const store::Op& op : txn.ops)
        write(op, result);
      for (const auto& on : watchers_)
        on(revision_, result.events);
    }
    result.revision = revision_;
    return result;
  }

  void write(const store::Op& op, store::TxnResult& result) {
    const auto found = values_.find(op.key);
    store::Event event{op.key, op.value, revision_, revision_};
    if (found != values_.end())
      event.create_revision = found->second.create_revision;
    if (op.value)
      values_.insert_or_assign(op.key, event);
    else if (found != values_.end())
      values_.erase(found);
    else
      return;
    result.events.push_back(std::move(event));
  }

  TestLoop& loop_;
  std::map<std::string, store::Event> values_;
  store::Revision revision_ = 0;
  std::vector<std::function<void(store::Revision, std::span<const store::Event>)>> watchers_;
};

}  // namespace shoal::fakes
