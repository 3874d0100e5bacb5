/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Where a packet goes once its addresses are right: a pod here, another host, or out by the routing
 * table. */
#ifndef SHOAL_LIB_DELIVER_H
#define SHOAL_LIB_DELIVER_H

#include "dsr.h"
#include "maps_lb.h"
#include "maps_net.h"
#include "reply.h"

/*
 * Does a packet fit that is larger than the MTU on the face of it? Yes, when it is many packets in one that each are
 * small enough; and an IPv4 packet that routers may fragment: the stack sees to that.
 */
SHOAL_GLOBAL int fits_after_all(struct __sk_buff *skb, const struct shoal_pkt *p, __u32 mtu)
{
	__u32 header_bytes;
	__be16 frag_off;
	__u8 words;

	if (!p)
		return 0;
	if (skb->gso_size) {
		header_bytes = p->l4_off - L3_OFF + sizeof(struct udphdr);
		if (p->key.proto == IPPROTO_TCP) {
			if (bpf_skb_load_bytes(skb, p->l4_off + 12, &words, sizeof(words)))
				return 0;
			header_bytes = p->l4_off - L3_OFF + (words >> 4) * 4;
		}
		return header_bytes + skb->gso_size <= mtu;
	}
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return 0;
	return bpf_skb_load_bytes(skb, L3_OFF + offsetof(struct iphdr, frag_off), &frag_off, sizeof(frag_off)) == 0 &&
	       !(frag_off & IP_DF);
}

static __always_inline bool is_too_big(struct __sk_buff *skb, const struct shoal_pkt *p, __u32 mtu)
{
	return mtu && unlikely(skb->len > L3_OFF + mtu) && !fits_after_all(skb, p, mtu);
}

/* Where a packet for a service address is seen. What the stack sends is seen on its way out, all else on its way in. */
enum origin {
	FROM_POD,
	FROM_LAN,
	FROM_STACK,
};

/* This host's own address, as its processes have it when they ask a Service without a socket hook. */
static __always_inline bool is_self(const struct shoal_addr *addr, const bool v6)
{
	const struct shoal_config *cfg = config();
	struct shoal_addr self;

	if (!cfg)
		return false;
	addr_copy(&self, &cfg->self[v6]);
	return addr_equal(addr, &self);
}

/*
 * To this host's own stack, as if it had come by the overlay: from a device's egress there is no other way; and the
 * stack's reverse path filter finds service addresses there, since they are routed there.
 */
static __always_inline int to_host(struct __sk_buff *skb)
{
	const struct shoal_config *cfg = config();

	if (!cfg || !cfg->overlay_ifindex)
		return drop(SHOAL_DROP_TUNNEL);
	skb->mark |= SHOAL_MARK_TO_HOST;
	return bpf_redirect(cfg->overlay_ifindex, BPF_F_INGRESS);
}

/* What has been made an answer goes back to where the question came from. */
static __always_inline int back(struct __sk_buff *skb, const enum origin from)
{
	return from == FROM_STACK ? to_host(skb) : (int)bpf_redirect(skb->ifindex, 0);
}

#define ICMP_INTERVAL_NS 1000000ULL
#define ICMP_BURST 50

/*
 * When the next ICMP error would be due if they were told evenly; a burst runs ahead of it. One a program, so one each
 * for what comes from the LAN, from pods and from the overlay. CPUs that meet here may tell one too many.
 */
static __u64 icmp_due_ns;

/* May somebody be told by ICMP? As the kernel has it for its own (icmp_msgs_per_sec, icmp_msgs_burst). */
static __noinline bool icmp_allowed(void)
{
	const __u64 now = bpf_ktime_get_ns();
	__u64 due = *(volatile __u64 *)&icmp_due_ns;

	if (due + ICMP_BURST * ICMP_INTERVAL_NS < now + ICMP_INTERVAL_NS)
		due = now + ICMP_INTERVAL_NS - ICMP_BURST * ICMP_INTERVAL_NS;
	if (due > now)
		return false;
	*(volatile __u64 *)&icmp_due_ns = due + ICMP_INTERVAL_NS;
	return true;
}

/* The sender of what does not fit is told by how much. */
static __always_inline int refuse_too_big(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6, __u32 mtu,
					  const enum origin from)
{
	if (!icmp_allowed())
		return drop(SHOAL_DROP_ICMP_LIMIT);
	count_drop(SHOAL_DROP_TOO_BIG);
	return reply_too_big(skb, p, v6, mtu) ? TC_ACT_SHOT : back(skb, from);
}

/*
 * What a pod's device takes: with redirect_peer, anything; without, its MTU, which is the overlay's. 0: anything.
 */
static __always_inline __u32 pod_mtu(void)
{
	const struct shoal_config *cfg;

	if (shoal_has_redirect_peer)
		return 0;
	cfg = config();
	return cfg ? cfg->overlay_mtu : 0;
}

/*
 * To a pod of this host, past the host's stack: redirect_peer puts the frame where the pod's end of
 * the veth would receive it; without it, the frame leaves by the host's end and takes a trip
 * through the backlog queue.
 */
static __always_inline int to_pod(struct __sk_buff *skb, const struct shoal_pod *pod)
{
	__u32 mtu = pod_mtu();

	if (mtu && skb->len > L3_OFF + mtu && !skb->gso_size)
		return SHOAL_PASS; /* the stack makes fragments of it */
	if (set_macs(skb, pod->mac, pod->host_mac))
		return drop(SHOAL_DROP_REWRITE);
	if (shoal_has_redirect_peer)
		return bpf_redirect_peer(pod->ifindex, 0);
	return bpf_redirect(pod->ifindex, 0);
}

/* The same from the egress of a device, where there is no redirect_peer. */
static __always_inline int to_pod_by_veth(struct __sk_buff *skb, const struct shoal_pod *pod)
{
	if (set_macs(skb, pod->mac, pod->host_mac))
		return drop(SHOAL_DROP_REWRITE);
	return bpf_redirect(pod->ifindex, 0);
}

static __always_inline int tunnel(struct __sk_buff *skb, __be32 node, __u32 vni)
{
	struct bpf_tunnel_key key = {.tunnel_id = vni, .tunnel_ttl = 64};

	key.remote_ipv4 = bpf_ntohl(node); /* host order, as this helper wants it */
	return bpf_skb_set_tunnel_key(skb, &key, sizeof(key), BPF_F_ZERO_CSUM_TX);
}

/* To a pod of another host, as it is. */
static __always_inline int to_node(struct __sk_buff *skb, __be32 node)
{
	const __u8 dst[ETH_ALEN] = SHOAL_OVERLAY_MAC, src[ETH_ALEN] = SHOAL_OVERLAY_SRC_MAC;
	const struct shoal_config *cfg = config();

	if (!cfg || !cfg->overlay_ifindex)
		return drop(SHOAL_DROP_TUNNEL);
	if (set_macs(skb, dst, src))
		return drop(SHOAL_DROP_REWRITE);
	if (tunnel(skb, node, SHOAL_VNI_POD))
		return drop(SHOAL_DROP_TUNNEL);
	return bpf_redirect(cfg->overlay_ifindex, 0);
}

/* To a backend of another host, with the pick written into the Ethernet header (shoal_abi.h, DSR).
 */
static __always_inline int send_dsr(struct __sk_buff *skb, const bool v6, const struct shoal_backend *be, bool ask,
				    const struct shoal_config *cfg)
{
	__be16 eth[DSR_HALVES];

	if (!be->node)
		return drop(SHOAL_DROP_FIB);
	dsr_header(eth, v6, be, ask);
	if (bpf_skb_store_bytes(skb, 0, eth, sizeof(eth), 0))
		return drop(SHOAL_DROP_REWRITE);
	if (tunnel(skb, be->node, SHOAL_VNI_DSR))
		return drop(SHOAL_DROP_TUNNEL);
	return bpf_redirect(cfg->overlay_ifindex, 0);
}

/*
 * A client's packet to a backend of another host. One that does not fit into the overlay is never split or lost
 * without a word: its sender is told. A SYN's MSS is made to fit.
 */
static __always_inline int to_node_dsr(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6,
				       const struct shoal_backend *be, bool ask, const enum origin from)
{
	const struct shoal_config *cfg = config();
	__u32 mtu;

	if (!cfg || !cfg->overlay_ifindex)
		return drop(SHOAL_DROP_TUNNEL);
	mtu = cfg->overlay_mtu;
	if (mtu) {
		if (is_too_big(skb, p, mtu))
			return refuse_too_big(skb, p, v6, mtu, from);
		if (is_syn(p) && clamp_mss(skb, p->l4_off, mss_of(mtu, v6)))
			return drop(SHOAL_DROP_REWRITE);
	}
	return send_dsr(skb, v6, be, ask, cfg);
}

/*
 * By the routing table, without the stack's netfilter: replies of balanced flows carry a VIP as
 * their source, which masquerading must not see. What is for this host, or what the table cannot
 * forward, goes to the stack, which also writes the ICMP errors.
 */
static __always_inline int by_fib(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6)
{
	struct bpf_fib_lookup fib = {
		.family = v6 ? AF_INET6 : AF_INET,
		.l4_protocol = p->key.proto,
		.sport = p->key.sport,
		.dport = p->key.dport,
		.ifindex = skb->ifindex,
	};
	long rc;

	if (v6) {
		__builtin_memcpy(fib.ipv6_src, &p->key.saddr, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, &p->key.daddr, sizeof(fib.ipv6_dst));
	} else {
		fib.ipv4_src = addr_low(&p->key.saddr);
		fib.ipv4_dst = addr_low(&p->key.daddr);
	}
	rc = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (rc < 0)
		return drop(SHOAL_DROP_FIB);
	if (rc != BPF_FIB_LKUP_RET_SUCCESS && rc != BPF_FIB_LKUP_RET_NO_NEIGH)
		return SHOAL_PASS;
	if (rc == BPF_FIB_LKUP_RET_NO_NEIGH && !shoal_has_redirect_neigh)
		return SHOAL_PASS; /* the stack resolves the neighbour */
	if (p->ttl <= 1)
		return drop(SHOAL_DROP_TTL);
	if (ttl_decrement(skb, v6))
		return drop(SHOAL_DROP_REWRITE);
	if (rc == BPF_FIB_LKUP_RET_SUCCESS) {
		if (set_macs(skb, fib.dmac, fib.smac))
			return drop(SHOAL_DROP_REWRITE);
		return bpf_redirect(fib.ifindex, 0);
	}
	if (shoal_has_redirect_neigh) {
		struct bpf_redir_neigh next = {.nh_family = fib.family};

		__builtin_memcpy(next.ipv6_nh, fib.ipv6_dst, sizeof(next.ipv6_nh));
		return bpf_redirect_neigh(fib.ifindex, &next, sizeof(next), 0);
	}
	return drop(SHOAL_DROP_FIB);
}

/*
 * A pod whose MTU is larger than the overlay's, since it has native routes to others, or is older than the overlay's
 * MTU, is told so: the tunnel would split its packets without a word.
 */
static __always_inline bool too_big_for_overlay(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6,
						int *verdict)
{
	const struct shoal_config *cfg = config();
	__u32 mtu = cfg ? cfg->overlay_mtu : 0;

	if (!is_too_big(skb, p, mtu))
		return false;
	*verdict = refuse_too_big(skb, p, v6, mtu, FROM_POD);
	return true;
}

enum known_pod {
	POD_DECIDED, /* with a verdict */
	POD_NATIVE, /* of another host, which the routing table leads to */
	POD_NOBODY, /* none, or its hop limit runs out: the stack tells the sender */
};

/*
 * Pods here and pods of other hosts. `tunnel`: by the overlay, however other packets go there: what carries a VIP as its
 * source is nothing for a network that knows its hosts' addresses.
 */
static __always_inline enum known_pod to_known_pod(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6,
						   const bool tunnel, int *verdict)
{
	const struct shoal_node *node;
	const struct shoal_pod *pod;

	pod = pod_by_addr(&p->key.daddr);
	if (!pod) {
		node = node_by_addr(&p->key.daddr);
		if (!node || !node->node || p->ttl <= 1)
			return POD_NOBODY;
		if (!tunnel && node->flags & SHOAL_NODE_NATIVE)
			return POD_NATIVE;
		if (!tunnel && too_big_for_overlay(skb, p, v6, verdict))
			return POD_DECIDED;
		*verdict = ttl_decrement(skb, v6) ? drop(SHOAL_DROP_REWRITE) : to_node(skb, node->node);
		return POD_DECIDED;
	}
	if (p->ttl <= 1)
		return POD_NOBODY;
	*verdict = ttl_decrement(skb, v6) ? drop(SHOAL_DROP_REWRITE) : to_pod(skb, pod);
	return POD_DECIDED;
}

#endif
