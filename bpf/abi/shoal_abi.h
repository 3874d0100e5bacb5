/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The layout of everything that BPF programs and user space share: map keys and values, events, names.
 * One header for BPF (C11) and C++; sizes are asserted on both sides.
 *
 * Members may come, go, move and change their width: a build takes over the pinned entries of another one's maps
 * member by member, by their names (netplane/kernel/bpf/layout.h), and new members are 0 then. So a name keeps its
 * meaning: what means something else gets another name. Where a name alone does not say it, as with what an index
 * stands for or how many slots a ring block has, raise SHOAL_ABI_VERSION and say in netplane/kernel/bpf/abi_versions.cpp
 * what can be taken over from the one before: maps of a version that is not there are made anew, with all flows lost.
 *
 * Byte order: addresses and fields named be* are in network order, all else in host order. Addresses are 16
 * bytes; an IPv4 address is held IPv4-mapped (::ffff:a.b.c.d), so that one key serves both families.
 */
#ifndef SHOAL_ABI_H
#define SHOAL_ABI_H

#include <linux/types.h>

#ifdef __cplusplus
#define SHOAL_STATIC_ASSERT(cond, text) static_assert(cond, text)
#else
#define SHOAL_STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#endif

#define SHOAL_ABI_VERSION 4

/* ---- limits ------------------------------------------------------------------------------------ */

#define SHOAL_BACKENDS_DEFAULT 131072 /* entries of shoal_backends: ids 1 .. n-1; 0 means none */
#define SHOAL_SERVICES_DEFAULT 65536 /* entries of shoal_ring_refs: one a service port and scope */
#define SHOAL_FRONTENDS_DEFAULT 131072
#define SHOAL_FLOWS_DEFAULT 262144
#define SHOAL_FRAGS_DEFAULT 8192 /* datagrams that are on their way in fragments */
#define SHOAL_RING_BLOCK_SLOTS 64 /* slots in one element of shoal_ring_blocks */
#define SHOAL_RING_BLOCKS_DEFAULT 262144 /* 64 MiB when full; memory is taken at creation */
#define SHOAL_RING_SLOTS_MAX 1048576

struct shoal_addr {
	__u8 b[16];
} __attribute__((aligned(4)));

/* ---- frontends: shoal_frontends, HASH ------------------------------------------------------------ */

struct shoal_frontend_key {
	struct shoal_addr addr;
	__be16 port;
	__u8 proto; /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 pad; /* 0 */
};

enum shoal_frontend_flags {
	SHOAL_FE_RESTRICTED = 1, /* outside clients are held against shoal_source_ranges */
	/*
	 * Connections may have entries of their own that the ring knows nothing of: of the time when the service had session
	 * affinity, or of a build that kept one for each.
	 */
	SHOAL_FE_ENTRIES = 2,
};

/*
 * A service is an index into shoal_ring_refs and shoal_service_stats. Clients inside (sockets of this host, pods)
 * and outside (packets from the LAN) may have rings of their own, since a Service's policies can differ for them;
 * mostly both name one. SHOAL_NO_SERVICE: this side has no frontend here.
 */
#define SHOAL_NO_SERVICE 0xffffffffU

struct shoal_frontend {
	__u32 inside;
	__u32 outside;
	__u32 affinity_s; /* a client stays with the backend it had last, if it comes back so soon; 0: it does not */
	__u32 flags;
};

/*
 * Outside clients that a restricted service takes: shoal_source_ranges, LPM trie. The service stands first in the
 * key, so a lookup is within it.
 */
#define SHOAL_SOURCE_SERVICE_BITS 32

struct shoal_source_key {
	__u32 prefix_bits; /* SHOAL_SOURCE_SERVICE_BITS and the range's length, in mapped form */
	__u32 service;
	struct shoal_addr addr;
};

/*
 * Session affinity: shoal_affinity, LRU_HASH. Who a client is: its address for a packet; for a socket the cookie of
 * its network namespace (a socket that connects has no source address yet), in the first 8 bytes.
 */
enum shoal_affinity_kind {
	SHOAL_AFFINITY_ADDRESS = 1,
	SHOAL_AFFINITY_NETNS = 2,
};

struct shoal_affinity_key {
	struct shoal_addr client;
	__u32 service;
	__u32 kind;
};

struct shoal_affinity {
	__u32 backend;
	__u32 epoch;
	__u32 seen_s; /* of the client's last new connection */
};

/*
 * An address that is some frontend's, whatever the port: shoal_vips, HASH. A packet or connect to a known
 * VIP on a port without a frontend is refused at once instead of wandering off.
 */
enum shoal_vip_flags {
	SHOAL_VIP_ANNOUNCED = 1, /* this host answers ARP / NDP for it */
};

struct shoal_vip {
	__u32 flags;
};

/* ---- rings --------------------------------------------------------------------------------------- */

/*
 * shoal_ring_refs, ARRAY of __u64, memory-mapped by user space: the one value that switches a service to a
 * new ring with a single aligned 8-byte store. High 32 bits: first block in shoal_ring_blocks; low 31 bits:
 * number of slots. 0: no ring, that is no backend: refuse.
 * Slot s of a ring lies in block (first + s / 64), element s % 64. A pick is slot = (hash * slots) >> 32 for
 * a 32-bit hash: the flow's in tc and XDP, random in the socket hooks.
 *
 * A slot is an index into shoal_backends; 0: none, refuse. SHOAL_SLOT_MOVED: it was another backend's before, whose
 * connections go on there. With SHOAL_RING_HISTORY, who that was lies in the blocks after the ring's: for slot s two
 * backends in elements 2 s and 2 s + 1 of those, the one before and the one before that; 0: none. One that is not
 * valid any more counts as none. A balancer so needs no entry a flow: a SYN is the slot's owner's; of anything else
 * in a slot that has moved, the backends' hosts know whose it is (SHOAL_FLOW_REVERSE), and are asked (DSR, below).
 */
#define SHOAL_RING_REF(first_block, slots) (((__u64)(first_block) << 32) | (__u64)(slots))
#define SHOAL_RING_HISTORY 0x80000000U /* in a reference's low half */
#define SHOAL_SLOT_MOVED 0x80000000U
#define SHOAL_SLOT_FORMER 2 /* owners that are remembered of a slot */

/* shoal_ring_blocks, ARRAY, mapped while many are written. A block is reused only after a grace (see netplane/apply). */
struct shoal_ring_block {
	__u32 slot[SHOAL_RING_BLOCK_SLOTS];
};

/* ---- backends: shoal_backends, ARRAY (mapped while many are written), index = backend id -------------------------------------------- */

enum shoal_backend_flags {
	SHOAL_BE_LOCAL = 1, /* a pod of this host: delivered to its veth */
	/*
	 * The id is given to a backend. Without it the id is free and only the epoch counts: it stays in the
	 * map, so that the next owner's is larger even when the agent has restarted in between.
	 */
	SHOAL_BE_VALID = 2,
	SHOAL_BE_DRAINING = 4, /* no new connections: affinity does not lead here any more */
	/*
	 * No pod. With SHOAL_BE_LOCAL it is a process at this host's own address, with a node one at that host's, which
	 * is reached by DSR as a pod there is; without either it is outside of the cluster, and outside clients are
	 * masqueraded towards it.
	 */
	SHOAL_BE_STACK = 8,
	/*
	 * Of a host from which the network takes no service address as a source: outside clients reach it masqueraded, by
	 * the stack, and the reply comes back here; no DSR. Goes with SHOAL_CONFIG_SNAT.
	 */
	SHOAL_BE_SNAT = 16,
	/* Its host is alive, as far as this one knows, and understands questions about flows (DSR, below). */
	SHOAL_BE_ANSWERS = 32,
};

struct shoal_backend {
	struct shoal_addr addr;
	__be16 port;
	__u16 generation; /* of the lease on addr; travels with a frame to the backend's host */
	__u32 epoch; /* of this id: raised whenever the id is given to another backend; 0: never used */
	__u32 flags;
	__be32 node; /* VXLAN endpoint of its host, IPv4; 0 when local, or outside of the cluster */
};

/* ---- pods of this host: shoal_pods, HASH by address --------------------------------------------------- */

struct shoal_pod {
	__u32 ifindex; /* of the host's end of its veth */
	__u16 generation;
	__u16 pad;
	__u8 mac[6]; /* of the pod's end */
	__u8 host_mac[6];
};

/* ---- other hosts: shoal_nodes, LPM trie by pod CIDR ---------------------------------------------------- */

struct shoal_node_key {
	__u32 prefix_bits; /* in mapped form: an IPv4 /24 is 120 */
	struct shoal_addr addr;
};

enum shoal_node_flags {
	SHOAL_NODE_NATIVE = 1, /* pod to pod goes by the host's routes, not by the overlay */
};

struct shoal_node {
	__be32 node; /* VXLAN endpoint, IPv4; 0: this host's own CIDR */
	__u32 flags; /* enum shoal_node_flags */
};

/*
 * Underlay addresses of member hosts: shoal_peers, HASH from __be32 to __u8 (1). Derived from shoal_nodes by user
 * space (a set, so that an overlay packet's sender is checked in one lookup).
 */

/* The pods' IPv6 gateway, an address of no host: fe80::1. An initialiser of struct shoal_addr. */
#define SHOAL_POD_GATEWAY6 {{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}}

/* ---- this host: shoal_config, ARRAY of one; shoal_uplinks, HASH from ifindex ------------------------------- */

struct shoal_config {
	__u32 abi_version;
	__u32 overlay_ifindex; /* 0: no overlay, other hosts are not reached */
	__u64 hash_seed; /* the same on every host of a cluster, or a takeover moves flows */
	/*
	 * This host's own IPv6 pod CIDR, its first address; :: when it has none. Derived from shoal_nodes by user space.
	 * What DSR frames leave out of a backend's address, the upper 96 bits, are this one's: all of a host's IPv6 pods
	 * share them.
	 */
	struct shoal_addr pod_net6;
	__u32 overlay_mtu; /* of the overlay device: the largest IP packet that it carries; 0: not known */
	__u32 flags; /* enum shoal_config_flags */
	/* This host's own addresses, where its processes are backends: IPv4, IPv6; :: where it has none. */
	struct shoal_addr self[2];
	/* For XDP on the uplink, which makes the overlay's outer headers itself. uplink_ifindex 0: it makes none. */
	__be32 underlay; /* this host's VXLAN endpoint, IPv4 */
	__be16 vxlan_port;
	__u8 uplink_mac[6];
	__u32 uplink_ifindex;
};

enum shoal_config_flags {
	/*
	 * There are backends with SHOAL_BE_SNAT, or were not long ago. What is open goes on as it began, with an entry for
	 * the reply here or without; what leaves the stack is looked at for replies.
	 */
	SHOAL_CONFIG_SNAT = 1,
	/* There are backends that are no pods: what leaves the stack is looked at for their replies. */
	SHOAL_CONFIG_STACK_BACKENDS = 2,
	/* Pods of other hosts send by the LAN. */
	SHOAL_CONFIG_NATIVE = 4,
};

/* On packets that netfilter shall masquerade: their backend's reply would not come back to the client otherwise. */
#define SHOAL_MARK_MASQUERADE 0x00800000
/* On packets that a Shoal program gives to this host's stack by the ingress of the overlay device. */
#define SHOAL_MARK_TO_HOST 0x00400000

struct shoal_uplink {
	__u8 mac[6]; /* what ARP replies and neighbour advertisements say */
	__u16 pad;
};

/*
 * How another host is reached over the uplink: shoal_next_hops, PERCPU_ARRAY, filled by the XDP program from the routing
 * and neighbour tables. A node's slot is the low bits of its address, so hosts of one LAN have slots of their own; where
 * two hosts meet, each takes the slot from the other when it is its turn. Per CPU, so that no entry is read half written.
 */
#define SHOAL_NEXT_HOPS 4096

struct shoal_next_hop {
	__be32 node; /* whose the entry is; 0: nobody's */
	__u32 checked; /* kernel ticks, the low bits: asked again after SHOAL_NEXT_HOP_TICKS */
	__u32 ifindex; /* of the device that leads there; 0: there was no neighbour or no route */
	__u8 dmac[6];
	__u8 smac[6];
};

/* A second at Debian's 250 Hz; a quarter of one at 1,000 Hz, two and a half at 100 Hz. */
#define SHOAL_NEXT_HOP_TICKS 256

/* ---- flows: shoal_flows, LRU_HASH ------------------------------------------------------------------------ */

/*
 * FORWARD: on the host that balances; key is the packet as the client sent it (client -> VIP), addr:port is the
 * backend. Only what the ring does not say is there: UDP, clients with session affinity, and TCP flows of a slot that
 * has moved whose backend another host had to be asked for. REVERSE: on the backend's host; key is the pod's reply as it
 * leaves the pod (pod -> client), addr:port is the VIP that it must come from. Every forward packet renews a lost one.
 */
enum shoal_flow_dir {
	SHOAL_FLOW_FORWARD = 1,
	SHOAL_FLOW_REVERSE = 2,
};

struct shoal_flow_key {
	struct shoal_addr saddr;
	struct shoal_addr daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 dir;
	__u16 pad;
};

enum shoal_flow_flags {
	SHOAL_FLOW_CLOSING = 1, /* a FIN or RST was seen: a SYN is a new connection and picks anew */
	/*
	 * REVERSE, of a pod that was balanced to itself: it sees the VIP as its client (two ends of one connection cannot
	 * both be its own address), so the reply's destination becomes the pod's address.
	 */
	SHOAL_FLOW_HAIRPIN = 2,
	SHOAL_FLOW_OPEN = 4, /* more than a SYN and its answer was seen */
	SHOAL_FLOW_ASK = 8, /* FORWARD: the backend's host has not said that it has the flow; it is asked each time */
	/*
	 * REVERSE, until it is OPEN: a SYN was answered, and the client's next packet must acknowledge `epoch`. A SYN
	 * that comes late, or is forged, is its slot's present owner's: what the client then sends on its connection
	 * acknowledges something else, so it is not that owner's, and goes on to the one before.
	 */
	SHOAL_FLOW_ANSWERED = 16,
};

/*
 * How far what a client's packet acknowledges may lie from what is kept of its connection. Of one that begins: how much
 * of the backend's first data the first packet that is seen may acknowledge. Of one that closes, both ways: as much as
 * may be under way when an end is sent, which is a window, and those of slow links are large. An entry of a closed
 * connection so claims one in sixty-four of later ones with the same ports, and of those whose slot has moved alone.
 */
#define SHOAL_ACK_BYTES (1U << 20)
#define SHOAL_CLOSING_ACK_BYTES (1U << 25)

/* An open TCP flow that was idle for so long may be begun anew, where its backend gets nobody new. */
#define SHOAL_OPEN_IDLE_S 60

/* A TCP flow that has seen a FIN or RST, and then nothing for so long, is over (TIME-WAIT, RFC 9293). */
#define SHOAL_CLOSED_S 60

/* A UDP flow that was idle for longer is a new one. */
#define SHOAL_UDP_IDLE_S 180

struct shoal_flow {
	struct shoal_addr addr;
	__be16 port;
	__u16 generation; /* FORWARD: of the backend's lease */
	__u32 backend; /* FORWARD: id, with epoch */
	__u32 epoch; /* of the id; REVERSE: see SHOAL_FLOW_ANSWERED; CLOSING: what was acknowledged last */
	__u32 service;
	__u32 seen_s; /* CLOCK_MONOTONIC, coarse; refreshed at most once a second */
	__be32 node; /* FORWARD: as in shoal_backend */
	__u32 flags;
};

/* ---- fragments: shoal_frags, LRU_HASH --------------------------------------------------------------------- */

/*
 * Only a datagram's first fragment has ports. What was done to it is kept for the others, in the two directions of
 * shoal_flows. An entry counts for SHOAL_FRAG_S, since identifications are used again.
 */
#define SHOAL_FRAG_S 30

struct shoal_frag_key {
	struct shoal_addr saddr;
	struct shoal_addr daddr;
	__be32 id; /* IPv4: 16 bits, as they lie in the header */
	__u8 proto;
	__u8 dir; /* enum shoal_flow_dir */
	__u16 pad;
};

struct shoal_frag {
	struct shoal_addr addr; /* REVERSE: the VIP */
	__u32 backend; /* FORWARD: id, with epoch */
	__u32 epoch;
	__u32 service;
	__u32 seen_s; /* of the first fragment */
};

/* ---- sockets ------------------------------------------------------------------------------------------- */

/*
 * What a connected socket asked for: shoal_sk, SK_STORAGE. It goes with the socket. Kernels without it in these
 * hooks use shoal_udp_rev for connected sockets too.
 */
struct shoal_sk {
	struct shoal_addr addr; /* the frontend */
	__be16 port;
	__u16 pad;
	__u32 backend; /* id */
	struct shoal_addr backend_addr;
	__be16 backend_port;
	__u16 pad2;
};

/* Unconnected UDP: shoal_udp_rev, LRU_HASH from (socket, backend) to the frontend that was written to. */
struct shoal_udp_key {
	__u64 cookie;
	struct shoal_addr addr;
	__be16 port;
	__u16 pad;
	__u32 pad2;
};

struct shoal_udp_rev {
	struct shoal_addr addr;
	__be16 port;
	__u16 pad;
};

/*
 * Unconnected UDP, the other way: shoal_udp_pick, LRU_HASH from (socket, frontend) to the backend that its datagrams
 * go to, as long as that id is still the same backend's. The key is a shoal_udp_key with the frontend's address.
 */
struct shoal_udp_pick {
	__u32 backend;
	__u32 epoch;
	__u32 service;
};

/* ---- DSR over the overlay ---------------------------------------------------------------------------------- */

/*
 * A balanced packet crosses to its backend's host unchanged from the IP header on; which backend was picked is
 * carried in the inner Ethernet header and never recomputed there:
 *   VNI     SHOAL_VNI_DSR
 *   source  02, 'D', then the lease generation (16 bits), then the target port (16 bits), network order
 *   dest    02, 'd', then the low 32 bits of the backend's address; or 02, 'h', when that is the host's own
 *           02, 'D' or 'H': the same as a question: the slot has had other owners. Whose flow it is not, who has no
 *           REVERSE entry of it, sends the frame back with 02, 'n', and the balancer asks the owner before. Only hosts
 *           that will answer are asked (SHOAL_BE_ANSWERS); the others come last, and get the frame as theirs.
 * The receiver completes the address from its own pod CIDR of that family (IPv6: shoal_config), or from its own
 * address, and compares the generation with its lease. Generation 0 is no lease's: the backend was written down by
 * hand, and is whoever has the address. Pod-to-pod packets use SHOAL_VNI_POD, destination SHOAL_OVERLAY_MAC. The
 * source is never the VXLAN device's own MAC: the kernel drops those as loops.
 */
#define SHOAL_DSR_POD 'd'
#define SHOAL_DSR_HOST 'h'
#define SHOAL_DSR_CERTAIN 0x20 /* the bit that makes the letter small */
#define SHOAL_DSR_NOT_MINE 'n'

#define SHOAL_VNI_POD 1
#define SHOAL_VNI_DSR 2

/* Initialisers of __u8[6]. */
#define SHOAL_OVERLAY_MAC {0x02, 's', 'h', 'o', 'a', 'l'}
#define SHOAL_OVERLAY_SRC_MAC {0x02, 'S', 'H', 'O', 'A', 'L'}

struct shoal_dsr_eth {
	__u8 dst_magic[2]; /* 0x02, and 'd' or 'h', 'D' or 'H', or 'n' */
	__u8 addr_low[4];
	__u8 src_magic[2]; /* 0x02, 'D' */
	__be16 generation;
	__be16 target_port;
	__be16 ethertype;
} __attribute__((packed));

/* ---- counters ------------------------------------------------------------------------------------------------ */

/* shoal_service_stats, PERCPU_ARRAY, index = service. */
struct shoal_service_stats {
	__u64 connects; /* picks by the socket hooks */
	__u64 flows; /* new flows in tc or XDP; of TCP, SYNs */
	__u64 packets; /* balanced, client to backend */
	__u64 bytes;
	__u64 refused; /* no backend */
	__u64 unclaimed; /* open TCP flows in a slot that has moved that no former owner has: given to the present one */
};

/* shoal_backend_stats, PERCPU_ARRAY, index = backend id. */
struct shoal_backend_stats {
	__u64 connects;
	__u64 flows;
};

/* shoal_drops, PERCPU_ARRAY of __u64, index = enum shoal_drop_reason: every packet that a program does not
 * forward has a counted, named reason. */
enum shoal_drop_reason {
#define SHOAL_DROP(name, text) SHOAL_DROP_##name,
#include "drop_reasons.def"
#undef SHOAL_DROP
	SHOAL_DROP_COUNT
};

/* ---- sizes ----------------------------------------------------------------------------------------------------- */

SHOAL_STATIC_ASSERT(sizeof(struct shoal_addr) == 16, "shoal_addr");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_frontend_key) == 20, "shoal_frontend_key");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_frontend) == 16, "shoal_frontend");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_source_key) == 24, "shoal_source_key");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_affinity_key) == 24, "shoal_affinity_key");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_affinity) == 12, "shoal_affinity");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_vip) == 4, "shoal_vip");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_ring_block) == 256, "shoal_ring_block");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_backend) == 32, "shoal_backend");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_pod) == 20, "shoal_pod");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_node_key) == 20, "shoal_node_key");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_node) == 8, "shoal_node");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_flow_key) == 40, "shoal_flow_key");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_flow) == 44, "shoal_flow");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_frag_key) == 40, "shoal_frag_key");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_frag) == 32, "shoal_frag");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_sk) == 44, "shoal_sk");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_udp_key) == 32, "shoal_udp_key");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_config) == 88, "shoal_config");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_next_hop) == 24, "shoal_next_hop");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_uplink) == 8, "shoal_uplink");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_udp_pick) == 12, "shoal_udp_pick");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_udp_rev) == 20, "shoal_udp_rev");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_dsr_eth) == 14, "shoal_dsr_eth");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_service_stats) == 48, "shoal_service_stats");
SHOAL_STATIC_ASSERT(sizeof(struct shoal_backend_stats) == 16, "shoal_backend_stats");

#endif
