/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Answers made out of the packet that asks for them: TCP RST, ICMP port unreachable, ICMP echo
 * reply, ARP reply. Each leaves the frame addressed back to where it came from; the caller sends
 * it. They return 0, or an error with the packet undefined.
 *
 * A received packet's TCP checksum may have been left to a device (CHECKSUM_PARTIAL: always so
 * between veths). There the checksum field holds the sum of the pseudo header, and whoever sends
 * the packet on completes it; otherwise it must hold the complete sum. bpf_l4_csum_replace without
 * BPF_F_PSEUDO_HDR changes nothing in the first state, and adds to the sum in the second: writing
 * the pseudo sum first and adding the rest by that helper is right in both.
 */
#ifndef SHOAL_LIB_REPLY_H
#define SHOAL_LIB_REPLY_H

#include "nat.h"

/* <linux/icmp.h> and <linux/if_arp.h> drag in the C library's headers; this is what of them is
 * used. */
#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_PORT_UNREACH 3
#define ICMP_ECHO 8
#define ARPHRD_ETHER 1
#define ARPOP_REQUEST 1
#define ARPOP_REPLY 2

struct icmphdr {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u32 rest;
};

struct arphdr {
	__be16 ar_hrd;
	__be16 ar_pro;
	__u8 ar_hln;
	__u8 ar_pln;
	__be16 ar_op;
};

#define REPLY_TTL 64
#define ICMP_UNREACH_BYTES (sizeof(struct icmphdr) + sizeof(struct iphdr) + 8) /* RFC 792: IP header + 64 bits */

static __always_inline __u16 sum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

static __always_inline int swap_macs(struct __sk_buff *skb)
{
	__u8 macs[2 * ETH_ALEN], back[2 * ETH_ALEN];

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return -1;
	__builtin_memcpy(back, macs + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(back + ETH_ALEN, macs, ETH_ALEN);
	return (int)bpf_skb_store_bytes(skb, 0, back, sizeof(back), 0);
}

static __always_inline void ip_header(struct iphdr *ip, const struct shoal_pkt *p, __u8 proto, __u16 l4_bytes)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(sizeof(*ip) + l4_bytes);
	ip->frag_off = bpf_htons(0x4000); /* DF; so the id may be 0 (RFC 6864) */
	ip->ttl = REPLY_TTL;
	ip->protocol = proto;
	ip->saddr = addr_v4(&p->key.daddr);
	ip->daddr = addr_v4(&p->key.saddr);
	ip->check = ~sum_fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
}

/* RFC 9293, 3.10.7.1: the reset for a segment that no connection here has. Never in answer to a
 * reset. */
static __noinline int reply_rst(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	const __u32 check_off = L3_OFF + sizeof(struct iphdr) + offsetof(struct tcphdr, check);
	struct {
		struct iphdr ip;
		struct tcphdr tcp;
	} r;
	__be32 pseudo[3];
	struct tcphdr asked;
	__u32 data_bytes, pseudo_sum, header_sum, diff;

	if (!p || p->tcp_flags & TCP_RST)
		return -1;
	if (bpf_skb_load_bytes(skb, p->l4_off, &asked, sizeof(asked)))
		return -1;
	data_bytes = p->l4_bytes - asked.doff * 4;

	__builtin_memset(&r, 0, sizeof(r));
	r.tcp.source = asked.dest;
	r.tcp.dest = asked.source;
	r.tcp.doff = 5;
	r.tcp.rst = 1;
	if (p->tcp_flags & TCP_ACK) {
		r.tcp.seq = asked.ack_seq;
	} else {
		r.tcp.ack = 1;
		r.tcp.ack_seq = bpf_htonl(bpf_ntohl(asked.seq) + data_bytes + !!(p->tcp_flags & TCP_SYN) +
					  !!(p->tcp_flags & TCP_FIN));
	}
	ip_header(&r.ip, p, IPPROTO_TCP, sizeof(r.tcp));
	pseudo[0] = r.ip.saddr;
	pseudo[1] = r.ip.daddr;
	pseudo[2] = bpf_htonl(IPPROTO_TCP << 16 | sizeof(r.tcp));
	pseudo_sum = sum_fold((__u32)bpf_csum_diff(NULL, 0, pseudo, sizeof(pseudo), 0));
	header_sum = sum_fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)&r.tcp, sizeof(r.tcp), 0));
	r.tcp.check = (__u16)pseudo_sum;
	/*
	 * The helper makes c into ~(diff + ~c). With c = pseudo and diff = 2 * pseudo + header that
	 * is
	 * ~(pseudo + header), in one's complement.
	 */
	diff = 2 * pseudo_sum + header_sum;

	if (bpf_skb_change_tail(skb, L3_OFF + sizeof(r), 0) || swap_macs(skb) ||
	    bpf_skb_store_bytes(skb, L3_OFF, &r, sizeof(r), BPF_F_RECOMPUTE_CSUM))
		return -1;
	return (int)bpf_l4_csum_replace(skb, check_off, 0, diff, 0);
}

/*
 * RFC 792 destination unreachable, port unreachable, from the address that was asked. A UDP
 * checksum left to a device would be written at offset 6 of the ICMP header, which is unused, and
 * as a sum over a message that already sums to zero: harmless. That holds without IP options only,
 * so a packet with options gets no answer.
 */
static __noinline int reply_port_unreachable(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	struct {
		struct iphdr ip;
		struct icmphdr icmp;
		__u8 quoted[sizeof(struct iphdr) + 8];
	} r;

	if (!p || p->l4_off != L3_OFF + sizeof(struct iphdr))
		return -1;
	__builtin_memset(&r, 0, sizeof(r));
	if (bpf_skb_load_bytes(skb, L3_OFF, r.quoted, sizeof(r.quoted)))
		return -1;
	r.icmp.type = ICMP_DEST_UNREACH;
	r.icmp.code = ICMP_PORT_UNREACH;
	r.icmp.checksum = ~sum_fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)&r.icmp, ICMP_UNREACH_BYTES, 0));
	ip_header(&r.ip, p, IPPROTO_ICMP, ICMP_UNREACH_BYTES);
	if (bpf_skb_change_tail(skb, L3_OFF + sizeof(r), 0) || swap_macs(skb))
		return -1;
	return (int)bpf_skb_store_bytes(skb, L3_OFF, &r, sizeof(r), BPF_F_RECOMPUTE_CSUM);
}

/* RFC 792 echo: the VIP is up as long as somebody announces it. */
static __noinline int reply_echo(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	const __u8 ttl = REPLY_TTL;
	struct icmphdr icmp;
	__be32 addrs[2], back[2];
	__u16 word, old;
	__u32 off;

	if (!p || p->l4_bytes < sizeof(icmp))
		return -1;
	off = p->l4_off;
	if (bpf_skb_load_bytes(skb, off, &icmp, sizeof(icmp)) || icmp.type != ICMP_ECHO || icmp.code)
		return -1;
	if (bpf_skb_load_bytes(skb, L3_OFF + offsetof(struct iphdr, ttl), &old, sizeof(old)))
		return -1;
	word = (old & bpf_htons(0x00ff)) | bpf_htons(ttl << 8); /* ttl and protocol share a word */
	addrs[0] = addr_v4(&p->key.saddr);
	addrs[1] = addr_v4(&p->key.daddr);
	back[0] = addrs[1];
	back[1] = addrs[0];
	icmp.type = ICMP_ECHOREPLY;
	if (swap_macs(skb) ||
	    bpf_skb_store_bytes(skb, L3_OFF + offsetof(struct iphdr, saddr), back, sizeof(back), 0) ||
	    bpf_l3_csum_replace(skb, IP_CHECK_OFF, old, word, 2) ||
	    bpf_skb_store_bytes(skb, L3_OFF + offsetof(struct iphdr, ttl), &word, sizeof(word), 0) ||
	    bpf_l4_csum_replace(skb, off + offsetof(struct icmphdr, checksum), bpf_htons(ICMP_ECHO << 8), 0, 2))
		return -1;
	return (int)bpf_skb_store_bytes(skb, off, &icmp.type, 1, 0);
}

/* An ARP packet for IPv4 over Ethernet (RFC 826), with its Ethernet header. */
struct arp_frame {
	struct ethhdr eth;
	struct arphdr arp;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender_ip;
	__u8 target_mac[ETH_ALEN];
	__be32 target_ip;
} __attribute__((packed));

/* Is it a question for somebody's address, and not an announcement of its sender's? */
static __always_inline bool arp_read_request(struct __sk_buff *skb, struct arp_frame *f)
{
	return bpf_skb_load_bytes(skb, 0, f, sizeof(*f)) == 0 && f->arp.ar_hrd == bpf_htons(ARPHRD_ETHER) &&
	       f->arp.ar_pro == bpf_htons(ETH_P_IP) && f->arp.ar_hln == ETH_ALEN && f->arp.ar_pln == 4 &&
	       f->arp.ar_op == bpf_htons(ARPOP_REQUEST) && f->sender_ip != f->target_ip;
}

static __always_inline int reply_arp(struct __sk_buff *skb, struct arp_frame *f, const __u8 *mac)
{
	__be32 asked = f->target_ip;

	__builtin_memcpy(f->eth.h_dest, f->sender_mac, ETH_ALEN);
	__builtin_memcpy(f->eth.h_source, mac, ETH_ALEN);
	f->arp.ar_op = bpf_htons(ARPOP_REPLY);
	__builtin_memcpy(f->target_mac, f->sender_mac, ETH_ALEN);
	f->target_ip = f->sender_ip;
	__builtin_memcpy(f->sender_mac, mac, ETH_ALEN);
	f->sender_ip = asked;
	return (int)bpf_skb_store_bytes(skb, 0, f, sizeof(*f), BPF_F_RECOMPUTE_CSUM);
}

#endif
