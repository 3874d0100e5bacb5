#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shoal on a whole machine of its own: this kernel, its cgroup v2, its systemd. Run in the guest of tests/vm/run.

   netns lan --- veth 198.18.0.0/24 --- eth0, systemd (process 1)
                                          system.slice/shoald.service
                                          shoal.slice/pod-...: blue, green

Clients are pods and the host: a process of netns lan would be in the cgroups that the socket hooks cover, and no client
from outside. Those are the lab tests' matter.
The last line, "vm: N passed, M failed", is for tests/vm/run.
"""
import json
import os
import re
import subprocess
import sys
import unittest
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lab"))

from shoal_lab.cluster import BUILD, LB_POOL, Cluster, ClusterError, wait_for  # noqa: E402

NETPROBE = BUILD / "tests/images/netprobe"
WATCHDOG_S = 20  # loading the programs alone takes an emulated machine seconds
PACE = 10  # how much slower an emulated machine may be than the waits' bounds are meant for
PICKS = 2000

OBJECTS = "---\n".join(f"""\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: web, version: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: shoal.dev/test/netprobe:1
    command: [/bin/netprobe, serve, --name, {name}, 'tcp:7000', 'udp:7000']
    resources: {{limits: {{memory: 64Mi, cpu: 500m}}}}
    readinessProbe: {{tcpSocket: {{port: 7000}}, periodSeconds: 1}}
""" for name in ("blue", "green"))

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {{name: web, annotations: {{shoal.dev/weights: "version=blue:{blue},version=green:{green}"}}}}
spec:
  type: LoadBalancer
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 7000}}]
"""


def run(*command, check=True, timeout=60 * PACE, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, check=False,
                          **options)
    if check and done.returncode != 0:
        raise ClusterError(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip()}"
                           f"{done.stdout.strip()}")
    return done


def read(path):
    return Path(path).read_text(encoding="utf-8", errors="replace")


def ask(*arguments):
    return json.loads(run("shoal", *arguments, "-o", "json").stdout)


def show(unit, name):
    return run("systemctl", "show", unit, "-p", name).stdout.strip().partition("=")[2]


def words():
    return "".join(run(*command.split(), check=False).stdout for command in
                   ("journalctl --no-pager -o cat -n 60 -u shoald", "shoal get pods -o wide", "shoal get events"))


def until(what, condition, timeout_s):
    return wait_for(what, condition, timeout_s * PACE, on_timeout=words)


class Kernel(unittest.TestCase):
    """The tests of label root that are about BPF, on this kernel's verifier and maps."""

    def test_the_machine_is_what_it_should_be(self):
        self.assertEqual(read("/proc/1/comm").strip(), "systemd")
        self.assertRegex(os.uname().release, r"-cloud-amd64$")
        self.assertEqual(run("stat", "-f", "-c", "%T", "/sys/fs/cgroup").stdout.strip(), "cgroup2fs")
        links = [link["ifname"] for link in json.loads(run("ip", "-j", "link").stdout)]
        self.assertEqual(set(links) - {"eth0"}, {"lo"}, "no device leads out of the guest")

    def binary(self, name):
        done = run("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                   BUILD / "tests/bpf" / name, "--gtest_brief=1", check=False)
        print(done.stdout.strip().splitlines()[-1], end=" ", flush=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"PASSED  \] [1-9]\d* tests")

    def test_packets_through_the_programs(self):
        self.binary("bpf_packet_test")

    def test_packets_through_xdp(self):
        self.binary("bpf_xdp_test")

    def test_maps_and_loader(self):
        self.binary("bpf_maps_test")


class Machine(unittest.TestCase):
    """One host that is a cluster: its unit, two pods and a Service with weights."""

    @classmethod
    def setUpClass(cls):
        for command in ("ip netns add lan", "ip link add eth0 type veth peer name eth0 netns lan",
                        "ip address add 198.18.0.11/24 dev eth0", "ip link set eth0 up",
                        "ip -n lan link set eth0 up"):
            run(*command.split())
        Path("/etc/shoal/shoald.yaml").write_text(f"network: {{lb_pool: {LB_POOL}}}\n", encoding="utf-8")
        # The unit as it is, but for how long the watchdog waits.
        override = Path("/etc/systemd/system/shoald.service.d/watchdog.conf")
        override.parent.mkdir()
        override.write_text(f"[Service]\nWatchdogSec={WATCHDOG_S}s\n", encoding="utf-8")
        run("systemctl", "daemon-reload")
        run("systemctl", "start", "shoald")
        # Its own patience with the daemon may be too short for an emulated machine: what counts is what follows.
        run("shoal", "init", check=False)
        until("the host to be a member", lambda: ask("status").get("phase") == "Member", 20)
        run("shoal", "image", "load", BUILD / "tests/vm.tar")
        run("shoal", "apply", "-f", "-", input=OBJECTS)
        until("two ready pods", lambda: len(cls.ready()) == 2, 40)
        cls.weigh(90, 10)
        web = until("the VIP", cls.service_with_vip, 20)
        cls.cluster_ip = web["spec"]["clusterIP"]
        cls.vip = web["status"]["loadBalancer"]["ingress"][0]["ip"]

    def setUp(self):
        until("the host to be settled", lambda: ask("status").get("settled"), 30)

    @staticmethod
    def service_with_vip():
        web = ask("get", "service", "web")
        return web if web.get("status", {}).get("loadBalancer", {}).get("ingress") else None

    @staticmethod
    def weigh(blue, green):
        run("shoal", "apply", "-f", "-", input=SERVICE.format(blue=blue, green=green))

    @staticmethod
    def ready():
        return [p for p in ask("get", "pods", "-l", "app=web").get("items", []) if Cluster.is_ready(p)]

    def names(self, client, to, n=20, timeout_ms=5000):
        """Who answers; every one of n connections must be answered."""
        where = [NETPROBE] if client == "host" else ["shoal", "exec", client, "--", "/bin/netprobe"]
        done = run(*where, "ask", "tcp", to, 80, "-n", n, "--timeout", timeout_ms, check=False)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([a for a in answers if not a["ok"]], [], f"{client} to {to}")
        self.assertEqual(len(answers), n, done.stderr)
        return Counter(a["name"] for a in answers)

    def settle(self, names):
        until(f"{names} alone to answer", lambda: set(self.names("host", self.cluster_ip)) == names, 10)

    def containers(self):
        """{pod: id of its first process and when it started}, as the kernel has them."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words_of = read(folder / "cmdline").split("\0")
                if words_of[:2] == ["/bin/netprobe", "serve"]:
                    found[words_of[3]] = (folder.name, read(folder / "stat").rpartition(")")[2].split()[19])
            except OSError:
                continue  # it ended meanwhile
        return found

    def test_a_pod_reaches_the_other_through_the_service(self):
        self.addCleanup(self.weigh, 90, 10)
        for other, client in (("blue", "green"), ("green", "blue")):
            self.weigh(100 if other == "blue" else 0, 100 if other == "green" else 0)
            self.settle({other})
            self.assertEqual(self.names(client, self.cluster_ip), {other: 20})
            self.assertEqual(self.names("host", self.vip), {other: 20})

    def test_weights_hold_on_each_path(self):
        self.settle({"blue", "green"})
        for client, to in (("green", self.cluster_ip), ("host", self.cluster_ip), ("host", self.vip)):
            seen = self.names(client, to, PICKS)
            # 90 to 10: five standard deviations of a binomial are 67 of 2,000.
            self.assertAlmostEqual(seen["green"], PICKS / 10, delta=67, msg=f"{client} to {to}: {seen}")

    def test_the_agent_is_in_its_unit_and_pods_are_in_the_slice(self):
        pid = show("shoald", "MainPID")
        self.assertEqual(read(f"/proc/{pid}/cgroup").strip(), "0::/system.slice/shoald.service")
        uids = {p["metadata"]["name"]: p["metadata"]["uid"] for p in self.ready()}
        for name, (process, _) in self.containers().items():
            group = f"/shoal.slice/pod-{uids[name]}/main-0"
            self.assertEqual(read(f"/proc/{process}/cgroup").strip(), f"0::{group}")
            self.assertEqual(read(f"/sys/fs/cgroup{group}/memory.max").strip(), str(64 << 20))
            self.assertEqual(read(f"/sys/fs/cgroup{group}/cpu.max").strip(), "50000 100000")

    def test_restart_leaves_the_pods_running(self):
        pods, pid = self.containers(), show("shoald", "MainPID")
        self.assertEqual(set(pods), {"blue", "green"})
        run("systemctl", "restart", "shoald")
        self.assertNotEqual(show("shoald", "MainPID"), pid)
        until("the host to be settled", lambda: ask("status").get("settled"), 30)
        self.assertEqual(self.containers(), pods)
        self.assertEqual(sum(self.names("green", self.cluster_ip).values()), 20)

    def test_stop_leaves_pods_and_data_plane(self):
        pods = self.containers()
        run("systemctl", "stop", "shoald")
        self.addCleanup(run, "systemctl", "start", "shoald")
        self.assertEqual(show("shoald", "Result"), "success")
        self.assertEqual(self.containers(), pods)
        self.assertEqual(sum(self.names("host", self.cluster_ip).values()), 20)

    def test_the_watchdog_is_fed_and_kills_an_agent_that_hangs(self):
        def fed_us():
            return int(show("shoald", "WatchdogTimestampMonotonic"))
        first, restarts = fed_us(), int(show("shoald", "NRestarts"))
        until("the watchdog to be fed for longer than it waits", lambda: fed_us() > first + 1.5e6 * WATCHDOG_S, 10)
        self.assertEqual(int(show("shoald", "NRestarts")), restarts)
        pods = self.containers()
        run("kill", "-STOP", show("shoald", "MainPID"))
        until("systemd to start another one", lambda: int(show("shoald", "NRestarts")) == restarts + 1, 30)
        self.assertIn("Watchdog timeout", run("journalctl", "-u", "shoald", "--no-pager", "-o", "cat").stdout)
        until("the host to be settled", lambda: ask("status").get("settled"), 30)
        self.assertEqual(self.containers(), pods)


if __name__ == "__main__":
    print(f"{' '.join(os.uname())}: {re.search(r'PRETTY_NAME=.(.*).$', read('/etc/os-release'), re.M)[1]}", flush=True)
    outcome = unittest.main(verbosity=2, exit=False).result
    failed = len(outcome.failures) + len(outcome.errors) + len(outcome.unexpectedSuccesses)
    print(f"vm: {max(outcome.testsRun - failed, 0)} passed, {failed} failed", flush=True)
