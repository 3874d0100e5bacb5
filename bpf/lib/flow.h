/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The flow table: which backend a flow has (FORWARD), and which VIP its replies come from
 * (REVERSE). */
#ifndef SHOAL_LIB_FLOW_H
#define SHOAL_LIB_FLOW_H

#include "frag.h"
#include "lb.h"
#include "maps_net.h"
#include "parse.h"

/* Touched at most once a second: a write dirties a cache line that every CPU reads. */
static __always_inline void flow_touch(struct shoal_flow *flow, const struct shoal_pkt *p, __u32 now)
{
	if (flow->seen_s != now)
		flow->seen_s = now;
	if (p->key.proto != IPPROTO_TCP)
		return;
	if ((p->tcp_flags & (TCP_FIN | TCP_RST)) && !(flow->flags & SHOAL_FLOW_CLOSING))
		flow->flags |= SHOAL_FLOW_CLOSING;
	if (!is_syn(p) && !(flow->flags & SHOAL_FLOW_OPEN))
		flow->flags |= SHOAL_FLOW_OPEN;
}

/*
 * Who asks again where nobody new is led, a host that died for one, is not held to it. An open connection is: its SYN
 * is late, or forged.
 */
static __always_inline bool is_asked_in_vain(const struct shoal_flow *flow, const struct shoal_backend *be, __u32 now)
{
	return be->flags & SHOAL_BE_DRAINING &&
	       (!(flow->flags & SHOAL_FLOW_OPEN) || now - flow->seen_s > SHOAL_OPEN_IDLE_S);
}

/*
 * Does this packet begin something new under a key that the table knows? A SYN on an open flow does
 * not, while its backend gets new connections: it may be a repetition, or somebody else's forgery to
 * have a connection moved.
 */
static __always_inline bool flow_begins_anew(const struct shoal_flow *flow, const struct shoal_pkt *p, __u32 service,
					     __u32 now)
{
	if (p->key.proto == IPPROTO_UDP)
		return now - flow->seen_s > SHOAL_UDP_IDLE_S || flow->service != service;
	return is_syn(p) && ((flow->flags & SHOAL_FLOW_CLOSING) || flow->service != service);
}

static __always_inline void flow_count(__u32 service, __u32 bytes, bool fresh)
{
	struct shoal_service_stats *s = service_stats(service);

	if (!s)
		return;
	s->packets++;
	s->bytes += bytes;
	if (fresh)
		s->flows++;
}

/* The backend of a later fragment's datagram, as backend_ref() packs it; 0: not known. */
SHOAL_GLOBAL __u64 frag_backend(struct __sk_buff *skb, const struct shoal_pkt *p)
{
	const struct shoal_frag *kept = p ? frag_lookup(p, SHOAL_FLOW_FORWARD) : NULL;

	if (!kept)
		return 0;
	flow_count(kept->service, skb->len, false);
	return backend_ref(kept->backend, kept->epoch);
}

/*
 * The backend of a packet to a frontend, of the packet's family. A flow keeps its backend for as long as that is the same
 * backend, in the ring or not; what is not in the table picks by its hash, a TCP packet in mid-flow
 * too, so that a host that takes over a VIP finds the backends of flows it has never seen.
 */
static __always_inline const struct shoal_backend *flow_backend(struct __sk_buff *skb, struct shoal_pkt *p,
								const bool v6, const struct shoal_frontend *fe,
								__u32 service)
{
	struct shoal_affinity_key client = {.kind = SHOAL_AFFINITY_ADDRESS};
	struct shoal_backend_stats *stats;
	const struct shoal_backend *be;
	const struct shoal_config *cfg;
	struct shoal_flow *flow;
	struct shoal_flow fresh;
	__u32 now = now_s();
	__u32 id = 0;

	p->key.dir = SHOAL_FLOW_FORWARD;
	flow = bpf_map_lookup_elem(&shoal_flows, &p->key);
	if (flow && !flow_begins_anew(flow, p, service, now)) {
		be = backend_same(flow->backend, flow->epoch);
		if (be && !(is_syn(p) && is_asked_in_vain(flow, be, now))) {
			if (!is_syn(p) || !(be->flags & SHOAL_BE_DRAINING))
				flow_touch(flow, p, now);
			flow_count(service, skb->len, false);
			if (unlikely(p->frag))
				frag_keep_backend(p, flow->backend, flow->epoch, service);
			return be;
		}
	}
	cfg = config();
	addr_copy(&client.client, &p->key.saddr);
	be = pick(fe, service, &client, flow_hash(&p->key, cfg ? cfg->hash_seed : 0), now, &id);
	if (!be || addr_is_v4(&be->addr) == v6) {
		count_refused(service);
		return NULL;
	}
	__builtin_memset(&fresh, 0, sizeof(fresh));
	addr_copy(&fresh.addr, &be->addr);
	fresh.port = be->port;
	fresh.generation = be->generation;
	fresh.backend = id;
	fresh.epoch = be->epoch;
	fresh.service = service;
	fresh.seen_s = now;
	fresh.node = be->node;
	bpf_map_update_elem(&shoal_flows, &p->key, &fresh, BPF_ANY);
	flow_count(service, skb->len, true);
	stats = bpf_map_lookup_elem(&shoal_backend_stats, &id);
	if (stats)
		stats->flows++;
	if (unlikely(p->frag))
		frag_keep_backend(p, id, be->epoch, service);
	return be;
}

/*
 * Before a packet is given to a backend of this host: makes sure that the reply will be sent from
 * the VIP. p is as the client sent it.
 */
static __always_inline void flow_expect_reply(const struct shoal_pkt *p, const struct shoal_addr *backend,
					      __be16 backend_port)
{
	struct shoal_flow_key key;
	struct shoal_flow fresh;
	struct shoal_flow *flow;
	__u32 now = now_s();

	__builtin_memset(&key, 0, sizeof(key));
	addr_copy(&key.saddr, backend);
	addr_copy(&key.daddr, &p->key.saddr);
	key.sport = backend_port;
	key.dport = p->key.sport;
	key.proto = p->key.proto;
	key.dir = SHOAL_FLOW_REVERSE;
	flow = bpf_map_lookup_elem(&shoal_flows, &key);
	if (flow && flow->port == p->key.dport && addr_equal(&flow->addr, &p->key.daddr)) {
		if (is_syn(p) && flow->flags)
			flow->flags = 0;
		flow_touch(flow, p, now);
		return;
	}
	__builtin_memset(&fresh, 0, sizeof(fresh));
	addr_copy(&fresh.addr, &p->key.daddr);
	fresh.port = p->key.dport;
	fresh.seen_s = now;
	bpf_map_update_elem(&shoal_flows, &key, &fresh, BPF_ANY);
}

/*
 * The same for a pod that is its own backend, which is to see the VIP as its client. The key is the reply as the pod
 * will send it.
 */
static __always_inline void flow_expect_hairpin(const struct shoal_pkt *p, __be16 backend_port)
{
	struct shoal_flow_key key;
	struct shoal_flow fresh;

	__builtin_memset(&key, 0, sizeof(key));
	addr_copy(&key.saddr, &p->key.saddr);
	addr_copy(&key.daddr, &p->key.daddr);
	key.sport = backend_port;
	key.dport = p->key.sport;
	key.proto = p->key.proto;
	key.dir = SHOAL_FLOW_REVERSE;
	__builtin_memset(&fresh, 0, sizeof(fresh));
	addr_copy(&fresh.addr, &p->key.daddr);
	fresh.port = p->key.dport;
	fresh.seen_s = now_s();
	fresh.flags = SHOAL_FLOW_HAIRPIN;
	bpf_map_update_elem(&shoal_flows, &key, &fresh, BPF_ANY);
}

/*
 * The VIP that a pod's packet must come from, when it is the reply of a balanced flow. A SYN-ACK
 * under a flow that has closed answers a SYN that was not balanced: the client now talks to the
 * pod's own address from the same port.
 */
static __always_inline struct shoal_flow *flow_of_reply(struct shoal_pkt *p)
{
	const __u8 syn_ack = TCP_SYN | TCP_ACK;
	struct shoal_flow *flow;
	__u32 now = now_s();

	p->key.dir = SHOAL_FLOW_REVERSE;
	flow = bpf_map_lookup_elem(&shoal_flows, &p->key);
	if (!flow)
		return NULL;
	if (p->key.proto == IPPROTO_UDP && now - flow->seen_s > SHOAL_UDP_IDLE_S)
		return NULL; /* the pod speaks for itself again */
	if (p->key.proto == IPPROTO_TCP && (p->tcp_flags & syn_ack) == syn_ack &&
	    (flow->flags & SHOAL_FLOW_CLOSING)) {
		bpf_map_delete_elem(&shoal_flows, &p->key);
		return NULL;
	}
	flow_touch(flow, p, now);
	return flow;
}

#endif
