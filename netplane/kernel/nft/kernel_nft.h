// SPDX-License-Identifier: Apache-2.0
// KernelNft: the real Nft. Private to nft/; the rest of the program sees open_nft().
#pragma once

#include "netplane/kernel/nft/nft.h"
#include "netplane/kernel/nft/nft_batch.h"

namespace shoal::kernel {

class KernelNft final : public Nft {
public:
  explicit KernelNft(NftSocket socket) : socket_(std::move(socket)) {}

  Result<> apply(const NftRules& rules) override;
  Result<std::string> dump() override;
  Result<> remove() override;
  Result<std::vector<std::string>> foreign_drops() override;

private:
  NftSocket socket_;
};

}  // namespace shoal::kernel
