/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The way back: what a backend sends to a client of a balanced flow becomes the VIP's. A pod's packets are seen as
 * they leave the pod; those of what is no pod, a process of this host or a machine that was asked on a client's behalf,
 * as they leave the host's stack.
 */
#ifndef SHOAL_LIB_RETURN_H
#define SHOAL_LIB_RETURN_H

#include "deliver.h"
#include "icmp.h"

/* The reply of a pod to itself: it was asked by the VIP, for all it knows. Both ends change. */
static __always_inline int nat_hairpin_reply(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6)
{
	struct shoal_addr self;

	addr_copy(&self, &p->key.saddr);
	return nat(skb, p, v6, true, &self, p->key.dport);
}

SHOAL_GLOBAL int hairpin_reply4(struct __sk_buff *skb, struct shoal_pkt *p)
{
	return p ? nat_hairpin_reply(skb, p, false) : -1;
}

SHOAL_GLOBAL int hairpin_reply6(struct __sk_buff *skb, struct shoal_pkt *p)
{
	return p ? nat_hairpin_reply(skb, p, true) : -1;
}

/*
 * p: a pod's later fragment. Returns 1 when it is the VIP's now, 0 when its datagram is no reply of a balanced flow,
 * or a negative error with the packet undefined.
 */
static __always_inline int do_frag_from_pod(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6)
{
	const struct shoal_frag *kept = frag_lookup(p, SHOAL_FLOW_REVERSE);
	struct shoal_addr vip;

	if (!kept)
		return 0;
	addr_copy(&vip, &kept->addr);
	if (nat_later(skb, v6, false, &p->key.saddr, &vip))
		return -1;
	addr_copy(&p->key.saddr, &vip);
	return 1;
}

SHOAL_GLOBAL int frag_from_pod4(struct __sk_buff *skb, struct shoal_pkt *p)
{
	return p ? do_frag_from_pod(skb, p, false) : -1;
}

SHOAL_GLOBAL int frag_from_pod6(struct __sk_buff *skb, struct shoal_pkt *p)
{
	return p ? do_frag_from_pod(skb, p, true) : -1;
}

/*
 * A packet that belongs to a balanced flow is made one of the VIP's: a reply, a later fragment of one, or an ICMP
 * error about what the client sent. Returns 1 when it was one, 0 when not, a negative error with the packet
 * undefined. A SYN-ACK says how large the client's packets may be, which come over the overlay, or may tomorrow when
 * another host has the VIP.
 */
static __always_inline int from_backend(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6)
{
	const struct shoal_config *cfg;
	struct shoal_flow *flow;
	struct shoal_addr vip;
	__be32 seq;

	if (is_icmp(p, v6))
		return icmp_from_pod(skb, p, v6);
	if (!is_balanced_proto(p->key.proto))
		return 0;
	if (unlikely(p->frag & IP_OFFSET))
		return v6 ? frag_from_pod6(skb, p) : frag_from_pod4(skb, p);
	flow = flow_of_reply(p);
	if (unlikely(p->frag))
		frag_keep_vip(p, flow != NULL);
	if (!flow)
		return 0;
	if (unlikely(flow->flags & SHOAL_FLOW_HAIRPIN) && (v6 ? hairpin_reply6(skb, p) : hairpin_reply4(skb, p)))
		return -1;
	addr_copy(&vip, &flow->addr);
	if (nat(skb, p, v6, false, &vip, flow->port))
		return -1;
	if (unlikely(p->tcp_flags & (TCP_SYN | TCP_FIN))) {
		if (bpf_skb_load_bytes(skb, p->l4_off + offsetof(struct tcphdr, seq), &seq, sizeof(seq)))
			return -1;
		if (p->tcp_flags & TCP_FIN)
			flow->epoch = bpf_ntohl(seq);
		else if (p->tcp_flags & TCP_ACK)
			flow_answered(flow, seq);
	}
	if (unlikely(p->tcp_flags & TCP_SYN)) {
		cfg = config();
		if (cfg && cfg->overlay_mtu && clamp_mss(skb, p->l4_off, mss_of(cfg->overlay_mtu, v6)))
			return -1;
	}
	return 1;
}

/* What leaves the stack may be a reply of a balanced flow. */
static __always_inline bool has_stack_replies(void)
{
	const struct shoal_config *cfg = config();

	return cfg && cfg->flags & (SHOAL_CONFIG_SNAT | SHOAL_CONFIG_STACK_BACKENDS);
}

/* On a packet's way out of the stack, to the LAN, to another host or to a pod. */
static __always_inline int leaving_stack(struct __sk_buff *skb, const bool v6)
{
	struct shoal_pkt p;
	int rc;

	if (!has_stack_replies())
		return SHOAL_PASS;
	if (parse_l3(skb, &p, v6) != PARSE_OK)
		return SHOAL_PASS;
	if (is_balanced_proto(p.key.proto) && !(p.frag & IP_OFFSET) && parse_l4(skb, &p) != PARSE_OK)
		return SHOAL_PASS;
	rc = from_backend(skb, &p, v6);
	if (rc < 0)
		return drop(SHOAL_DROP_REWRITE);
	/* It asked itself, by another host's node port. */
	return unlikely(rc && is_self(&p.key.daddr, v6)) ? to_host(skb) : SHOAL_PASS;
}

#endif
