/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What every Shoal program starts from. Programs are compiled for 5.15's verifier and newer: no
 * bpf_loop, no dynptr, at most 512 bytes of stack down a call chain.
 *
 * A packet that is none of our business returns SHOAL_PASS: the next program on the device runs,
 * then the stack.
 */
#ifndef SHOAL_LIB_COMMON_H
#define SHOAL_LIB_COMMON_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../abi/shoal_abi.h"

/*
 * What a packet comes in, and the verdicts that both kinds of program have. The program file says which it is, by
 * SHOAL_XDP before its first include; tc otherwise. Only what is written for struct shoal_ctx is for both.
 */
#ifdef SHOAL_XDP
#define shoal_ctx xdp_md
#define SHOAL_PASS XDP_PASS
#define SHOAL_SHOT XDP_DROP
#else
#define shoal_ctx __sk_buff
#define SHOAL_PASS TC_ACT_UNSPEC
#define SHOAL_SHOT TC_ACT_SHOT
#endif

#define AF_INET 2
#define AF_INET6 10

#ifndef likely
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif

/*
 * A function that the verifier checks once, for any arguments, instead of at every call: for what is rare and has
 * loops or many branches. Pointers may be NULL there for all it knows.
 */
#define SHOAL_GLOBAL __attribute__((noinline, weak))

/*
 * What this kernel has, set by the loader before the load: the verifier then removes the other
 * branch, and with it helpers that the kernel does not know.
 */
const volatile __u8 shoal_has_redirect_peer = 1;
const volatile __u8 shoal_has_redirect_neigh = 1;
const volatile __u8 shoal_has_set_retval = 1;
const volatile __u8 shoal_has_sk_storage = 1;
const volatile __u8 shoal_has_coarse_clock = 1;

/* Seconds of CLOCK_MONOTONIC: the coarse clock costs a tenth of the exact one. */
static __always_inline __u32 now_s(void)
{
	__u64 ns = shoal_has_coarse_clock ? bpf_ktime_get_coarse_ns() : bpf_ktime_get_ns();

	return (__u32)(ns / 1000000000ULL);
}

/* ---- addresses, in mapped form
 * -------------------------------------------------------------------- */

static __always_inline void addr_from_v4(struct shoal_addr *a, __be32 v4)
{
	__u32 *w = (__u32 *)a->b;

	w[0] = 0;
	w[1] = 0;
	w[2] = bpf_htonl(0xffff);
	w[3] = v4;
}

static __always_inline void addr_from_v6(struct shoal_addr *a, const __be32 *v6)
{
	__u32 *w = (__u32 *)a->b;

	w[0] = v6[0];
	w[1] = v6[1];
	w[2] = v6[2];
	w[3] = v6[3];
}

/* The IPv4 address; of an IPv6 address the low 32 bits. */
static __always_inline __be32 addr_low(const struct shoal_addr *a)
{
	return ((const __u32 *)a->b)[3];
}

static __always_inline bool addr_is_v4(const struct shoal_addr *a)
{
	const __u32 *w = (const __u32 *)a->b;

	return w[0] == 0 && w[1] == 0 && w[2] == bpf_htonl(0xffff);
}

static __always_inline void addr_copy(struct shoal_addr *to, const struct shoal_addr *from)
{
	__u32 *t = (__u32 *)to->b;
	const __u32 *f = (const __u32 *)from->b;

	t[0] = f[0];
	t[1] = f[1];
	t[2] = f[2];
	t[3] = f[3];
}

static __always_inline bool addr_equal(const struct shoal_addr *a, const struct shoal_addr *b)
{
	const __u32 *x = (const __u32 *)a->b;
	const __u32 *y = (const __u32 *)b->b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

/* Of IPv6 addresses: fe80::/10, ff00::/8, ::. */
static __always_inline bool addr_is_link_local(const struct shoal_addr *a)
{
	return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

static __always_inline bool addr_is_multicast6(const struct shoal_addr *a)
{
	return a->b[0] == 0xff;
}

static __always_inline bool addr_is_unspecified6(const struct shoal_addr *a)
{
	const __u32 *w = (const __u32 *)a->b;

	return !(w[0] | w[1] | w[2] | w[3]);
}

#endif
