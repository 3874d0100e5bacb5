// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * tc on the host's end of a pod's veth. Ingress: everything a pod sends. In order: only its own
 * source address; the reply of a balanced flow gets the VIP back and leaves by the shortest way; a
 * service address that no socket hook translated is balanced here; pods here and on other hosts are
 * reached directly; the rest is the stack's. Egress: what the stack has for the pod, where replies of backends that are
 * no pods get the VIP back.
 *
 * IPv6 has neighbour discovery among its packets. The pod's gateway is fe80::1, and questions for it are answered
 * here, so that it needs to be no address of the host's.
 */
#include "lib/balance.h"
#include "lib/ndp.h"
#include "lib/return.h"

static __always_inline bool is_gateway(const struct shoal_addr *a)
{
	const struct shoal_addr gateway = SHOAL_POD_GATEWAY6;

	return addr_equal(a, &gateway);
}

/* Answers a question for the gateway with the veth's own address. Returns true with the verdict in *verdict. */
static __always_inline bool answer_ndp(struct __sk_buff *skb, const struct shoal_pkt *p, const __u8 *host_mac,
				       int *verdict)
{
	struct shoal_addr asked;
	struct link_address mac;

	if (!ndp_read_solicitation(skb, p, &asked) || !is_gateway(&asked))
		return false;
	__builtin_memcpy(mac.b, host_mac, ETH_ALEN);
	if (reply_ndp(skb, p, &asked, &mac, NDP_ROUTER))
		*verdict = drop(SHOAL_DROP_REWRITE);
	else
		*verdict = bpf_redirect(skb->ifindex, 0);
	return true;
}

/*
 * What a pod may send from an address that no lease gave it, a link-local one or none: neighbour discovery as a
 * host does it, not as a router, and multicast listener reports. No router forwards these. Router solicitations are
 * not among them: nobody here answers one, and the kernel would keep a neighbour for each of their sources, in a table
 * that all devices share.
 */
static __always_inline bool is_for_the_link(__u8 icmp_type)
{
	return icmp_type == NDP_SOLICITATION || icmp_type == NDP_ADVERTISEMENT || icmp_type == MLD_REPORT ||
	       icmp_type == MLD_DONE || icmp_type == MLD2_REPORT;
}

SHOAL_GLOBAL int from_link_local(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	__u8 host_mac[ETH_ALEN];
	int verdict;

	if (!p || p->key.proto != IPPROTO_ICMPV6 || p->frag || !is_for_the_link(icmp6_type(skb, p)))
		return drop(SHOAL_DROP_SPOOFED_SOURCE);
	/* A unicast frame names the veth's address itself; of a multicast one the stack knows it. */
	if (bpf_skb_load_bytes(skb, 0, host_mac, sizeof(host_mac)))
		return drop(SHOAL_DROP_MALFORMED);
	if (!(host_mac[0] & 1) && answer_ndp(skb, p, host_mac, &verdict))
		return verdict;
	return SHOAL_PASS;
}

static __always_inline int from_pod(struct __sk_buff *skb, const bool v6)
{
	const struct shoal_pod *self;
	int verdict, translated;
	enum known_pod known;
	struct shoal_pkt p;

	if (parse_l3(skb, &p, v6) != PARSE_OK)
		return drop(SHOAL_DROP_MALFORMED);
	self = pod_by_addr(&p.key.saddr);
	if (!self || self->ifindex != skb->ifindex) {
		if (v6 && (addr_is_link_local(&p.key.saddr) || addr_is_unspecified6(&p.key.saddr)))
			return from_link_local(skb, &p);
		return drop(SHOAL_DROP_SPOOFED_SOURCE);
	}
	if (v6 && p.key.proto == IPPROTO_ICMPV6 && answer_ndp(skb, &p, self->host_mac, &verdict))
		return verdict;
	if (is_balanced_proto(p.key.proto) && !(p.frag & IP_OFFSET) && parse_l4(skb, &p) != PARSE_OK)
		return drop(SHOAL_DROP_MALFORMED);
	translated = from_backend(skb, &p, v6);
	if (translated < 0)
		return drop(SHOAL_DROP_REWRITE);
	if (!translated && balance(skb, &p, v6, FROM_POD, &verdict))
		return verdict;
	known = to_known_pod(skb, &p, v6, translated, &verdict);
	if (known == POD_DECIDED)
		return verdict;
	if (known == POD_NOBODY && !translated)
		return SHOAL_PASS;
	return is_self(&p.key.daddr, v6) ? to_host(skb) : by_fib(skb, &p, v6);
}

SEC("tc")
int shoal_pod(struct __sk_buff *skb)
{
	if (likely(is_frame(skb, ETH_P_IP)))
		return from_pod(skb, false);
	if (is_frame(skb, ETH_P_IPV6))
		return from_pod(skb, true);
	return SHOAL_PASS;
}

SEC("tc")
int shoal_pod_out(struct __sk_buff *skb)
{
	if (likely(is_frame(skb, ETH_P_IP)))
		return leaving_stack(skb, false);
	if (is_frame(skb, ETH_P_IPV6))
		return leaving_stack(skb, true);
	return SHOAL_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
