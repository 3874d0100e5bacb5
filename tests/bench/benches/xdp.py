# SPDX-License-Identifier: Apache-2.0
"""ns a packet of the XDP program, beside a program that does only what no balancer can do without

   h1: shoal-xdpload: maps as an agent fills them, BPF_PROG_TEST_RUN of either program on one frame after the other

No packet is sent. Before each run of the program the frame is unwrapped again and made the next flow's, by a program that is the
same on both sides; what that costs is in both figures. Flows come in an order that no prefetching knows.
"""
import contextlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lab"))

# pylint: disable=wrong-import-position
from shoal_bench.node import Node  # noqa: E402
from shoal_bench.rounds import Pair, Row  # noqa: E402
from shoal_lab import cluster as lab  # noqa: E402

BUILD = ("shoal_programs", "shoal-xdpload")
LOAD = lab.BUILD / "tests/bench/xdpload/shoal-xdpload"
FLOWS = {"1 flow": 1, "64k flows": 1 << 16, "512k flows": 1 << 19}
NEW_FLOWS = 1 << 20  # more than are sent: each is new
SERVICES = 5000
FAMILIES = ("4", "6")
BACKEND_HOSTS = range(100, 150)  # 198.18.0.100 and up, as shoal-xdpload has them


def case(family, flows, kind="steady", services=1):
    return f"{family}:{kind}:{flows}:{services}"


def measure(node, side, cases):
    """{row name: ns}, of {row name: case}."""
    said = json.loads(node.run(LOAD, "/sys/fs/bpf/bench", "eth0", "shoal-vxlan", side, *dict.fromkeys(cases.values())))
    return {name: said[of] for name, of in cases.items()}


def pair(node, peer, ours, theirs, goal, note, side="shoal"):
    """ours and theirs: {row name: case}, of the same names."""
    return Pair(peer, tuple(Row(name, "ns", "lower", goal=goal, note=note) for name in ours),
                lambda: measure(node, "shoal", ours), lambda: measure(node, side, theirs))


def all_pairs(node):
    steady = {f"IPv{f} TCP, {name}": case(f, n) for f in FAMILIES for name, n in FLOWS.items()}
    busy = {f"IPv{f} TCP, 64k flows to {SERVICES:,} services": case(f, 1 << 16, services=SERVICES) for f in FAMILIES}
    yield pair(node, "the floor program", steady | busy, steady | busy, 1.25,
               "The floor is the frontend's hash, ring, backend, counter and outer headers (tests/bench/xdpload/floor.bpf.c).", "floor")
    yield pair(node, "IPv4", {f"IPv6, {name}": case("6", n) for name, n in FLOWS.items()},
               {f"IPv6, {name}": case("4", n) for name, n in FLOWS.items()}, 1.15, "The same program and number of flows.")
    yield pair(node, "64k steady flows", {f"IPv{f}, all-new SYNs": case(f, NEW_FLOWS, "syn") for f in FAMILIES},
               {f"IPv{f}, all-new SYNs": case(f, 1 << 16) for f in FAMILIES}, 1.5,
               "The same program; each packet is a new connection's, its MSS clamped.")


def prepare(node):
    """The ways to the backends' hosts, and the device whose MTU bounds what is sent."""
    node.run("ip", "-batch", "-", text="".join(
        f"neigh replace 198.18.0.{n} lladdr 02:00:00:00:00:{n:02x} dev eth0\n" for n in BACKEND_HOSTS)
        + "link add shoal-vxlan mtu 1450 type vxlan external dstport 4789\nlink set shoal-vxlan up\n")


@contextlib.contextmanager
def pairs(stage):
    with contextlib.ExitStack() as leave:
        cluster = lab.Cluster(stage.name, hosts=1, clients=0)
        leave.callback(cluster.down)
        stage.progress("making a lab of one host")
        cluster.up()
        node = leave.enter_context(Node(cluster, "h1"))
        prepare(node)
        yield list(all_pairs(node))


PARTS = {"all": pairs}
