/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* A packet to a service address, in tc: the same code on the uplink and behind a pod. */
#ifndef SHOAL_LIB_BALANCE_H
#define SHOAL_LIB_BALANCE_H

#include "deliver.h"
#include "icmp.h"

/* Says no to the sender where the protocol has a word for it; the packet counts as dropped for
 * `reason`. */
static __always_inline int refuse_packet(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6,
					 __u32 reason, const enum origin from)
{
	int rc;

	if (p->key.proto != IPPROTO_TCP && !icmp_allowed())
		return drop(SHOAL_DROP_ICMP_LIMIT);
	count_drop(reason);
	if (p->key.proto == IPPROTO_TCP)
		rc = reply_rst(skb, p, v6);
	else
		rc = reply_port_unreachable(skb, p, v6);
	return rc ? TC_ACT_SHOT : back(skb, from);
}

/* Gives a packet that follows a flow, a later fragment or an ICMP error, the backend's address. */
static __always_inline int follow(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6,
				  const struct shoal_addr *addr, __be16 port)
{
	if (is_icmp(p, v6))
		return icmp_to_pod(skb, p, v6, addr, port);
	return nat_later(skb, v6, true, &p->key.daddr, addr);
}

/*
 * Gives a packet another destination, this host's own or one outside, and leaves it to the stack. The reply gets the
 * VIP back on its way out (return.h).
 */
static __always_inline int do_to_stack(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6,
				       const struct shoal_addr *addr, __be16 port)
{
	flow_expect_reply(p, addr, port);
	return nat(skb, p, v6, true, addr, port) ? drop(SHOAL_DROP_REWRITE) : SHOAL_PASS;
}

SHOAL_GLOBAL int to_stack4(struct __sk_buff *skb, struct shoal_pkt *p, const struct shoal_addr *addr, __be16 port)
{
	return p && addr ? do_to_stack(skb, p, false, addr, port) : TC_ACT_SHOT;
}

SHOAL_GLOBAL int to_stack6(struct __sk_buff *skb, struct shoal_pkt *p, const struct shoal_addr *addr, __be16 port)
{
	return p && addr ? do_to_stack(skb, p, true, addr, port) : TC_ACT_SHOT;
}

static __always_inline int to_stack(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6,
				    const struct shoal_addr *addr, __be16 port)
{
	if (unlikely(!is_balanced_proto(p->key.proto) || is_later_fragment(p)))
		return follow(skb, p, v6, addr, port) ? drop(SHOAL_DROP_REWRITE) : SHOAL_PASS;
	return v6 ? to_stack6(skb, p, addr, port) : to_stack4(skb, p, addr, port);
}

/*
 * A packet that was balanced to its own sender, a pod or this host: the VIP becomes the client. Returns 0, or an error with the
 * packet undefined.
 */
static __always_inline int do_hairpin(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6, __be16 port)
{
	struct shoal_addr vip, self;

	if (!is_balanced_proto(p->key.proto) || is_later_fragment(p))
		return -1;
	addr_copy(&vip, &p->key.daddr);
	addr_copy(&self, &p->key.saddr);
	flow_expect_hairpin(p, port);
	return nat(skb, p, v6, false, &vip, p->key.sport) || nat(skb, p, v6, true, &self, port);
}

SHOAL_GLOBAL int hairpin4(struct __sk_buff *skb, struct shoal_pkt *p, __be16 port)
{
	return p ? do_hairpin(skb, p, false, port) : -1;
}

SHOAL_GLOBAL int hairpin6(struct __sk_buff *skb, struct shoal_pkt *p, __be16 port)
{
	return p ? do_hairpin(skb, p, true, port) : -1;
}

static __always_inline int hairpin(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6, __be16 port)
{
	return v6 ? hairpin6(skb, p, port) : hairpin4(skb, p, port);
}

/*
 * To a backend by way of the stack: what is no pod; or, with SNAT, a pod of another host. The clients outside of what
 * is outside too are masqueraded: otherwise it would answer them itself, from an address that they did not ask.
 */
static __always_inline int to_stack_backend(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6,
					    const enum origin from, const struct shoal_backend *be)
{
	const struct shoal_config *cfg = config();
	struct shoal_addr addr;
	int verdict;
	__u32 mtu;

	mtu = cfg && be->node ? cfg->overlay_mtu : 0;
	if (mtu) {
		if (is_too_big(skb, p, mtu))
			return refuse_too_big(skb, p, v6, mtu, from);
		if (is_syn(p) && clamp_mss(skb, p->l4_off, mss_of(mtu, v6)))
			return drop(SHOAL_DROP_REWRITE);
	}
	if (from == FROM_LAN && !(be->flags & SHOAL_BE_LOCAL))
		skb->mark |= SHOAL_MARK_MASQUERADE;
	addr_copy(&addr, &be->addr);
	if (from != FROM_STACK)
		return to_stack(skb, p, v6, &addr, be->port);
	if (be->flags & SHOAL_BE_LOCAL) { /* a process of this host that asks another one of it */
		if (!addr_equal(&addr, &p->key.saddr) || hairpin(skb, p, v6, be->port))
			return drop(SHOAL_DROP_HAIRPIN);
		return to_host(skb);
	}
	if (to_stack(skb, p, v6, &addr, be->port) != SHOAL_PASS)
		return TC_ACT_SHOT;
	verdict = by_fib(skb, p, v6);
	return verdict == SHOAL_PASS ? drop(SHOAL_DROP_FIB) : verdict;
}

/* May pods of other hosts be reached masqueraded, by the stack, and not by DSR? */
static __always_inline bool has_snat(const enum origin from)
{
	const struct shoal_config *cfg = from == FROM_LAN ? config() : NULL;

	return cfg && unlikely(cfg->flags & SHOAL_CONFIG_SNAT);
}

/* `follows`: the packet has no ports of its own (see balance). `ask`: see flow_backend. */
static __always_inline int to_backend(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6,
				      const enum origin from, const bool follows, const struct shoal_backend *be,
				      bool ask)
{
	const struct shoal_pod *pod;
	struct shoal_addr addr;
	__be16 port = be->port;
	int rc;

	if (unlikely(be->flags & SHOAL_BE_STACK) && (be->flags & SHOAL_BE_LOCAL || !be->node))
		return to_stack_backend(skb, p, v6, from, be);
	if (!(be->flags & SHOAL_BE_LOCAL)) {
		if (has_snat(from)) {
			if (follows)
				rc = be->flags & SHOAL_BE_SNAT ? WAY_SNAT : WAY_DSR;
			else
				rc = flow_way(p, be);
			if (rc == WAY_SNAT)
				return to_stack_backend(skb, p, v6, from, be);
			ask |= rc == WAY_DSR_IF_KNOWN;
		}
		return to_node_dsr(skb, p, v6, be, ask, from);
	}
	addr_copy(&addr, &be->addr);
	pod = pod_by_addr(&addr);
	/* Generation 0: written by hand, an address whoever has it. */
	if (!pod || (be->generation && pod->generation != be->generation))
		return drop(SHOAL_DROP_STALE_BACKEND);
	if (unlikely(addr_equal(&addr, &p->key.saddr))) {
		if (from != FROM_POD)
			return drop(SHOAL_DROP_SPOOFED_SOURCE);
		return hairpin(skb, p, v6, port) ? drop(SHOAL_DROP_HAIRPIN) : to_pod(skb, pod);
	}
	if (is_too_big(skb, p, pod_mtu()))
		return refuse_too_big(skb, p, v6, pod_mtu(), from);
	if (follows) {
		rc = follow(skb, p, v6, &addr, port);
	} else {
		flow_expect_reply(p, &addr, port);
		rc = nat(skb, p, v6, true, &addr, port);
	}
	if (rc)
		return drop(SHOAL_DROP_REWRITE);
	return from == FROM_STACK ? to_pod_by_veth(skb, pod) : to_pod(skb, pod);
}

/*
 * Returns true when the packet was for a service address, with the verdict in *verdict. The ports have been parsed,
 * but of what comes from the LAN.
 */
static __always_inline bool balance(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6, const enum origin from,
				    int *verdict)
{
	__u32 service = SHOAL_NO_SERVICE;
	const struct shoal_frontend *fe;
	const struct shoal_backend *be;
	bool ask;
	__u64 ref;

	if (unlikely(!is_balanced_proto(p->key.proto) || p->frag & IP_OFFSET))
		goto follows;
	if (from == FROM_LAN && parse_l4(skb, p) != PARSE_OK) {
		if (!vip_lookup(&p->key.daddr))
			return false;
		*verdict = drop(SHOAL_DROP_MALFORMED);
		return true;
	}
	fe = frontend_lookup(&p->key.daddr, p->key.dport, p->key.proto);
	if (fe)
		service = from == FROM_LAN ? fe->outside : fe->inside;
	if (!fe || service == SHOAL_NO_SERVICE) {
		if (!vip_lookup(&p->key.daddr))
			return false;
		*verdict = refuse_packet(skb, p, v6, SHOAL_DROP_NO_FRONTEND, from);
		return true;
	}
	if (from == FROM_LAN && !source_allowed(fe, &p->key.saddr)) {
		*verdict = drop(SHOAL_DROP_SOURCE_RANGE);
		return true;
	}
	be = flow_backend(skb->len, p, v6, fe, service, has_snat(from) ? WAYS_MIXED : WAYS_DSR, &ask);
	if (!be) {
		*verdict = refuse_packet(skb, p, v6, SHOAL_DROP_NO_BACKEND, from);
		return true;
	}
	*verdict = to_backend(skb, p, v6, from, false, be, ask);
	return true;

follows: /* What has no ports but may belong to a flow: the rest of a datagram, errors about its packets. */
	ref = ICMP_NO_ERROR;
	if (is_later_fragment(p))
		ref = frag_backend(skb->len, p);
	else if (is_icmp(p, v6))
		ref = icmp_backend(skb, p, v6, from == FROM_LAN);
	if (ref && ref != ICMP_NO_ERROR) {
		be = backend_same((__u32)ref, (__u32)(ref >> 32));
		if (be) {
			*verdict = to_backend(skb, p, v6, from, true, be, false);
			return true;
		}
		ref = 0;
	}
	if (!vip_lookup(&p->key.daddr))
		return false;
	if (p->frag)
		*verdict = drop(SHOAL_DROP_FRAGMENT);
	else if (!ref)
		*verdict = drop(SHOAL_DROP_ICMP_NO_FLOW);
	else if (is_icmp(p, v6) && reply_echo(skb, p, v6) == 0)
		*verdict = back(skb, from);
	else
		*verdict = drop(SHOAL_DROP_UNSUPPORTED_PROTO);
	return true;
}

#endif
