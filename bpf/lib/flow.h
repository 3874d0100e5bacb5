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
	if (!(p->tcp_flags & (TCP_SYN | TCP_RST)) && !(flow->flags & SHOAL_FLOW_OPEN))
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
SHOAL_GLOBAL __u64 frag_backend(__u32 bytes, const struct shoal_pkt *p)
{
	const struct shoal_frag *kept = p ? frag_lookup(p, SHOAL_FLOW_FORWARD) : NULL;

	if (!kept)
		return 0;
	flow_count(kept->service, bytes, false);
	return backend_ref(kept->backend, kept->epoch);
}

/* ---- whose flow it is, where the ring does not say
 * ------------------------------------------------------------------------------------------- */

/* The key of what a backend of this host answers. p: as the client sent it. */
static __always_inline void reply_key(struct shoal_flow_key *key, const struct shoal_pkt *p,
				      const struct shoal_addr *backend, __be16 backend_port)
{
	__builtin_memset(key, 0, sizeof(*key));
	addr_copy(&key->saddr, backend);
	addr_copy(&key->daddr, &p->key.saddr);
	key->sport = backend_port;
	key->dport = p->key.sport;
	key->proto = p->key.proto;
	key->dir = SHOAL_FLOW_REVERSE;
}

/*
 * Is p of the connection whose beginning this entry has seen? Not where its SYN has not been answered, or p answers
 * something else. Of what answers nothing, a packet that an ICMP error quotes for one, that cannot be told.
 */
static __always_inline bool flow_has(const struct shoal_flow *flow, const struct shoal_pkt *p)
{
	const __u32 ahead = bpf_ntohl(p->tcp_ack) - flow->epoch;

	if (!(p->tcp_flags & TCP_ACK) || flow->flags & SHOAL_FLOW_HAIRPIN)
		return true;
	if (unlikely(flow->flags & SHOAL_FLOW_CLOSING))
		return ahead + SHOAL_CLOSING_ACK_BYTES < 2 * SHOAL_CLOSING_ACK_BYTES;
	return flow->flags & SHOAL_FLOW_OPEN || (flow->flags & SHOAL_FLOW_ANSWERED && ahead < SHOAL_ACK_BYTES);
}

/* What the client's packets acknowledge while the connection of a REVERSE entry closes. Before flow_touch(). */
static __always_inline void flow_acknowledged(struct shoal_flow *flow, const struct shoal_pkt *p)
{
	if (p->tcp_flags & TCP_ACK && (p->tcp_flags & TCP_FIN || flow->flags & SHOAL_FLOW_CLOSING) && !is_syn(p))
		flow->epoch = bpf_ntohl(p->tcp_ack);
}

/* The backend has answered the SYN with a sequence number of its own. */
static __always_inline void flow_answered(struct shoal_flow *flow, __be32 seq)
{
	flow->epoch = bpf_ntohl(seq) + 1;
	flow->flags = (flow->flags & ~SHOAL_FLOW_OPEN) | SHOAL_FLOW_ANSWERED;
}

/* Does this host know the flow of p to this backend? */
static __always_inline bool flow_is_here(const struct shoal_pkt *p, const struct shoal_addr *backend,
					 __be16 backend_port)
{
	const struct shoal_flow *flow;
	struct shoal_flow_key key;

	reply_key(&key, p, backend, backend_port);
	if (unlikely(addr_equal(backend, &p->key.saddr)))
		addr_copy(&key.daddr,
			  &p->key.daddr); /* its own backend sees the VIP as its client, see flow_expect_hairpin */
	flow = bpf_map_lookup_elem(&shoal_flows, &key);
	return flow && flow->port == p->key.dport && addr_equal(&flow->addr, &p->key.daddr) && flow_has(flow, p) &&
	       (!(flow->flags & SHOAL_FLOW_CLOSING) || now_s() - flow->seen_s <= SHOAL_CLOSED_S);
}

/* Is it another member host's, which can be told of the flow by a frame? */
static __always_inline bool is_elsewhere(const struct shoal_backend *be)
{
	return !(be->flags & SHOAL_BE_LOCAL) && be->node;
}

enum flow_way {
	WAY_DSR,
	WAY_SNAT,
	WAY_DSR_IF_KNOWN, /* the backend's host is to be asked */
};

/*
 * How an outside client's packet goes to a backend of another host, where some are reached by SNAT: a connection as it
 * began, whatever has been found out about the network since. By SNAT, its reply has an entry here; by DSR, the
 * backend's host knows it. Where nobody does, it is as for a new one. Out of line for the stack's sake.
 */
SHOAL_GLOBAL int flow_way(const struct shoal_pkt *p, const struct shoal_backend *be)
{
	if (!p || !be)
		return WAY_DSR;
	if (flow_is_here(p, &be->addr, be->port))
		return WAY_SNAT;
	if (!(be->flags & SHOAL_BE_SNAT))
		return WAY_DSR;
	if (p->key.proto != IPPROTO_TCP || is_syn(p) || !(be->flags & SHOAL_BE_ANSWERS))
		return WAY_SNAT;
	return WAY_DSR_IF_KNOWN;
}

/* How hosts are told of flows to their backends. */
enum flow_ways {
	WAYS_HERE, /* not at all: only what has an entry for the reply here is looked for */
	WAYS_DSR, /* by a frame */
	WAYS_MIXED, /* by a frame, or by SNAT with an entry for the reply here: see flow_way() */
};

#define OWNER_ASK (1ULL << 32) /* of what its host must be asked */
#define OWNER_NONE (1ULL << 33) /* nobody has the flow; the id is the slot's present owner */
#define OWNER_SILENT (1ULL << 37) /* it may have the flow, and would not answer */

#define OWNERS (SHOAL_SLOT_FORMER + 1) /* of a slot, with the present one */

/*
 * Who of a slot's owners, the present one and the former ones, has the open TCP flow of p: the first that has not been
 * asked in vain (`tried` of them have) and may. One whose host would not answer, a dead one or of an earlier build, hides
 * nobody: it comes after all others, and is not asked. Returns its id with the bits above; 0 in its place: nobody.
 * `ways`: enum flow_ways. Out of line: slots that have moved are few.
 */
SHOAL_GLOBAL __u64 flow_owner(const struct shoal_pkt *p, __u32 service, __u32 number, __u32 tried, __u32 ways)
{
	const __u64 ref = ring_ref(service);
	const struct shoal_backend *be;
	__u32 i, id, last = 0;
	bool told;

	if (!p)
		return OWNER_NONE;
	for (i = 0; i < OWNERS; i++) {
		id = ring_owner(ref, number, i);
		be = backend_valid(id);
		if (!be)
			continue;
		told = ways != WAYS_HERE && is_elsewhere(be);
		if (told && !(be->flags & SHOAL_BE_ANSWERS)) {
			last = last ?: id;
			told = false;
		}
		if (i < tried)
			continue;
		if (!(ways == WAYS_DSR && is_elsewhere(be)) && flow_is_here(p, &be->addr, be->port))
			return id;
		if (told)
			return id | OWNER_ASK;
	}
	if (last)
		return last | OWNER_SILENT;
	return ring_owner(ref, number, 0) | OWNER_NONE;
}

static __always_inline __u32 flow_number(const struct shoal_pkt *p)
{
	const struct shoal_config *cfg = config();

	return flow_hash(&p->key, cfg ? cfg->hash_seed : 0);
}

/*
 * The key of a flow's own entry. A copy: what a function that is verified by itself is given may be no map's key before
 * 6.2 (the verifier wants the stack).
 */
static __always_inline void forward_key(struct shoal_flow_key *key, const struct shoal_pkt *p)
{
	__builtin_memcpy(key, &p->key, sizeof(*key));
	key->dir = SHOAL_FLOW_FORWARD;
}

/* Keeps where a flow goes. `flags`: enum shoal_flow_flags. */
static __always_inline void flow_keep(const struct shoal_pkt *p, const struct shoal_backend *be, __u32 id,
				      __u32 service, __u32 flags)
{
	struct shoal_flow_key key;
	struct shoal_flow fresh;

	forward_key(&key, p);
	__builtin_memset(&fresh, 0, sizeof(fresh));
	addr_copy(&fresh.addr, &be->addr);
	fresh.port = be->port;
	fresh.generation = be->generation;
	fresh.backend = id;
	fresh.epoch = be->epoch;
	fresh.service = service;
	fresh.seen_s = now_s();
	fresh.node = be->node;
	fresh.flags = flags;
	bpf_map_update_elem(&shoal_flows, &key, &fresh, BPF_ANY);
}

/* flow_keep() with room on the stack. */
SHOAL_GLOBAL int keep_owner(const struct shoal_pkt *p, __u32 id, __u32 service, __u32 flags)
{
	const struct shoal_backend *be = backend_valid(id);

	if (p && be)
		flow_keep(p, be, id, service, flags);
	return 0;
}

static __always_inline void count_flow(__u32 backend)
{
	struct shoal_backend_stats *stats = bpf_map_lookup_elem(&shoal_backend_stats, &backend);

	if (stats)
		stats->flows++;
}

#define OWNER_FRESH (1ULL << 34) /* it begins something new */

/* The flow's own entry, when it says where this packet goes. */
static __always_inline struct shoal_flow *flow_known(const struct shoal_pkt *p, __u32 service, __u32 now)
{
	const struct shoal_backend *be;
	struct shoal_flow_key key;
	struct shoal_flow *flow;

	forward_key(&key, p);
	flow = bpf_map_lookup_elem(&shoal_flows, &key);
	if (!flow || flow_begins_anew(flow, p, service, now))
		return NULL;
	be = backend_same(flow->backend, flow->epoch);
	if (!be || (is_syn(p) && is_asked_in_vain(flow, be, now)))
		return NULL;
	if (!is_syn(p) || !(be->flags & SHOAL_BE_DRAINING))
		flow_touch(flow, p, now);
	return flow;
}

/* flow_known() with room on the stack. */
static __noinline struct shoal_flow *flow_known_apart(const struct shoal_pkt *p, __u32 service)
{
	return flow_known(p, service, now_s());
}

/* Where there is an entry a flow: the backend's id with the bits above; 0 in its place: nobody. */
SHOAL_GLOBAL __u64 flow_by_entry(const struct shoal_pkt *p, const struct shoal_frontend *fe, __u32 service,
				 __u32 number, int v6)
{
	struct shoal_affinity_key client = {.kind = SHOAL_AFFINITY_ADDRESS};
	const struct shoal_backend *be;
	const struct shoal_flow *flow;
	__u32 now = now_s();
	__u32 id = 0;

	if (!p || !fe)
		return 0;
	flow = flow_known(p, service, now);
	if (flow)
		return flow->backend;
	addr_copy(&client.client, &p->key.saddr);
	be = pick(fe, service, &client, number, now, &id);
	if (!be || addr_is_v4(&be->addr) == !!v6)
		return 0;
	flow_keep(p, be, id, service, 0);
	return id | OWNER_FRESH;
}

/* The entry of a connection that was here before under the key of a new one. Out of line for the stack's sake. */
static __noinline long flow_forget(const struct shoal_pkt *p)
{
	struct shoal_flow_key key;

	forward_key(&key, p);
	return bpf_map_delete_elem(&shoal_flows, &key);
}

/* The same for a TCP packet in a slot that has moved, which holds `slot`; and for one of a connection with affinity. */
SHOAL_GLOBAL __u64 flow_of_moved(const struct shoal_pkt *p, __u32 service, __u32 number, __u32 slot, __u32 ways)
{
	const struct shoal_backend *be;
	const struct shoal_flow *flow;
	__u32 kept = 0;
	__u64 owner;

	if (!p)
		return 0;
	flow = flow_known_apart(p, service);
	if (flow && !(flow->flags & SHOAL_FLOW_ASK))
		return flow->backend;
	if (flow) {
		kept = flow->backend;
		be = backend_valid(kept);
		if (be && be->flags & SHOAL_BE_ANSWERS)
			return kept | OWNER_ASK;
	}
	if (is_syn(p)) {
		flow_forget(p);
		return (slot & ~SHOAL_SLOT_MOVED) | OWNER_FRESH;
	}
	owner = flow_owner(p, service, number, 0, ways);
	if (owner & OWNER_SILENT && kept)
		return kept; /* it was asked about this flow when it would still answer */
	if (owner & OWNER_NONE && backend_valid((__u32)owner)) {
		count_unclaimed(service);
		keep_owner(p, (__u32)owner, service, SHOAL_FLOW_OPEN);
	}
	return owner;
}

/* The same for a TCP packet in any other slot, of a frontend whose connections may have entries (SHOAL_FE_ENTRIES). */
SHOAL_GLOBAL __u64 flow_kept(const struct shoal_pkt *p, __u32 service, __u32 slot)
{
	const struct shoal_flow *flow;

	if (!p)
		return 0;
	flow = flow_known(p, service, now_s());
	if (flow)
		return flow->backend;
	if (!is_syn(p))
		return slot;
	flow_forget(p);
	return slot | OWNER_FRESH;
}

/*
 * Whose a packet to a frontend is: the backend's id with the bits above; 0 in its place: nobody's. A connection keeps its
 * backend for as long as that is the same backend, in the ring or not. Of TCP without affinity the ring says it, with no
 * entry a flow, so that a host that takes over a VIP leads flows on that it has never seen.
 */
static __always_inline __u64 flow_find(struct shoal_pkt *p, const bool v6, const struct shoal_frontend *fe,
				       __u32 service, const enum flow_ways ways)
{
	const __u32 number = flow_number(p);
	__u32 slot;

	/* A client's affinity says where its new connections go, and nothing of those that it has. */
	if (unlikely(p->key.proto != IPPROTO_TCP || (fe->affinity_s && is_syn(p))))
		return flow_by_entry(p, fe, service, number, v6);
	slot = ring_slot(ring_ref(service), number);
	if (unlikely(slot & SHOAL_SLOT_MOVED || fe->affinity_s))
		return flow_of_moved(p, service, number, slot, ways);
	if (unlikely(fe->flags & SHOAL_FE_ENTRIES))
		return flow_kept(p, service, slot);
	return slot | (is_syn(p) ? OWNER_FRESH : 0);
}

/* The backend that flow_find() has found, of the packet's family. */
static __always_inline const struct shoal_backend *flow_found(__u64 owner, const bool v6)
{
	const struct shoal_backend *be = backend_valid((__u32)owner);

	return be && addr_is_v4(&be->addr) != v6 ? be : NULL;
}

/* The packet goes there. */
static __always_inline void flow_count_sent(__u32 service, __u32 bytes, __u64 owner)
{
	flow_count(service, bytes, owner & OWNER_FRESH);
	if (owner & OWNER_FRESH)
		count_flow((__u32)owner);
}

/*
 * The packet is left to a program that comes later, and counts it. What of that one's count is missing: the entry that a
 * new flow has by now makes it an old one there.
 */
static __always_inline void flow_count_left(const struct shoal_pkt *p, __u32 service, __u64 owner)
{
	struct shoal_service_stats *s;

	if (!(owner & OWNER_FRESH) || p->key.proto == IPPROTO_TCP)
		return;
	s = service_stats(service);
	if (s)
		s->flows++;
	count_flow((__u32)owner);
}

/* The backend of a packet of `bytes` to a frontend, counted. *ask: the backend's host is to be asked. */
static __always_inline const struct shoal_backend *flow_backend(__u32 bytes, struct shoal_pkt *p, const bool v6,
								const struct shoal_frontend *fe, __u32 service,
								const enum flow_ways ways, bool *ask)
{
	const __u64 owner = flow_find(p, v6, fe, service, ways);
	const struct shoal_backend *be = flow_found(owner, v6);

	*ask = owner & OWNER_ASK;
	if (!be) {
		count_refused(service);
		return NULL;
	}
	flow_count_sent(service, bytes, owner);
	if (unlikely(p->frag))
		frag_keep_backend(p, (__u32)owner, be->epoch, service);
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

	reply_key(&key, p, backend, backend_port);
	flow = bpf_map_lookup_elem(&shoal_flows, &key);
	if (flow && flow->port == p->key.dport && addr_equal(&flow->addr, &p->key.daddr)) {
		if (is_syn(p) && flow->flags & SHOAL_FLOW_CLOSING)
			flow->flags = 0;
		flow_acknowledged(flow, p);
		flow_touch(flow, p, now);
		return;
	}
	__builtin_memset(&fresh, 0, sizeof(fresh));
	addr_copy(&fresh.addr, &p->key.daddr);
	fresh.port = p->key.dport;
	fresh.seen_s = now;
	flow_acknowledged(&fresh, p);
	flow_touch(&fresh, p, now);
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
	struct shoal_flow *flow;
	__u32 now = now_s();

	__builtin_memset(&key, 0, sizeof(key));
	addr_copy(&key.saddr, &p->key.saddr);
	addr_copy(&key.daddr, &p->key.daddr);
	key.sport = backend_port;
	key.dport = p->key.sport;
	key.proto = p->key.proto;
	key.dir = SHOAL_FLOW_REVERSE;
	flow = bpf_map_lookup_elem(&shoal_flows, &key);
	if (flow && flow->flags & SHOAL_FLOW_HAIRPIN && flow->port == p->key.dport) {
		/* That it has closed is kept: the address that was asked may be a host's, which asks by itself. */
		if (is_syn(p))
			flow->flags = SHOAL_FLOW_HAIRPIN;
		flow_touch(flow, p, now);
		return;
	}
	__builtin_memset(&fresh, 0, sizeof(fresh));
	addr_copy(&fresh.addr, &p->key.daddr);
	fresh.port = p->key.dport;
	fresh.seen_s = now;
	fresh.flags = SHOAL_FLOW_HAIRPIN;
	flow_touch(&fresh, p, now);
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
