// SPDX-License-Identifier: Apache-2.0
// Carries out a service plan on the maps, and keeps plan::Actual in step with each operation that
// succeeded. A batch that fails is taken apart: the items that fail on their own cost their service
// the rest of its plan, and nobody else.
#pragma once

#include "netplane/apply/data_plane.h"
#include "netplane/kernel/bpf/data_maps.h"
#include "netplane/plan/actual.h"
#include "netplane/plan/ops.h"

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace shoal::apply {

inline constexpr std::size_t kSlotsPerWrite = 65'536;  // 256 KiB at once

class PlanRunner {
public:
  PlanRunner(kernel::DataMaps& maps, plan::Actual& actual, plan::Stamp stamp)
      : maps_(maps), actual_(actual), stamp_(stamp) {}

  void run(const plan::Plan& plan);
  std::size_t operations() const { return operations_; }  // items carried out
  std::vector<ObjectError>& errors() { return errors_; }

private:
  template <class Batch>
  void run_batch(const Batch& batch);
  template <class Batch>
  void note(const Batch& batch);
  template <class Item>
  bool skipped(const Item& item) const;
  template <class Item>
  void failed(const Item& item, Error error);

  Result<> write(const plan::OpenServices& batch);
  Result<> write(const plan::SetBackends& batch);
  Result<> write(const plan::WriteRings& batch);
  Result<> build(const plan::WriteRings::Item& item, std::span<model::BackendId> blocks);
  Result<> write(const plan::SwitchRings& batch);
  Result<> write(const plan::AddSourceRanges& batch);
  Result<> write(const plan::RemoveSourceRanges& batch);
  Result<> write(const plan::SetFrontends& batch);
  Result<> write(const plan::SetVips& batch);
  Result<> write(const plan::DeleteFrontends& batch);
  Result<> write(const plan::DeleteVips& batch);
  Result<> write(const plan::RetireBackends& batch);
  Result<> write(const plan::RetireServices& batch);
  Result<> write(const plan::FreeBackends& batch);

  kernel::DataMaps& maps_;
  plan::Actual& actual_;
  plan::Stamp stamp_;
  std::map<plan::ServiceIndex, std::string> names_;
  std::set<plan::ServiceIndex> failed_;
  std::size_t operations_ = 0;
  plan::RingBuilder ring_builder_;
  std::vector<model::BackendId> ring_slots_;  // of rings that lie one behind the other
  std::unordered_map<plan::ServiceIndex, std::uint64_t> ring_contents_;  // digests, as written
  std::vector<ObjectError> errors_;
};

}  // namespace shoal::apply
