// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The maps of former.h, and a program of the former build at a pod. */
#include "former.h"
#include "bpf/lib/common.h"

#define MAP(name, kind, entries, map_flags_, key_type, value_type)                                 \
  struct {                                                                                         \
    __uint(type, kind);                                                                            \
    __uint(max_entries, entries);                                                                  \
    __uint(map_flags, map_flags_);                                                                 \
    __type(key, key_type);                                                                         \
    __type(value, value_type);                                                                     \
  } name SEC(".maps")

MAP(shoal_config, BPF_MAP_TYPE_ARRAY, 1, 0, __u32, struct former_config);
MAP(shoal_frontends, BPF_MAP_TYPE_HASH, 64, BPF_F_NO_PREALLOC, struct shoal_frontend_key,
    struct former_frontend);
MAP(shoal_source_ranges, BPF_MAP_TYPE_LPM_TRIE, 32, BPF_F_NO_PREALLOC, struct shoal_source_key,
    __u32);
MAP(shoal_vips, BPF_MAP_TYPE_HASH, 64, BPF_F_NO_PREALLOC, struct shoal_addr,
    struct shoal_vip); /* as it is */
MAP(shoal_ring_refs, BPF_MAP_TYPE_ARRAY, FORMER_SERVICES, BPF_F_MMAPABLE, __u32, __u64);
MAP(shoal_ring_blocks, BPF_MAP_TYPE_ARRAY, FORMER_BLOCKS, BPF_F_MMAPABLE, __u32,
    struct former_ring_block);
MAP(shoal_backends, BPF_MAP_TYPE_ARRAY, FORMER_BACKENDS, BPF_F_MMAPABLE, __u32,
    struct former_backend);
MAP(shoal_pods, BPF_MAP_TYPE_HASH, 64, BPF_F_NO_PREALLOC, struct shoal_addr, struct former_pod);
MAP(shoal_nodes, BPF_MAP_TYPE_LPM_TRIE, 32, BPF_F_NO_PREALLOC, struct shoal_node_key,
    struct shoal_node);
MAP(shoal_peers, BPF_MAP_TYPE_HASH, 64, BPF_F_NO_PREALLOC, __be32, __u32);
MAP(shoal_uplinks, BPF_MAP_TYPE_HASH, 64, 0, __u32, struct shoal_uplink); /* as it is */
MAP(shoal_flows, BPF_MAP_TYPE_LRU_HASH, 4096, 0, struct former_flow_key, struct former_flow);
MAP(shoal_affinity, BPF_MAP_TYPE_LRU_HASH, 1024, 0, struct shoal_affinity_key,
    struct former_affinity);
MAP(shoal_udp_rev, BPF_MAP_TYPE_LRU_HASH, 512, 0, struct shoal_udp_key, struct shoal_udp_rev);
MAP(shoal_service_stats, BPF_MAP_TYPE_PERCPU_ARRAY, FORMER_SERVICES, 0, __u32,
    struct former_service_stats);
MAP(shoal_drops, BPF_MAP_TYPE_PERCPU_ARRAY, 5, 0, __u32, __u64);
MAP(shoal_gone, BPF_MAP_TYPE_HASH, 5, 0, __u32, __u64);

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct former_sk);
} shoal_sk SEC(".maps");

/* No program of today's answers so: FORMER_VERDICT. */
SEC("tc")
int shoal_pod(struct __sk_buff* skb) {
  (void)skb;
  return FORMER_VERDICT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
