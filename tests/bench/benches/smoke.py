# SPDX-License-Identifier: Apache-2.0
"""pod start beside podman run, ClusterIP connections beside plain routing

   h1: shoald, pods ---+                       +--- h3: plain router
   h2: shoald, a pod --+--- LAN (scripts/lab) --+--- h4: plain router
                                               +--- h5: podman

Ours and the peers live on hosts of their own, so that neither one's rules or programs are in the other's way.
"""
import contextlib
import itertools
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lab"))

# pylint: disable=wrong-import-position
from shoal_bench import podman, shield  # noqa: E402
from shoal_bench.node import Node  # noqa: E402
from shoal_bench.plain import PlainRoute  # noqa: E402
from shoal_bench.pods import PodPlace, service_of  # noqa: E402
from shoal_bench.rounds import Pair, Row  # noqa: E402
from shoal_lab import cluster as lab  # noqa: E402

BUILD = ("shoal_programs",)
IMAGE = "shoal.dev/demo/client:latest"
CRR_PORT = 7000
RR_PORT = 7001
WINDOW = "100ms"  # short: see shield.py
WINDOWS_A_ROUND = 3

STARTED = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  nodeName: {host}
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: main, image: "{image}", command: [{command}]}}
"""


# ---- pod start


def start_pair(shoal, podman_node, archive):
    """From just before the command is executed to the first instruction of the container's own program."""
    peer = podman.Podman(podman_node)
    peer.install(archive)
    numbers = itertools.count(1)

    def hello(node, ident):
        return ["/bin/shoal-loadgen", "hello", "--to", node.hello, "--text", ident]

    def values(times):
        return {"pod start": times["running_ms"], "pod start, to its first packet": times["heard_ms"]}

    def ours():
        name = f"start-{next(numbers)}"
        command = ", ".join(f'"{word}"' for word in hello(shoal, name))
        manifest = STARTED.format(name=name, host=shoal.host, image=IMAGE, command=command)
        times = shoal.time_start(lab.SHOAL, "apply", "-f", "-", ident=name, text=manifest)
        shoal.run(lab.SHOAL, "delete", "pod", name)  # returns when it is gone
        return values(times)

    def theirs():
        name = f"start-{next(numbers)}"
        times = peer.time_run(name, IMAGE, name, *hello(podman_node, name))
        peer.remove(name)
        return values(times)

    return Pair(peer.describe(), (
        Row("pod start", "ms", "lower", goal=1.0,
            note="`shoal apply` of a pod bound to the host, beside `podman run -d`, same image and program: from before the "
                 "command to the program's first instruction, stamped by itself."),
        Row("pod start, to its first packet", "ms", "lower",
            note="The same runs, until a datagram of the program has reached its host's LAN address."),
    ), ours, theirs)


# ---- connections


class Path:
    """One of the two ways to a server: where the client runs, and which address it asks."""

    def __init__(self, run_client, start_server, address, shielded):
        self.run_client = run_client
        self.address = address
        self.shielded = shielded
        start_server(*shielded, lab.LOADGEN, "serve", "--port", CRR_PORT)
        start_server(*shielded, lab.LOADGEN, "serve", "--port", RR_PORT, "--keep-alive")

    def measure(self, mode, row):
        to = f"{self.address}:{CRR_PORT if mode == 'crr' else RR_PORT}"
        said = self.run_client(*self.shielded, lab.LOADGEN, mode, "--to", to, "--duration", WINDOW)
        summary = json.loads(said.splitlines()[-1])
        return {row: summary["requests"] / summary["seconds"], "latency_us": summary["latency_us"]}


def path_pair(where, goal, mode, ours, theirs, shield_words):
    row = f"ClusterIP {mode} rate, {where}"
    what = {"crr": "Connect, request, response, close", "rr": "Request, response on one open connection"}[mode]
    note = (f"{what}: one at a time for {WINDOW}, from a pod's network to a pod by its ClusterIP, beside the same between two "
            f"namespaces behind routers without BPF and netfilter; {shield_words}.")
    return Pair("plain kernel routing", (Row(row, "1/s", "higher", goal=goal, note=note),), lambda: ours.measure(mode, row),
                lambda: theirs.measure(mode, row), rounds_factor=WINDOWS_A_ROUND)


def path_pairs(cluster, nodes):
    shielded, words = shield.shield_argv(nodes["h1"])
    client = PodPlace(cluster, nodes["h1"], "client", IMAGE)
    for number, (where, server_host, plain, goal) in enumerate((
            ("same host", "h1", ("h3", "h3"), 1.0), ("other host", "h2", ("h3", "h4"), None)), 1):
        name = f"server{number}"
        server = PodPlace(cluster, nodes[server_host], name, IMAGE)
        vip = service_of(cluster, name, (CRR_PORT, RR_PORT), "h1", lab.wait_for)
        route = PlainRoute(nodes[plain[0]], nodes[plain[1]], number)
        ours = Path(client.run, server.start, vip, shielded)
        theirs = Path(route.run_client, route.start_server, route.server_ip, shielded)
        for mode in ("crr", "rr"):
            yield path_pair(where, goal, mode, ours, theirs, words)


# ---- the stage


@contextlib.contextmanager
def pairs(stage):
    with contextlib.ExitStack() as leave:
        cluster = lab.Cluster(stage.name, hosts=5, clients=0)
        leave.callback(cluster.down)
        stage.progress("making a lab: h1 and h2 with shoald, h3 and h4 plain routers, h5 for podman")
        cluster.up()
        cluster.hosts = ["h1", "h2"]
        cluster.form()
        archive = pathlib.Path(f"/var/tmp/shoal-lab/{stage.name}/client.tar")  # the lab's own folder: it goes with the lab
        subprocess.run([str(lab.ROOT / "tests/images/build"), "--client", str(lab.LOADGEN), str(archive)], check=True,
                       capture_output=True)
        cluster.load_image(archive)
        starter, podman_node = leave.enter_context(Node(cluster, "h1")), leave.enter_context(podman.node_of(cluster, "h5"))
        nodes = {host: leave.enter_context(Node(cluster, host, realtime=True)) for host in ("h1", "h2", "h3", "h4")}
        yield [start_pair(starter, podman_node, archive), *path_pairs(cluster, nodes)]
