/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Pod to pod without a tunnel (network.mode: native): what comes by the LAN from a pod of another host. */
#ifndef SHOAL_LIB_NATIVE_H
#define SHOAL_LIB_NATIVE_H

#include "deliver.h"

#define MAC_SOURCE_OFF ETH_ALEN

/*
 * Did that host send the frame? Held against the neighbour that it is for this host: the device that leads there, and
 * its MAC. As with the tunnel, where the outer address is all that speaks for a sender, the LAN is trusted not to let
 * a machine take another's. A neighbour that is not known yet cannot be held against anything: a frame that is not
 * a host's first has had a question for this host's MAC before it, by which the kernel knows the one who asked, so this is
 * after entries were flushed; dropped, a host's packets would be lost until this one has something to tell it.
 */
static __always_inline bool is_sent_by(struct __sk_buff *skb, __be32 node)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.ifindex = skb->ifindex,
		.ipv4_dst = node,
	};
	__u8 sender[ETH_ALEN];
	long rc;
	int i;

	rc = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (rc == BPF_FIB_LKUP_RET_NO_NEIGH)
		return fib.ifindex == skb->ifindex;
	if (rc != BPF_FIB_LKUP_RET_SUCCESS && rc != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return false;
	if (fib.ifindex != skb->ifindex || bpf_skb_load_bytes(skb, MAC_SOURCE_OFF, sender, sizeof(sender)))
		return false;
	for (i = 0; i < ETH_ALEN; i++)
		if (sender[i] != fib.dmac[i])
			return false;
	return true;
}

enum native_sender {
	SENDER_NO_POD,
	SENDER_POD,
	SENDER_FORGED, /* a pod of this host, whose packets come by its veth, or not from the pod's host */
};

/* Whatever the packet is for. Pods of other hosts are sent for by one frame to one host, never to many. */
SHOAL_GLOBAL int native_sender(struct __sk_buff *skb, const struct shoal_pkt *p, int to_us)
{
	const struct shoal_node *node = p ? node_by_addr(&p->key.saddr) : NULL;

	if (!node)
		return SENDER_NO_POD;
	return to_us && node->node && is_sent_by(skb, node->node) ? SENDER_POD : SENDER_FORGED;
}

/*
 * The verdict on a packet of a pod of another host. SHOAL_PASS: not for one here. What is for a pod passes the
 * stack by, as its answer does: a firewall on this host that saw one way only would take the connection for broken.
 */
SHOAL_GLOBAL int from_native_pod(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	const bool v6 = skb->protocol == bpf_htons(ETH_P_IPV6);
	const struct shoal_pod *pod;
	struct shoal_addr addr;

	if (!p)
		return SHOAL_PASS;
	addr_copy(&addr, &p->key.daddr); /* 6.1's verifier takes no key from a global function's argument */
	pod = pod_by_addr(&addr);
	if (!pod || p->ttl <= 1)
		return SHOAL_PASS; /* this host itself; or the stack tells the sender */
	if (v6 ? ttl_decrement(skb, true) : ttl_decrement(skb, false))
		return drop(SHOAL_DROP_REWRITE);
	return to_pod(skb, pod);
}

#endif
