// SPDX-License-Identifier: Apache-2.0
// The default seccomp profile, held as data in runtime/spec/seccomp_default_v1.json: a list of OCI
// `syscalls` entries. It is an allow-list (what it does not name fails with EPERM): ordinary calls
// of programs, none that change the host (mounts, modules, clocks set by absolute value, keyrings,
// bpf, perf, io_uring), no new namespaces, no AF_ALG and no AF_VSOCK sockets; clone3 answers
// ENOSYS, so that libc falls back to clone, whose flags can be read. A change of behaviour is a new
// file with the next number.
#pragma once

#include <string>
#include <string_view>

namespace shoal::runtime {

std::string_view default_seccomp_rules();  // JSON
std::string default_seccomp_profile();     // the OCI `seccomp` object with them

}  // namespace shoal::runtime
