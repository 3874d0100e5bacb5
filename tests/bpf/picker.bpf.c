// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * For the test of picks under change: picks as every hook does and judges each. A backend's address
 * there says whose it is and of which version of its service: 10.SERVICE.VERSION.n, on port 8000 +
 * SERVICE; all backends of a ring are of one version.
 */
#include "bpf/lib/lb.h"

#define SERVICES 8
#define PICKS_PER_RUN 64

struct verdicts_of_picks {
  __u64 picks;
  __u64 nobody;  /* every service always has backends */
  __u64 foreign; /* another service's backend */
  __u64 mixed;   /* two versions in one ring */
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct verdicts_of_picks);
} verdicts SEC(".maps");

static __always_inline __u64 ref_of(__u32 service) {
  __u64* ref = bpf_map_lookup_elem(&shoal_ring_refs, &service);

  return ref ? *(volatile __u64*)ref : 0;
}

SEC("tc")
int judge_picks(struct __sk_buff* skb) {
  const struct shoal_backend *one, *other;
  __u8 one_version, other_version;
  __u32 zero = 0, service, id;
  __u64 before;
  int i;
  struct verdicts_of_picks* seen = bpf_map_lookup_elem(&verdicts, &zero);

  (void)skb;
  if (!seen)
    return 1;
  for (i = 0; i < PICKS_PER_RUN / 2; i++) {
    service = bpf_get_prandom_u32() % SERVICES;
    before = ref_of(service);
    one = ring_pick(service, bpf_get_prandom_u32(), &id);
    if (!one) {
      seen->nobody++;
      continue;
    }
    if (one->addr.b[13] != service || one->port != bpf_htons(8000 + service))
      seen->foreign++;
    one_version = one->addr.b[14];
    other = ring_pick(service, bpf_get_prandom_u32(), &id);
    if (!other) {
      seen->nobody++;
      continue;
    }
    if (other->addr.b[13] != service || other->port != bpf_htons(8000 + service))
      seen->foreign++;
    other_version = other->addr.b[14];
    seen->picks += 2;
    if (before == ref_of(service) && one_version != other_version)
      seen->mixed++;
  }
  return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
