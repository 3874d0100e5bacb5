/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Headers of a frame into one struct, by way of bounds that the verifier and a hostile sender both
 * meet. Layer 3 first: whether a short layer 4 matters depends on whose packet it is. The family
 * ends here: everything after works on 16-byte addresses; frames of IPv6 are reported as
 * PARSE_OTHER until its data path comes.
 */
#ifndef SHOAL_LIB_PARSE_H
#define SHOAL_LIB_PARSE_H

#include <stddef.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "common.h"

#define L3_OFF ETH_HLEN
#define IP_MF bpf_htons(0x2000)
#define IP_OFFSET bpf_htons(0x1fff)

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

enum parse_result {
	PARSE_OK,
	PARSE_OTHER, /* not IPv4: none of our business */
	PARSE_MALFORMED,
};

struct shoal_pkt {
	struct shoal_flow_key key; /* as the packet has it; ports 0 until parse_l4; dir is the user's */
	__u16 l4_off;
	__u16 l4_bytes; /* from l4_off to the end of the datagram, by the IP header */
	__u16 frag; /* 0: whole */
	__u8 ttl;
	__u8 tcp_flags;
};

/*
 * The frame's bounds. The verifier wants these two fields read at a constant offset from the
 * context itself, and clang likes to keep "context + offset" in a register when a helper call lies
 * between two reads: so the load is spelled.
 */
static __always_inline void *pkt_data(const struct __sk_buff *skb)
{
	void *data;

	asm volatile("%[out] = *(u32 *)(%[ctx] + %[off])"
		     : [out] "=r"(data)
		     : [ctx] "r"(skb), [off] "i"(offsetof(struct __sk_buff, data)));
	return data;
}

static __always_inline void *pkt_end(const struct __sk_buff *skb)
{
	void *end;

	asm volatile("%[out] = *(u32 *)(%[ctx] + %[off])"
		     : [out] "=r"(end)
		     : [ctx] "r"(skb), [off] "i"(offsetof(struct __sk_buff, data_end)));
	return end;
}

/* Makes the first `bytes` of the frame directly readable. */
static __always_inline bool reach(struct __sk_buff *skb, __u32 bytes)
{
	if (likely(pkt_data(skb) + bytes <= pkt_end(skb)))
		return true;
	return skb->len >= bytes && bpf_skb_pull_data(skb, bytes) == 0;
}

static __always_inline int parse_l3(struct __sk_buff *skb, struct shoal_pkt *p)
{
	__u32 header_bytes, total_bytes;
	struct iphdr *ip;

	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present)
		return PARSE_OTHER;
	if (!reach(skb, L3_OFF + sizeof(*ip)))
		return PARSE_MALFORMED;
	ip = pkt_data(skb) + L3_OFF;
	if ((void *)(ip + 1) > pkt_end(skb))
		return PARSE_MALFORMED;
	header_bytes = ip->ihl * 4;
	total_bytes = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header_bytes < sizeof(*ip) || total_bytes < header_bytes ||
	    L3_OFF + total_bytes > skb->len)
		return PARSE_MALFORMED;
	__builtin_memset(p, 0, sizeof(*p));
	addr_from_v4(&p->key.saddr, ip->saddr);
	addr_from_v4(&p->key.daddr, ip->daddr);
	p->key.proto = ip->protocol;
	p->l4_off = L3_OFF + header_bytes;
	p->l4_bytes = total_bytes - header_bytes;
	p->frag = ip->frag_off & (IP_MF | IP_OFFSET);
	p->ttl = ip->ttl;
	return PARSE_OK;
}

static __always_inline bool is_balanced_proto(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP;
}

/* Ports and TCP flags. For TCP and UDP packets that are no fragments. */
static __always_inline int parse_l4(struct __sk_buff *skb, struct shoal_pkt *p)
{
	__u32 off = p->l4_off;
	void *at;

	/* At most 74, known from parse_l3; the verifier is told by a mask that clang must not
	 * optimise away. */
	asm volatile("" : "+r"(off));
	off &= 0x7f;
	if (p->key.proto == IPPROTO_TCP) {
		struct tcphdr *tcp;

		if (p->l4_bytes < sizeof(*tcp) || !reach(skb, off + sizeof(*tcp)))
			return PARSE_MALFORMED;
		at = pkt_data(skb) + off;
		tcp = at;
		if ((void *)(tcp + 1) > pkt_end(skb))
			return PARSE_MALFORMED;
		if (tcp->doff < 5 || tcp->doff * 4 > p->l4_bytes)
			return PARSE_MALFORMED;
		p->key.sport = tcp->source;
		p->key.dport = tcp->dest;
		p->tcp_flags = ((__u8 *)at)[13];
	} else {
		struct udphdr *udp;

		if (p->l4_bytes < sizeof(*udp) || !reach(skb, off + sizeof(*udp)))
			return PARSE_MALFORMED;
		at = pkt_data(skb) + off;
		udp = at;
		if ((void *)(udp + 1) > pkt_end(skb))
			return PARSE_MALFORMED;
		p->key.sport = udp->source;
		p->key.dport = udp->dest;
	}
	return PARSE_OK;
}

/* A first packet of a connection: SYN without ACK. */
static __always_inline bool is_syn(const struct shoal_pkt *p)
{
	return p->key.proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

#endif
