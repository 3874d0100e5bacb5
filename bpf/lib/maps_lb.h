/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The service proxy's maps: frontends, VIPs, rings, backends, counters. Every program shares them
 * through pins; the loader sets their sizes and the folder. shoal_abi.h says what they hold.
 */
#ifndef SHOAL_LIB_MAPS_LB_H
#define SHOAL_LIB_MAPS_LB_H

#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shoal_config);
} shoal_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SHOAL_FRONTENDS_DEFAULT);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct shoal_frontend_key);
	__type(value, struct shoal_frontend);
} shoal_frontends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct shoal_source_key);
	__type(value, __u32);
} shoal_source_ranges SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct shoal_affinity_key);
	__type(value, struct shoal_affinity);
} shoal_affinity SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct shoal_addr);
	__type(value, struct shoal_vip);
} shoal_vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SHOAL_SERVICES_DEFAULT);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} shoal_ring_refs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SHOAL_RING_BLOCKS_DEFAULT);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct shoal_ring_block);
} shoal_ring_blocks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SHOAL_BACKENDS_DEFAULT);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct shoal_backend);
} shoal_backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SHOAL_SERVICES_DEFAULT);
	__type(key, __u32);
	__type(value, struct shoal_service_stats);
} shoal_service_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SHOAL_BACKENDS_DEFAULT);
	__type(key, __u32);
	__type(value, struct shoal_backend_stats);
} shoal_backend_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SHOAL_DROP_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} shoal_drops SEC(".maps");

/* ---- counting
 * ---------------------------------------------------------------------------------------- */

static __always_inline void count_drop(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&shoal_drops, &reason);

	if (n)
		(*n)++;
}

/* The packet goes nowhere, and the reason is on record. */
static __always_inline int drop(__u32 reason)
{
	count_drop(reason);
	return SHOAL_SHOT;
}

static __always_inline const struct shoal_config *config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&shoal_config, &zero);
}

#endif
