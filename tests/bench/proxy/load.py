# SPDX-License-Identifier: Apache-2.0
"""What 5,000 Services cost to load and to change, beside iptables and nftables in kube-proxy's shape; and 50,000.

   h1: shoal-proxyload: objects -> desired state -> plan -> maps, or nftables      h2: iptables-restore       h3: nft

No packet is sent. Both sides start from an empty kernel each time; making maps and loading programs is not part of ours, starting
the tool that loads the rules is part of the peers', as it is where they are used.
"""
import contextlib
import json
import statistics
import time

from shoal_bench import kube_proxy
from shoal_bench.node import Node
from shoal_bench.rounds import Pair, Row
from shoal_lab import cluster as lab

from .limit import Limit, limit_pair

LOAD = lab.BUILD / "tests/bench/proxyload/shoal-proxyload"
BACKENDS = 10
CHANGES = 21
ROUNDS_MAX = 6  # of nft, which needs 20 s for each; so many intervals still hold 95 %


def ours(node, services, proxy):
    said = json.loads(node.run(LOAD, node.address, "/sys/fs/bpf/bench", services, BACKENDS, CHANGES, proxy))
    return {"cold": said["cold_ms"], "change": statistics.median(said["change_ms"]), "cpu_ms": said["cold_cpu_ms"],
            "rss_mib": said["rss_kib"] / 1024}


class Rules:
    """A peer: one command that loads rules from its input, and another that removes them."""

    def __init__(self, name, node, load, change, clear, texts):
        self.name = name
        self.node = node
        self.load, self.change, self.clear = load, change, clear
        self.all, self.one = texts

    def timed(self, argv, text):
        began = time.monotonic()
        self.node.run(*argv, text=text)
        return (time.monotonic() - began) * 1e3

    def measure(self):
        values = {"cold": self.timed(self.load, self.all), "change": self.timed(self.change, self.one)}
        for argv in self.clear:
            self.node.run(*argv)
        return values


def pair(node, services, rules, goal, proxy="ebpf", rounds_max=None):
    peer = rules.name if proxy == "ebpf" else "nft -f"
    what = f"{services:,} Services x {BACKENDS} backends"
    names = {"cold": f"load, beside {peer}", "change": f"one backend's change, beside {peer}"}

    def named(values):
        return {names.get(k, k): v for k, v in values.items()}
    title = f"{rules.name} in kube-proxy's shape" + (f", beside proxy: {proxy}" if proxy != "ebpf" else "")
    return Pair(title, (
        Row(names["cold"], "ms", "lower", goal=goal, verdict="interval",
            note=f"{what}: from objects to the kernel, which had none of them."),
        Row(names["change"], "ms", "lower",
            note=f"Of {what}, one loses or regains a backend; ours is the median of {CHANGES}, the peer's the chains of that "
                 "Service alone."),
    ), lambda: named(ours(node, services, proxy)), lambda: named(rules.measure()),
                warmups=1 if rounds_max is None else 0, rounds_max=rounds_max)


def within_limits(node, services, load_ms):
    """However many there are, one backend's change takes a millisecond at most."""
    what = f"{services:,} Services x {BACKENDS} backends"
    load, change = f"load, {what}", f"one backend's change, {what}"

    def measure():
        values = ours(node, services, "ebpf")
        return values | {load: values.pop("cold"), change: values.pop("change")}
    return limit_pair([Limit(load, "ms", load_ms, "From objects to the kernel, which had none of them."),
                       Limit(change, "ms", 1, f"One loses or regains a backend: the median of {CHANGES}.")], measure)


@contextlib.contextmanager
def pairs(stage):
    services = stage.sized(5000)
    with contextlib.ExitStack() as leave:
        cluster = lab.Cluster(stage.name, hosts=3, clients=0)
        leave.callback(cluster.down)
        stage.progress("making a lab: h1 for Shoal, h2 for iptables, h3 for nftables")
        cluster.up()
        nodes = {host: leave.enter_context(Node(cluster, host)) for host in ("h1", "h2", "h3")}
        iptables = Rules("iptables", nodes["h2"], ["iptables-legacy-restore"], ["iptables-legacy-restore", "--noflush"],
                         [["iptables-legacy", "-t", "nat", "-F"], ["iptables-legacy", "-t", "nat", "-X"]],
                         (kube_proxy.iptables(services, BACKENDS), kube_proxy.iptables_change(services // 2, BACKENDS)))
        nft = Rules("nftables", nodes["h3"], ["nft", "-f", "-"], ["nft", "-f", "-"],
                    [["nft", "delete", "table", "ip", "kube-proxy"]],
                    (kube_proxy.nft(services, BACKENDS), kube_proxy.nft_change(services // 2, BACKENDS)))
        yield [within_limits(nodes["h1"], services, 60), within_limits(nodes["h1"], stage.sized(50_000), 600),
               pair(nodes["h1"], services, iptables, 1 / 25), pair(nodes["h1"], services, nft, 1 / 250, rounds_max=ROUNDS_MAX),
               # On hosts without BPF: the same kernel's nftables, written the other way.
               pair(nodes["h1"], services, nft, 1 / 10, "nftables", rounds_max=ROUNDS_MAX)]
