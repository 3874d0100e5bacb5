/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * VXLAN (RFC 7348) around a frame, in XDP: the headers that the overlay device would put there, and the way to the other
 * host, which the kernel's routing and neighbour tables know.
 */
#ifndef SHOAL_LIB_ENCAP_H
#define SHOAL_LIB_ENCAP_H

#include "dsr.h"
#include "maps_lb.h"
#include "parse.h"

#define VXLAN_VNI_VALID 0x08000000U
#define VXLAN_PORTS_FROM 0xc000 /* source ports: RFC 7348's 49152 and up */
#define OUTER_TTL 64

struct vxlanhdr {
	__be32 flags;
	__be32 vni; /* the upper 24 bits */
};

_Static_assert(offsetof(struct ethhdr, h_proto) == 12 &&
		       offsetof(struct shoal_next_hop, smac) == offsetof(struct shoal_next_hop, dmac) + ETH_ALEN,
	       "both MACs lie together, as in a frame");

/* The headers one behind the other; a packed struct of them would be written byte by byte. */
#define OUTER_UDP_OFF (L3_OFF + sizeof(struct iphdr))
#define OUTER_VXLAN_OFF (OUTER_UDP_OFF + sizeof(struct udphdr))
#define OUTER_BYTES (OUTER_VXLAN_OFF + sizeof(struct vxlanhdr)) /* what the overlay adds to a frame */

_Static_assert(OUTER_BYTES == 50, "as user space reckons it in MTUs");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SHOAL_NEXT_HOPS);
	__type(key, __u32);
	__type(value, struct shoal_next_hop);
} shoal_next_hops SEC(".maps");

/*
 * Asks the kernel anew. What is not there is an answer, too: tc's packet has the neighbour resolved meanwhile. That the
 * neighbour's entry stays true is the kernel's care, since the agents of two hosts keep talking over it.
 */
SHOAL_GLOBAL int resolve_next_hop(struct xdp_md *xdp, struct shoal_next_hop *hop, __be32 node, __u32 ticks)
{
	struct bpf_fib_lookup fib = {.family = AF_INET, .l4_protocol = IPPROTO_UDP};
	const struct shoal_config *cfg = config();

	if (!hop || !cfg)
		return -1;
	fib.ifindex = xdp->ingress_ifindex;
	fib.ipv4_src = cfg->underlay;
	fib.ipv4_dst = node;
	/* A path that does not carry the largest packet is the stack's, which says so or splits. */
	if (cfg->overlay_mtu)
		fib.tot_len = cfg->overlay_mtu + OUTER_BYTES;
	hop->node = node;
	hop->checked = ticks;
	hop->ifindex = 0;
	if (bpf_fib_lookup(xdp, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return -1;
	hop->ifindex = fib.ifindex;
	__builtin_memcpy(hop->dmac, fib.dmac, ETH_ALEN);
	__builtin_memcpy(hop->smac, fib.smac, ETH_ALEN);
	return 0;
}

/* The way to another host over the device that the packet came in by; NULL: there is none, or over another device. */
static __always_inline const struct shoal_next_hop *next_hop(struct xdp_md *xdp, __be32 node)
{
	__u32 slot = bpf_ntohl(node) & (SHOAL_NEXT_HOPS - 1);
	__u32 ticks = (__u32)bpf_jiffies64();
	struct shoal_next_hop *hop;

	hop = bpf_map_lookup_elem(&shoal_next_hops, &slot);
	if (!hop)
		return NULL;
	if (unlikely(hop->node != node || ticks - hop->checked > SHOAL_NEXT_HOP_TICKS))
		resolve_next_hop(xdp, hop, node, ticks);
	return hop->ifindex == xdp->ingress_ifindex ? hop : NULL;
}

/* Where the network in between looks for what tells flows apart (RFC 7348, 5). */
static __always_inline __be16 outer_source_port(const struct shoal_flow_key *k)
{
	__u32 h = (addr_low(&k->saddr) ^ ((__u32)k->sport << 16 | k->dport)) * 0x9e3779b1U;

	return bpf_htons((__u16)(h >> 16) | VXLAN_PORTS_FROM);
}

/* The IPv4 header's checksum (RFC 1071). Sums of 16-bit words do not mind their byte order. */
static __always_inline __u16 outer_checksum(__be16 first_word, __be16 tot_len, __be32 saddr, __be32 daddr)
{
	__u32 sum = first_word;

	sum += tot_len;
	sum += IP_DF;
	sum += bpf_htons(OUTER_TTL << 8 | IPPROTO_UDP);
	sum += (saddr & 0xffff) + (saddr >> 16);
	sum += (daddr & 0xffff) + (daddr >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

/* So many 32-bit words, where clang would copy bytes for want of an alignment. */
static __always_inline void put_words(void *to, const void *from, const __u32 words)
{
	__u32 i;

	for (i = 0; i < words; i++)
		((__u32 *)to)[i] = ((const __u32 *)from)[i];
}

/*
 * Puts the outer headers before a frame of `bytes`, whose Ethernet header becomes the pick's. `ecn`: the inner packet's
 * (RFC 6040). Returns 0; or 1 with the frame as it was; or a negative error with the frame undefined.
 */
static __always_inline int encapsulate(struct xdp_md *xdp, const bool v6, __u32 bytes, const struct shoal_backend *be,
				       bool ask, const struct shoal_config *cfg, const struct shoal_next_hop *hop,
				       __be16 source_port, __u8 ecn)
{
	const __be16 first_word = bpf_htons(0x4500 | ecn); /* version, header length, ECN */
	const __be16 tot_len = bpf_htons(bytes + OUTER_BYTES - L3_OFF);
	struct vxlanhdr *vxlan;
	struct udphdr *udp;
	struct iphdr *ip;
	void *data;

	if (bpf_xdp_adjust_head(xdp, -(int)OUTER_BYTES))
		return 1;
	data = pkt_data(xdp);
	if (data + OUTER_BYTES + sizeof(struct shoal_dsr_eth) > pkt_end(xdp))
		return -1;
	put_words(data, hop->dmac, 3); /* and smac */
	*(__be16 *)(data + offsetof(struct ethhdr, h_proto)) = bpf_htons(ETH_P_IP);
	ip = data + L3_OFF;
	*(__be16 *)ip = first_word;
	ip->tot_len = tot_len;
	ip->id = 0; /* with DF it says nothing (RFC 6864) */
	ip->frag_off = IP_DF;
	ip->ttl = OUTER_TTL;
	ip->protocol = IPPROTO_UDP;
	ip->check = outer_checksum(first_word, tot_len, cfg->underlay, be->node);
	ip->saddr = cfg->underlay;
	ip->daddr = be->node;
	udp = data + OUTER_UDP_OFF;
	udp->source = source_port;
	udp->dest = cfg->vxlan_port;
	udp->len = bpf_htons(bytes + OUTER_BYTES - OUTER_UDP_OFF);
	udp->check = 0; /* as RFC 7348 would have it: the inner packet has its own */
	vxlan = data + OUTER_VXLAN_OFF;
	vxlan->flags = bpf_htonl(VXLAN_VNI_VALID);
	vxlan->vni = bpf_htonl(SHOAL_VNI_DSR << 8);
	dsr_header(data + OUTER_BYTES, v6, be, ask);
	return 0;
}

#endif
