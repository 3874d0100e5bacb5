/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the socket hooks remember of a socket. */
#ifndef SHOAL_LIB_MAPS_SOCK_H
#define SHOAL_LIB_MAPS_SOCK_H

#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct shoal_sk);
} shoal_sk SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct shoal_udp_key);
	__type(value, struct shoal_udp_rev);
} shoal_udp_rev SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct shoal_udp_key);
	__type(value, struct shoal_udp_pick);
} shoal_udp_pick SEC(".maps");

#endif
