/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What a socket hook is told, in the shapes of the maps. */
#ifndef SHOAL_LIB_SOCK_H
#define SHOAL_LIB_SOCK_H

#include "maps_sock.h"

static __always_inline void ctx_read(struct bpf_sock_addr *ctx, bool v6, struct shoal_addr *addr)
{
	__u32 *w = (__u32 *)addr->b;

	if (v6) {
		w[0] = ctx->user_ip6[0];
		w[1] = ctx->user_ip6[1];
		w[2] = ctx->user_ip6[2];
		w[3] = ctx->user_ip6[3];
	} else {
		addr_from_v4(addr, ctx->user_ip4);
	}
}

static __always_inline void udp_key(struct shoal_udp_key *key, struct bpf_sock_addr *ctx,
				    const struct shoal_addr *addr, __be16 port)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->cookie = bpf_get_socket_cookie(ctx);
	addr_copy(&key->addr, addr);
	key->port = port;
}

#endif
