// SPDX-License-Identifier: Apache-2.0
// Nft in memory: what was applied last is there, rendered as the real one renders it. fail_at(n)
// makes the n-th change from now fail, with the table as it was.
#pragma once

#include "netplane/kernel/nft/nft.h"
#include "netplane/kernel/nft/nft_text.h"

#include <optional>
#include <string>
#include <vector>

namespace shoal {

class FakeNft final : public kernel::Nft {
public:
  void fail_at(unsigned n, Errc code = Errc::kIo) {
    fail_in_ = n;
    fail_code_ = code;
  }
  unsigned changes() const { return changes_; }
  std::optional<kernel::NftRules> applied;  // what the table was made from
  std::vector<std::string> drops_of_others;

  Result<> apply(const kernel::NftRules& rules) override {
    SHOAL_TRY(kernel::normalize(rules));  // refuses what the real one refuses
    SHOAL_TRY(change());
    applied = rules;
    return {};
  }
  Result<std::string> dump() override { return applied ? kernel::render(*applied) : std::string(); }
  Result<> remove() override {
    SHOAL_TRY(change());
    applied.reset();
    return {};
  }
  Result<std::vector<std::string>> foreign_drops() override { return drops_of_others; }

private:
  Result<> change() {
    ++changes_;
    if (fail_in_ != 0 && --fail_in_ == 0)
      return fail(fail_code_, "nftables: injected fault");
    return {};
  }

  unsigned fail_in_ = 0;
  Errc fail_code_ = Errc::kIo;
  unsigned changes_ = 0;
};

}  // namespace shoal
