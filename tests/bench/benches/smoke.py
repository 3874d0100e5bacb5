# SPDX-License-Identifier: Apache-2.0
"""pod start beside podman run, ClusterIP connections beside plain routing

   h1: shoald, pods ---+                       +--- h3: plain router
   h2: shoald, a pod --+--- LAN (scripts/lab) --+--- h4: plain router
                                               +--- h5: podman

Ours and the peers live on hosts of their own, so that neither one's rules or programs are in the other's way.
"""
import contextlib
import itertools
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lab"))

# pylint: disable=wrong-import-position
from shoal_bench import paths, podman, shield  # noqa: E402
from shoal_bench.node import Node  # noqa: E402
from shoal_bench.plain import PlainRoute  # noqa: E402
from shoal_bench.pods import PodPlace, service_of  # noqa: E402
from shoal_bench.rounds import Pair, Row  # noqa: E402
from shoal_lab import cluster as lab  # noqa: E402

BUILD = ("shoal_programs",)
IMAGE = "shoal.dev/demo/client:1"

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


def path_pair(where, goal, mode, ours, theirs, shield_words):
    note = (f"{paths.WHAT[mode]}: one at a time for {paths.WINDOW}, from a pod's network to a pod by its ClusterIP, beside the "
            f"same between two namespaces behind routers without BPF and netfilter; {shield_words}.")
    row = Row(f"ClusterIP {mode} rate, {where}", "1/s", "higher", goal=goal, note=note)
    return paths.rate_pair(row, mode, ours, theirs, paths.PLAIN)


def path_pairs(cluster, nodes):
    shielded, words = shield.shield_argv(nodes["h1"])
    client = PodPlace(cluster, nodes["h1"], "client", IMAGE)
    for number, (where, server_host, plain, goal) in enumerate((
            ("same host", "h1", ("h3", "h3"), 1.0), ("other host", "h2", ("h3", "h4"), None)), 1):
        name = f"server{number}"
        server = PodPlace(cluster, nodes[server_host], name, IMAGE)
        vip = service_of(cluster, name, paths.PORTS.values(), "h1", lab.wait_for)
        route = PlainRoute(nodes[plain[0]], nodes[plain[1]], number)
        paths.start_servers(server.run, server.start, shielded, lab.LOADGEN)
        paths.start_servers(route.run_server, route.start_server, shielded, lab.LOADGEN)
        ours = paths.Path(client.run, vip, shielded, lab.LOADGEN).ready(lab.wait_for)
        theirs = paths.Path(route.run_client, route.server_ip, shielded, lab.LOADGEN).ready(lab.wait_for)
        for mode in paths.WHAT:
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


PARTS = {"all": pairs}
