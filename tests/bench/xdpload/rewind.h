/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What rewind.bpf.c and the program that drives it share. */
#ifndef SHOAL_BENCH_REWIND_H
#define SHOAL_BENCH_REWIND_H

#include <linux/types.h>

#define REWIND_FRAME_BYTES_MAX 128
/* Source ports of one client address; the first of them. */
#define REWIND_PORT_BITS 15
#define REWIND_PORT_FIRST 16384

struct rewind_plan {
  __u8 frame[REWIND_FRAME_BYTES_MAX]; /* as it comes in, of flow 0 */
  __u32 bytes;                        /* of the frame */
  __u32 flow_mask;                    /* number of flows - 1 */
  __u32 services;                     /* their addresses lie behind each other */
  __u32 is_syn;
  __u32 next; /* the number of the next packet */
};

#endif
