// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The socket hooks: a socket of this host that connects or sends to a frontend is pointed at a
 * backend before a packet exists, so that an established connection costs nothing per packet. What
 * the application asked for is kept beside the socket and given back by getpeername and recvmsg.
 *
 * The IPv6 hooks serve IPv4-mapped destinations with the same code: sixteen bytes are sixteen
 * bytes, and a frontend's backends are of its own family.
 */
#include "lib/lb.h"
#include "lib/sock.h"

#define ECONNREFUSED 111
#define PROCEED 1
#define REFUSE 0

/* Refuses with an errno that says so; kernels before 5.18 say EPERM. */
static __always_inline int refuse(__u32 reason)
{
	count_drop(reason);
	if (shoal_has_set_retval)
		bpf_set_retval(-ECONNREFUSED);
	return REFUSE;
}

/* ---- the two families' contexts, as one shape
 * ------------------------------------------------------- */

static __always_inline void ctx_write(struct bpf_sock_addr *ctx, bool v6, const struct shoal_addr *addr, __be16 port)
{
	const __u32 *w = (const __u32 *)addr->b;

	if (v6) {
		ctx->user_ip6[0] = w[0];
		ctx->user_ip6[1] = w[1];
		ctx->user_ip6[2] = w[2];
		ctx->user_ip6[3] = w[3];
	} else {
		ctx->user_ip4 = w[3];
	}
	ctx->user_port = port;
}

static __always_inline void count_connect(__u32 service, __u32 backend)
{
	struct shoal_service_stats *s = service_stats(service);
	struct shoal_backend_stats *b = bpf_map_lookup_elem(&shoal_backend_stats, &backend);

	if (s)
		s->connects++;
	if (b)
		b->connects++;
}

/* ---- what a socket asked for
 * --------------------------------------------------------------------------- */

/* By (socket, backend): for unconnected sockets, and for connected ones where there is no socket
 * storage. */
static __always_inline void rev_store(struct bpf_sock_addr *ctx, const struct shoal_backend *be,
				      const struct shoal_addr *vip, __be16 vip_port)
{
	struct shoal_udp_rev rev = {.port = vip_port};
	const struct shoal_udp_rev *old;
	struct shoal_udp_key key;

	udp_key(&key, ctx, &be->addr, be->port);
	old = bpf_map_lookup_elem(&shoal_udp_rev, &key);
	if (old && old->port == vip_port && addr_equal(&old->addr, vip))
		return;
	addr_copy(&rev.addr, vip);
	bpf_map_update_elem(&shoal_udp_rev, &key, &rev, BPF_ANY);
}

/* A socket that writes to the backend itself wants to hear from the backend itself. */
static __always_inline void rev_forget(struct bpf_sock_addr *ctx, const struct shoal_addr *addr, __be16 port)
{
	struct shoal_udp_key key;

	udp_key(&key, ctx, addr, port);
	if (bpf_map_lookup_elem(&shoal_udp_rev, &key))
		bpf_map_delete_elem(&shoal_udp_rev, &key);
}

static __always_inline void sk_store(struct bpf_sock_addr *ctx, const struct shoal_backend *be, __u32 id,
				     const struct shoal_addr *vip, __be16 vip_port)
{
	struct shoal_sk *sk;

	if (!shoal_has_sk_storage) {
		rev_store(ctx, be, vip, vip_port);
		return;
	}
	if (!ctx->sk)
		return;
	sk = bpf_sk_storage_get(&shoal_sk, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!sk)
		return;
	addr_copy(&sk->addr, vip);
	sk->port = vip_port;
	sk->backend = id;
	addr_copy(&sk->backend_addr, &be->addr);
	sk->backend_port = be->port;
}

/* A socket that connects again, elsewhere, must not answer with its former frontend. */
static __always_inline void sk_forget(struct bpf_sock_addr *ctx)
{
	if (shoal_has_sk_storage && ctx->sk)
		bpf_sk_storage_delete(&shoal_sk, ctx->sk);
}

/* Backend address in the context -> the frontend that was asked for. */
static __always_inline void reverse(struct bpf_sock_addr *ctx, bool v6)
{
	__be16 port = (__be16)ctx->user_port;
	const struct shoal_udp_rev *rev;
	struct shoal_udp_key key;
	struct shoal_addr addr;
	struct shoal_sk *sk;

	ctx_read(ctx, v6, &addr);
	if (shoal_has_sk_storage && ctx->sk) {
		sk = bpf_sk_storage_get(&shoal_sk, ctx->sk, NULL, 0);
		if (sk && sk->backend_port == port && addr_equal(&sk->backend_addr, &addr)) {
			ctx_write(ctx, v6, &sk->addr, sk->port);
			return;
		}
	}
	if (shoal_has_sk_storage && ctx->protocol == IPPROTO_TCP)
		return;
	udp_key(&key, ctx, &addr, port);
	rev = bpf_map_lookup_elem(&shoal_udp_rev, &key);
	if (rev)
		ctx_write(ctx, v6, &rev->addr, rev->port);
}

/* ---- connect
 * -----------------------------------------------------------------------------------------------
 */

static __always_inline const struct shoal_frontend *frontend_inside(const struct shoal_addr *addr, __be16 port,
								    __u8 proto)
{
	const struct shoal_frontend *fe = frontend_lookup(addr, port, proto);

	return fe && fe->inside != SHOAL_NO_SERVICE ? fe : NULL;
}

/* The clients of one network namespace, a pod's mostly, are one client to session affinity. */
static __always_inline const struct shoal_backend *sock_pick(struct bpf_sock_addr *ctx,
							     const struct shoal_frontend *fe, __u32 *id)
{
	struct shoal_affinity_key client = {.kind = SHOAL_AFFINITY_NETNS};
	__u64 cookie;

	if (!fe->affinity_s)
		return ring_pick(fe->inside, bpf_get_prandom_u32(), id);
	cookie = bpf_get_netns_cookie(ctx);
	__builtin_memcpy(client.client.b, &cookie, sizeof(cookie));
	return pick(fe, fe->inside, &client, bpf_get_prandom_u32(), now_s(), id);
}

static __always_inline int do_connect(struct bpf_sock_addr *ctx, bool v6)
{
	__be16 port = (__be16)ctx->user_port;
	__u8 proto = (__u8)ctx->protocol;
	const struct shoal_frontend *fe;
	const struct shoal_backend *be;
	struct shoal_addr vip;
	__u32 id = 0;

	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return PROCEED;
	ctx_read(ctx, v6, &vip);
	fe = frontend_inside(&vip, port, proto);
	if (!fe) {
		if (vip_lookup(&vip))
			return refuse(SHOAL_DROP_NO_FRONTEND);
		sk_forget(ctx);
		return PROCEED;
	}
	be = sock_pick(ctx, fe, &id);
	if (!be || addr_is_v4(&be->addr) != addr_is_v4(&vip)) {
		count_refused(fe->inside);
		return refuse(SHOAL_DROP_NO_BACKEND);
	}
	sk_store(ctx, be, id, &vip, port);
	ctx_write(ctx, v6, &be->addr, be->port);
	count_connect(fe->inside, id);
	return PROCEED;
}

/* ---- unconnected datagrams
 * ------------------------------------------------------------------------------ */

/* Datagrams of one socket to one frontend stay with one backend for as long as it is that backend.
 */
static __always_inline const struct shoal_backend *
udp_pick(struct bpf_sock_addr *ctx, const struct shoal_frontend *fe, const struct shoal_addr *vip, __be16 port)
{
	struct shoal_udp_pick fresh = {.service = fe->inside};
	const struct shoal_udp_pick *kept;
	const struct shoal_backend *be;
	struct shoal_udp_key key;

	udp_key(&key, ctx, vip, port);
	kept = bpf_map_lookup_elem(&shoal_udp_pick, &key);
	if (kept && kept->service == fe->inside) {
		be = backend_same(kept->backend, kept->epoch);
		if (be)
			return be;
	}
	be = sock_pick(ctx, fe, &fresh.backend);
	if (!be)
		return NULL;
	fresh.epoch = be->epoch;
	bpf_map_update_elem(&shoal_udp_pick, &key, &fresh, BPF_ANY);
	count_connect(fe->inside, fresh.backend);
	return be;
}

static __always_inline int do_sendmsg(struct bpf_sock_addr *ctx, bool v6)
{
	__be16 port = (__be16)ctx->user_port;
	const struct shoal_frontend *fe;
	const struct shoal_backend *be;
	struct shoal_addr vip;

	ctx_read(ctx, v6, &vip);
	fe = frontend_inside(&vip, port, IPPROTO_UDP);
	if (!fe) {
		if (vip_lookup(&vip))
			return refuse(SHOAL_DROP_NO_FRONTEND);
		rev_forget(ctx, &vip, port);
		return PROCEED;
	}
	be = udp_pick(ctx, fe, &vip, port);
	if (!be || addr_is_v4(&be->addr) != addr_is_v4(&vip)) {
		count_refused(fe->inside);
		return refuse(SHOAL_DROP_NO_BACKEND);
	}
	rev_store(ctx, be, &vip, port);
	ctx_write(ctx, v6, &be->addr, be->port);
	return PROCEED;
}

/* ---- the hooks
 * --------------------------------------------------------------------------------------------- */

SEC("cgroup/connect4")
int shoal_connect4(struct bpf_sock_addr *ctx)
{
	return do_connect(ctx, false);
}

SEC("cgroup/connect6")
int shoal_connect6(struct bpf_sock_addr *ctx)
{
	return do_connect(ctx, true);
}

SEC("cgroup/sendmsg4")
int shoal_sendmsg4(struct bpf_sock_addr *ctx)
{
	return do_sendmsg(ctx, false);
}

SEC("cgroup/sendmsg6")
int shoal_sendmsg6(struct bpf_sock_addr *ctx)
{
	return do_sendmsg(ctx, true);
}

SEC("cgroup/recvmsg4")
int shoal_recvmsg4(struct bpf_sock_addr *ctx)
{
	reverse(ctx, false);
	return PROCEED;
}

SEC("cgroup/recvmsg6")
int shoal_recvmsg6(struct bpf_sock_addr *ctx)
{
	reverse(ctx, true);
	return PROCEED;
}

SEC("cgroup/getpeername4")
int shoal_getpeer4(struct bpf_sock_addr *ctx)
{
	reverse(ctx, false);
	return PROCEED;
}

SEC("cgroup/getpeername6")
int shoal_getpeer6(struct bpf_sock_addr *ctx)
{
	reverse(ctx, true);
	return PROCEED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
