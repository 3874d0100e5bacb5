# SPDX-License-Identifier: Apache-2.0
"""pods: start, commands, many on a host; beside podman, the least that a command takes, and the goals

   h1: shoald, pods ---+--- LAN (scripts/lab) ---+--- h2: podman

Goals that are figures of their own (ms, KiB) are the peer of their rows, so that a ratio of 1 is the goal.
"""
import contextlib
import itertools
import json
import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lab"))

# pylint: disable=wrong-import-position
from shoal_bench import podman  # noqa: E402
from shoal_bench.node import Node  # noqa: E402
from shoal_bench.pods import PodPlace  # noqa: E402
from shoal_bench.rounds import Pair, Row  # noqa: E402
from shoal_lab import cluster as lab  # noqa: E402

BUILD = ("shoal_programs", "shoal-podload")
HAS_SMALL = True
LOAD = lab.BUILD / "tests/bench/podload/shoal-podload"
IMAGE = "shoal.dev/demo/client:1"
HELLO = "/bin/shoal-loadgen"
COMMAND = ("/bin/busybox", "true")
MANY = 200
AT_ONCE = 100
EXECS = 20  # a round
PROBES = 300  # a round: CPU time of others comes in ticks of 10 ms
IDLE_S = 10
SETTLE_S = 120
TICKS = 100  # a second, of /proc/stat

BACK = """\
date +%s%N
setsid "$1" >>/var/log/shoald.log 2>&1 </dev/null & echo $! >/run/shoald.pid
shift
shoal=$1 pod=$2
shift 2
until "$shoal" exec "$pod" -- "$@" 2>/dev/null; do :; done
date +%s%N
"""
POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{bench: {label}}}}}
spec:
  nodeName: {host}
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  containers:
{containers}"""
CONTAINER = '  - {{name: {name}, image: "{image}", command: [{command}]}}\n'


def container(name, *command):
    return CONTAINER.format(name=name, image=IMAGE, command=", ".join(f'"{word}"' for word in command))


def goal_pair(rows, measure):
    """Rows whose peer is a figure: {(name, unit, note): figure}."""
    figures = {name: figure for (name, _, _), figure in rows.items()}
    return Pair("the goal", tuple(Row(name, unit, "lower", goal=1.0, note=note) for name, unit, note in rows),
                measure, lambda: dict(figures), warmups=0, rounds_max=5)


# ---- one pod


def start_pair(shoal, podman_node, archive):
    peer = podman.Podman(podman_node)
    peer.install(archive)
    numbers = itertools.count(1)

    def hello(node, ident):
        return (HELLO, "hello", "--to", node.hello, "--text", ident)

    def ours():
        name = f"two-{next(numbers)}"
        idents = [f"{name}-a", f"{name}-b"]
        manifest = POD.format(name=name, label="two", host=shoal.host, containers="".join(
            container(ident[-1], *hello(shoal, ident)) for ident in idents))
        started = shoal.time_start(lab.SHOAL, "apply", "-f", "-", ident=idents, text=manifest)["running_ms"]
        shoal.run(lab.SHOAL, "delete", "pod", name)
        return {"pod of two containers": started}

    def theirs():
        name = f"two-{next(numbers)}"
        idents = [f"{name}-a", f"{name}-b"]
        words = " ".join(peer.argv())
        script = f"{words} pod create --name {name} >/dev/null\n" + "".join(
            f"{words} run -d --pod {name} --name {ident} --entrypoint {HELLO} {IMAGE} "
            f"{' '.join(hello(podman_node, ident)[1:])} >/dev/null\n" for ident in idents)
        started = podman_node.time_start("sh", "-ec", script, ident=idents)["running_ms"]
        podman_node.run(*peer.argv("pod", "rm", "-f", "-t", "0", name))
        return {"pod of two containers": started}

    return Pair(peer.describe(), (Row(
        "pod of two containers", "ms", "lower", goal=0.0625,
        note="`shoal apply` of a pod bound to the host, beside `podman pod create` and two `podman run -d`: from before the "
             "command to the first instruction of the later of the two programs, stamped by themselves. The goal is 25 ms "
             "where podman takes 400."),), ours, theirs)


def exec_pairs(shoal, podman_node, place):
    peer = podman.Podman(podman_node)
    podman_node.run(*peer.argv("run", "-d", "--name", "target", "--entrypoint", "/bin/busybox", IMAGE, "sleep", "86400"))
    yield Pair(peer.describe(), (Row(
        "exec", "ms", "lower", goal=1.0,
        note=f"`shoal exec` beside `podman exec` of {' '.join(COMMAND)}, the mean of {EXECS}."),),
               lambda: {"exec": shoal.mean_ms(EXECS, lab.SHOAL, "exec", place.name, "--", *COMMAND)},
               lambda: {"exec": podman_node.mean_ms(EXECS, *peer.argv("exec", "target", *COMMAND))})
    uid = place.pod["metadata"]["uid"]

    def load(*words):
        said = json.loads(shoal.run(LOAD, *words))
        return {"command by the shim, CPU": said["cpu_us"], "command by the shim": said["wall_us"]}

    yield Pair("setns, fork, exec and wait", (
        Row("command by the shim, CPU", "us", "lower", goal=1.3,
            note=f"As a probe has it, by the shim's socket, beside the least that it takes by hand ({' '.join(COMMAND)} in the "
                 "same container, in none of its cgroups, with all privileges): CPU time of everybody who takes part."),
        Row("command by the shim", "us", "lower", note="The same runs, by the clock.")),
               lambda: load("shim", f"/run/shoal/pods/{uid}/shim.sock", "idle", 0, PROBES, *COMMAND),
               lambda: load("hand", place.pid, PROBES, *COMMAND))
    yield goal_pair({("exec, by the clock", "ms", "`shoal exec` from a shell, all of it."): 4.0},
                    lambda: {"exec, by the clock": shoal.mean_ms(EXECS, lab.SHOAL, "exec", place.name, "--", *COMMAND)})


@contextlib.contextmanager
def one_pod(stage):
    with stage_of(stage) as (cluster, leave, archive):
        node, peer = leave.enter_context(Node(cluster, "h1")), leave.enter_context(podman.node_of(cluster, "h2"))
        place = PodPlace(cluster, node, "target", IMAGE)
        yield [start_pair(node, peer, archive), *exec_pairs(node, peer, place)]


# ---- many


def cpu_ticks():
    """Of the whole machine: user, nice, system, irq, softirq."""
    fields = pathlib.Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
    return sum(int(fields[i]) for i in (0, 1, 2, 5, 6))


def process_ticks(node, pid):
    fields = node.run("cat", f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def pss_kib(node, pids):
    files = [f"/proc/{pid}/smaps_rollup" for pid in pids]
    return [int(n) for n in re.findall(r"^Pss:\s+(\d+) kB$", node.run("cat", *files), re.MULTILINE)]


class ManyPods:
    def __init__(self, cluster, node, stage):
        self.cluster, self.node, self.stage = cluster, node, stage

    def count(self, label):
        pods = [p for p in self.cluster.items("pods", "-l", f"bench={label}") if p.get("status", {}).get("phase") == "Running"]
        return len(pods)

    def manifest(self, label, number):
        return "---\n".join(POD.format(name=f"{label}-{n}", label=label, host=self.node.host,
                                       containers=container("idle", "/bin/busybox", "sleep", "86400")) for n in range(number))

    def at_once(self):
        number = self.stage.sized(AT_ONCE)
        before = cpu_ticks()
        self.cluster.apply(self.manifest("burst", number))
        lab.wait_for(f"{number} pods to run", lambda: self.count("burst") == number, SETTLE_S, 0.5)
        cpu = (cpu_ticks() - before) * 1000 / TICKS / number
        names = [f"burst-{n}" for n in range(number)]
        began = time.monotonic()
        self.node.run(lab.SHOAL, "delete", "pod", "--now", *names)
        lab.wait_for("none to be left", lambda: not self.cluster.items("pods", "-l", "bench=burst"), SETTLE_S)
        return {"100 pods at once, CPU each": cpu, "their deletion, each": (time.monotonic() - began) * 1000 / number}

    def stand(self):
        """Many that stay."""
        number = self.stage.sized(MANY)
        self.cluster.apply(self.manifest("many", number))
        lab.wait_for(f"{number} pods to run", lambda: self.count("many") == number, SETTLE_S, 0.5)

    def agent(self):
        return self.node.run("cat", "/run/shoald.pid").strip()

    def held(self):
        shims = [line.split()[1] for line in self.node.run(
            "sh", "-c", "cat /run/shoal/pods/*/shim.state").splitlines() if line.startswith("shim ")]
        pss = pss_kib(self.node, shims)
        agent = self.agent()
        rss = int(re.search(r"^VmRSS:\s+(\d+) kB$", self.node.run("cat", f"/proc/{agent}/status"), re.MULTILINE)[1])
        before = process_ticks(self.node, agent)
        time.sleep(IDLE_S)
        busy = (process_ticks(self.node, agent) - before) * 100 / TICKS / IDLE_S
        return {"shim, memory": sum(pss) / len(pss), "agent with 200 pods, memory": rss / 1024,
                "agent with 200 pods, idle": max(busy, 0.01)}

    def back(self):
        """From the start of a new agent until it has all pods: the first probe or exec of one is served."""
        name = f"many-{self.stage.sized(MANY) - 1}"
        self.cluster.kill_daemon(self.node.host, "KILL")
        # In the host, without this program's own time.
        began, ended = (int(at) for at in self.node.run("timeout", str(SETTLE_S), "sh", "-c", BACK, "sh", lab.SHOALD, lab.SHOAL,
                                                         name, *COMMAND).split())
        return {"agent back": (ended - began) / 1e6}


@contextlib.contextmanager
def many(stage):
    with stage_of(stage) as (cluster, leave, _):
        pods = ManyPods(cluster, leave.enter_context(Node(cluster, "h1")), stage)
        pairs = [goal_pair({
            ("100 pods at once, CPU each", "ms", "One `shoal apply` of them all, until all run: the CPU time of the whole "
             "machine, the poll of this bench included."): 25,
            ("their deletion, each", "ms", "One `shoal delete --now` of them all, until the API has none."): 10}, pods.at_once)]
        pods.stand()
        pairs.append(goal_pair({
            ("shim, memory", "KiB", "Proportional set size, the mean of all."): 300,
            ("agent with 200 pods, memory", "MiB", "Resident set size."): 20,
            ("agent with 200 pods, idle", "% of a core", f"CPU time over {IDLE_S} s in which nothing happens."): 0.5}, pods.held))
        pairs.append(goal_pair({
            ("agent back", "ms", "kill -9 of the agent; from the start of the next one until it has run a command in the last of 200 pods."): 200},
            pods.back))
        yield pairs


# ---- the stage


@contextlib.contextmanager
def stage_of(stage):
    with contextlib.ExitStack() as leave:
        # A /24 has too few addresses for those that stand and those that come at once.
        cluster = lab.Cluster(stage.name, hosts=2, clients=0, config={"network": "  node_prefix_length: 22\n"})
        leave.callback(cluster.down)
        stage.progress("making a lab: h1 with shoald, h2 for podman")
        cluster.up()
        cluster.hosts = ["h1"]
        cluster.form()
        archive = pathlib.Path(f"/var/tmp/shoal-lab/{stage.name}/client.tar")  # the lab's own folder: it goes with the lab
        subprocess.run([str(lab.ROOT / "tests/images/build"), "--client", str(lab.LOADGEN), str(archive)], check=True,
                       capture_output=True)
        cluster.load_image(archive)
        yield cluster, leave, archive


PARTS = {"one": one_pod, "many": many}
