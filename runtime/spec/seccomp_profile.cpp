// SPDX-License-Identifier: Apache-2.0
#include "runtime/spec/json_writer.h"
#include "runtime/spec/seccomp.h"

#include <array>

namespace shoal::runtime {
namespace {

#if defined(__x86_64__)
constexpr std::array kArchitectures =
    std::to_array<std::string_view>({"SCMP_ARCH_X86_64", "SCMP_ARCH_X86"});
#elif defined(__aarch64__)
constexpr std::array kArchitectures =
    std::to_array<std::string_view>({"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"});
#else
#error "name this architecture and its compatible one for seccomp"
#endif

}  // namespace

std::string default_seccomp_profile() {
  JsonWriter json;
  json.begin_object();
  json.member("defaultAction", "SCMP_ACT_ERRNO").member("defaultErrnoRet", 1);
  json.key("architectures").begin_array();
  for (const std::string_view name : kArchitectures)
    json.value(name);
  json.end_array();
  json.key("syscalls").raw(default_seccomp_rules());
  json.end_object();
  return json.text();
}

}  // namespace shoal::runtime
