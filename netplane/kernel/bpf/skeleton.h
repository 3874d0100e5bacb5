// SPDX-License-Identifier: Apache-2.0
// What all skeletons of bpftool have in common. Private to netplane/kernel/bpf.
#pragma once

#include "netplane/kernel/bpf/probes.h"

#include <memory>

namespace shoal::kernel {

template <class S, void (*Destroy)(S*)>
struct SkeletonDeleter {
  void operator()(S* skeleton) const { Destroy(skeleton); }
};
template <class S, void (*Destroy)(S*)>
using Skeleton = std::unique_ptr<S, SkeletonDeleter<S, Destroy>>;

// Before the load: the verifier removes what this kernel lacks.
template <class S>
void set_features(S& skeleton, const Features& f) {
  skeleton.rodata->shoal_has_redirect_peer = f.redirect_peer;
  skeleton.rodata->shoal_has_redirect_neigh = f.redirect_neigh;
  skeleton.rodata->shoal_has_set_retval = f.set_retval;
  skeleton.rodata->shoal_has_sk_storage = f.sk_storage;
  skeleton.rodata->shoal_has_coarse_clock = f.coarse_clock;
}

}  // namespace shoal::kernel
