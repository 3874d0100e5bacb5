// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * While the maps are being changed for others, the hooks of a host must go from the former programs to the new ones
 * all at once: what one hook writes down, of a flow say, another one looks for. So each hook gets one of these for
 * that time. They do what the former program does until shoal_handover says otherwise, and then what the new one does.
 * Each has the name of the programs that it stands for (netplane/kernel/bpf/handover.h).
 */
#include "lib/common.h"

enum {
	FORMER = 0,
	NEW = 1,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} shoal_handover SEC(".maps");

static __always_inline __u32 turn(void)
{
	__u32 zero = 0;
	const __u32 *now = bpf_map_lookup_elem(&shoal_handover, &zero);

	return now && *now ? NEW : FORMER;
}

/* A table of its own for each: the kernel wants programs of one kind in it. */
#define STAND_IN(section, context, program, otherwise)                                                               \
	struct {                                                                                                     \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                               \
		__uint(max_entries, 2);                                                                              \
		__type(key, __u32);                                                                                  \
		__type(value, __u32);                                                                                \
	} to_##program SEC(".maps");                                                                                 \
                                                                                                                     \
	SEC(section)                                                                                                 \
	int program(struct context *ctx)                                                                             \
	{                                                                                                            \
		bpf_tail_call(ctx, &to_##program, turn());                                                           \
		return otherwise;                                                                                    \
	}

STAND_IN("tc", __sk_buff, shoal_pod, SHOAL_PASS)
STAND_IN("tc", __sk_buff, shoal_pod_out, SHOAL_PASS)
STAND_IN("tc", __sk_buff, shoal_uplink, SHOAL_PASS)
STAND_IN("tc", __sk_buff, shoal_up_out, SHOAL_PASS)
STAND_IN("tc", __sk_buff, shoal_ovl_in, SHOAL_PASS)
STAND_IN("tc", __sk_buff, shoal_ovl_out, SHOAL_PASS)
STAND_IN("cgroup/connect4", bpf_sock_addr, shoal_connect4, 1)
STAND_IN("cgroup/connect6", bpf_sock_addr, shoal_connect6, 1)
STAND_IN("cgroup/sendmsg4", bpf_sock_addr, shoal_sendmsg4, 1)
STAND_IN("cgroup/sendmsg6", bpf_sock_addr, shoal_sendmsg6, 1)
STAND_IN("cgroup/recvmsg4", bpf_sock_addr, shoal_recvmsg4, 1)
STAND_IN("cgroup/recvmsg6", bpf_sock_addr, shoal_recvmsg6, 1)
STAND_IN("cgroup/getpeername4", bpf_sock_addr, shoal_getpeer4, 1)
STAND_IN("cgroup/getpeername6", bpf_sock_addr, shoal_getpeer6, 1)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
