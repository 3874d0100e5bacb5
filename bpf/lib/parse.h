/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Headers of a frame into one struct, by way of bounds that the verifier and a hostile sender both
 * meet. Layer 3 first: whether a short layer 4 matters depends on whose packet it is.
 *
 * A program branches on the ethertype once, at its top. From there on `v6` is a constant in every function that
 * asks for it, so each family has a path of its own without being written twice; addresses are 16 bytes in both.
 */
#ifndef SHOAL_LIB_PARSE_H
#define SHOAL_LIB_PARSE_H

#include <stddef.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "common.h"

#define L3_OFF ETH_HLEN
#define IP_DF bpf_htons(0x4000)
#define IP_MF bpf_htons(0x2000)
#define IP_OFFSET bpf_htons(0x1fff)
#define IP6_MF bpf_htons(0x0001)
#define IP6_OFFSET bpf_htons(0xfff8)

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

enum parse_result {
	PARSE_OK,
	PARSE_MALFORMED,
};

struct shoal_pkt {
	struct shoal_flow_key key; /* as the packet has it; ports 0 until parse_l4; dir is the user's */
	__u16 l4_off; /* at most L4_OFF_MAX */
	__u16 l4_bytes; /* from l4_off to the end of the datagram, by the IP header */
	__u16 frag; /* 0: whole; IP_MF: the first fragment, which has the ports; with IP_OFFSET: a later one */
	__u8 ttl; /* hop limit */
	__u8 tcp_flags;
	__be32 frag_id; /* of a fragment */
	__be32 tcp_ack; /* what it acknowledges */
};

/*
 * The frame's bounds. The verifier wants these two fields read at a constant offset from the
 * context itself, and clang likes to keep "context + offset" in a register when a helper call lies
 * between two reads: so the load is spelled.
 */
static __always_inline void *pkt_data(const struct shoal_ctx *ctx)
{
	void *data;

	asm volatile("%[out] = *(u32 *)(%[ctx] + %[off])"
		     : [out] "=r"(data)
		     : [ctx] "r"(ctx), [off] "i"(offsetof(struct shoal_ctx, data)));
	return data;
}

static __always_inline void *pkt_end(const struct shoal_ctx *ctx)
{
	void *end;

	asm volatile("%[out] = *(u32 *)(%[ctx] + %[off])"
		     : [out] "=r"(end)
		     : [ctx] "r"(ctx), [off] "i"(offsetof(struct shoal_ctx, data_end)));
	return end;
}

#ifdef SHOAL_XDP
/* A frame is in one piece: our programs do not ask for others, and drivers then give them none. */
static __always_inline __u32 pkt_bytes(const struct xdp_md *xdp)
{
	return (__u32)(pkt_end(xdp) - pkt_data(xdp));
}

static __always_inline bool reach(const struct xdp_md *xdp, __u32 bytes)
{
	return pkt_data(xdp) + bytes <= pkt_end(xdp);
}
#else
static __always_inline __u32 pkt_bytes(const struct __sk_buff *skb)
{
	return skb->len;
}

/*
 * The question at a program's top, IPv4 first and as likely(): otherwise clang interleaves the families' blocks, which
 * cost IPv4 some 4 % in the pod program.
 */
static __always_inline bool is_frame(const struct __sk_buff *skb, __u16 ethertype)
{
	return skb->protocol == bpf_htons(ethertype) && !skb->vlan_present;
}

/* Makes the first `bytes` of the frame directly readable. */
static __always_inline bool reach(struct __sk_buff *skb, __u32 bytes)
{
	if (likely(pkt_data(skb) + bytes <= pkt_end(skb)))
		return true;
	return skb->len >= bytes && bpf_skb_pull_data(skb, bytes) == 0;
}
#endif

static __always_inline __u32 ip_bytes(const bool v6)
{
	return v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
}

static __always_inline int parse_v4(struct shoal_ctx *ctx, struct shoal_pkt *p)
{
	__u32 header_bytes, total_bytes;
	struct iphdr *ip;

	if (!reach(ctx, L3_OFF + sizeof(*ip)))
		return PARSE_MALFORMED;
	ip = pkt_data(ctx) + L3_OFF;
	if ((void *)(ip + 1) > pkt_end(ctx))
		return PARSE_MALFORMED;
	header_bytes = ip->ihl * 4;
	total_bytes = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header_bytes < sizeof(*ip) || total_bytes < header_bytes ||
	    L3_OFF + total_bytes > pkt_bytes(ctx))
		return PARSE_MALFORMED;
	__builtin_memset(p, 0, sizeof(*p));
	addr_from_v4(&p->key.saddr, ip->saddr);
	addr_from_v4(&p->key.daddr, ip->daddr);
	p->key.proto = ip->protocol;
	p->l4_off = L3_OFF + header_bytes;
	p->l4_bytes = total_bytes - header_bytes;
	p->frag = ip->frag_off & (IP_MF | IP_OFFSET);
	if (unlikely(p->frag))
		p->frag_id = ip->id;
	p->ttl = ip->ttl;
	return PARSE_OK;
}

/* ---- IPv6 extension headers (RFC 8200, 4)
 * -------------------------------------------------------------- */

#define EXTENSIONS_MAX 6
#define EXTENSION_BYTES_MAX 192
#define L4_OFF_MAX 0xff /* a mask, too */

_Static_assert(L3_OFF + sizeof(struct ipv6hdr) + EXTENSION_BYTES_MAX <= L4_OFF_MAX, "extensions fit l4_off's bound");
_Static_assert(L3_OFF + 15 * 4 <= L4_OFF_MAX, "IPv4 options fit l4_off's bound");

struct extension {
	__u8 next;
	__u8 words; /* 8 bytes each, without the first; of a fragment header: 0 */
	__be16 field; /* fragment: offset and M; routing: type, segments left */
	__be32 rest;
};

static __always_inline bool is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT ||
	       next == IPPROTO_DSTOPTS;
}

#ifdef SHOAL_XDP
/* Left to tc: the extension header is the packet's protocol, one that services do not balance. */
static __always_inline int skip_extensions(struct xdp_md *xdp, struct shoal_pkt *p)
{
	(void)xdp;
	(void)p;
	return PARSE_OK;
}
#else
/*
 * Goes on from the IPv6 header's end, l4_off, to the upper layer. A chain that is longer than the bounds ends at an extension header, which then is
 * the packet's protocol: one that services do not balance. So does a routing header with segments left, since the
 * destination address is not the packet's destination yet.
 */
SHOAL_GLOBAL int skip_extensions(struct __sk_buff *skb, struct shoal_pkt *p)
{
	__u32 start, off, bytes, end;
	struct extension h;
	__u8 next;
	int i;

	if (!p)
		return PARSE_MALFORMED;
	start = off = p->l4_off;
	end = start + p->l4_bytes;
	next = p->key.proto;
	for (i = 0; i < EXTENSIONS_MAX && is_extension(next) && !(p->frag & IP_OFFSET); i++) {
		if (off + sizeof(h) > end || bpf_skb_load_bytes(skb, off, &h, sizeof(h)))
			return PARSE_MALFORMED;
		if (next == IPPROTO_ROUTING && (h.field & bpf_htons(0x00ff)))
			break;
		bytes = sizeof(h);
		if (next == IPPROTO_FRAGMENT) {
			/* Neither offset nor more: an atomic fragment, which is whole (RFC 6946). */
			if (h.field & (IP6_MF | IP6_OFFSET))
				p->frag = h.field & IP6_OFFSET ? IP_OFFSET : IP_MF;
			p->frag_id = h.rest;
		} else {
			bytes += h.words * 8;
		}
		if (off + bytes > end)
			return PARSE_MALFORMED;
		if (off + bytes > start + EXTENSION_BYTES_MAX)
			break;
		off += bytes;
		next = h.next;
	}
	p->key.proto = next;
	p->l4_off = off;
	p->l4_bytes = end - off;
	return PARSE_OK;
}
#endif

static __always_inline int parse_v6(struct shoal_ctx *ctx, struct shoal_pkt *p)
{
	__u32 payload_bytes;
	struct ipv6hdr *ip;

	if (!reach(ctx, L3_OFF + sizeof(*ip)))
		return PARSE_MALFORMED;
	ip = pkt_data(ctx) + L3_OFF;
	if ((void *)(ip + 1) > pkt_end(ctx))
		return PARSE_MALFORMED;
	payload_bytes = bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || L3_OFF + sizeof(*ip) + payload_bytes > pkt_bytes(ctx))
		return PARSE_MALFORMED;
	__builtin_memset(p, 0, sizeof(*p));
	addr_from_v6(&p->key.saddr, ip->saddr.in6_u.u6_addr32);
	addr_from_v6(&p->key.daddr, ip->daddr.in6_u.u6_addr32);
	/* On the wire these are forgeries: in our maps they would be IPv4 addresses. */
	if (addr_is_v4(&p->key.saddr) || addr_is_v4(&p->key.daddr))
		return PARSE_MALFORMED;
	p->key.proto = ip->nexthdr;
	p->l4_off = L3_OFF + sizeof(*ip);
	p->l4_bytes = payload_bytes;
	p->ttl = ip->hop_limit;
	if (unlikely(is_extension(ip->nexthdr)))
		return skip_extensions(ctx, p);
	return PARSE_OK;
}

static __always_inline int parse_l3(struct shoal_ctx *ctx, struct shoal_pkt *p, const bool v6)
{
	return v6 ? parse_v6(ctx, p) : parse_v4(ctx, p);
}

/* ---- layer 4
 * ------------------------------------------------------------------------------------------- */

static __always_inline bool is_icmp(const struct shoal_pkt *p, const bool v6)
{
	return p->key.proto == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

static __always_inline bool is_balanced_proto(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP;
}

/* Ports and TCP flags. For TCP and UDP packets that are no later fragments. */
static __always_inline int parse_l4(struct shoal_ctx *ctx, struct shoal_pkt *p)
{
	__u32 off = p->l4_off;
	void *at;

	/* Known from parse_l3; the verifier is told by a mask that clang must not optimise away. */
	asm volatile("" : "+r"(off));
	off &= L4_OFF_MAX;
	if (p->key.proto == IPPROTO_TCP) {
		struct tcphdr *tcp;

		if (p->l4_bytes < sizeof(*tcp) || !reach(ctx, off + sizeof(*tcp)))
			return PARSE_MALFORMED;
		at = pkt_data(ctx) + off;
		tcp = at;
		if ((void *)(tcp + 1) > pkt_end(ctx))
			return PARSE_MALFORMED;
		if (tcp->doff < 5 || tcp->doff * 4 > p->l4_bytes)
			return PARSE_MALFORMED;
		p->key.sport = tcp->source;
		p->key.dport = tcp->dest;
		p->tcp_flags = ((__u8 *)at)[13];
		p->tcp_ack = tcp->ack_seq;
	} else {
		struct udphdr *udp;

		if (p->l4_bytes < sizeof(*udp) || !reach(ctx, off + sizeof(*udp)))
			return PARSE_MALFORMED;
		at = pkt_data(ctx) + off;
		udp = at;
		if ((void *)(udp + 1) > pkt_end(ctx))
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

#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2
#define TCP_OPTION_BYTES_MAX 40

/* The largest segment whose packet is `mtu` bytes. */
static __always_inline __u32 mss_of(__u32 mtu, const bool v6)
{
	return mtu - ip_bytes(v6) - sizeof(struct tcphdr);
}

#endif
