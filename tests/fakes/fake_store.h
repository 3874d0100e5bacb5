// SPDX-License-Identifier: Apache-2.0
// FakeStore: the store contract on a map, with a door for a rival who commits first and for
// failures.
#pragma once

#include "agent/store/store.h"

#include <deque>
#include <map>

namespace shoal::fakes {

class FakeStore final : public store::Store {
public:
  using Post = std::function<void(std::function<void()>)>;
  explicit FakeStore(Post post) : post_(std::move(post)) {}

  // Runs before the next transaction is looked at: what a rival does.
  std::deque<std::function<void()>> rivals;
  std::deque<Error> failures;
  std::size_t commits = 0;

  void txn(store::Txn txn, std::function<void(Result<store::TxnResult>)> done) override {
    post_([this, t = std::move(txn), run = std::move(done)] {
      if (!rivals.empty()) {
        const auto rival = std::move(rivals.front());
        rivals.pop_front();
        rival();
      }
      if (!failures.empty()) {
        Error error = std::move(failures.front());
        failures.pop_front();
        return run(fail(std::move(error)));
      }
      store::TxnResult result = commit(t);
      if (result.committed)
        for (const auto& watcher : watchers_)
          watcher(result.revision, result.events);
      run(std::move(result));
    });
  }
  void snapshot(std::function<void(Result<store::Snapshot>)> done) override {
    post_([this, run = std::move(done)] { run(now()); });
  }
  void watch(std::function<void(store::Revision, std::span<const store::Event>)> on) override {
    watchers_.push_back(std::move(on));
  }

  // At once, unseen by watchers unless told: a commit of another host.
  store::TxnResult commit(const store::Txn& txn) {
    store::TxnResult result;
    for (const store::Compare& compare : txn.compares) {
      const auto found = values_.find(compare.key);
      if ((found == values_.end() ? 0 : found->second.revision) == compare.mod_revision)
        continue;
      result.lost.push_back(compare.key);
      result.present.push_back(found != values_.end()
                                   ? found->second
                                   : store::Event{compare.key, std::nullopt, 0, revision_});
    }
    result.committed = result.lost.empty();
    if (result.committed && !txn.ops.empty()) {
      ++revision_;
      ++commits;
      for (const store::Op& op : txn.ops) {
        const auto found = values_.find(op.key);
        if (!op.value && found == values_.end())
          continue;
        store::Event event{op.key, op.value, 0, revision_};
        if (op.value) {
          event.create_revision =
              found == values_.end() ? revision_ : found->second.create_revision;
          values_.insert_or_assign(op.key, event);
        } else {
          values_.erase(found);
        }
        result.events.push_back(std::move(event));
      }
    }
    result.revision = revision_;
    return result;
  }
  store::Snapshot now() const {
    store::Snapshot snapshot{revision_, {}};
    for (const auto& [key, event] : values_)
      snapshot.values.push_back(event);
    return snapshot;
  }
  const std::map<std::string, store::Event>& values() const { return values_; }

private:
  Post post_;
  std::map<std::string, store::Event> values_;
  store::Revision revision_ = 0;
  std::vector<std::function<void(store::Revision, std::span<const store::Event>)>> watchers_;
};

}  // namespace shoal::fakes
