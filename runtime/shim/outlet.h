// SPDX-License-Identifier: Apache-2.0
// Outlet: where a shim's answers and events go, and who watches its descriptors. Implemented by the
// server. Part of the static shim.
#pragma once

#include "runtime/shim/protocol.h"

#include <cstdint>

namespace shoal::runtime::shim {

struct ReplyTo {
  std::uint64_t connection = 0;
  std::uint32_t seq = 0;
};

class Outlet {
public:
  virtual ~Outlet() = default;
  virtual void reply(const ReplyTo& to, const Reply& reply) = 0;
  virtual void publish(const ContainerState& state) = 0;
  virtual bool watch(int fd, std::uint64_t tag) = 0;  // readable: Supervisor::on_output(tag)
  // Ready for what is asked for here, or broken: Attachments::on_ready(tag). Neither: no longer.
  virtual bool watch_attached(int fd, std::uint64_t tag, bool readable, bool writable) = 0;
  virtual void unwatch(int fd) = 0;
};

}  // namespace shoal::runtime::shim
