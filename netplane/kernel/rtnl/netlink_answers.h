// SPDX-License-Identifier: Apache-2.0
// The answers to one request on a libmnl socket. For what links libmnl. Internal to
// netplane/kernel.
#pragma once

#include "netplane/base/result.h"

#include <cstddef>
#include <cstdint>
#include <libmnl/libmnl.h>

namespace shoal::kernel {

inline constexpr std::size_t kAnswerBytes = 65'536;

// Calls each(const nlmsghdr*) for every message with that sequence number, until the dump ends or
// the kernel says how the request ended; that is the error, told as being of `what`. Messages of
// other requests are passed over.
template <class Each>
Result<> receive_answers(mnl_socket* socket, std::uint32_t sequence, const char* what, Each each) {
  alignas(nlmsghdr) char buffer[kAnswerBytes];
  for (;;) {
    const ssize_t n = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));
    if (n < 0)
      return fail_errno(what);
    int left = static_cast<int>(n);
    for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer);
         mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
      if (message->nlmsg_seq != sequence)
        continue;
      if (message->nlmsg_type == NLMSG_DONE)
        return {};
      if (message->nlmsg_type == NLMSG_ERROR) {
        const auto* verdict = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(message));
        if (verdict->error == 0)
          return {};
        return fail(Error::from_errno(-verdict->error, what));
      }
      each(message);
    }
  }
}

}  // namespace shoal::kernel
