/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Answers made out of the packet that asks for them: TCP RST, ICMP errors, ICMP echo reply, ARP reply; of both
 * families (neighbour advertisements are in ndp.h). Each leaves the frame addressed back to where it came from; the
 * caller sends it. They return 0, or an error with the packet undefined.
 *
 * A received packet's TCP or UDP checksum may have been left to a device (CHECKSUM_PARTIAL: always so
 * between veths). There the checksum field holds the sum of the pseudo header, and whoever sends
 * the packet on completes it, where it lay; otherwise it must hold the complete sum. bpf_l4_csum_replace without
 * BPF_F_PSEUDO_HDR changes nothing in the first state, and adds to the sum in the second: writing
 * what is right in the first and adding the rest by that helper is right in both.
 */
#ifndef SHOAL_LIB_REPLY_H
#define SHOAL_LIB_REPLY_H

#include "nat.h"

/* <linux/icmp.h> and <linux/if_arp.h> drag in the C library's headers; this is what of them is
 * used. */
#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_PORT_UNREACH 3
#define ICMP_FRAG_NEEDED 4
#define ICMP_ECHO 8
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PORT_UNREACH 4
#define ICMPV6_PKT_TOOBIG 2
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129
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

/* The sum of `bytes` at `data`, a multiple of 4. */
static __always_inline __u16 sum_of(void *data, __u32 bytes)
{
	return sum_fold((__u32)bpf_csum_diff(NULL, 0, data, bytes, 0));
}

/* Of a packet between p's two addresses, either way. */
static __always_inline __u16 pseudo_sum(const struct shoal_pkt *p, const bool v6, __u8 proto, __u16 l4_bytes)
{
	__u64 sum = (__u64)bpf_htons(proto) + bpf_htons(l4_bytes);

	if (v6)
		sum += addr_sum(&p->key.saddr) + addr_sum(&p->key.daddr);
	else
		sum += (__u64)addr_low(&p->key.saddr) + addr_low(&p->key.daddr);
	return sum_fold(sum_fold32(sum));
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

/* The header of a packet back to p's sender, with l4_bytes after it. */
static __always_inline int write_ip(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6, __u8 proto,
				    __u16 l4_bytes)
{
	if (v6) {
		struct ipv6hdr ip = {
			.version = 6,
			.payload_len = bpf_htons(l4_bytes),
			.nexthdr = proto,
			.hop_limit = REPLY_TTL,
		};

		__builtin_memcpy(&ip.saddr, &p->key.daddr, sizeof(ip.saddr));
		__builtin_memcpy(&ip.daddr, &p->key.saddr, sizeof(ip.daddr));
		return (int)bpf_skb_store_bytes(skb, L3_OFF, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
	} else {
		struct iphdr ip = {
			.version = 4,
			.ihl = 5,
			.tot_len = bpf_htons(sizeof(ip) + l4_bytes),
			.frag_off = bpf_htons(0x4000), /* DF; so the id may be 0 (RFC 6864) */
			.ttl = REPLY_TTL,
			.protocol = proto,
			.saddr = addr_low(&p->key.daddr),
			.daddr = addr_low(&p->key.saddr),
		};

		ip.check = ~sum_of(&ip, sizeof(ip));
		return (int)bpf_skb_store_bytes(skb, L3_OFF, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
	}
}

/* RFC 4443, 2.4 (e), and its like in RFC 1122, 3.2.2: nobody is told who cannot be the one. */
static __always_inline bool has_sender(const struct shoal_pkt *p, const bool v6)
{
	if (v6)
		return !addr_is_multicast6(&p->key.saddr) && !addr_is_unspecified6(&p->key.saddr);
	return p->key.saddr.b[12] < 224 && addr_low(&p->key.saddr);
}

/*
 * RFC 9293, 3.10.7.1: the reset for a segment that no connection here has. Never in answer to a reset; nor to a
 * segment behind IP options or extension headers, since a checksum left to a device would be completed there.
 */
static __always_inline int do_reply_rst(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6)
{
	const __u32 l4_off = L3_OFF + ip_bytes(v6);
	struct tcphdr rst, asked;
	__u32 data_bytes, pseudo, header;

	if (!p || p->tcp_flags & TCP_RST || p->frag || p->l4_off != l4_off || !has_sender(p, v6))
		return -1;
	if (bpf_skb_load_bytes(skb, l4_off, &asked, sizeof(asked)))
		return -1;
	data_bytes = p->l4_bytes - asked.doff * 4;

	__builtin_memset(&rst, 0, sizeof(rst));
	rst.source = asked.dest;
	rst.dest = asked.source;
	rst.doff = 5;
	rst.rst = 1;
	if (p->tcp_flags & TCP_ACK) {
		rst.seq = asked.ack_seq;
	} else {
		rst.ack = 1;
		rst.ack_seq = bpf_htonl(bpf_ntohl(asked.seq) + data_bytes + !!(p->tcp_flags & TCP_SYN) +
					!!(p->tcp_flags & TCP_FIN));
	}
	pseudo = pseudo_sum(p, v6, IPPROTO_TCP, sizeof(rst));
	header = sum_of(&rst, sizeof(rst));
	rst.check = (__u16)pseudo;
	if (bpf_skb_change_tail(skb, l4_off + sizeof(rst), 0) || swap_macs(skb) ||
	    write_ip(skb, p, v6, IPPROTO_TCP, sizeof(rst)) ||
	    bpf_skb_store_bytes(skb, l4_off, &rst, sizeof(rst), BPF_F_RECOMPUTE_CSUM))
		return -1;
	/*
	 * The helper makes c into ~(diff + ~c). With c = pseudo and diff = 2 * pseudo + header that
	 * is ~(pseudo + header), in one's complement.
	 */
	return (int)bpf_l4_csum_replace(skb, l4_off + offsetof(struct tcphdr, check), 0, 2 * pseudo + header, 0);
}

/*
 * An ICMP error from the address that was asked (RFC 792, RFC 4443), with `rest` in the header's second word. Quoted
 * is what tells the sender whose packet it was: the IP header and the first 8 bytes of layer 4, or a whole TCP header.
 *
 * The quoted packet stays where it is and new headers are put before it. So a checksum that was left to a device is
 * completed inside the quotation, over what is left of the packet: after that the quoted layer 4 sums to the negation
 * of what the field held before. In the other states it sums to what it sums to.
 */
static __always_inline int do_reply_icmp_error(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6,
					       __u8 type, __u8 code, __be32 rest)
{
	const bool is_tcp = p->key.proto == IPPROTO_TCP && !(p->frag & IP_OFFSET);
	const __u32 l4_bytes = is_tcp ? sizeof(struct tcphdr) : 8;
	__u32 header_bytes = p->l4_off - L3_OFF;
	struct icmphdr icmp = {.type = type, .code = code, .rest = rest};
	__u8 l4[sizeof(struct tcphdr)];
	__u8 header[60];
	__u16 check, message_bytes;
	__u32 sum, l4_sum;

	if (p->l4_bytes < l4_bytes || !has_sender(p, v6))
		return -1;
	/* RFC 4443, 2.4 (e.1), and RFC 1122: never about an error. Of ICMP only errors, which follow a flow, come here. */
	if (p->key.proto == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return -1;
	/* One by one: clang makes one comparison of two, of which 6.1's verifier learns nothing. */
	asm volatile("" : "+r"(header_bytes));
	if (header_bytes < ip_bytes(v6))
		return -1;
	asm volatile("" : "+r"(header_bytes));
	if (header_bytes > sizeof(header))
		return -1;
	__builtin_memset(header, 0, sizeof(header));
	__builtin_memset(l4, 0, sizeof(l4));
	if (bpf_skb_load_bytes(skb, L3_OFF, header, header_bytes) ||
	    bpf_skb_load_bytes(skb, p->l4_off, l4, is_tcp ? sizeof(l4) : 8))
		return -1;
	check = 0;
	if (is_tcp)
		__builtin_memcpy(&check, l4 + offsetof(struct tcphdr, check), sizeof(check));
	else if (!(p->frag & IP_OFFSET))
		__builtin_memcpy(&check, l4 + offsetof(struct udphdr, check), sizeof(check));
	l4_sum = sum_of(l4, sizeof(l4));
	message_bytes = sizeof(icmp) + header_bytes + l4_bytes;
	sum = sum_of(&icmp, sizeof(icmp)) + sum_of(header, sizeof(header)) + (__u16)~check;
	if (v6)
		sum += pseudo_sum(p, v6, IPPROTO_ICMPV6, message_bytes);
	icmp.checksum = ~sum_fold(sum);

	if (bpf_skb_change_tail(skb, p->l4_off + l4_bytes, 0) ||
	    bpf_skb_adjust_room(skb, (__s32)(ip_bytes(v6) + sizeof(icmp)), BPF_ADJ_ROOM_MAC, 0) || swap_macs(skb) ||
	    write_ip(skb, p, v6, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, message_bytes) ||
	    bpf_skb_store_bytes(skb, L3_OFF + ip_bytes(v6), &icmp, sizeof(icmp), BPF_F_RECOMPUTE_CSUM))
		return -1;
	return (int)bpf_l4_csum_replace(skb, L3_OFF + ip_bytes(v6) + offsetof(struct icmphdr, checksum), 0,
					l4_sum + check, 0);
}

/* RFC 792 and RFC 4443 echo: the VIP is up as long as somebody announces it. */
static __always_inline int do_reply_echo(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6)
{
	const __u8 asks = v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO;
	const __u8 ttl = REPLY_TTL;
	struct shoal_addr back[2];
	struct icmphdr icmp;
	__u16 word, old;
	__u32 off;

	if (!p || p->l4_bytes < sizeof(icmp) || !has_sender(p, v6))
		return -1;
	off = p->l4_off;
	if (bpf_skb_load_bytes(skb, off, &icmp, sizeof(icmp)) || icmp.type != asks || icmp.code || swap_macs(skb))
		return -1;
	icmp.type = v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY;
	if (v6) {
		addr_copy(&back[0], &p->key.daddr);
		addr_copy(&back[1], &p->key.saddr);
		if (bpf_skb_store_bytes(skb, L3_OFF + offsetof(struct ipv6hdr, saddr), back, sizeof(back),
					BPF_F_RECOMPUTE_CSUM) ||
		    bpf_skb_store_bytes(skb, L3_OFF + offsetof(struct ipv6hdr, hop_limit), &ttl, 1,
					BPF_F_RECOMPUTE_CSUM))
			return -1;
	} else {
		__be32 v4[2] = {addr_low(&p->key.daddr), addr_low(&p->key.saddr)};

		if (bpf_skb_load_bytes(skb, L3_OFF + offsetof(struct iphdr, ttl), &old, sizeof(old)))
			return -1;
		word = (old & bpf_htons(0x00ff)) | bpf_htons(ttl << 8); /* ttl and protocol share a word */
		if (bpf_skb_store_bytes(skb, L3_OFF + offsetof(struct iphdr, saddr), v4, sizeof(v4), 0) ||
		    bpf_l3_csum_replace(skb, IP_CHECK_OFF, old, word, 2) ||
		    bpf_skb_store_bytes(skb, L3_OFF + offsetof(struct iphdr, ttl), &word, sizeof(word), 0))
			return -1;
	}
	if (bpf_l4_csum_replace(skb, off + offsetof(struct icmphdr, checksum), bpf_htons(asks << 8),
				bpf_htons(icmp.type << 8), 2))
		return -1;
	return (int)bpf_skb_store_bytes(skb, off, &icmp.type, 1, 0);
}

/* Out of line: answers are rare, and their frames would lie on every packet's stack. */
SHOAL_GLOBAL int reply_rst4(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	return do_reply_rst(skb, p, false);
}

SHOAL_GLOBAL int reply_rst6(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	return do_reply_rst(skb, p, true);
}

SHOAL_GLOBAL int reply_icmp_error4(struct __sk_buff *skb, const struct shoal_pkt *p, __u8 code, __u32 mtu)
{
	return p ? do_reply_icmp_error(skb, p, false, ICMP_DEST_UNREACH, code, bpf_htonl(mtu)) : -1;
}

SHOAL_GLOBAL int reply_icmp_error6(struct __sk_buff *skb, const struct shoal_pkt *p, __u8 type, __u32 mtu)
{
	const __u8 code = type == ICMPV6_DEST_UNREACH ? ICMPV6_PORT_UNREACH : 0;

	return p ? do_reply_icmp_error(skb, p, true, type, code, bpf_htonl(mtu)) : -1;
}

SHOAL_GLOBAL int reply_echo4(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	return do_reply_echo(skb, p, false);
}

SHOAL_GLOBAL int reply_echo6(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	return do_reply_echo(skb, p, true);
}

static __always_inline int reply_rst(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6)
{
	return v6 ? reply_rst6(skb, p) : reply_rst4(skb, p);
}

static __always_inline int reply_port_unreachable(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6)
{
	return v6 ? reply_icmp_error6(skb, p, ICMPV6_DEST_UNREACH, 0)
		  : reply_icmp_error4(skb, p, ICMP_PORT_UNREACH, 0);
}

/* RFC 1191 and RFC 8201: packets of up to `mtu` bytes get through. */
static __always_inline int reply_too_big(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6, __u32 mtu)
{
	return v6 ? reply_icmp_error6(skb, p, ICMPV6_PKT_TOOBIG, mtu)
		  : reply_icmp_error4(skb, p, ICMP_FRAG_NEEDED, mtu);
}

static __always_inline int reply_echo(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6)
{
	return v6 ? reply_echo6(skb, p) : reply_echo4(skb, p);
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
