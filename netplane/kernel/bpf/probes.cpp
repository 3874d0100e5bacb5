// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/probes.h"

#include "netplane/base/unique_fd.h"
#include "netplane/kernel/bpf/links.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <iterator>
#include <linux/bpf.h>
#include <linux/if_link.h>

namespace shoal::kernel {
namespace {

constexpr std::uint32_t kLoopbackIfindex = 1;  // in every namespace
constexpr int kNoIfindex = INT_MAX;

bool has_helper(bpf_prog_type type, bpf_func_id helper) {
  return libbpf_probe_bpf_helper(type, helper, nullptr) == 1;
}

// A program that only answers `verdict`.
UniqueFd load_answer(bpf_prog_type type, int verdict) {
  const bpf_insn answer[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K,
       .dst_reg = BPF_REG_0,
       .src_reg = 0,
       .off = 0,
       .imm = verdict},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
  };
  return UniqueFd(
      bpf_prog_load(type, "shoal_probe", "Dual BSD/GPL", answer, std::size(answer), nullptr));
}

// Nothing is attached to find out: to take it off again would cost a grace period, some 30 ms.
bool has_tcx() {
  const UniqueFd prog = load_answer(BPF_PROG_TYPE_SCHED_CLS, -1);
  if (!prog)
    return false;
  const UniqueFd link(bpf_link_create(prog.get(), kNoIfindex, kTcxIngress, nullptr));
  return link.valid() || errno == ENODEV;  // what does not know the kind says EINVAL
}

// Loopback has no XDP in its driver, and is told to have it there. One that has a program already
// has shown as much.
bool has_xdp_links() {
  const UniqueFd prog = load_answer(BPF_PROG_TYPE_XDP, XDP_PASS);
  if (!prog)
    return false;
  bpf_link_create_opts opts{};
  opts.sz = sizeof(opts);
  opts.flags = XDP_FLAGS_DRV_MODE;
  const UniqueFd link(bpf_link_create(prog.get(), kLoopbackIfindex, BPF_XDP, &opts));
  return link.valid() || errno == EOPNOTSUPP || errno == EBUSY || errno == EEXIST;
}

}  // namespace

Features probe_features(const Features& allowed) {
  constexpr auto tc = BPF_PROG_TYPE_SCHED_CLS;
  constexpr auto xdp = BPF_PROG_TYPE_XDP;
  constexpr auto sock = BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
  return {.tcx = allowed.tcx && has_tcx(),
          .redirect_peer = allowed.redirect_peer && has_helper(tc, BPF_FUNC_redirect_peer),
          .redirect_neigh = allowed.redirect_neigh && has_helper(tc, BPF_FUNC_redirect_neigh),
          .set_retval = allowed.set_retval && has_helper(sock, BPF_FUNC_set_retval),
          .sk_storage = allowed.sk_storage && has_helper(sock, BPF_FUNC_sk_storage_get),
          .coarse_clock = allowed.coarse_clock && has_helper(tc, BPF_FUNC_ktime_get_coarse_ns),
          .xdp = allowed.xdp && has_helper(xdp, BPF_FUNC_fib_lookup) && has_xdp_links()};
}

std::vector<std::string> limitations(const Features& features) {
  std::vector<std::string> out;
  if (!features.tcx)
    out.emplace_back(
        "no TCX links: programs are clsact filters, which other tools can remove unnoticed");
  if (!features.redirect_peer)
    out.emplace_back("no bpf_redirect_peer: packets to pods take one more queue");
  if (!features.redirect_neigh)
    out.emplace_back(
        "no bpf_redirect_neigh: replies to unresolved neighbours go through the host's stack");
  if (!features.set_retval)
    out.emplace_back(
        "no bpf_set_retval: a connect without backends fails with EPERM, not ECONNREFUSED");
  if (!features.sk_storage)
    out.emplace_back(
        "no socket storage in connect hooks: service addresses of connected sockets live in a "
        "table that can overflow");
  if (!features.coarse_clock)
    out.emplace_back("no coarse clock: some 30 ns more a packet");
  if (!features.xdp)
    out.emplace_back("no XDP: what clients outside send to pods of other hosts goes through tc, at "
                     "several times the cost a packet");
  return out;
}

}  // namespace shoal::kernel
