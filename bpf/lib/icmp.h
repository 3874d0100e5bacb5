/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * ICMP errors about packets of balanced flows (RFC 5508). The packet that an error quotes names the flow; where the
 * flow's packets are translated, the error is too: its own address and the quoted packet's. Extensions after the
 * quotation (RFC 4884) are not moved, since no length changes.
 */
#ifndef SHOAL_LIB_ICMP_H
#define SHOAL_LIB_ICMP_H

#include "flow.h"
#include "reply.h"

#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMPV6_PARAMPROB 4

/* Errors that a sender's stack wants to hear of. Redirects are for the link only. */
static __always_inline bool is_icmp_error(__u8 type, const bool v6)
{
	if (v6)
		return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/*
 * The quoted packet of the error p. q's key is its flow seen from the other end, for whoever gets an error sent the
 * packet that it quotes: key.saddr:sport is the quoted destination, key.daddr:dport the quoted source. q's l4_off
 * and l4_bytes are where its layer 4 is and how much of it there is. False: no error, or not one about a TCP or UDP
 * packet.
 */
static __always_inline bool icmp_read_quoted(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6,
					     struct shoal_pkt *q)
{
	const __u32 at = p->l4_off + sizeof(struct icmphdr);
	struct icmphdr icmp;
	__u32 header_bytes;
	__be16 ports[2];

	if (p->frag || p->l4_bytes < sizeof(icmp) + ip_bytes(v6) + 8 ||
	    bpf_skb_load_bytes(skb, p->l4_off, &icmp, sizeof(icmp)) || !is_icmp_error(icmp.type, v6))
		return false;
	__builtin_memset(q, 0, sizeof(*q));
	if (v6) {
		if (bpf_skb_load_bytes(skb, at + offsetof(struct ipv6hdr, nexthdr), &q->key.proto, 1) ||
		    bpf_skb_load_bytes(skb, at + offsetof(struct ipv6hdr, saddr), &q->key.daddr, 16) ||
		    bpf_skb_load_bytes(skb, at + offsetof(struct ipv6hdr, daddr), &q->key.saddr, 16))
			return false;
		header_bytes = sizeof(struct ipv6hdr);
	} else {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)))
			return false;
		header_bytes = ip.ihl * 4;
		if (header_bytes < sizeof(ip) || p->l4_bytes < sizeof(icmp) + header_bytes)
			return false;
		addr_from_v4(&q->key.saddr, ip.daddr);
		addr_from_v4(&q->key.daddr, ip.saddr);
		q->key.proto = ip.protocol;
		q->frag = ip.frag_off & IP_OFFSET;
	}
	q->l4_off = at + header_bytes;
	q->l4_bytes = p->l4_bytes - sizeof(icmp) - header_bytes;
	if (v6 && is_extension(q->key.proto) && skip_extensions(skb, q) != PARSE_OK)
		return false;
	if (!is_balanced_proto(q->key.proto) || q->frag & IP_OFFSET || q->l4_bytes < 8 ||
	    bpf_skb_load_bytes(skb, q->l4_off, ports, sizeof(ports)))
		return false;
	q->key.sport = ports[1];
	q->key.dport = ports[0];
	return true;
}

/* A 16-bit word of the packet and what takes its place: the difference for a sum that covers it. */
static __always_inline __u32 word_diff(__u16 from, __u16 to)
{
	return (__u32)(__u16)~from + to;
}

/*
 * Translates an error: `destination`: it goes to addr, and the quoted packet came from addr:port. Otherwise it comes
 * from addr, and the quoted packet went to addr:port. p's key follows. Returns 0, or a negative error with the packet
 * undefined. Sums: what is changed in the message and not made up for by a checksum within it is added to the
 * message's own.
 */
static __always_inline int icmp_nat(struct __sk_buff *skb, struct shoal_pkt *p, const struct shoal_pkt *q,
				    const bool v6, const bool destination, const struct shoal_addr *addr, __be16 port)
{
	const __u32 at = p->l4_off + sizeof(struct icmphdr);
	struct shoal_addr *outer = destination ? &p->key.daddr : &p->key.saddr;
	const struct shoal_addr *from = destination ? &q->key.daddr : &q->key.saddr;
	const __be16 from_port = destination ? q->key.dport : q->key.sport;
	const __u32 outer_off = v6 ? (destination ? offsetof(struct ipv6hdr, daddr) : offsetof(struct ipv6hdr, saddr))
				   : (destination ? offsetof(struct iphdr, daddr) : offsetof(struct iphdr, saddr));
	const __u32 quoted_off =
		v6 ? (destination ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr))
		   : (destination ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr));
	const __u32 bytes = v6 ? 16 : 4, skip = v6 ? 0 : 12;
	const bool is_tcp = q->key.proto == IPPROTO_TCP;
	__u32 addr_diff = sum_fold32(addr_sum_negated(from) + addr_sum(addr));
	__u32 port_diff = word_diff(from_port, port);
	__u32 check_off = q->l4_off + (is_tcp ? offsetof(struct tcphdr, check) : offsetof(struct udphdr, check));
	__u64 message_diff = (__u64)addr_diff + port_diff;
	__u16 check, changed;

	if (bpf_skb_store_bytes(skb, at + quoted_off, &addr->b[skip], bytes, 0) ||
	    bpf_skb_store_bytes(skb, q->l4_off + (destination ? 0 : 2), &port, sizeof(port), 0))
		return -1;
	if (!v6) {
		if (bpf_skb_load_bytes(skb, at + offsetof(struct iphdr, check), &check, sizeof(check)))
			return -1;
		changed = ~sum_fold(sum_fold32((__u64)(__u16)~check + addr_diff));
		if (bpf_skb_store_bytes(skb, at + offsetof(struct iphdr, check), &changed, sizeof(changed), 0))
			return -1;
		message_diff += word_diff(check, changed);
	}
	/* The quotation may end before a TCP checksum; a UDP one may be absent. */
	if (!is_tcp || q->l4_bytes >= offsetof(struct tcphdr, check) + sizeof(check)) {
		if (bpf_skb_load_bytes(skb, check_off, &check, sizeof(check)))
			return -1;
		if (is_tcp || check) {
			changed = ~sum_fold(sum_fold32((__u64)(__u16)~check + addr_diff + port_diff));
			if (bpf_skb_store_bytes(skb, check_off, &changed, sizeof(changed), 0))
				return -1;
			message_diff += word_diff(check, changed);
		}
	}
	if (v6)
		message_diff += addr_diff; /* the pseudo header */
	if (bpf_l4_csum_replace(skb, p->l4_off + offsetof(struct icmphdr, checksum), 0, sum_fold32(message_diff), 0))
		return -1;
	if (!v6 && bpf_l3_csum_replace(skb, IP_CHECK_OFF, addr_low(outer), addr_low(addr), 4))
		return -1;
	if (bpf_skb_store_bytes(skb, L3_OFF + outer_off, &addr->b[skip], bytes, 0))
		return -1;
	addr_copy(outer, addr);
	return 0;
}

/* ---- towards a backend
 * ---------------------------------------------------------------------------------- */

#define ICMP_NO_ERROR (~0ULL)

/*
 * The backend that sent the packet which the error p quotes, as backend_ref() packs it, of a flow that this host
 * balances: p is for the frontend's address, and so was the flow. 0: no such flow; ICMP_NO_ERROR: p is no error.
 */
static __always_inline __u64 do_icmp_backend(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6,
					     bool outside)
{
	const struct shoal_frontend *fe;
	const struct shoal_backend *be;
	const struct shoal_flow *flow;
	struct shoal_pkt q;
	__u32 service;
	__u64 owner;

	if (!icmp_read_quoted(skb, p, v6, &q))
		return ICMP_NO_ERROR;
	if (!addr_equal(&q.key.daddr, &p->key.daddr))
		return 0;
	q.key.dir = SHOAL_FLOW_FORWARD;
	flow = bpf_map_lookup_elem(&shoal_flows, &q.key);
	if (flow)
		return backend_ref(flow->backend, flow->epoch);
	if (q.key.proto != IPPROTO_TCP)
		return 0;
	fe = frontend_lookup(&q.key.daddr, q.key.dport, q.key.proto);
	if (!fe || fe->affinity_s)
		return 0;
	service = outside ? fe->outside : fe->inside;
	if (service == SHOAL_NO_SERVICE)
		return 0;
	/* Whoever has it here; else the slot's owner on another host, whose pod's TCP sees whether it has it. */
	owner = flow_owner(&q, service, flow_number(&q), 0, WAYS_HERE);
	be = backend_valid((__u32)owner);
	if (!be || (owner & OWNER_NONE && !is_elsewhere(be)))
		return 0;
	return backend_ref((__u32)owner, be->epoch);
}

SHOAL_GLOBAL __u64 icmp_backend4(struct __sk_buff *skb, const struct shoal_pkt *p, int outside)
{
	return p ? do_icmp_backend(skb, p, false, outside) : 0;
}

SHOAL_GLOBAL __u64 icmp_backend6(struct __sk_buff *skb, const struct shoal_pkt *p, int outside)
{
	return p ? do_icmp_backend(skb, p, true, outside) : 0;
}

static __always_inline __u64 icmp_backend(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6,
					  const bool outside)
{
	return v6 ? icmp_backend6(skb, p, outside) : icmp_backend4(skb, p, outside);
}

/*
 * At a backend's host: the error p, which was matched with a flow of this backend, here or on the host that balanced
 * it. Returns 0, or an error with the packet undefined.
 */
static __always_inline int do_icmp_to_pod(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6,
					  const struct shoal_addr *addr, __be16 port)
{
	struct shoal_pkt q;

	if (!icmp_read_quoted(skb, p, v6, &q) || !addr_equal(&q.key.daddr, &p->key.daddr))
		return -1;
	return icmp_nat(skb, p, &q, v6, true, addr, port);
}

SHOAL_GLOBAL int icmp_to_pod4(struct __sk_buff *skb, struct shoal_pkt *p, const struct shoal_addr *addr, __be16 port)
{
	return p && addr ? do_icmp_to_pod(skb, p, false, addr, port) : -1;
}

SHOAL_GLOBAL int icmp_to_pod6(struct __sk_buff *skb, struct shoal_pkt *p, const struct shoal_addr *addr, __be16 port)
{
	return p && addr ? do_icmp_to_pod(skb, p, true, addr, port) : -1;
}

static __always_inline int icmp_to_pod(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6,
				       const struct shoal_addr *addr, __be16 port)
{
	return v6 ? icmp_to_pod6(skb, p, addr, port) : icmp_to_pod4(skb, p, addr, port);
}

/* ---- from a pod
 * ----------------------------------------------------------------------------------------- */

/*
 * A pod's error about a packet that it got from a balanced flow becomes one from the VIP, about the packet that the
 * client sent to the VIP. Returns 1 when it was one, 0 when not, or a negative error with the packet undefined.
 */
static __always_inline int do_icmp_from_pod(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6)
{
	const struct shoal_flow *flow;
	struct shoal_addr vip;
	struct shoal_pkt q;

	if (!icmp_read_quoted(skb, p, v6, &q) || !addr_equal(&q.key.saddr, &p->key.saddr) ||
	    !addr_equal(&q.key.daddr, &p->key.daddr))
		return 0;
	q.key.dir = SHOAL_FLOW_REVERSE;
	flow = bpf_map_lookup_elem(&shoal_flows, &q.key);
	if (!flow)
		return 0;
	if (flow->flags & SHOAL_FLOW_HAIRPIN)
		return -1;
	addr_copy(&vip, &flow->addr);
	return icmp_nat(skb, p, &q, v6, false, &vip, flow->port) ? -1 : 1;
}

SHOAL_GLOBAL int icmp_from_pod4(struct __sk_buff *skb, struct shoal_pkt *p)
{
	return p ? do_icmp_from_pod(skb, p, false) : -1;
}

SHOAL_GLOBAL int icmp_from_pod6(struct __sk_buff *skb, struct shoal_pkt *p)
{
	return p ? do_icmp_from_pod(skb, p, true) : -1;
}

static __always_inline int icmp_from_pod(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6)
{
	return v6 ? icmp_from_pod6(skb, p) : icmp_from_pod4(skb, p);
}

#endif
