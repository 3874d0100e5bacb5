/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Neighbour discovery (RFC 4861): solicitations, and the advertisements that answer them. */
#ifndef SHOAL_LIB_NDP_H
#define SHOAL_LIB_NDP_H

#include "reply.h"

#define NDP_HOP_LIMIT 255 /* a router on the way would have made it less: the sender is on the link */

#define MLD_REPORT 131
#define MLD_DONE 132
#define NDP_ROUTER_SOLICITATION 133
#define NDP_SOLICITATION 135
#define NDP_ADVERTISEMENT 136
#define MLD2_REPORT 143

#define NDP_ROUTER 0x80000000U
#define NDP_SOLICITED 0x40000000U
#define NDP_OVERRIDE 0x20000000U
#define NDP_TARGET_MAC 2 /* an option */

/* What a MAC address is passed as: its size is known. */
struct link_address {
	__u8 b[ETH_ALEN];
};

/* Both kinds, up to where options begin. */
struct ndp_message {
	struct icmphdr icmp;
	struct shoal_addr target;
};

struct ndp_advertisement {
	struct ndp_message head;
	__u8 option;
	__u8 option_words; /* 8 bytes each */
	__u8 mac[ETH_ALEN];
};

/* The type of a whole ICMPv6 message; 0, which is none, when it is too short to have one. */
static __always_inline __u8 icmp6_type(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	struct icmphdr icmp;

	if (p->l4_bytes < sizeof(icmp) || bpf_skb_load_bytes(skb, p->l4_off, &icmp, sizeof(icmp)))
		return 0;
	return icmp.type;
}

/*
 * Is the packet somebody's question for *target? One without a source address is duplicate address detection
 * (RFC 4862, 5.4), which deserves an answer as well. Extension headers make it none (RFC 6980).
 */
static __always_inline bool ndp_read_solicitation(struct __sk_buff *skb, const struct shoal_pkt *p,
						  struct shoal_addr *target)
{
	struct ndp_message m;

	if (p->key.proto != IPPROTO_ICMPV6 || p->ttl != NDP_HOP_LIMIT ||
	    p->l4_off != L3_OFF + sizeof(struct ipv6hdr) || p->l4_bytes < sizeof(m) ||
	    bpf_skb_load_bytes(skb, p->l4_off, &m, sizeof(m)))
		return false;
	if (m.icmp.type != NDP_SOLICITATION || m.icmp.code || addr_is_multicast6(&m.target) ||
	    addr_equal(&m.target, &p->key.saddr))
		return false;
	addr_copy(target, &m.target);
	return true;
}

/* The target is at `mac`. To a nameless asker the answer is for everybody (RFC 4861, 7.2.4). */
SHOAL_GLOBAL int reply_ndp(struct __sk_buff *skb, const struct shoal_pkt *p, const struct shoal_addr *target,
			   const struct link_address *mac, __u32 flags)
{
	struct ndp_advertisement na;
	struct shoal_addr to;
	struct ethhdr eth;
	struct ipv6hdr ip;
	__u64 sum;

	if (!p || !target || !mac || bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return -1;
	__builtin_memcpy(eth.h_dest, eth.h_source, ETH_ALEN);
	addr_copy(&to, &p->key.saddr);
	flags |= NDP_OVERRIDE;
	if (addr_is_unspecified6(&to)) {
		to.b[0] = 0xff; /* ff02::1, all nodes */
		to.b[1] = 0x02;
		to.b[15] = 0x01;
		__builtin_memset(eth.h_dest, 0, ETH_ALEN);
		eth.h_dest[0] = 0x33;
		eth.h_dest[1] = 0x33;
		eth.h_dest[5] = 0x01;
	} else {
		flags |= NDP_SOLICITED;
	}
	__builtin_memcpy(eth.h_source, mac->b, ETH_ALEN);

	__builtin_memset(&na, 0, sizeof(na));
	na.head.icmp.type = NDP_ADVERTISEMENT;
	na.head.icmp.rest = bpf_htonl(flags);
	addr_copy(&na.head.target, target);
	na.option = NDP_TARGET_MAC;
	na.option_words = 1;
	__builtin_memcpy(na.mac, mac->b, ETH_ALEN);
	sum = addr_sum(target) + addr_sum(&to) + bpf_htons(sizeof(na)) + bpf_htons(IPPROTO_ICMPV6) +
	      sum_of(&na, sizeof(na));
	na.head.icmp.checksum = ~sum_fold(sum_fold32(sum));

	__builtin_memset(&ip, 0, sizeof(ip));
	ip.version = 6;
	ip.payload_len = bpf_htons(sizeof(na));
	ip.nexthdr = IPPROTO_ICMPV6;
	ip.hop_limit = NDP_HOP_LIMIT;
	__builtin_memcpy(&ip.saddr, target, sizeof(ip.saddr));
	__builtin_memcpy(&ip.daddr, &to, sizeof(ip.daddr));
	if (bpf_skb_change_tail(skb, L3_OFF + sizeof(ip) + sizeof(na), 0) ||
	    bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0) ||
	    bpf_skb_store_bytes(skb, L3_OFF, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM))
		return -1;
	return (int)bpf_skb_store_bytes(skb, L3_OFF + sizeof(ip), &na, sizeof(na), BPF_F_RECOMPUTE_CSUM);
}

#endif
