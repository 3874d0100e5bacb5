// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/console.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace shoal::runtime::shim {
namespace {

constexpr const char* kSocketName = "console.sock";

}  // namespace

std::string Console::path() const {
  return "/proc/self/fd/" + std::to_string(folder_.get()) + "/" + kSocketName;
}

Result<Console> Console::listen(const std::string& folder) {
  Console console;
  console.folder_ = UniqueFd(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  console.listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!console.folder_ || !console.listener_)
    return fail_errno("make a socket for the container's terminal");
  ::unlinkat(console.folder_.get(), kSocketName, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, console.path().c_str(), sizeof(address.sun_path) - 1);
  if (::bind(console.listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) !=
          0 ||
      ::listen(console.listener_.get(), 1) != 0)
    return fail_errno("listen for the container's terminal");
  return console;
}

Result<UniqueFd> Console::take() {
  ::unlinkat(folder_.get(), kSocketName, 0);
  const UniqueFd peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!peer)
    return fail_errno("the OCI runtime sent no terminal");
  char bytes[512];  // a name comes along
  iovec part{bytes, sizeof(bytes)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  if (::recvmsg(peer.get(), &header, MSG_CMSG_CLOEXEC) < 0)
    return fail_errno("take the container's terminal");
  const cmsghdr* rights = CMSG_FIRSTHDR(&header);
  if (rights == nullptr || rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS ||
      rights->cmsg_len != CMSG_LEN(sizeof(int)))
    return fail(Errc::kCorrupt, "the OCI runtime sent no terminal");
  int fd;
  std::memcpy(&fd, CMSG_DATA(rights), sizeof(int));
  UniqueFd terminal(fd);
  if (::isatty(fd) != 1)
    return fail(Errc::kCorrupt, "what the OCI runtime sent is no terminal");
  return terminal;
}

}  // namespace shoal::runtime::shim
