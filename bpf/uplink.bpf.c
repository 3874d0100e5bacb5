// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * tc on the uplink: north-south. Ingress: answers ARP and neighbour solicitations for the VIPs that this host
 * announces, balances what comes to a VIP, and leaves everything else to the stack.
 *
 *   client --> uplink --+-- backend here:  address rewritten, into the pod
 *                       +-- elsewhere:     unchanged from IP on, over the overlay; the backend's
 *                       |                  host replies (DSR)
 *                       +-- no pod:        address rewritten, to the stack
 *                       +-- none, or no such port: refused at once
 *
 * With native routes, what pods of other hosts send comes here, too, and goes straight to the pod.
 *
 * Egress: replies that the stack has for the LAN, of backends that are no pods, get the VIP back.
 */
#include "lib/balance.h"
#include "lib/native.h"
#include "lib/ndp.h"
#include "lib/return.h"

#define VLAN_ID 0x0fff

#define PACKET_HOST 0
#define PACKET_OTHERHOST 3

/* The address of this uplink, when `asked` is a VIP to be answered for; else NULL. */
static __always_inline const struct shoal_uplink *announces(__u32 ifindex, const struct shoal_addr *asked)
{
	const struct shoal_vip *vip = vip_lookup(asked);

	if (!vip || !(vip->flags & SHOAL_VIP_ANNOUNCED))
		return NULL;
	return bpf_map_lookup_elem(&shoal_uplinks, &ifindex);
}

static __always_inline int answer_arp(struct __sk_buff *skb)
{
	const struct shoal_uplink *uplink;
	struct shoal_addr asked;
	struct arp_frame f;

	if (!arp_read_request(skb, &f))
		return SHOAL_PASS;
	addr_from_v4(&asked, f.target_ip);
	uplink = announces(skb->ifindex, &asked);
	if (!uplink)
		return SHOAL_PASS;
	if (reply_arp(skb, &f, uplink->mac))
		return drop(SHOAL_DROP_REWRITE);
	return bpf_redirect(skb->ifindex, 0);
}

/* Returns true when it was a solicitation for one of our VIPs, with the verdict in *verdict. */
static __always_inline bool answer_ndp(struct __sk_buff *skb, const struct shoal_pkt *p, int *verdict)
{
	const struct shoal_uplink *uplink;
	struct shoal_addr asked;

	if (!ndp_read_solicitation(skb, p, &asked))
		return false;
	uplink = announces(skb->ifindex, &asked);
	if (!uplink)
		return false;
	if (reply_ndp(skb, p, &asked, (const struct link_address *)uplink->mac, 0))
		*verdict = drop(SHOAL_DROP_REWRITE);
	else
		*verdict = bpf_redirect(skb->ifindex, 0);
	return true;
}

static __always_inline int from_lan(struct __sk_buff *skb, const bool v6)
{
	const struct shoal_config *cfg = config();
	const bool native = cfg && cfg->flags & SHOAL_CONFIG_NATIVE;
	int sender = SENDER_NO_POD, verdict;
	struct shoal_pkt p;

	/* To many, the stack may take it for itself; what is somebody else's it does not. */
	if (skb->pkt_type == PACKET_OTHERHOST || (!v6 && !native && skb->pkt_type != PACKET_HOST))
		return SHOAL_PASS;
	if (parse_l3(skb, &p, v6) != PARSE_OK)
		return SHOAL_PASS; /* the stack counts what is malformed */
	/* Solicitations come by multicast, mostly. */
	if (v6 && p.key.proto == IPPROTO_ICMPV6 && answer_ndp(skb, &p, &verdict))
		return verdict;
	if (native) {
		sender = native_sender(skb, &p, skb->pkt_type == PACKET_HOST);
		if (sender == SENDER_FORGED)
			return drop(SHOAL_DROP_SPOOFED_SOURCE);
	}
	if (skb->pkt_type != PACKET_HOST)
		return SHOAL_PASS;
	if (balance(skb, &p, v6, FROM_LAN, &verdict))
		return verdict;
	if (sender == SENDER_POD) {
		verdict = from_native_pod(skb, &p);
		if (verdict != SHOAL_PASS)
			return verdict;
	}
	/* A machine outside that answers a process of this host, which asked a Service by its packets. */
	if (cfg && unlikely(cfg->flags & SHOAL_CONFIG_STACK_BACKENDS) && is_self(&p.key.daddr, v6) &&
	    from_backend(skb, &p, v6) < 0)
		return drop(SHOAL_DROP_REWRITE);
	return SHOAL_PASS;
}

SEC("tc")
int shoal_uplink(struct __sk_buff *skb)
{
	/* A tag of VLAN 0 says what priority the frame has, and that it is for this device and none above it. */
	if (unlikely(skb->vlan_present && !(skb->vlan_tci & VLAN_ID)) && bpf_skb_vlan_pop(skb))
		return drop(SHOAL_DROP_REWRITE);
	if (likely(is_frame(skb, ETH_P_IP)))
		return from_lan(skb, false);
	if (is_frame(skb, ETH_P_IPV6))
		return from_lan(skb, true);
	if (is_frame(skb, ETH_P_ARP))
		return answer_arp(skb);
	return SHOAL_PASS;
}

SEC("tc")
int shoal_up_out(struct __sk_buff *skb)
{
	if (likely(is_frame(skb, ETH_P_IP)))
		return leaving_stack(skb, false);
	if (is_frame(skb, ETH_P_IPV6))
		return leaving_stack(skb, true);
	return SHOAL_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
