// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * While the maps are being changed for others, the hooks of a host must go from the former programs to the new ones
 * all at once: what one hook writes down, of a flow say, another one looks for. So each hook gets one of these for
 * that time. They do what the former program does until shoal_handover says otherwise, and then what the new one does.
 * Each has the name of the programs that it stands for (netplane/kernel/bpf/handover.h).
 *
 * For a moment after that, what the former programs wrote down last is not yet in the new maps. A client's packet picks
 * the same backend without it, by its hash. A reply needs it: one of which the new maps know nothing goes to the former
 * program, which knows, or leaves alone what is no reply, as the new one would.
 *
 * No functions of their own: where a program has them, not every kernel allows tail calls.
 */
#include "lib/frag.h"
#include "lib/lb.h"
#include "lib/maps_net.h"
#include "lib/parse.h"
#include "lib/sock.h"

enum {
	FORMER = 0,
	NEW = 1,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} shoal_handover SEC(".maps");

static __always_inline __u32 turn(void)
{
	__u32 zero = 0;
	const __u32 *now = bpf_map_lookup_elem(&shoal_handover, &zero);

	return now && *now ? NEW : FORMER;
}

/* The addresses, and where the ports are. Extension headers are no matter: their packets have no entries to lose. */
static __always_inline int parse_plain(struct __sk_buff *skb, struct shoal_pkt *p)
{
	struct ipv6hdr ip;

	if (is_frame(skb, ETH_P_IP))
		return parse_v4(skb, p);
	if (!is_frame(skb, ETH_P_IPV6) || bpf_skb_load_bytes(skb, L3_OFF, &ip, sizeof(ip)))
		return PARSE_MALFORMED;
	__builtin_memset(p, 0, sizeof(*p));
	addr_from_v6(&p->key.saddr, ip.saddr.in6_u.u6_addr32);
	addr_from_v6(&p->key.daddr, ip.daddr.in6_u.u6_addr32);
	p->key.proto = ip.nexthdr;
	p->l4_off = L3_OFF + sizeof(ip);
	return PARSE_OK;
}

/* What a pod sends, or leaves the stack. */
static __always_inline __u32 turn_of_reply(struct __sk_buff *skb)
{
	struct shoal_pkt p;
	__be16 ports[2];

	if (turn() == FORMER)
		return FORMER;
	if (parse_plain(skb, &p) != PARSE_OK || !is_balanced_proto(p.key.proto) || vip_lookup(&p.key.daddr))
		return NEW;
	if (is_later_fragment(&p))
		return frag_lookup(&p, SHOAL_FLOW_REVERSE) ? NEW : FORMER;
	if (bpf_skb_load_bytes(skb, p.l4_off, ports, sizeof(ports)))
		return NEW;
	p.key.sport = ports[0];
	p.key.dport = ports[1];
	p.key.dir = SHOAL_FLOW_REVERSE;
	if (frontend_lookup(&p.key.daddr, p.key.dport, p.key.proto) || bpf_map_lookup_elem(&shoal_flows, &p.key))
		return NEW;
	return FORMER;
}

/* Who a socket's peer is, or whom its datagram came from. */
static __always_inline __u32 turn_of_socket(struct bpf_sock_addr *ctx, const bool v6)
{
	struct shoal_udp_key key;
	struct shoal_addr addr;

	if (turn() == FORMER)
		return FORMER;
	if (shoal_has_sk_storage && ctx->sk && bpf_sk_storage_get(&shoal_sk, ctx->sk, NULL, 0))
		return NEW;
	ctx_read(ctx, v6, &addr);
	udp_key(&key, ctx, &addr, (__be16)ctx->user_port);
	return bpf_map_lookup_elem(&shoal_udp_rev, &key) ? NEW : FORMER;
}

/* A table of its own for each: the kernel wants programs of one kind in it. */
#define STAND_IN(section, context, program, which, otherwise)                                                        \
	struct {                                                                                                     \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                               \
		__uint(max_entries, 2);                                                                              \
		__type(key, __u32);                                                                                  \
		__type(value, __u32);                                                                                \
	} to_##program SEC(".maps");                                                                                 \
                                                                                                                     \
	SEC(section)                                                                                                 \
	int program(struct context *ctx)                                                                             \
	{                                                                                                            \
		bpf_tail_call(ctx, &to_##program, which);                                                            \
		return otherwise;                                                                                    \
	}

STAND_IN("tc", __sk_buff, shoal_pod, turn_of_reply(ctx), SHOAL_PASS)
STAND_IN("tc", __sk_buff, shoal_pod_out, turn_of_reply(ctx), SHOAL_PASS)
STAND_IN("tc", __sk_buff, shoal_uplink, turn(), SHOAL_PASS)
STAND_IN("tc", __sk_buff, shoal_up_out, turn_of_reply(ctx), SHOAL_PASS)
STAND_IN("tc", __sk_buff, shoal_ovl_in, turn(), SHOAL_PASS)
STAND_IN("tc", __sk_buff, shoal_ovl_out, turn_of_reply(ctx), SHOAL_PASS)
STAND_IN("xdp", xdp_md, shoal_xdp, turn(), XDP_PASS)
STAND_IN("cgroup/connect4", bpf_sock_addr, shoal_connect4, turn(), 1)
STAND_IN("cgroup/connect6", bpf_sock_addr, shoal_connect6, turn(), 1)
STAND_IN("cgroup/sendmsg4", bpf_sock_addr, shoal_sendmsg4, turn(), 1)
STAND_IN("cgroup/sendmsg6", bpf_sock_addr, shoal_sendmsg6, turn(), 1)
STAND_IN("cgroup/recvmsg4", bpf_sock_addr, shoal_recvmsg4, turn_of_socket(ctx, false), 1)
STAND_IN("cgroup/recvmsg6", bpf_sock_addr, shoal_recvmsg6, turn_of_socket(ctx, true), 1)
STAND_IN("cgroup/getpeername4", bpf_sock_addr, shoal_getpeer4, turn_of_socket(ctx, false), 1)
STAND_IN("cgroup/getpeername6", bpf_sock_addr, shoal_getpeer6, turn_of_socket(ctx, true), 1)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
