// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * tc ingress of the host's end of a pod's veth: everything a pod sends. In order: only its own
 * source address; the reply of a balanced flow gets the VIP back and leaves by the shortest way; a
 * service address that no socket hook translated is balanced here; pods here and on other hosts are
 * reached directly; the rest is the stack's.
 *
 * IPv6 has neighbour discovery among its packets. The pod's gateway is fe80::1, and questions for it are answered
 * here, so that it needs to be no address of the host's.
 */
#include "lib/balance.h"
#include "lib/ndp.h"

/*
 * A packet that belongs to a balanced flow is made one of the VIP's: a reply, a later fragment of one, or an ICMP
 * error about what the client sent. Returns 1 when it was one, 0 when not, a negative error with the packet
 * undefined. A SYN-ACK says how large the client's packets may be, which come over the overlay, or may tomorrow when
 * another host has the VIP.
 */
static __always_inline int from_backend(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6)
{
	const struct shoal_config *cfg;
	const struct shoal_flow *flow;
	struct shoal_addr vip;

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
	addr_copy(&vip, &flow->addr);
	if (nat(skb, p, v6, false, &vip, flow->port))
		return -1;
	if (unlikely(p->tcp_flags & TCP_SYN)) {
		cfg = config();
		if (cfg && cfg->overlay_mtu && clamp_mss(skb, p->l4_off, mss_of(cfg->overlay_mtu, v6)))
			return -1;
	}
	return 1;
}

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
 * host does it, not as a router, and multicast listener reports. No router forwards these.
 */
static __always_inline bool is_for_the_link(__u8 icmp_type)
{
	return icmp_type == NDP_SOLICITATION || icmp_type == NDP_ADVERTISEMENT ||
	       icmp_type == NDP_ROUTER_SOLICITATION || icmp_type == MLD_REPORT || icmp_type == MLD_DONE ||
	       icmp_type == MLD2_REPORT;
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
	if (!translated && balance(skb, &p, v6, false, &verdict))
		return verdict;
	if (to_known_pod(skb, &p, v6, &verdict))
		return verdict;
	return translated ? by_fib(skb, &p, v6) : SHOAL_PASS;
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

char LICENSE[] SEC("license") = "Dual BSD/GPL";
