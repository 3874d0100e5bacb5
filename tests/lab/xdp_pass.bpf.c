// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * For the ports of a lab's switch: a veth gives a frame that XDP has sent only to an end that runs
 * XDP, too.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp")
int xdp_pass(struct xdp_md* xdp) {
  (void)xdp;
  return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
