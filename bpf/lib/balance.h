/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* A packet to a service address, in tc: the same code on the uplink and behind a pod. */
#ifndef SHOAL_LIB_BALANCE_H
#define SHOAL_LIB_BALANCE_H

#include "deliver.h"
#include "icmp.h"

/* Says no to the sender where the protocol has a word for it; the packet counts as dropped for
 * `reason`. */
static __always_inline int refuse_packet(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6,
					 __u32 reason)
{
	int rc;

	count_drop(reason);
	if (p->key.proto == IPPROTO_TCP)
		rc = reply_rst(skb, p, v6);
	else
		rc = reply_port_unreachable(skb, p, v6);
	return rc ? TC_ACT_SHOT : bpf_redirect(skb->ifindex, 0);
}

/* Gives the packet the backend's address: as a flow's packet, a later fragment of one, or an ICMP error about one. */
static __always_inline int make_backends(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6,
					 const struct shoal_addr *addr, __be16 port)
{
	if (unlikely(is_icmp(p, v6)))
		return icmp_to_pod(skb, p, v6, addr, port);
	if (is_later_fragment(p))
		return nat_later(skb, v6, true, &p->key.daddr, addr);
	flow_expect_reply(p, addr, port);
	return nat(skb, p, v6, true, addr, port);
}

static __always_inline int to_backend(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6,
				      const struct shoal_backend *be)
{
	const struct shoal_pod *pod;
	struct shoal_addr addr;
	__be16 port = be->port;

	if (!(be->flags & SHOAL_BE_LOCAL))
		return to_node_dsr(skb, p, v6, be);
	addr_copy(&addr, &be->addr);
	pod = pod_by_addr(&addr);
	if (!pod || pod->generation != be->generation)
		return drop(SHOAL_DROP_STALE_BACKEND);
	if (addr_equal(&addr, &p->key.saddr))
		return drop(SHOAL_DROP_HAIRPIN);
	if (is_too_big(skb, p, pod_mtu()))
		return refuse_too_big(skb, p, v6, pod_mtu());
	if (make_backends(skb, p, v6, &addr, port))
		return drop(SHOAL_DROP_REWRITE);
	return to_pod(skb, pod);
}

/*
 * Returns true when the packet was for a service address, with the verdict in *verdict. `outside`:
 * it comes from the LAN; otherwise from a pod, and its ports have been parsed.
 */
static __always_inline bool balance(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6, const bool outside,
				    int *verdict)
{
	__u32 service = SHOAL_NO_SERVICE;
	const struct shoal_frontend *fe = NULL;
	const struct shoal_backend *be = NULL;
	__u64 ref = ICMP_NO_ERROR;
	int parsed = PARSE_OK;

	if (is_balanced_proto(p->key.proto) && !(p->frag & IP_OFFSET)) {
		if (outside)
			parsed = parse_l4(skb, p);
		if (parsed == PARSE_OK)
			fe = frontend_lookup(&p->key.daddr, p->key.dport, p->key.proto);
		if (fe)
			service = outside ? fe->outside : fe->inside;
	}
	if (fe && service != SHOAL_NO_SERVICE) {
		if (outside && !source_allowed(fe, &p->key.saddr)) {
			*verdict = drop(SHOAL_DROP_SOURCE_RANGE);
			return true;
		}
		be = flow_backend(skb, p, v6, fe, service);
		if (!be) {
			*verdict = refuse_packet(skb, p, v6, SHOAL_DROP_NO_BACKEND);
			return true;
		}
	} else if (is_later_fragment(p) || is_icmp(p, v6)) {
		/* What follows a flow: the rest of a datagram, and errors about its packets. */
		ref = is_icmp(p, v6) ? icmp_backend(skb, p, v6) : frag_backend(skb, p);
		if (ref && ref != ICMP_NO_ERROR)
			be = backend_same((__u32)ref, (__u32)(ref >> 32));
	}
	if (be) {
		*verdict = to_backend(skb, p, v6, be);
		return true;
	}
	if (!vip_lookup(&p->key.daddr))
		return false;
	if (parsed != PARSE_OK)
		*verdict = drop(SHOAL_DROP_MALFORMED);
	else if (is_later_fragment(p))
		*verdict = drop(SHOAL_DROP_FRAGMENT);
	else if (is_balanced_proto(p->key.proto))
		*verdict = refuse_packet(skb, p, v6, SHOAL_DROP_NO_FRONTEND);
	else if (p->frag)
		*verdict = drop(SHOAL_DROP_FRAGMENT);
	else if (ref != ICMP_NO_ERROR)
		*verdict = drop(SHOAL_DROP_ICMP_NO_FLOW);
	else if (is_icmp(p, v6) && reply_echo(skb, p, v6) == 0)
		*verdict = bpf_redirect(skb->ifindex, 0);
	else
		*verdict = drop(SHOAL_DROP_UNSUPPORTED_PROTO);
	return true;
}

#endif
