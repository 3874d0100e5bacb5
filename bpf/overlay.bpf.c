// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * tc on the VXLAN device (collect-metadata mode). Ingress: packets of other hosts, told apart by
 * their VNI: pod to pod, or balanced by the sender with its pick in the Ethernet header
 * (shoal_abi.h, DSR). Egress: what the stack routes into the device: for pods of other hosts it gets
 * its tunnel key here, for service addresses it is balanced.
 */
#include "lib/balance.h"
#include "lib/return.h"

#define PACKET_HOST 0

/* Who sent it: a member host, or nobody we know. */
static __always_inline bool from_member(__u32 remote_host_order)
{
	__be32 node = bpf_htonl(remote_host_order);

	return bpf_map_lookup_elem(&shoal_peers, &node) != NULL;
}

static __always_inline int from_pod_net(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6)
{
	const struct shoal_pod *pod = pod_by_addr(&p->key.daddr);

	if (pod) {
		if (p->ttl <= 1)
			return SHOAL_PASS; /* the stack says so to the sender */
		if (ttl_decrement(skb, v6))
			return drop(SHOAL_DROP_REWRITE);
		return to_pod(skb, pod);
	}
	/* A pod address, ours or another host's, that is nobody's here. Never sent on: that could
	 * loop. */
	if (node_by_addr(&p->key.daddr))
		return drop(SHOAL_DROP_UNKNOWN_POD);
	return SHOAL_PASS; /* this host's own address */
}

/*
 * The pod that the sender meant is gone. A connection is told at once; a SYN is not answered, since
 * the client sends it again and by then the sender knows.
 */
static __always_inline int stale(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6, __u32 reason)
{
	struct shoal_addr client;
	__be16 port;
	int verdict;

	count_drop(reason);
	if (p->key.proto != IPPROTO_TCP || p->frag || is_syn(p) || reply_rst(skb, p, v6))
		return TC_ACT_SHOT;
	addr_copy(&client, &p->key.saddr);
	addr_copy(&p->key.saddr, &p->key.daddr);
	addr_copy(&p->key.daddr, &client);
	port = p->key.sport;
	p->key.sport = p->key.dport;
	p->key.dport = port;
	p->ttl = REPLY_TTL;
	if (to_known_pod(skb, p, v6, true, &verdict) == POD_DECIDED)
		return verdict;
	return by_fib(skb, p, v6);
}

/* The address that the frame's low 32 bits mean here. */
static __always_inline void dsr_target(struct shoal_addr *addr, const struct shoal_dsr_eth *eth, const bool v6)
{
	const struct shoal_config *cfg;
	__be32 low;

	__builtin_memcpy(&low, eth->addr_low, sizeof(low));
	addr_from_v4(addr, low);
	if (!v6)
		return;
	cfg = config();
	if (cfg) {
		addr_copy(addr, &cfg->pod_net6);
		((__be32 *)addr->b)[3] = low;
	}
}

/* Is the address in the frame this host's own? It is completed in *self. */
static __always_inline bool self_target(struct shoal_addr *self, const struct shoal_dsr_eth *eth, const bool v6)
{
	const struct shoal_config *cfg = config();
	__be32 low;

	if (!cfg)
		return false;
	__builtin_memcpy(&low, eth->addr_low, sizeof(low));
	addr_copy(self, &cfg->self[v6]);
	return low && low == addr_low(self);
}

/* ---- questions: whose flow is it?
 * ---------------------------------------------------------------------------- */

/* The answer of a host that has no such flow: the frame goes back, and says so. */
SHOAL_GLOBAL int not_mine(struct __sk_buff *skb)
{
	const __u8 magic = SHOAL_DSR_NOT_MINE;
	const struct shoal_config *cfg = config();
	struct bpf_tunnel_key key;

	__builtin_memset(&key, 0, sizeof(key));
	if (!cfg || bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0) ||
	    bpf_skb_store_bytes(skb, offsetof(struct shoal_dsr_eth, dst_magic) + 1, &magic, sizeof(magic), 0) ||
	    tunnel(skb, bpf_htonl(key.remote_ipv4), SHOAL_VNI_DSR))
		return drop(SHOAL_DROP_TUNNEL);
	return (int)bpf_redirect(cfg->overlay_ifindex, 0);
}

/*
 * How many of a slot's owners have been asked, the one that says no being the last of them. Of its address the frame has
 * the low bits only, which pods of several hosts may share: it is one of the host that says so.
 */
SHOAL_GLOBAL __u32 asked_in_vain(struct __sk_buff *skb, __u32 service, __u32 number)
{
	const __u64 ref = ring_ref(service);
	const struct shoal_backend *be;
	struct bpf_tunnel_key key;
	struct shoal_dsr_eth eth;
	__u32 i, tried = 0;
	__be32 low;

	__builtin_memset(&key, 0, sizeof(key));
	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)) || bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0))
		return 0;
	__builtin_memcpy(&low, eth.addr_low, sizeof(low));
	for (i = 0; i < OWNERS; i++) {
		be = backend_valid(ring_owner(ref, number, i));
		if (be && be->node == bpf_htonl(key.remote_ipv4) && addr_low(&be->addr) == low &&
		    be->port == eth.target_port)
			tried = i + 1;
	}
	return tried;
}

#define NEXT_DSR (1ULL << 35) /* it is reached by DSR */
#define NEXT_MASQUERADE (1ULL << 36) /* by the stack, which is to masquerade the client */

/*
 * A host that was asked has no such flow: the next owner of its slot may. Returns who that is, as flow_owner does and
 * with the bits above, and keeps it for the flow's next packets; 0: there is nobody. p: the client's packet, as it came
 * to this host.
 */
SHOAL_GLOBAL __u64 next_owner(struct __sk_buff *skb, const struct shoal_pkt *p, int v6)
{
	const struct shoal_config *cfg = config();
	const struct shoal_frontend *fe;
	const struct shoal_backend *be;
	__u32 service, number;
	struct shoal_addr client;
	bool inside, dsr;
	__u64 owner;

	if (!p || !cfg)
		return 0;
	addr_copy(&client, &p->key.saddr); /* onto the stack, see forward_key */
	inside = pod_by_addr(&client) || is_self(&client, v6);
	fe = frontend_lookup(&p->key.daddr, p->key.dport, p->key.proto);
	service = !fe ? SHOAL_NO_SERVICE : inside ? fe->inside : fe->outside;
	if (service == SHOAL_NO_SERVICE)
		return 0;
	dsr = inside || !(cfg->flags & SHOAL_CONFIG_SNAT);
	number = flow_number(p);
	owner = flow_owner(p, service, number, asked_in_vain(skb, service, number), dsr ? WAYS_DSR : WAYS_MIXED);
	be = backend_valid((__u32)owner);
	if (!be || addr_is_v4(&be->addr) == !!v6) {
		count_refused(service);
		return 0;
	}
	if (owner & OWNER_NONE)
		count_unclaimed(service);
	keep_owner(p, (__u32)owner, service, SHOAL_FLOW_OPEN | (owner & OWNER_ASK ? SHOAL_FLOW_ASK : 0));
	/* Without SHOAL_CONFIG_SNAT all that lie elsewhere. */
	if (is_elsewhere(be) && (dsr || owner & OWNER_ASK || flow_way(p, be) == WAY_DSR))
		owner |= NEXT_DSR;
	else if (!inside && !(be->flags & SHOAL_BE_LOCAL))
		owner |= NEXT_MASQUERADE;
	return owner;
}

static __always_inline int ask_next(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6)
{
	const __u64 owner = next_owner(skb, p, v6);
	const struct shoal_backend *be = backend_valid((__u32)owner);
	const struct shoal_config *cfg = config();
	const struct shoal_pod *pod;
	struct shoal_addr addr;

	if (!be || !cfg)
		return stale(skb, p, v6, SHOAL_DROP_NO_BACKEND);
	if (owner & NEXT_DSR)
		return send_dsr(skb, v6, be, owner & OWNER_ASK, cfg);
	addr_copy(&addr, &be->addr);
	if (unlikely(addr_equal(&addr, &p->key.saddr))) { /* a pod, or this host, that is its own backend */
		pod = pod_by_addr(&addr);
		if (hairpin(skb, p, v6, be->port))
			return drop(SHOAL_DROP_HAIRPIN);
		return pod ? to_pod(skb, pod) : SHOAL_PASS;
	}
	if (be->flags & SHOAL_BE_STACK || !(be->flags & SHOAL_BE_LOCAL)) {
		if (owner & NEXT_MASQUERADE)
			skb->mark |= SHOAL_MARK_MASQUERADE;
		return to_stack(skb, p, v6, &addr, be->port);
	}
	pod = pod_by_addr(&addr);
	if (!pod || (be->generation && pod->generation != be->generation))
		return stale(skb, p, v6, SHOAL_DROP_STALE_BACKEND);
	flow_expect_reply(p, &addr, be->port);
	return nat(skb, p, v6, true, &addr, be->port) ? drop(SHOAL_DROP_REWRITE) : to_pod(skb, pod);
}

static __always_inline int from_balancer(struct __sk_buff *skb, struct shoal_pkt *p, const bool v6)
{
	const struct shoal_pod *pod;
	struct shoal_dsr_eth eth;
	struct shoal_addr addr;
	bool ask, later;
	__be16 port;
	__u8 kind;
	int rc;

	if (!is_balanced_proto(p->key.proto) && !is_icmp(p, v6))
		return drop(SHOAL_DROP_UNSUPPORTED_PROTO);
	later = !is_balanced_proto(p->key.proto) || is_later_fragment(p);
	if (!later && parse_l4(skb, p) != PARSE_OK)
		return drop(SHOAL_DROP_MALFORMED);
	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return drop(SHOAL_DROP_MALFORMED);
	if (eth.dst_magic[0] != 0x02 || eth.src_magic[0] != 0x02 || eth.src_magic[1] != 'D')
		return drop(SHOAL_DROP_MALFORMED);
	kind = eth.dst_magic[1] | SHOAL_DSR_CERTAIN;
	ask = !(eth.dst_magic[1] & SHOAL_DSR_CERTAIN);
	if (unlikely(kind != SHOAL_DSR_POD)) {
		if (eth.dst_magic[1] == SHOAL_DSR_NOT_MINE && !later)
			return ask_next(skb, p, v6);
		if (kind != SHOAL_DSR_HOST)
			return drop(SHOAL_DROP_MALFORMED);
	}
	port = eth.target_port;
	if (unlikely(kind == SHOAL_DSR_HOST)) {
		if (!self_target(&addr, &eth, v6))
			return ask ? not_mine(skb) : drop(SHOAL_DROP_STALE_BACKEND);
		if (ask && !later && !flow_is_here(p, &addr, port))
			return not_mine(skb);
		/* This host, that asked another one's node port. */
		if (unlikely(addr_equal(&addr, &p->key.saddr)))
			return hairpin(skb, p, v6, port) ? drop(SHOAL_DROP_HAIRPIN) : SHOAL_PASS;
		return to_stack(skb, p, v6, &addr, port);
	}
	dsr_target(&addr, &eth, v6);
	pod = pod_by_addr(&addr);
	if (!pod || (eth.generation && pod->generation != bpf_ntohs(eth.generation)))
		return ask ? not_mine(skb) : stale(skb, p, v6, SHOAL_DROP_STALE_BACKEND);
	if (addr_equal(&addr, &p->key.saddr))
		return drop(SHOAL_DROP_HAIRPIN);
	if (unlikely(ask) && !later && !flow_is_here(p, &addr, port))
		return not_mine(skb);
	if (later) {
		rc = follow(skb, p, v6, &addr, port);
	} else {
		flow_expect_reply(p, &addr, port);
		rc = nat(skb, p, v6, true, &addr, port);
	}
	return rc ? drop(SHOAL_DROP_REWRITE) : to_pod(skb, pod);
}

static __always_inline int from_overlay(struct __sk_buff *skb, const bool v6, int vni)
{
	struct shoal_pkt p;

	if (parse_l3(skb, &p, v6) != PARSE_OK)
		return drop(SHOAL_DROP_MALFORMED);
	if (vni == SHOAL_VNI_POD)
		return from_pod_net(skb, &p, v6);
	if (vni == SHOAL_VNI_DSR)
		return from_balancer(skb, &p, v6);
	return drop(SHOAL_DROP_TUNNEL);
}

#define VNI_NONE (1 << 24) /* more than a VNI can be: what a program here has for this host */

/* The VNI of a packet from a member host; otherwise the reason to drop it, negated. Out of line for the stack's sake. */
static __noinline int vni_of(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key;

	__builtin_memset(&key, 0, sizeof(key));
	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0))
		return skb->mark & SHOAL_MARK_TO_HOST ? VNI_NONE : -SHOAL_DROP_TUNNEL;
	if (!from_member(key.remote_ipv4))
		return -SHOAL_DROP_UNKNOWN_NODE;
	return key.tunnel_id & 0xffffff;
}

SEC("tc")
int shoal_ovl_in(struct __sk_buff *skb)
{
	int vni = vni_of(skb);

	if (vni < 0)
		return drop(-vni);
	/* The inner addresses are not the device's own, which makes the frame somebody else's until
	 * we say so. */
	bpf_skb_change_type(skb, PACKET_HOST);
	if (unlikely(vni == VNI_NONE)) {
		skb->mark &= ~SHOAL_MARK_TO_HOST;
		return SHOAL_PASS;
	}
	if (likely(is_frame(skb, ETH_P_IP)))
		return from_overlay(skb, false, vni);
	if (is_frame(skb, ETH_P_IPV6))
		return from_overlay(skb, true, vni);
	return SHOAL_PASS;
}

/*
 * From the stack, without a key: for a pod of another host, or for a service address, which is routed here for the
 * processes whose sockets no hook sees. What stays without a key is dropped by the device: neighbour discovery and the
 * like.
 */
static __always_inline int to_overlay(struct __sk_buff *skb, const bool v6)
{
	const __u8 dst[ETH_ALEN] = SHOAL_OVERLAY_MAC, src[ETH_ALEN] = SHOAL_OVERLAY_SRC_MAC;
	const struct shoal_node *node;
	struct shoal_pkt p;
	int verdict, rc;

	if (parse_l3(skb, &p, v6) != PARSE_OK)
		return SHOAL_PASS;
	if (v6 && (addr_is_multicast6(&p.key.daddr) || addr_is_link_local(&p.key.daddr)))
		return SHOAL_PASS;
	if (is_balanced_proto(p.key.proto) && !(p.frag & IP_OFFSET) && parse_l4(skb, &p) != PARSE_OK)
		return drop(SHOAL_DROP_MALFORMED);
	rc = has_stack_replies() ? from_backend(skb, &p, v6) : 0;
	if (rc < 0)
		return drop(SHOAL_DROP_REWRITE);
	if (rc && is_self(&p.key.daddr, v6))
		return to_host(skb);
	node = node_by_addr(&p.key.daddr);
	if (!node && !rc && balance(skb, &p, v6, FROM_STACK, &verdict))
		return verdict;
	if (!node || !node->node)
		return drop(SHOAL_DROP_UNKNOWN_POD);
	if (set_macs(skb, dst, src))
		return drop(SHOAL_DROP_REWRITE);
	if (tunnel(skb, node->node, SHOAL_VNI_POD))
		return drop(SHOAL_DROP_TUNNEL);
	return SHOAL_PASS;
}

/* Out of line for the stack's sake. */
static __noinline bool has_tunnel_key(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key;

	__builtin_memset(&key, 0, sizeof(key));
	return bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0) == 0;
}

SEC("tc")
int shoal_ovl_out(struct __sk_buff *skb)
{
	if (has_tunnel_key(skb))
		return SHOAL_PASS; /* one of our own programs has set it */
	if (likely(is_frame(skb, ETH_P_IP)))
		return to_overlay(skb, false);
	if (is_frame(skb, ETH_P_IPV6))
		return to_overlay(skb, true);
	return SHOAL_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
