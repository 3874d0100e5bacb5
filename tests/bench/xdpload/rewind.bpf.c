// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * BPF_PROG_TEST_RUN repeats a program on one frame, which the program before has wrapped. This
 * undoes that, makes the frame one of the next flow, and runs the program under test on it: the
 * same for both sides of a comparison.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tests/bench/xdpload/rewind.h"

#define OUTER_BYTES 50
#define OPTION_BYTES 4

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct rewind_plan);
} plan SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u32);
} tested SEC(".maps");

/* A permutation of the flows: neighbours in time are none in memory. */
static __always_inline __u32 scatter(__u32 n) { return n * 0x9e3779b1U; }

static __always_inline int rewind(struct xdp_md* xdp, struct rewind_plan* p, const __u32 source,
                                  const __u32 destination, const __u32 tcp) {
  void *data = (void*)(long)xdp->data, *end = (void*)(long)xdp->data_end;
  __u32 flow, service;

  if (end - data > p->bytes && bpf_xdp_adjust_head(xdp, OUTER_BYTES))
    return 100;
  data = (void*)(long)xdp->data;
  end = (void*)(long)xdp->data_end;
  if (data + tcp + sizeof(struct tcphdr) + OPTION_BYTES > end)
    return 101;
  __builtin_memcpy(data, p->frame, ETH_HLEN);
  flow = scatter(p->next++) & p->flow_mask;
  service = (__u32)(((__u64)scatter(flow) * p->services) >> 32);
  *(__be32*)(data + source) =
      bpf_htonl(bpf_ntohl(*(__be32*)(p->frame + source)) + (flow >> REWIND_PORT_BITS));
  *(__be32*)(data + destination) =
      bpf_htonl(bpf_ntohl(*(__be32*)(p->frame + destination)) + service);
  *(__be16*)(data + tcp) = bpf_htons(REWIND_PORT_FIRST + (flow & ((1 << REWIND_PORT_BITS) - 1)));
  if (p->is_syn)
    *(__be32*)(data + tcp + sizeof(struct tcphdr)) =
        *(__be32*)(p->frame + tcp + sizeof(struct tcphdr));
  bpf_tail_call(xdp, &tested, 0);
  return 102;
}

SEC("xdp")
int rewind4(struct xdp_md* xdp) {
  const __u32 zero = 0, ip = ETH_HLEN;
  struct rewind_plan* p = bpf_map_lookup_elem(&plan, &zero);

  return p ? rewind(xdp, p, ip + 12, ip + 16, ip + sizeof(struct iphdr)) : 103;
}

SEC("xdp")
int rewind6(struct xdp_md* xdp) {
  const __u32 zero = 0, ip = ETH_HLEN;
  struct rewind_plan* p = bpf_map_lookup_elem(&plan, &zero);

  return p ? rewind(xdp, p, ip + 20, ip + 36, ip + sizeof(struct ipv6hdr)) : 103;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
