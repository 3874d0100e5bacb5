/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Fragments of balanced datagrams. The first one is treated like any packet, and what was done to it is kept under
 * (source, destination, identification, protocol) for the ones after it. One that comes before the first is dropped
 * by the balancer, for nobody holds it back here: the datagram is lost as if that fragment had been.
 */
#ifndef SHOAL_LIB_FRAG_H
#define SHOAL_LIB_FRAG_H

#include "lb.h"
#include "maps_net.h"
#include "parse.h"

static __always_inline bool is_later_fragment(const struct shoal_pkt *p)
{
	return unlikely(p->frag & IP_OFFSET) && is_balanced_proto(p->key.proto);
}

static __always_inline void frag_key(struct shoal_frag_key *key, const struct shoal_pkt *p, __u8 dir)
{
	__builtin_memset(key, 0, sizeof(*key));
	addr_copy(&key->saddr, &p->key.saddr);
	addr_copy(&key->daddr, &p->key.daddr);
	key->id = p->frag_id;
	key->proto = p->key.proto;
	key->dir = dir;
}

/* p: a first fragment, as it came. Out of line: few packets are. */
SHOAL_GLOBAL int frag_keep_backend(const struct shoal_pkt *p, __u32 backend, __u32 epoch, __u32 service)
{
	struct shoal_frag_key key;
	struct shoal_frag fresh;

	if (!p)
		return -1;
	__builtin_memset(&fresh, 0, sizeof(fresh));
	fresh.backend = backend;
	fresh.epoch = epoch;
	fresh.service = service;
	fresh.seen_s = now_s();
	frag_key(&key, p, SHOAL_FLOW_FORWARD);
	return (int)bpf_map_update_elem(&shoal_frags, &key, &fresh, BPF_ANY);
}

/*
 * p: a pod's first fragment, as the pod sent it: a reply of a balanced flow, whose VIP the others need, or none, and
 * then what was kept under the same identification does not hold any more.
 */
SHOAL_GLOBAL int frag_keep_vip(const struct shoal_pkt *p, int is_reply)
{
	struct shoal_flow_key flow_key;
	const struct shoal_flow *flow;
	struct shoal_frag_key key;
	struct shoal_frag fresh;

	if (!p)
		return -1;
	frag_key(&key, p, SHOAL_FLOW_REVERSE);
	__builtin_memcpy(&flow_key, &p->key, sizeof(flow_key));
	flow_key.dir = SHOAL_FLOW_REVERSE;
	flow = is_reply ? bpf_map_lookup_elem(&shoal_flows, &flow_key) : NULL;
	if (!flow || flow->flags & SHOAL_FLOW_HAIRPIN)
		return (int)bpf_map_delete_elem(&shoal_frags, &key);
	__builtin_memset(&fresh, 0, sizeof(fresh));
	addr_copy(&fresh.addr, &flow->addr);
	fresh.seen_s = now_s();
	return (int)bpf_map_update_elem(&shoal_frags, &key, &fresh, BPF_ANY);
}

/* What was kept of p's first fragment; NULL: nothing, or too long ago. */
static __always_inline const struct shoal_frag *frag_lookup(const struct shoal_pkt *p, __u8 dir)
{
	const struct shoal_frag *kept;
	struct shoal_frag_key key;

	frag_key(&key, p, dir);
	kept = bpf_map_lookup_elem(&shoal_frags, &key);
	return kept && now_s() - kept->seen_s <= SHOAL_FRAG_S ? kept : NULL;
}

#endif
