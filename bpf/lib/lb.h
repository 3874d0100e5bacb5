/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Frontend -> ring -> backend: the pick that all hooks share. They differ in the 32-bit number they
 * pick with. */
#ifndef SHOAL_LIB_LB_H
#define SHOAL_LIB_LB_H

#include "maps_lb.h"

static __always_inline const struct shoal_frontend *frontend_lookup(const struct shoal_addr *addr, __be16 port,
								    __u8 proto)
{
	struct shoal_frontend_key key;

	addr_copy(&key.addr, addr);
	/* Port, protocol and padding in one store: the hash reads them as one word, and at once. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	*(__u32 *)&key.port = (__u32)port | (__u32)proto << 16;
#else
	*(__u32 *)&key.port = (__u32)port << 16 | (__u32)proto << 8;
#endif
	return bpf_map_lookup_elem(&shoal_frontends, &key);
}

static __always_inline const struct shoal_vip *vip_lookup(const struct shoal_addr *addr)
{
	return bpf_map_lookup_elem(&shoal_vips, addr);
}

/* A backend that is still the one that was picked: same id, same epoch. */
static __always_inline const struct shoal_backend *backend_same(__u32 id, __u32 epoch)
{
	const struct shoal_backend *be = bpf_map_lookup_elem(&shoal_backends, &id);

	if (!be || be->epoch != epoch || !(be->flags & SHOAL_BE_VALID))
		return NULL;
	return be;
}

/* The two in one number, as what is not inlined can return them. 0: none. */
static __always_inline __u64 backend_ref(__u32 id, __u32 epoch)
{
	return (__u64)epoch << 32 | id;
}

/* A backend by its id; NULL when the id is nobody's. */
static __always_inline const struct shoal_backend *backend_valid(__u32 id)
{
	const struct shoal_backend *be = id ? bpf_map_lookup_elem(&shoal_backends, &id) : NULL;

	return be && be->flags & SHOAL_BE_VALID ? be : NULL;
}

/*
 * A service's ring. The reference is read once, as a whole: the ring that it names is complete, and its blocks are not
 * reused while a program may still read them. 0: none.
 */
static __always_inline __u64 ring_ref(__u32 service)
{
	const __u64 *ref = bpf_map_lookup_elem(&shoal_ring_refs, &service);

	return ref ? *(const volatile __u64 *)ref : 0;
}

static __always_inline __u32 ring_element(__u32 block, __u32 element)
{
	const struct shoal_ring_block *b;

	block += element / SHOAL_RING_BLOCK_SLOTS;
	b = bpf_map_lookup_elem(&shoal_ring_blocks, &block);
	return b ? b->slot[element & (SHOAL_RING_BLOCK_SLOTS - 1)] : 0;
}

/* The ring's slot at a number in [0, 2^32). */
static __always_inline __u32 ring_at(__u64 ref, __u32 number)
{
	return (__u32)(((__u64)number * ((__u32)ref & ~SHOAL_RING_HISTORY)) >> 32);
}

/* What lies in the slot: an id, with SHOAL_SLOT_MOVED when it has had other owners. */
static __always_inline __u32 ring_slot(__u64 ref, __u32 number)
{
	return ref ? ring_element((__u32)(ref >> 32), ring_at(ref, number)) : 0;
}

/* The id of the slot's owner before (`which` 0), or of the one before that (1). */
static __always_inline __u32 ring_former(__u64 ref, __u32 number, __u32 which)
{
	const __u32 slots = (__u32)ref & ~SHOAL_RING_HISTORY;

	if (!((__u32)ref & SHOAL_RING_HISTORY))
		return 0;
	return ring_element((__u32)(ref >> 32) + slots / SHOAL_RING_BLOCK_SLOTS,
			    SHOAL_SLOT_FORMER * ring_at(ref, number) + which);
}

/* The id of the slot's present owner (`which` 0), or of a former one, the latest first. */
static __always_inline __u32 ring_owner(__u64 ref, __u32 number, __u32 which)
{
	return which ? ring_former(ref, number, which - 1) : ring_slot(ref, number) & ~SHOAL_SLOT_MOVED;
}

/* The backend in the service's ring at a number in [0, 2^32). */
static __always_inline const struct shoal_backend *ring_pick(__u32 service, __u32 number, __u32 *id)
{
	*id = ring_owner(ring_ref(service), number, 0);
	return backend_valid(*id);
}

/*
 * The backend of a new connection: the one that this client had last, as long as it takes connections and the
 * client was here within the frontend's time; else the ring's. `client` needs a service only, which is filled in.
 */
static __always_inline const struct shoal_backend *pick(const struct shoal_frontend *fe, __u32 service,
							struct shoal_affinity_key *client, __u32 number, __u32 now,
							__u32 *id)
{
	const struct shoal_backend *be;
	struct shoal_affinity *last;
	struct shoal_affinity fresh;

	if (!fe->affinity_s)
		return ring_pick(service, number, id);
	client->service = service;
	last = bpf_map_lookup_elem(&shoal_affinity, client);
	if (last && now - last->seen_s <= fe->affinity_s) {
		be = backend_same(last->backend, last->epoch);
		if (be && !(be->flags & SHOAL_BE_DRAINING)) {
			*id = last->backend;
			last->seen_s = now;
			return be;
		}
	}
	be = ring_pick(service, number, id);
	if (!be)
		return NULL;
	fresh.backend = *id;
	fresh.epoch = be->epoch;
	fresh.seen_s = now;
	bpf_map_update_elem(&shoal_affinity, client, &fresh, BPF_ANY);
	return be;
}

/* May this outside client use the service? */
static __always_inline bool source_allowed(const struct shoal_frontend *fe, const struct shoal_addr *client)
{
	struct shoal_source_key key = {
		.prefix_bits = SHOAL_SOURCE_SERVICE_BITS + 128,
		.service = fe->outside,
	};

	if (!(fe->flags & SHOAL_FE_RESTRICTED))
		return true;
	addr_copy(&key.addr, client);
	return bpf_map_lookup_elem(&shoal_source_ranges, &key) != NULL;
}

static __always_inline struct shoal_service_stats *service_stats(__u32 service)
{
	return bpf_map_lookup_elem(&shoal_service_stats, &service);
}

static __always_inline void count_unclaimed(__u32 service)
{
	struct shoal_service_stats *s = service_stats(service);

	if (s)
		s->unclaimed++;
}

static __always_inline void count_refused(__u32 service)
{
	struct shoal_service_stats *s = service_stats(service);

	if (s)
		s->refused++;
}

/*
 * A flow's number. Multiply and fold over the key's words, then a full avalanche (the finaliser of
 * MurmurHash3), since the pick uses the high bits. It is not symmetric: a flow and its reverse are
 * different flows.
 */
static __always_inline __u32 flow_hash(const struct shoal_flow_key *k, __u64 seed)
{
	const __u32 *s = (const __u32 *)k->saddr.b;
	const __u32 *d = (const __u32 *)k->daddr.b;
	const __u64 m = 0x9e3779b97f4a7c15ULL;
	__u64 h = seed ^ m;

	h = (h ^ ((__u64)s[0] << 32 | s[1])) * m;
	h ^= h >> 32;
	h = (h ^ ((__u64)s[2] << 32 | s[3])) * m;
	h ^= h >> 32;
	h = (h ^ ((__u64)d[0] << 32 | d[1])) * m;
	h ^= h >> 32;
	h = (h ^ ((__u64)d[2] << 32 | d[3])) * m;
	h ^= h >> 32;
	h = (h ^ ((__u64)k->sport << 32 | (__u64)k->dport << 16 | k->proto)) * m;
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ULL;
	return (__u32)(h >> 32);
}

#endif
