// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/result.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace shoal {
namespace {

Errc code_of_errno(int sys_errno) {
  switch (sys_errno) {
  case ENOENT:
  case ESRCH:
  case ENODEV:
  case ENXIO:
    return Errc::kNotFound;
  case EEXIST:
    return Errc::kExists;
  case EINVAL:
  case ENAMETOOLONG:
  case ENOTDIR:
  case EISDIR:
  case ELOOP:
    return Errc::kInvalid;
  case ENOSPC:
  case EDQUOT:
  case EMFILE:
  case ENFILE:
  case ENOMEM:
  case E2BIG:
  case ENOBUFS:
    return Errc::kExhausted;
  case EACCES:
  case EPERM:
  case EROFS:
    return Errc::kPermission;
  case EAGAIN:
  case EBUSY:
  case ECONNREFUSED:
  case ENETUNREACH:
  case EHOSTUNREACH:
    return Errc::kUnavailable;
  case ETIMEDOUT:
    return Errc::kTimeout;
  case EOPNOTSUPP:
  case ENOSYS:
  case EPROTONOSUPPORT:
  case EAFNOSUPPORT:
    return Errc::kUnsupported;
  case ECANCELED:
    return Errc::kCancelled;
  default:
    return Errc::kIo;
  }
}

}  // namespace

std::string_view to_string(Errc code) {
  switch (code) {
  case Errc::kInvalid:
    return "invalid";
  case Errc::kNotFound:
    return "not found";
  case Errc::kExists:
    return "exists";
  case Errc::kConflict:
    return "conflict";
  case Errc::kExhausted:
    return "exhausted";
  case Errc::kUnavailable:
    return "unavailable";
  case Errc::kTimeout:
    return "timeout";
  case Errc::kPermission:
    return "permission";
  case Errc::kUnsupported:
    return "unsupported";
  case Errc::kCorrupt:
    return "corrupt";
  case Errc::kCancelled:
    return "cancelled";
  case Errc::kIo:
    return "io";
  case Errc::kInternal:
    return "internal";
  }
  return "?";
}

Error Error::from_errno(int sys_errno, std::string_view what) {
  char buffer[128];
  std::string message(what);
  message += ": ";
  message += strerror_r(sys_errno, buffer, sizeof(buffer));
  return Error(code_of_errno(sys_errno), std::move(message), sys_errno);
}

Error Error::from_errno(std::string_view what) { return from_errno(errno, what); }

Error&& Error::wrap(std::string_view what) && {
  std::string wrapped;
  wrapped.reserve(what.size() + 2 + message_.size());
  wrapped.append(what).append(": ").append(message_);
  message_ = std::move(wrapped);
  return std::move(*this);
}

void assertion_failed(const char* expression, std::source_location where) {
  std::fprintf(stderr, "%s:%u: %s: assertion failed: %s\n", where.file_name(), where.line(),
               where.function_name(), expression);
  std::abort();
}

}  // namespace shoal
