// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * XDP on the uplink: of north-south, what needs nothing but to be sent on to another host. It is turned round in the
 * driver, before the kernel has made an skb of it.
 *
 *   client --> uplink --+-- to a VIP, TCP or UDP, backend elsewhere:  into VXLAN, out of the uplink again
 *                       +-- everything else:                          as it came, to tc (uplink.bpf.c)
 *
 * The pick, the flow table and the counters are tc's own (lib/). Whatever is rare or wants an answer is left to tc, which
 * does all of this too, so this program may be there or not. What it leaves to tc is counted there and not here.
 */
#define SHOAL_XDP
#include "lib/encap.h"
#include "lib/flow.h"

/* Layer 3 and 4 stand where they do without options. */
static __always_inline __u32 l4_off(const bool v6)
{
	return L3_OFF + ip_bytes(v6);
}

static __always_inline bool is_plain(const struct shoal_pkt *p, const bool v6)
{
	return is_balanced_proto(p->key.proto) && !p->frag && p->l4_off == l4_off(v6);
}

/* For this device, not by broadcast nor because somebody listens to all of the wire. */
static __always_inline bool is_for_us(const struct xdp_md *xdp, const struct ethhdr *eth,
				      const struct shoal_config *cfg)
{
	__u32 high, own_high;
	__u16 low, own_low;

	__builtin_memcpy(&high, eth->h_dest, 4);
	__builtin_memcpy(&low, eth->h_dest + 4, 2);
	__builtin_memcpy(&own_high, cfg->uplink_mac, 4);
	__builtin_memcpy(&own_low, cfg->uplink_mac + 4, 2);
	return high == own_high && low == own_low && xdp->ingress_ifindex == cfg->uplink_ifindex;
}

/* ---- a SYN's maximum segment size
 * ---------------------------------------------------------------------------------- */

struct mss_option {
	__u8 kind;
	__u8 bytes;
	__be16 mss;
};

/* The option of a SYN, which stands first in nearly all; NULL: it does not. */
static __always_inline struct mss_option *mss_first(struct xdp_md *xdp, const bool v6)
{
	struct mss_option *option = pkt_data(xdp) + l4_off(v6) + sizeof(struct tcphdr);

	if ((void *)(option + 1) > pkt_end(xdp))
		return NULL;
	return option->kind == TCP_OPTION_MSS && option->bytes == sizeof(*option) ? option : NULL;
}

/* Can clamp_mss_first() make it fit? A header without options says nothing, and may go on saying so. */
static __always_inline bool can_clamp(struct xdp_md *xdp, const bool v6)
{
	struct tcphdr *tcp = pkt_data(xdp) + l4_off(v6);

	if ((void *)(tcp + 1) > pkt_end(xdp))
		return false;
	return tcp->doff == sizeof(*tcp) / 4 || mss_first(xdp, v6);
}

static __always_inline void clamp_mss_first(struct xdp_md *xdp, const bool v6, __u32 mss_max)
{
	struct tcphdr *tcp = pkt_data(xdp) + l4_off(v6);
	struct mss_option *option;
	__u32 sum;

	if ((void *)(tcp + 1) > pkt_end(xdp) || tcp->doff == sizeof(*tcp) / 4)
		return;
	option = mss_first(xdp, v6);
	if (!option || bpf_ntohs(option->mss) <= mss_max)
		return;
	/* RFC 1624, 3: HC' = ~(~HC + ~m + m') */
	sum = (__u16)~tcp->check + (__u16)~option->mss + bpf_htons(mss_max);
	option->mss = bpf_htons(mss_max);
	sum = (sum & 0xffff) + (sum >> 16);
	tcp->check = (__u16) ~(sum + (sum >> 16));
}

/* ---- the way of a packet
 * ------------------------------------------------------------------------------------------- */

/* Sends a packet with its pick, or returns XDP_PASS with the packet still tc's. */
static __always_inline int send(struct xdp_md *xdp, const struct shoal_pkt *p, const bool v6, __u32 bytes, __u8 ecn,
				const struct shoal_config *cfg, const struct shoal_backend *be, bool ask)
{
	const struct shoal_next_hop *hop;
	int rc;

	if (be->flags & SHOAL_BE_LOCAL || !be->node)
		return XDP_PASS;
	hop = next_hop(xdp, be->node);
	if (!hop)
		return XDP_PASS;
	if (unlikely(is_syn(p)) && cfg->overlay_mtu)
		clamp_mss_first(xdp, v6, mss_of(cfg->overlay_mtu, v6));
	rc = encapsulate(xdp, v6, bytes, be, ask, cfg, hop, outer_source_port(&p->key), ecn);
	if (unlikely(rc))
		return rc < 0 ? drop(SHOAL_DROP_REWRITE) : XDP_PASS;
	return XDP_TX;
}

/* The ECN bits of a parsed packet: the lower two of IPv4's second byte, and of IPv6's second, above its flow label. */
static __always_inline __u8 ecn_of(struct xdp_md *xdp, const bool v6)
{
	__u8 *ip = pkt_data(xdp) + L3_OFF;

	if ((void *)(ip + 2) > pkt_end(xdp))
		return 0;
	return v6 ? (ip[1] >> 4) & 3 : ip[1] & 3;
}

static __always_inline int from_lan(struct xdp_md *xdp, const struct shoal_config *cfg, const bool v6)
{
	struct shoal_frontend plain = {.affinity_s = 0};
	const struct shoal_frontend *fe;
	const struct shoal_backend *be;
	__u32 bytes = pkt_bytes(xdp);
	struct shoal_pkt p;
	__u32 service;
	__u64 owner;
	int verdict;

	if (parse_l3(xdp, &p, v6) != PARSE_OK || !is_plain(&p, v6) || parse_l4(xdp, &p) != PARSE_OK)
		return XDP_PASS;
	fe = frontend_lookup(&p.key.daddr, p.key.dport, p.key.proto);
	if (!fe)
		return XDP_PASS;
	service = fe->outside;
	if (service == SHOAL_NO_SERVICE || fe->affinity_s)
		return XDP_PASS;
	/* What says that it is a pod's is held against the pod's host, by tc. */
	if (unlikely(cfg->flags & SHOAL_CONFIG_NATIVE) && node_by_addr(&p.key.saddr))
		return XDP_PASS;
	if (!source_allowed(fe, &p.key.saddr))
		return drop(SHOAL_DROP_SOURCE_RANGE);
	if (cfg->overlay_mtu) {
		if (bytes > L3_OFF + cfg->overlay_mtu)
			return XDP_PASS;
		if (unlikely(is_syn(&p)) && !can_clamp(xdp, v6))
			return XDP_PASS;
	}
	plain.flags = fe->flags;
	plain.outside = service; /* a copy: of this one the compiler knows that it has no affinity */
	owner = flow_find(&p, v6, &plain, service, WAYS_DSR);
	be = flow_found(owner, v6);
	if (!be)
		return XDP_PASS;
	verdict = send(xdp, &p, v6, bytes, ecn_of(xdp, v6), cfg, be, owner & OWNER_ASK);
	if (likely(verdict == XDP_TX))
		flow_count_sent(service, bytes, owner);
	else
		flow_count_left(&p, service, owner);
	return verdict;
}

SEC("xdp")
int shoal_xdp(struct xdp_md *xdp)
{
	const struct shoal_config *cfg = config();
	struct ethhdr *eth = pkt_data(xdp);

	if (!cfg || (void *)(eth + 1) > pkt_end(xdp) || !is_for_us(xdp, eth, cfg) || cfg->flags & SHOAL_CONFIG_SNAT ||
	    !cfg->overlay_ifindex)
		return XDP_PASS;
	/* A VLAN tag is another ethertype: the device that it is for is not this one. */
	if (likely(eth->h_proto == bpf_htons(ETH_P_IP)))
		return from_lan(xdp, cfg, false);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return from_lan(xdp, cfg, true);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
