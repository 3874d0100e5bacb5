# SPDX-License-Identifier: Apache-2.0
"""Connections through a ClusterIP among 5,000 Services, by socket hooks and, where these do not see the socket, by tc.

   sockets:   h1: client pod - shoald - server pod       h2: client ns - router - server ns      h3, h4, h5: as h2, and in
   tc:        the same, socket hooks switched off        the same                                the router kube-proxy's rules

Each host is alone with its way: nobody's rules or programs are in the path of another.
"""
import contextlib

from shoal_bench import paths
from shoal_bench.rounds import Row

from .places import BACKENDS, Places

SERVICES = 5000
NO_SOCKET_HOOKS = "features: {socket_lb: off}\n"


def rate_row(mode, how, services, shield_words, beside="", goal=None, note=""):
    path = f"a pod by its ClusterIP, one of {services:,} x {BACKENDS} backends, {how}"
    return Row(f"ClusterIP {mode} rate {how}, {services:,} Services{beside}", "1/s", "higher", goal=goal, verdict="interval",
               note=f"{paths.WHAT[mode]}: one at a time for {paths.WINDOW}, from a pod's network to {path}, beside the same "
                    f"between {paths.TWO_NAMESPACES}{note}; {shield_words}.")


def stream_pair(how, cluster_ip, pod_ip, shield_words):
    return paths.cpu_pair(
        f"CPU of a stream by ClusterIP {how}", cluster_ip, pod_ip, "the pod's address",
        f"One TCP stream for {paths.WINDOW}, {how}: CPU time of the sending and the receiving process, the kernel's work on the "
        f"path included (it runs in theirs), for each KiB that arrived; beside the same to the pod's own address; {shield_words}.")


@contextlib.contextmanager
def sockets(stage):
    services = stage.sized(SERVICES)
    with Places(stage, hosts=5) as places:
        words, how = places.shield_words, "by socket hooks"
        ours, by_pod_ip = places.through_shoal(places.agent(1, services - 1))
        plain = places.through_routes(2)
        pairs = [paths.rate_pair(rate_row("crr", how, services, words, goal=1.0), "crr", ours, plain, paths.PLAIN),
                 paths.rate_pair(rate_row("rr", how, services, words, goal=1.0), "rr", ours, plain, paths.PLAIN)]
        for number, name, goal, others in ((3, "nftables", 1.3, ""), (4, "iptables-nft", 1.8, " (one endpoint each)"),
                                           (5, "iptables-legacy", 1.8, "")):
            row = rate_row("crr", how, services, words, f", beside {name}", goal,
                           f" but for these rules for as many Services{others}; the one asked is the middle one, with one endpoint "
                           "on both sides")
            pairs.append(paths.rate_pair(row, "crr", ours, places.through_rules(number, services, name),
                                         f"{name} in kube-proxy's shape"))
        yield [*pairs, stream_pair(how, ours, by_pod_ip, words)]


@contextlib.contextmanager
def flows(stage):
    services = stage.sized(SERVICES)
    with Places(stage, hosts=2) as places:
        words, how = places.shield_words, "by tc"
        ours, by_pod_ip = places.through_shoal(places.agent(1, services - 1, NO_SOCKET_HOOKS), "flows")
        plain = places.through_routes(2)
        yield [paths.rate_pair(rate_row("rr", how, services, words, goal=1.0), "rr", ours, plain, paths.PLAIN),
               paths.rate_pair(rate_row("crr", how, services, words), "crr", ours, plain, paths.PLAIN),
               stream_pair(how, ours, by_pod_ip, words)]
