// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The floor under an XDP load balancer: what none can do without, and nothing else. The frontend's
 * hash, the ring, the backend, a per-CPU counter, the outer headers. It reads Shoal's own maps. No
 * flow is kept, no option or fragment seen, nobody's source or MAC address looked at, no neighbour
 * looked up, nothing refused; the next hop is a constant.
 *
 * A bench's yardstick (scripts/bench xdp). How many instructions it has is pinned by floor_test, so
 * that it does not grow with what is measured by it.
 */
#define SHOAL_XDP
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "bpf/lib/lb.h"

#define OUTER_BYTES 50

static __always_inline int forward(struct xdp_md* xdp, const struct shoal_addr* vip, __be16 port,
                                   __u64 flow, __u32 bytes, __be16 ethertype) {
  const struct shoal_frontend* fe = frontend_lookup(vip, port, IPPROTO_TCP);
  const struct shoal_config* cfg = config();
  struct shoal_service_stats* stats;
  const struct shoal_backend* be;
  struct udphdr* udp;
  const __be16* mac;
  struct iphdr* ip;
  __u32 id, sum;
  __be32* word;
  __be16* half;
  void* data;

  if (!fe || !cfg)
    return XDP_PASS;
  flow *= 0x9e3779b97f4a7c15ULL;
  be = ring_pick(fe->outside, (__u32)(flow >> 32), &id);
  stats = service_stats(fe->outside);
  if (!be || !stats)
    return XDP_PASS;
  stats->packets++;
  stats->bytes += bytes;
  if (bpf_xdp_adjust_head(xdp, -OUTER_BYTES))
    return XDP_DROP;
  data = (void*)(long)xdp->data;
  if (data + OUTER_BYTES + ETH_HLEN > (void*)(long)xdp->data_end)
    return XDP_DROP;
  half = data;
  mac = (const __be16*)cfg->uplink_mac;
  half[0] = half[3] = mac[0];
  half[1] = half[4] = mac[1];
  half[2] = half[5] = mac[2];
  half[6] = bpf_htons(ETH_P_IP);
  ip = data + ETH_HLEN;
  *(__be16*)ip = bpf_htons(0x4500);
  ip->tot_len = bpf_htons(bytes + OUTER_BYTES - ETH_HLEN);
  ip->id = 0;
  ip->frag_off = bpf_htons(0x4000);
  ip->ttl = 64;
  ip->protocol = IPPROTO_UDP;
  sum = bpf_htons(0x4500) + bpf_htons(bytes + OUTER_BYTES - ETH_HLEN) + bpf_htons(0x4000) +
        bpf_htons(64 << 8 | IPPROTO_UDP);
  sum += (cfg->underlay & 0xffff) + (cfg->underlay >> 16) + (be->node & 0xffff) + (be->node >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  ip->check = ~(sum + (sum >> 16));
  ip->saddr = cfg->underlay;
  ip->daddr = be->node;
  udp = data + ETH_HLEN + sizeof(*ip);
  udp->source = (__u16)flow | bpf_htons(0xc000);
  udp->dest = cfg->vxlan_port;
  udp->len = bpf_htons(bytes + OUTER_BYTES - ETH_HLEN - sizeof(*ip));
  udp->check = 0;
  word = data + ETH_HLEN + sizeof(*ip) + sizeof(*udp);
  word[0] = bpf_htonl(0x08000000);
  word[1] = bpf_htonl(SHOAL_VNI_DSR << 8);
  half = data + OUTER_BYTES;
  half[0] = bpf_htons(0x0264); /* 02 'd' */
  half[1] = ((const __be16*)be->addr.b)[6];
  half[2] = ((const __be16*)be->addr.b)[7];
  half[3] = bpf_htons(0x0244); /* 02 'D' */
  half[4] = bpf_htons(be->generation);
  half[5] = be->port;
  half[6] = ethertype;
  return XDP_TX;
}

SEC("xdp")
int shoal_floor(struct xdp_md* xdp) {
  void *data = (void*)(long)xdp->data, *end = (void*)(long)xdp->data_end;
  struct ethhdr* eth = data;
  struct shoal_addr vip;
  struct tcphdr* tcp;

  if (data + sizeof(*eth) + sizeof(struct iphdr) + sizeof(*tcp) > end)
    return XDP_PASS;
  if (eth->h_proto == bpf_htons(ETH_P_IP)) {
    struct iphdr* ip = data + sizeof(*eth);

    if (ip->protocol != IPPROTO_TCP)
      return XDP_PASS;
    tcp = (void*)(ip + 1);
    addr_from_v4(&vip, ip->daddr);
    return forward(xdp, &vip, tcp->dest,
                   (__u64)ip->saddr << 32 | (__u64)tcp->source << 16 | tcp->dest, end - data,
                   eth->h_proto);
  }
  if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
    struct ipv6hdr* ip = data + sizeof(*eth);
    __u32* from = ip->saddr.in6_u.u6_addr32;

    tcp = (void*)(ip + 1);
    if ((void*)(tcp + 1) > end || ip->nexthdr != IPPROTO_TCP)
      return XDP_PASS;
    addr_from_v6(&vip, ip->daddr.in6_u.u6_addr32);
    return forward(xdp, &vip, tcp->dest,
                   ((__u64)from[0] << 32 | from[1]) * 0x9e3779b97f4a7c15ULL ^
                       ((__u64)from[2] << 32 | from[3]) * 0xff51afd7ed558ccdULL ^
                       ((__u64)tcp->source << 16 | tcp->dest),
                   end - data, eth->h_proto);
  }
  return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
