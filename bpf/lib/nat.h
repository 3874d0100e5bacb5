/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Changes to a packet's headers. Checksums are kept by differences through the kernel's helpers,
 * which know the three states a packet's checksum can be in (done, left to the device, summed by
 * the device).
 *
 * The third state is the delicate one: skb->csum sums everything from the IP header on. Changing an IPv4 header
 * leaves that sum as it was, since the header's own checksum changes along; an IPv6 header has none, so there
 * bpf_csum_update adds the difference. (BPF_F_RECOMPUTE_CSUM does so too, for some 40 ns in every state.)
 */
#ifndef SHOAL_LIB_NAT_H
#define SHOAL_LIB_NAT_H

#include "parse.h"

#define IP_CHECK_OFF (L3_OFF + offsetof(struct iphdr, check))

/* One's complement sums, of 32-bit words into 64 bits: many fit before they must be folded. */
static __always_inline __u32 sum_fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (__u32)sum;
}

static __always_inline __u16 sum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

static __always_inline __u64 addr_sum(const struct shoal_addr *a)
{
	const __u32 *w = (const __u32 *)a->b;

	return (__u64)w[0] + w[1] + w[2] + w[3];
}

static __always_inline __u64 addr_sum_negated(const struct shoal_addr *a)
{
	const __u32 *w = (const __u32 *)a->b;

	return (__u64)(__u32)~w[0] + (__u32)~w[1] + (__u32)~w[2] + (__u32)~w[3];
}

/* An address in the IP header, and the checksums that it is part of. `mangled`: as bpf_l4_csum_replace wants it. */
static __always_inline int nat_addr(struct __sk_buff *skb, const bool v6, const bool destination, __u32 check_off,
				    __u64 mangled, const struct shoal_addr *from, const struct shoal_addr *to)
{
	__u32 off, diff;

	if (v6) {
		off = L3_OFF + (destination ? offsetof(struct ipv6hdr, daddr) : offsetof(struct ipv6hdr, saddr));
		diff = sum_fold32(addr_sum_negated(from) + addr_sum(to));
		if (bpf_l4_csum_replace(skb, check_off, 0, diff, BPF_F_PSEUDO_HDR | mangled) ||
		    bpf_skb_store_bytes(skb, off, to, sizeof(*to), 0))
			return -1;
		bpf_csum_update(skb, diff); /* fails where there is nothing to update */
		return 0;
	}
	off = L3_OFF + (destination ? offsetof(struct iphdr, daddr) : offsetof(struct iphdr, saddr));
	return bpf_l4_csum_replace(skb, check_off, addr_low(from), addr_low(to), BPF_F_PSEUDO_HDR | mangled | 4) ||
	       bpf_l3_csum_replace(skb, IP_CHECK_OFF, addr_low(from), addr_low(to), 4) ||
	       bpf_skb_store_bytes(skb, off, &to->b[12], 4, 0);
}

/*
 * Gives the packet another destination (or source) address and port. Returns 0, or a negative error
 * with the packet in an undefined state: drop it. p's key follows.
 */
static __always_inline int nat(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6, const bool destination,
			       const struct shoal_addr *addr, __be16 port)
{
	struct shoal_addr *own_addr = destination ? &p->key.daddr : &p->key.saddr;
	__be16 *own_port = destination ? &p->key.dport : &p->key.sport;
	__u32 l4_off = p->l4_off;
	__u32 check_off, port_off = destination ? l4_off + 2 : l4_off;
	__u64 mangled = 0;

	if (p->key.proto == IPPROTO_TCP) {
		check_off = l4_off + offsetof(struct tcphdr, check);
	} else {
		check_off = l4_off + offsetof(struct udphdr, check);
		mangled = BPF_F_MARK_MANGLED_0; /* 0 means "no checksum" and stays 0 */
	}
	if ((v6 ? !addr_equal(own_addr, addr) : addr_low(own_addr) != addr_low(addr)) &&
	    nat_addr(skb, v6, destination, check_off, mangled, own_addr, addr))
		return -1;
	if (*own_port != port) {
		if (bpf_l4_csum_replace(skb, check_off, *own_port, port, mangled | 2) ||
		    bpf_skb_store_bytes(skb, port_off, &port, 2, 0))
			return -1;
	}
	addr_copy(own_addr, addr);
	*own_port = port;
	return 0;
}

/* Of a later fragment, whose layer 4 checksum is in the first one. */
static __always_inline int nat_later(struct __sk_buff *skb, const bool v6, const bool destination,
				     const struct shoal_addr *from, const struct shoal_addr *to)
{
	__u32 off;

	if (v6) {
		off = L3_OFF + (destination ? offsetof(struct ipv6hdr, daddr) : offsetof(struct ipv6hdr, saddr));
		return (int)bpf_skb_store_bytes(skb, off, to, sizeof(*to), BPF_F_RECOMPUTE_CSUM);
	}
	off = L3_OFF + (destination ? offsetof(struct iphdr, daddr) : offsetof(struct iphdr, saddr));
	return bpf_l3_csum_replace(skb, IP_CHECK_OFF, addr_low(from), addr_low(to), 4) ||
	       bpf_skb_store_bytes(skb, off, &to->b[12], 4, 0);
}

/*
 * A SYN's maximum segment size, made no larger than mss_max. One that says nothing means 536 bytes (RFC 9293,
 * 3.7.1), or 1220, and may go on saying so. Returns 0, or a negative error with the packet undefined.
 */
SHOAL_GLOBAL int clamp_mss(struct __sk_buff *skb, __u32 l4_off, __u32 mss_max)
{
	__u8 option[4];
	__u32 off, end;
	__u16 old, clamped;
	int i;

	if (bpf_skb_load_bytes(skb, l4_off + 12, option, 1))
		return -1;
	off = l4_off + sizeof(struct tcphdr);
	end = l4_off + (option[0] >> 4) * 4;
	for (i = 0; i < TCP_OPTION_BYTES_MAX && off + sizeof(option) <= end; i++) {
		if (bpf_skb_load_bytes(skb, off, option, sizeof(option)))
			return -1;
		if (option[0] == TCP_OPTION_END)
			return 0;
		if (option[0] == TCP_OPTION_NOP) {
			off++;
			continue;
		}
		if (option[1] < 2)
			return 0; /* nonsense, for the receiver to judge */
		if (option[0] != TCP_OPTION_MSS || option[1] != sizeof(option)) {
			off += option[1];
			continue;
		}
		__builtin_memcpy(&old, option + 2, sizeof(old));
		if (bpf_ntohs(old) <= mss_max)
			return 0;
		clamped = bpf_htons(mss_max);
		if (bpf_skb_store_bytes(skb, off + 2, &clamped, sizeof(clamped), 0))
			return -1;
		if ((off - l4_off) & 1) { /* across two of the sum's words */
			old = (__u16)(old << 8 | old >> 8);
			clamped = (__u16)(clamped << 8 | clamped >> 8);
		}
		return (int)bpf_l4_csum_replace(skb, l4_off + offsetof(struct tcphdr, check), old, clamped, 2);
	}
	return 0;
}

/* One hop less. The caller has seen that ttl > 1. */
static __always_inline int ttl_decrement(struct __sk_buff *skb, const bool v6)
{
	struct iphdr *ip;
	__u32 sum;

	if (v6) {
		struct ipv6hdr *ip6;

		if (!reach(skb, L3_OFF + sizeof(*ip6)))
			return -1;
		ip6 = pkt_data(skb) + L3_OFF;
		if ((void *)(ip6 + 1) > pkt_end(skb))
			return -1;
		ip6->hop_limit--;
		bpf_csum_update(skb, ~(__u32)bpf_htons(1)); /* fails where there is nothing to update */
		return 0;
	}
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
