// SPDX-License-Identifier: Apache-2.0
// What a host's maps hold, taken once and put back before each test: loading and verifying the
// programs anew for every one of hundreds of packet tests would take nearly all of their time.
#pragma once

#include "netplane/kernel/bpf/loader.h"

#include <vector>

namespace shoal::bpftest {

// Of every map that a program uses, its own variables included, but for socket storage, whose
// entries end with their sockets. A failure ends the process: nothing that follows would mean
// anything.
class MapsSnapshot {
public:
  explicit MapsSnapshot(const kernel::Loader& loader);
  ~MapsSnapshot();
  void restore() const;

private:
  struct Map;
  std::vector<Map> maps_;
};

}  // namespace shoal::bpftest
