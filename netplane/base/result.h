// SPDX-License-Identifier: Apache-2.0
// Result and Error: how every fallible function of Shoal answers.
//
// A function that can fail because of its environment or its input returns Result<T>. What only a
// bug can cause is an assertion (SHOAL_ASSERT), which ends the program in every build. Exceptions
// do not cross a folder's public headers.
//
// An Error says what was being done, to what, and how to mend it, and wraps its cause on the way
// up:
//   open image store /var/lib/shoal/images: lock: held by another process (pid 812); stop it first
// Log an error once, at the top, never where it is merely passed on.
#pragma once

#include <cstdint>
#include <expected>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

namespace shoal {

enum class Errc : std::uint8_t {
  kInvalid,      // the input is wrong; trying again with the same input cannot help
  kNotFound,     // the thing named does not exist
  kExists,       // the thing to be made exists already
  kConflict,     // a compare-and-write lost, or two owners claim one thing
  kExhausted,    // a pool, quota, table or disk is full
  kUnavailable,  // try again later: a peer or a daemon is away
  kTimeout,      // a bound on time ran out
  kPermission,   // the kernel or a policy said no
  kUnsupported,  // this kernel, build or version does not have it
  kCorrupt,      // stored or received bytes fail their own checks
  kCancelled,    // the caller gave up
  kIo,           // any other failure of a system call
  kInternal,     // an invariant of ours does not hold, and the program can go on
};

std::string_view to_string(Errc code);

class Error {
public:
  Error(Errc code, std::string message, int sys_errno = 0)
      : message_(std::move(message)), sys_errno_(sys_errno), code_(code) {}

  // From an errno value: the code is derived, strerror's text is appended to what.
  static Error from_errno(int sys_errno, std::string_view what);
  // From the calling thread's errno.
  static Error from_errno(std::string_view what);

  Errc code() const { return code_; }
  int sys_errno() const { return sys_errno_; }  // 0 when no system call was behind it
  const std::string& message() const { return message_; }

  // Puts "what: " before the message; the code is kept.
  Error&& wrap(std::string_view what) &&;
  Error with_code(Errc code) && {
    code_ = code;
    return std::move(*this);
  }

private:
  std::string message_;
  int sys_errno_;
  Errc code_;
};

template <class T = void>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(Errc code, std::string message) {
  return std::unexpected<Error>(Error(code, std::move(message)));
}
inline std::unexpected<Error> fail(Error error) { return std::unexpected<Error>(std::move(error)); }
// fail_errno("open /x"): the calling thread's errno, with what was being done.
inline std::unexpected<Error> fail_errno(std::string_view what) {
  return std::unexpected<Error>(Error::from_errno(what));
}
inline std::unexpected<Error> fail_errno(int sys_errno, std::string_view what) {
  return std::unexpected<Error>(Error::from_errno(sys_errno, what));
}

[[noreturn]] void assertion_failed(const char* expression, std::source_location where);

}  // namespace shoal

// Unwraps a Result or returns its error from the enclosing function. It is an expression, and
// nests:
//   auto fd = SHOAL_TRY(open_file(path));
// Not for use in a coroutine (it returns).
#define SHOAL_TRY(expr) SHOAL_TRY_IMPL_(SHOAL_TRY_NAME_(__COUNTER__), expr, )

// The same, and wraps the error with what was being done.
#define SHOAL_TRY_WRAP(expr, what) SHOAL_TRY_IMPL_(SHOAL_TRY_NAME_(__COUNTER__), expr, .wrap(what))

#define SHOAL_TRY_NAME_(counter) SHOAL_TRY_JOIN_(shoal_try_, counter)
#define SHOAL_TRY_JOIN_(a, b) a##b
#define SHOAL_TRY_IMPL_(result, expr, wrapped)                                                     \
  __extension__({                                                                                  \
    auto&& result = (expr);                                                                        \
    if (!result) [[unlikely]]                                                                      \
      return ::std::unexpected<::shoal::Error>(::std::move(result).error() wrapped);               \
    *::std::move(result);                                                                          \
  })

// Holds in every build.
#define SHOAL_ASSERT(expr)                                                                         \
  ((expr) ? static_cast<void>(0)                                                                   \
          : ::shoal::assertion_failed(#expr, ::std::source_location::current()))
