#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""shoald.service and shoal.slice under a real systemd: notification, watchdog, restart, stop, reboot.

   client c1 ---- LAN 198.18.0.0/24 ---- h1: systemd-nspawn -b (shoal_lab/machine.py)
                  (scripts/lab)                system.slice/shoald.service   the agent
                                               shoal.slice/pod-...           shims and pods

   Load, open loop and without retries, from c1 to the VIP of a Service with two pods, through all of it.

Not shown here, as the kernel is not this systemd's own: controllers of cgroup v2 where the machine's are v1's (limits),
real devices, /sys/fs/bpf mounted at boot; and crun, where nobody has CAP_SYS_RESOURCE (runc stands in).
"""
import json
import re
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import cluster as shoal  # noqa: E402
from shoal_lab.cluster import Cluster, wait_for  # noqa: E402
from shoal_lab.inventory import differences, inventory  # noqa: E402
from shoal_lab.lab import Lab  # noqa: E402
from shoal_lab.line_process import LineProcess  # noqa: E402
from shoal_lab.machine import Machine  # noqa: E402

RATE = 100
WATCHDOG_S = 3

OBJECTS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: shoal.dev/demo/web:blue
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
"""


ASKS = """\
apiVersion: v1
kind: Pod
metadata: {name: asks, labels: {app: asks}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: shoal.dev/demo/web:blue
    securityContext: {runAsUser: 0, capabilities: {add: [SYS_TIME, IPC_LOCK]}}
"""
CAP_IPC_LOCK, CAP_SYS_TIME, CAP_SYS_RESOURCE = 14, 25, 24


class OnMachine:
    """The machine as shoal_lab.inventory asks a cluster."""

    @staticmethod
    def run(_, *command):
        return machine.run(*command)


def ask(*arguments):
    return json.loads(machine.run("shoal", *arguments, "-o", "json").stdout)


def ready_pods(selector):
    return [p for p in ask("get", "pods", "-l", selector).get("items", []) if Cluster.is_ready(p)]


def oci_runtime():
    """crun 1.8 lifts the limit of locked memory before it loads its device filter, on cgroup v2. The unit lifts it
    first, and neither may where this machine gives nobody CAP_SYS_RESOURCE."""
    with open("/proc/self/status", encoding="utf-8") as file:
        bounding = int(re.search(r"^CapBnd:\s*(\w+)$", file.read(), re.M).group(1), 16)
    return "crun" if bounding & (1 << CAP_SYS_RESOURCE) else "runc"


def setUpModule():
    global lab, machine, folder
    folder = tempfile.TemporaryDirectory(prefix="shoal-systemd.")
    lab = Lab(hosts=1, clients=1).up()
    machine = Machine(lab)
    try:
        image = shoal.build_image("blue", Path(folder.name) / "blue.tar")
        machine.prepare()
        lab.run("h1", "cp", image, "/run/machine/root/blue.tar")
        machine.write("/etc/shoal/shoald.yaml", f"network:\n  lb_pool: {shoal.LB_POOL}\n"
                      f"runtime:\n  oci_runtime: {oci_runtime()}\n")
        # The unit as it is, but for how long the watchdog waits.
        machine.write("/etc/systemd/system/shoald.service.d/watchdog.conf", f"[Service]\nWatchdogSec={WATCHDOG_S}s\n")
        lab.run("h1", "ln", "-s", "/usr/lib/systemd/system/shoald.service",
                "/run/machine/etc/systemd/system/multi-user.target.wants/shoald.service")
        machine.boot()
    except BaseException:
        tearDownModule()
        raise


def tearDownModule():
    lab.down(check=False)
    machine.close()
    folder.cleanup()


class Systemd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.check_lobby()
        machine.run("shoal", "init")
        wait_for("the host to be a member", lambda: cls.status().get("phase") == "Member", 20, on_timeout=cls.words)
        machine.run("shoal", "image", "load", "/root/blue.tar")
        machine.run("shoal", "apply", "-f", "-", input=OBJECTS)
        wait_for("two ready pods", lambda: len(ready_pods("app=web")) == 2, 40, on_timeout=cls.words)
        web = wait_for("the VIP", cls.service_with_vip, 20)
        cls.vip = web["status"]["loadBalancer"]["ingress"][0]["ip"]
        cls.cluster_ip = web["spec"]["clusterIP"]
        wait_for("the host to be settled", lambda: cls.status().get("settled"), 30, on_timeout=cls.words)

    @classmethod
    def check_lobby(cls):
        """A host that is in no cluster yet is active, and says so to the watchdog."""
        wait_for("shoald.service to be active", lambda: machine.show("shoald", "ActiveState")["ActiveState"] == "active",
                 20, on_timeout=cls.words)

        def outlived():
            seen = machine.show("shoald", "WatchdogTimestampMonotonic", "ActiveEnterTimestampMonotonic", "NRestarts")
            since = int(seen["WatchdogTimestampMonotonic"]) - int(seen["ActiveEnterTimestampMonotonic"])
            return seen["NRestarts"] != "0" or since > 1.5 * WATCHDOG_S * 1_000_000
        wait_for("the watchdog to have waited more than once", outlived, 10 * WATCHDOG_S, on_timeout=cls.words)
        seen = machine.show("shoald", "NRestarts", "StatusText", "ActiveState")
        assert seen == {"NRestarts": "0", "StatusText": "in no cluster yet", "ActiveState": "active"}, seen

    @staticmethod
    def words():
        return machine.journal("shoald") + machine.run("shoal", "get", "events", check=False).stdout

    @staticmethod
    def status():
        return ask("status")

    @staticmethod
    def service_with_vip():
        web = ask("get", "service", "web")
        return web if web.get("status", {}).get("loadBalancer", {}).get("ingress") else None

    def setUp(self):
        self.load = LineProcess(lab.argv("c1", shoal.LOADGEN, "load", "--to", f"{self.vip}:80", "--rate", RATE,
                                         "--timeout", "2s", "--duration", 300))
        self.addCleanup(self.load.end)
        self.load.expect("second", 10)
        self.before = inventory(OnMachine, None)
        self.main_pid = self.unit("MainPID")

    def unit(self, name):
        return machine.show("shoald", name)[name]

    def wait_serving(self):
        wait_for("shoald.service to be active", lambda: self.unit("ActiveState") == "active", 30, on_timeout=self.words)
        wait_for("the host to be settled", lambda: self.status().get("settled"), 30, on_timeout=self.words)

    def check_nobody_noticed(self):
        self.assertEqual(inventory(OnMachine, None), self.before)
        self.load.say("mark next")
        window = self.load.expect("window", 30)
        self.assertEqual((window["failed"], window["failures"]), (0, {}), window)
        self.assertGreater(window["requests"], RATE)
        print(f"    {window['requests']} requests, 0 failed", end=" ", flush=True)

    @staticmethod
    def cgroup_of(pid):
        return re.search(r"^0::(.*)$", machine.run("cat", f"/proc/{pid}/cgroup").stdout, re.M).group(1)

    # ---- where things are

    def test_the_agent_is_in_its_unit_and_pods_are_in_the_slice(self):
        seen = inventory(OnMachine, None)
        pods = {p["metadata"]["uid"]: ["web"] for p in ready_pods("app=web")}
        self.assertEqual(differences(seen, pods), [])
        self.assertEqual(self.unit("StatusText"), "member machine")
        self.assertEqual(self.cgroup_of(self.main_pid), "/system.slice/shoald.service")
        self.assertEqual(machine.run("cat", "/sys/fs/cgroup/system.slice/shoald.service/cgroup.procs").stdout.split(),
                         [self.main_pid])
        self.assertEqual(machine.show("shoal.slice", "ActiveState")["ActiveState"], "active")
        for uid in pods:
            [[shim, _]] = seen["shims"][uid]
            [[container, _]] = seen["containers"][uid].values()
            self.assertEqual(self.cgroup_of(shim), f"/shoal.slice/pod-{uid}/shim")
            self.assertEqual(self.cgroup_of(container), f"/shoal.slice/pod-{uid}/web-0")
            # The agent's protection from the OOM killer ends with its shims.
            self.assertEqual(machine.run("cat", f"/proc/{container}/oom_score_adj").stdout, "1000\n")
        # The socket hooks cover what systemd starts, as well as pods.
        answer = machine.run("systemd-run", "--pipe", "--wait", "-q", "curl", "-s", "--max-time", "5", f"http://{self.cluster_ip}/")
        self.assertIn("version=blue", answer.stdout)

    def test_the_unit_is_what_it_says(self):
        for unit in ("shoald.service", "shoal.slice"):
            verified = machine.run("systemd-analyze", "verify", "--man=no", f"/usr/lib/systemd/system/{unit}")
            self.assertEqual((verified.stdout, verified.stderr), ("", ""))
        # Nothing that a pod may ask for is taken from it by the unit.
        machine.run("shoal", "apply", "-f", "-", input=ASKS)
        found = wait_for("the pod that asks", lambda: (ready_pods("app=asks") or [None])[0], 30, on_timeout=self.words)
        seen = inventory(OnMachine, None)["containers"][found["metadata"]["uid"]]
        [[pid, _]] = seen.values()
        status = machine.run("cat", f"/proc/{pid}/status").stdout
        held = int(re.search(r"^CapEff:\s*(\w+)$", status, re.M).group(1), 16)
        self.assertTrue(held & (1 << CAP_SYS_TIME) and held & (1 << CAP_IPC_LOCK), status)
        limits = machine.run("cat", f"/proc/{pid}/limits").stdout
        agents = machine.run("cat", f"/proc/{self.main_pid}/limits").stdout
        self.assertEqual(re.search(r"^Max open files.*$", limits, re.M).group(0).split()[4],
                         re.search(r"^Max open files.*$", agents, re.M).group(0).split()[4])
        machine.run("shoal", "delete", "pod", "asks")

    # ---- what happens to the agent, and to nobody else

    def test_restart(self):
        machine.run("systemctl", "restart", "shoald")
        self.assertNotEqual(self.unit("MainPID"), self.main_pid)
        self.wait_serving()
        self.check_nobody_noticed()

    def test_a_hung_agent_is_killed_by_the_watchdog_and_started_again(self):
        restarts = int(self.unit("NRestarts"))
        machine.run("kill", "-STOP", self.main_pid)
        wait_for("systemd to start another one", lambda: int(self.unit("NRestarts")) == restarts + 1, 30, on_timeout=self.words)
        self.wait_serving()
        self.assertIn("Watchdog timeout", machine.run("journalctl", "-u", "shoald", "--no-pager", "-o", "cat").stdout)
        self.check_nobody_noticed()

    def test_a_killed_agent_is_started_again(self):
        restarts = int(self.unit("NRestarts"))
        machine.run("kill", "-KILL", self.main_pid)
        wait_for("systemd to start another one", lambda: int(self.unit("NRestarts")) == restarts + 1, 30, on_timeout=self.words)
        self.wait_serving()
        self.check_nobody_noticed()

    def test_stop_stops_no_pod(self):
        machine.run("systemctl", "stop", "shoald")
        self.assertEqual(self.unit("ActiveState"), "inactive")
        self.assertEqual(self.unit("Result"), "success")
        self.load.say("mark stopped")
        self.assertEqual(self.load.expect("window", 30)["failed"], 0)
        self.load.expect("second", 10)
        self.load.expect("second", 10)
        self.check_nobody_noticed()
        machine.run("systemctl", "start", "shoald")
        self.wait_serving()
        self.check_nobody_noticed()

    def test_systemd_leaves_the_pods_cgroups_alone(self):
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "daemon-reexec")
        machine.run("systemctl", "set-property", "--runtime", "shoal.slice", "CPUWeight=200")
        self.wait_serving()
        self.check_nobody_noticed()
        # A pod that begins after that finds its place, too.
        machine.run("shoal", "apply", "-f", "-", input=OBJECTS.replace("replicas: 2", "replicas: 3"))
        wait_for("three ready pods", lambda: len(ready_pods("app=web")) == 3, 40, on_timeout=self.words)
        machine.run("shoal", "apply", "-f", "-", input=OBJECTS)
        wait_for("two pods", lambda: len(ask("get", "pods", "-l", "app=web")["items"]) == 2, 40, on_timeout=self.words)

    def test_the_slice_takes_the_agent_along_and_no_pod(self):
        machine.run("systemctl", "stop", "shoal.slice")
        self.assertEqual(self.unit("ActiveState"), "inactive")  # it requires the slice
        self.check_nobody_noticed()
        machine.run("systemctl", "start", "shoald")
        self.wait_serving()
        self.check_nobody_noticed()


class SystemdReboot(unittest.TestCase):
    def test_pods_run_again_after_a_reboot(self):
        uids = sorted(p["metadata"]["uid"] for p in ready_pods("app=web"))
        boot_id = machine.run("cat", "/proc/sys/kernel/random/boot_id").stdout
        machine.power_off()
        self.assertEqual(lab.run("h1", "pgrep", "-x", "shoal-shim", check=False).stdout, "")
        machine.boot()
        self.assertNotEqual(machine.run("cat", "/proc/sys/kernel/random/boot_id").stdout, boot_id)
        wait_for("the pods to be ready again",
                 lambda: sorted(p["metadata"]["uid"] for p in ready_pods("app=web")) == uids, 60, on_timeout=Systemd.words)
        for found in ready_pods("app=web"):
            self.assertEqual(found["status"]["containerStatuses"][0]["restartCount"], 1)
        wait_for("the host to hold what its pods need", lambda: not differences(inventory(OnMachine, None), {u: ["web"] for u in uids}),
                 20, on_timeout=lambda: "\n".join(differences(inventory(OnMachine, None), {u: ["web"] for u in uids})))
        vip = Systemd.service_with_vip()["status"]["loadBalancer"]["ingress"][0]["ip"]
        done = lab.run("c1", shoal.LOADGEN, "requests", "--to", f"{vip}:80", "-n", 100)
        self.assertEqual(json.loads(done.stdout.strip().split("\n")[-1])["failed"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
