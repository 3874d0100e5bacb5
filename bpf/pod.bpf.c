// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * tc ingress of the host's end of a pod's veth: everything a pod sends. In order: only its own
 * source address; the reply of a balanced flow gets the VIP back and leaves by the shortest way; a
 * service address that no socket hook translated is balanced here; pods here and on other hosts are
 * reached directly; the rest is the stack's.
 */
#include "lib/balance.h"

static __always_inline int send_reply(struct __sk_buff *skb, struct shoal_pkt *p, const struct shoal_flow *flow)
{
	struct shoal_addr vip;
	int verdict;

	addr_copy(&vip, &flow->addr);
	if (nat(skb, p, false, &vip, flow->port))
		return drop(SHOAL_DROP_REWRITE);
	if (to_known_pod(skb, p, &verdict))
		return verdict;
	return by_fib(skb, p);
}

SEC("tc")
int shoal_pod(struct __sk_buff *skb)
{
	const struct shoal_flow *flow;
	const struct shoal_pod *self;
	struct shoal_pkt p;
	int verdict;

	switch (parse_l3(skb, &p)) {
	case PARSE_OK:
		break;
	case PARSE_OTHER:
		return SHOAL_PASS;
	default:
		return drop(SHOAL_DROP_MALFORMED);
	}
	self = pod_by_addr(&p.key.saddr);
	if (!self || self->ifindex != skb->ifindex)
		return drop(SHOAL_DROP_SPOOFED_SOURCE);
	if (is_balanced_proto(p.key.proto) && !(p.frag & IP_OFFSET)) {
		if (parse_l4(skb, &p) != PARSE_OK)
			return drop(SHOAL_DROP_MALFORMED);
		flow = flow_of_reply(&p);
		if (flow) {
			if (p.frag)
				return drop(SHOAL_DROP_FRAGMENT);
			return send_reply(skb, &p, flow);
		}
	}
	if (balance(skb, &p, false, &verdict))
		return verdict;
	if (to_known_pod(skb, &p, &verdict))
		return verdict;
	return SHOAL_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
