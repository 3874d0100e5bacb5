# SPDX-License-Identifier: Apache-2.0
"""what 5,000 Services cost to load and to change, beside iptables and nftables in kube-proxy's shape

   h1: shoal-proxyload: objects -> desired state -> plan -> maps, or nftables      h2: iptables-restore       h3: nft

No packet is sent. Both sides start from an empty kernel each time; making maps and loading programs is not part of ours, starting
the tool that loads the rules is part of the peers', as it is where they are used.
"""
import contextlib
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lab"))

# pylint: disable=wrong-import-position
from shoal_bench import kube_proxy  # noqa: E402
from shoal_bench.node import Node  # noqa: E402
from shoal_bench.rounds import Pair, Row  # noqa: E402
from shoal_lab import cluster as lab  # noqa: E402

BUILD = ("shoal_programs", "shoal-proxyload")
LOAD = lab.BUILD / "tests/bench/proxyload/shoal-proxyload"
SERVICES = 5000
BACKENDS = 10
CHANGES = 21
WHAT = f"{SERVICES:,} Services x {BACKENDS} backends"


def ours(node, proxy):
    said = json.loads(node.run(LOAD, node.address, "/sys/fs/bpf/bench", SERVICES, BACKENDS, CHANGES, proxy))
    return {"cold": said["cold_ms"], "change": statistics.median(said["change_ms"]), "cpu_ms": said["cold_cpu_ms"],
            "rss_mib": said["rss_kib"] / 1024}


class Rules:
    """A peer: one command that loads rules from its input, and another that removes them."""

    def __init__(self, node, load, change, clear, texts):
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


def pair(peer, node, rules, goal, proxy="ebpf"):
    def named(values):
        return {{"cold": f"load, beside {peer}", "change": f"one backend's change, beside {peer}"}.get(k, k): v
                for k, v in values.items()}
    title = f"{peer} in kube-proxy's shape" + (f", beside proxy: {proxy}" if proxy != "ebpf" else "")
    return Pair(title, (
        Row(f"load, beside {peer}", "ms", "lower", goal=goal, note=f"{WHAT}: from objects to the kernel, which had none of them."),
        Row(f"one backend's change, beside {peer}", "ms", "lower",
            note=f"Of {WHAT}, one loses or regains a backend; ours is the median of {CHANGES}, the peer's the chains of that "
                 "Service alone."),
    ), lambda: named(ours(node, proxy)), lambda: named(rules.measure()))


@contextlib.contextmanager
def pairs(stage):
    with contextlib.ExitStack() as leave:
        cluster = lab.Cluster(stage.name, hosts=3, clients=0)
        leave.callback(cluster.down)
        stage.progress("making a lab: h1 for Shoal, h2 for iptables, h3 for nftables")
        cluster.up()
        nodes = {host: leave.enter_context(Node(cluster, host)) for host in ("h1", "h2", "h3")}
        iptables = Rules(nodes["h2"], ["iptables-legacy-restore"], ["iptables-legacy-restore", "--noflush"],
                         [["iptables-legacy", "-t", "nat", "-F"], ["iptables-legacy", "-t", "nat", "-X"]],
                         (kube_proxy.iptables(SERVICES, BACKENDS), kube_proxy.iptables_change(SERVICES // 2, BACKENDS)))
        nft = Rules(nodes["h3"], ["nft", "-f", "-"], ["nft", "-f", "-"], [["nft", "delete", "table", "ip", "kube-proxy"]],
                    (kube_proxy.nft(SERVICES, BACKENDS), kube_proxy.nft_change(SERVICES // 2, BACKENDS)))
        yield [pair("iptables", nodes["h1"], iptables, 1 / 25), pair("nftables", nodes["h1"], nft, 1 / 250),
               # On hosts without BPF: the same kernel's nftables, written the other way.
               pair("nft -f", nodes["h1"], nft, 1 / 10, "nftables")]


PARTS = {"load": pairs}
