/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Changes to a packet's headers. Checksums are kept by differences through the kernel's helpers,
 * which know the three states a packet's checksum can be in (done, left to the device, summed by
 * the device).
 */
#ifndef SHOAL_LIB_NAT_H
#define SHOAL_LIB_NAT_H

#include "parse.h"

#define IP_CHECK_OFF (L3_OFF + offsetof(struct iphdr, check))

/*
 * Gives the packet another destination (or source) address and port. Returns 0, or a negative error
 * with the packet in an undefined state: drop it. p's key follows.
 */
static __always_inline int nat(struct __sk_buff *skb, struct shoal_pkt *p, bool destination,
			       const struct shoal_addr *addr, __be16 port)
{
	__u32 l4_off = p->l4_off;
	__u32 check_off, port_off, addr_off;
	__be32 old_addr, new_addr = addr_v4(addr);
	__be16 old_port;
	__u64 mangled = 0;

	if (destination) {
		addr_off = L3_OFF + offsetof(struct iphdr, daddr);
		port_off = l4_off + 2;
		old_addr = addr_v4(&p->key.daddr);
		old_port = p->key.dport;
	} else {
		addr_off = L3_OFF + offsetof(struct iphdr, saddr);
		port_off = l4_off;
		old_addr = addr_v4(&p->key.saddr);
		old_port = p->key.sport;
	}
	if (p->key.proto == IPPROTO_TCP) {
		check_off = l4_off + offsetof(struct tcphdr, check);
	} else {
		check_off = l4_off + offsetof(struct udphdr, check);
		mangled = BPF_F_MARK_MANGLED_0; /* 0 means "no checksum" and stays 0 */
	}
	if (old_addr != new_addr) {
		if (bpf_l4_csum_replace(skb, check_off, old_addr, new_addr, BPF_F_PSEUDO_HDR | mangled | 4) ||
		    bpf_l3_csum_replace(skb, IP_CHECK_OFF, old_addr, new_addr, 4) ||
		    bpf_skb_store_bytes(skb, addr_off, &new_addr, 4, 0))
			return -1;
	}
	if (old_port != port) {
		if (bpf_l4_csum_replace(skb, check_off, old_port, port, mangled | 2) ||
		    bpf_skb_store_bytes(skb, port_off, &port, 2, 0))
			return -1;
	}
	if (destination) {
		addr_copy(&p->key.daddr, addr);
		p->key.dport = port;
	} else {
		addr_copy(&p->key.saddr, addr);
		p->key.sport = port;
	}
	return 0;
}

/* One hop less. The caller has seen that ttl > 1. */
static __always_inline int ttl_decrement(struct __sk_buff *skb)
{
	struct iphdr *ip;
	__u32 sum;

	if (!reach(skb, L3_OFF + sizeof(*ip)))
		return -1;
	ip = pkt_data(skb) + L3_OFF;
	if ((void *)(ip + 1) > pkt_end(skb))
		return -1;
	sum = (__u32)ip->check + bpf_htons(0x0100);
	ip->check = (__u16)(sum + (sum >= 0xffff));
	ip->ttl--;
	return 0;
}

static __always_inline int set_macs(struct __sk_buff *skb, const __u8 *dst, const __u8 *src)
{
	struct ethhdr *eth;

	if (!reach(skb, sizeof(*eth)))
		return -1;
	eth = pkt_data(skb);
	if ((void *)(eth + 1) > pkt_end(skb))
		return -1;
	__builtin_memcpy(eth->h_dest, dst, ETH_ALEN);
	__builtin_memcpy(eth->h_source, src, ETH_ALEN);
	return 0;
}

#endif
