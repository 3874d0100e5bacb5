// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * For tests of the overlay program: BPF_PROG_TEST_RUN gives a packet no tunnel key, so this gives
 * it one, as though it had come from `sender` with `vni`, and then runs the program under test.
 */
#include "bpf/lib/common.h"

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u32);
} tested SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(
      value, struct {
        __u32 sender;
        __u32 vni;
      });
} tunnel SEC(".maps");

SEC("tc")
int through_tunnel(struct __sk_buff* skb) {
  struct bpf_tunnel_key key = {};
  __u32 zero = 0;
  struct {
    __u32 sender;
    __u32 vni;
  }* t = bpf_map_lookup_elem(&tunnel, &zero);

  if (!t)
    return 100;
  key.tunnel_id = t->vni;
  key.local_ipv4 = t->sender; /* what the reader of a received key sees as the remote */
  key.remote_ipv4 = t->sender;
  if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), 0))
    return 101;
  bpf_tail_call(skb, &tested, 0);
  return 102;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
