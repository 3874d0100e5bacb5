// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * tc ingress of the uplink: north-south. Answers ARP for the VIPs that this host announces,
 * balances what comes to a VIP, and leaves everything else to the stack.
 *
 *   client --> uplink --+-- backend here:  address rewritten, into the pod
 *                       +-- elsewhere:     unchanged from IP on, over the overlay; the backend's
 * host replies (DSR)
 *                       +-- none, or no such port: refused at once
 */
#include "lib/balance.h"

static __always_inline int answer_arp(struct __sk_buff *skb)
{
	const struct shoal_uplink *uplink;
	const struct shoal_vip *vip;
	__u32 ifindex = skb->ifindex;
	struct shoal_addr asked;
	struct arp_frame f;

	if (skb->vlan_present || !arp_read_request(skb, &f))
		return SHOAL_PASS;
	addr_from_v4(&asked, f.target_ip);
	vip = vip_lookup(&asked);
	if (!vip || !(vip->flags & SHOAL_VIP_ANNOUNCED))
		return SHOAL_PASS;
	uplink = bpf_map_lookup_elem(&shoal_uplinks, &ifindex);
	if (!uplink)
		return SHOAL_PASS;
	if (reply_arp(skb, &f, uplink->mac))
		return drop(SHOAL_DROP_REWRITE);
	return bpf_redirect(ifindex, 0);
}

SEC("tc")
int shoal_uplink(struct __sk_buff *skb)
{
	struct shoal_pkt p;
	int verdict;

	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return answer_arp(skb);
	if (skb->pkt_type != 0 /* PACKET_HOST */)
		return SHOAL_PASS;
	if (parse_l3(skb, &p) != PARSE_OK)
		return SHOAL_PASS; /* the stack counts what is malformed */
	if (balance(skb, &p, true, &verdict))
		return verdict;
	return SHOAL_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
