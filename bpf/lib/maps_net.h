/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The network's maps: pods of this host, other hosts, uplinks, flows. Used by the tc programs only.
 */
#ifndef SHOAL_LIB_MAPS_NET_H
#define SHOAL_LIB_MAPS_NET_H

#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct shoal_addr);
	__type(value, struct shoal_pod);
} shoal_pods SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct shoal_node_key);
	__type(value, struct shoal_node);
} shoal_nodes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __be32);
	__type(value, __u8);
} shoal_peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct shoal_uplink);
} shoal_uplinks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SHOAL_FLOWS_DEFAULT);
	__type(key, struct shoal_flow_key);
	__type(value, struct shoal_flow);
} shoal_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SHOAL_FRAGS_DEFAULT);
	__type(key, struct shoal_frag_key);
	__type(value, struct shoal_frag);
} shoal_frags SEC(".maps");

static __always_inline const struct shoal_pod *pod_by_addr(const struct shoal_addr *addr)
{
	return bpf_map_lookup_elem(&shoal_pods, addr);
}

/* Whose pod CIDR an address lies in; NULL: nobody's. */
static __always_inline const struct shoal_node *node_by_addr(const struct shoal_addr *addr)
{
	struct shoal_node_key key = {.prefix_bits = 128};

	addr_copy(&key.addr, addr);
	return bpf_map_lookup_elem(&shoal_nodes, &key);
}

#endif
