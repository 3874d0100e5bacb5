/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The maps of a build that never was: what version 3 of bpf/abi/shoal_abi.h had, with members in
 * another order, of another width, too many and too few. Shared by the program that declares them
 * and the test that fills them.
 */
#ifndef SHOAL_TEST_FORMER_H
#define SHOAL_TEST_FORMER_H

#include "bpf/abi/shoal_abi.h"

#define FORMER_VERSION 3
#define FORMER_SERVICES 32
#define FORMER_BACKENDS 128
#define FORMER_BLOCKS 600

#define FORMER_VERDICT 3 /* TC_ACT_PIPE */

struct former_config {
  __u64 gone;
  struct shoal_addr self[2];
  __u32 flags;
  __u32 overlay_ifindex;
  __u64 hash_seed;
  struct shoal_addr pod_net6;
  __u32 abi_version;
  __u32 gone_too;
};

struct former_frontend {
  __u8 flags;
  __u8 gone[3];
  __u16 affinity_s;
  __u16 pad;
  __u32 outside;
  __u32 inside;
};

struct former_ring_block {
  __u32 backend[SHOAL_RING_BLOCK_SLOTS]; /* what version 3 said for slot */
};

struct former_backend {
  __u32 generation;
  __u16 flags;
  __be16 port;
  __u64 epoch;
  __be32 node;
  struct shoal_addr addr;
};

struct former_pod {
  __u8 host_mac[6];
  __u8 mac[6];
  __u64 ifindex;
  __u16 generation;
};

struct former_flow_key {
  __u8 dir;
  __u8 proto;
  __be16 dport;
  __be16 sport;
  __u16 pad;
  struct shoal_addr daddr;
  struct shoal_addr saddr;
};

struct former_flow {
  __u64 gone;
  __u32 seen_s;
  __u32 epoch;
  __u32 backend;
  __u32 service;
  struct shoal_addr addr;
  __be32 node;
  __be16 port;
  __u8 flags;
  __u8 generation;
};

struct former_affinity {
  __u32 seen_s;
  __u32 gone;
  __u32 epoch;
  __u32 backend;
};

struct former_sk {
  struct shoal_addr addr;
  __be16 port;
  __u16 pad;
  __u32 backend;
};

struct former_service_stats {
  __u64 gone;
  __u64 bytes;
  __u64 packets;
  __u64 connects;
};

#endif
