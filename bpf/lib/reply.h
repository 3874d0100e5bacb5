/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Answers made out of the packet that asks for them: TCP RST, ICMP port unreachable, ICMP echo
 * reply, ARP reply; of both families (neighbour advertisements are in ndp.h). Each leaves the frame addressed back
 * to where it came from; the caller sends it. They return 0, or an error with the packet undefined.
 *
 * A received packet's TCP or UDP checksum may have been left to a device (CHECKSUM_PARTIAL: always so
 * between veths). There the checksum field holds the sum of the pseudo header, and whoever sends
 * the packet on completes it; otherwise it must hold the complete sum. bpf_l4_csum_replace without
 * BPF_F_PSEUDO_HDR changes nothing in the first state, and adds to the sum in the second: writing
 * what is right in the first and adding the rest by that helper is right in both. The device completes what lies
 * where the asking packet's layer 4 lay: a packet with IP options or extension headers gets no answer that has a
 * checksum elsewhere.
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
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PORT_UNREACH 4
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

static __always_inline __u32 ip_bytes(const bool v6)
{
	return v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
}

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

/* Makes the frame one back to its sender, with room for l4_bytes after a plain IP header, which is written. */
static __always_inline int turn_back(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6, __u8 proto,
				     __u16 l4_bytes)
{
	if (bpf_skb_change_tail(skb, L3_OFF + ip_bytes(v6) + l4_bytes, 0) || swap_macs(skb))
		return -1;
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

/* RFC 9293, 3.10.7.1: the reset for a segment that no connection here has. Never in answer to a
 * reset. */
static __always_inline int do_reply_rst(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6)
{
	const __u32 l4_off = L3_OFF + ip_bytes(v6);
	struct tcphdr rst, asked;
	__u32 data_bytes, pseudo, header;

	if (!p || p->tcp_flags & TCP_RST || p->l4_off != l4_off || !has_sender(p, v6))
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
	if (turn_back(skb, p, v6, IPPROTO_TCP, sizeof(rst)) ||
	    bpf_skb_store_bytes(skb, l4_off, &rst, sizeof(rst), BPF_F_RECOMPUTE_CSUM))
		return -1;
	/*
	 * The helper makes c into ~(diff + ~c). With c = pseudo and diff = 2 * pseudo + header that
	 * is ~(pseudo + header), in one's complement.
	 */
	return (int)bpf_l4_csum_replace(skb, l4_off + offsetof(struct tcphdr, check), 0, 2 * pseudo + header, 0);
}

/*
 * Destination unreachable, port unreachable, from the address that was asked (RFC 792, RFC 4443), quoting what
 * tells the sender whose packet it was: the IP header and 8 bytes.
 *
 * A UDP checksum left to a device will be written at offset 6 of the ICMP header, which is unused and which RFC 4884
 * lets receivers ignore: as the negated sum of the message. In IPv4 the message sums to zero. In IPv6 it sums to zero
 * together with the pseudo header only, so there the field has to hold the pseudo header's sum before: then what the
 * device writes is zero. Without a device to do so, the field is made zero here.
 */
static __always_inline int do_reply_port_unreachable(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6)
{
	const __u32 l4_off = L3_OFF + ip_bytes(v6);
	const __u16 message_bytes = sizeof(struct icmphdr) + ip_bytes(v6) + 8;
	struct {
		struct icmphdr icmp;
		__u8 quoted[sizeof(struct ipv6hdr) + 8];
	} r;
	__u16 pseudo = 0;

	if (!p || p->l4_off != l4_off || !has_sender(p, v6))
		return -1;
	__builtin_memset(&r, 0, sizeof(r));
	if (bpf_skb_load_bytes(skb, L3_OFF, r.quoted, ip_bytes(v6) + 8))
		return -1;
	r.icmp.type = v6 ? ICMPV6_DEST_UNREACH : ICMP_DEST_UNREACH;
	r.icmp.code = v6 ? ICMPV6_PORT_UNREACH : ICMP_PORT_UNREACH;
	if (v6)
		pseudo = pseudo_sum(p, v6, IPPROTO_ICMPV6, message_bytes);
	r.icmp.checksum = ~sum_fold((__u32)pseudo + sum_of(&r, message_bytes));
	if (v6)
		r.icmp.rest = bpf_htonl(bpf_ntohs(pseudo));
	if (turn_back(skb, p, v6, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, message_bytes) ||
	    bpf_skb_store_bytes(skb, l4_off, &r, message_bytes, BPF_F_RECOMPUTE_CSUM))
		return -1;
	/* c = pseudo and diff = pseudo: ~(pseudo + ~pseudo) is zero. */
	return v6 ? (int)bpf_l4_csum_replace(skb, l4_off + 6, 0, pseudo, 0) : 0;
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
static __noinline int reply_rst4(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	return do_reply_rst(skb, p, false);
}

static __noinline int reply_rst6(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	return do_reply_rst(skb, p, true);
}

static __noinline int reply_port_unreachable4(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	return do_reply_port_unreachable(skb, p, false);
}

static __noinline int reply_port_unreachable6(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	return do_reply_port_unreachable(skb, p, true);
}

static __noinline int reply_echo4(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	return do_reply_echo(skb, p, false);
}

static __noinline int reply_echo6(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	return do_reply_echo(skb, p, true);
}

static __always_inline int reply_rst(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6)
{
	return v6 ? reply_rst6(skb, p) : reply_rst4(skb, p);
}

static __always_inline int reply_port_unreachable(struct __sk_buff *skb, const struct shoal_pkt *p, const bool v6)
{
	return v6 ? reply_port_unreachable6(skb, p) : reply_port_unreachable4(skb, p);
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
