/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* A pick, written into the Ethernet header of a frame to the backend's host (shoal_abi.h, DSR). `ask`: as a question. */
#ifndef SHOAL_LIB_DSR_H
#define SHOAL_LIB_DSR_H

#include "common.h"

#define DSR_HALVES (sizeof(struct shoal_dsr_eth) / sizeof(__be16))

/* A struct shoal_dsr_eth by its 16-bit parts: a packed struct would be written byte by byte. */
static __always_inline void dsr_header(__be16 *eth, const bool v6, const struct shoal_backend *be, bool ask)
{
	const __u8 kind = be->flags & SHOAL_BE_STACK ? SHOAL_DSR_HOST : SHOAL_DSR_POD;
	const __be16 *low = (const __be16 *)(be->addr.b + 12);

	eth[0] = bpf_htons(0x02 << 8 | (ask ? kind & ~SHOAL_DSR_CERTAIN : kind));
	eth[1] = low[0];
	eth[2] = low[1];
	eth[3] = bpf_htons(0x02 << 8 | 'D');
	eth[4] = bpf_htons(be->generation);
	eth[5] = be->port;
	eth[6] = v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
}

#endif
