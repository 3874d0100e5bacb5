#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The agent dies; pods, connections and services do not notice, and the agent finds all of it again.

   client c1 ---+                          +--- h1: shoald (store), 2 pods of web
                |                          |
                +--- LAN 198.18.0.0/24 ----+--- h2: shoald, 2 pods of web
                     (scripts/lab)         |
                                           +--- h3: shoald, 2 pods of web

   Service web, type LoadBalancer. Load, open loop and without retries: from c1 to the VIP, from a pod and from its
   host to the ClusterIP; idle connections beside it.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import cluster as lab  # noqa: E402
from shoal_lab.cluster import Cluster, ClusterError, wait_for  # noqa: E402
from shoal_lab.gate import Gate  # noqa: E402
from shoal_lab.inventory import differences, inventory  # noqa: E402
from shoal_lab.load_clients import LoadClients, ways_in  # noqa: E402
from shoal_lab.shells import ShellCluster  # noqa: E402

RATE = 200
IDLE = 60
KILLS = 6
NAME = f"survive-{os.getpid()}"

WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: shoal.dev/demo/web:blue
        ports: [{name: http, containerPort: 8080}, {name: echo, containerPort: 9000}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: echo, port: 9000, targetPort: echo}
"""


def pod(name, script, host, restart="Always", grace=1):
    """A bare pod that runs a busybox script on a host."""
    return f"""\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {host}
  restartPolicy: {restart}
  terminationGracePeriodSeconds: {grace}
  containers:
  - name: main
    image: shoal.dev/demo/client:1
    command: [/bin/busybox, sh, -c, {json.dumps(script)}]
"""


MANY = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 12
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: shoal.dev/demo/client:1
        command: [/bin/busybox, sleep, "1000"]
"""

# A line every few milliseconds, numbered.
COUNT = "i=0; while :; do echo line $i; i=$((i+1)); usleep 3000 2>/dev/null || sleep 0.003; done"


def setUpModule():
    global cluster, folder
    folder = tempfile.TemporaryDirectory(prefix="shoal-survive.")
    cluster = ShellCluster(NAME, hosts=3, clients=1, config={"pod_replace_after_s": 60})
    cluster.up()
    try:
        cluster.form()
        path = Path(folder.name)
        cluster.load_image(lab.build_image("blue", path / "blue.tar"))
        subprocess.run([str(lab.ROOT / "tests/images/build"), "--client", str(lab.LOADGEN), str(path / "client.tar")],
                       check=True, capture_output=True)
        cluster.load_image(path / "client.tar")
    except BaseException:
        tearDownModule()
        raise


def tearDownModule():
    cluster.down()
    folder.cleanup()


def metric(host, name):
    """The sum of a counter's samples."""
    text = cluster.run(host, "curl", "-s", "--max-time", "5", "http://127.0.0.1:9464/metrics").stdout
    values = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M)
    if not values:
        raise ClusterError(f"{host}: no metric {name}")
    return sum(map(float, values))


def wait_settled(host):
    wait_for(f"{host} to be settled", lambda: cluster.status(host).get("settled"), 30,
             on_timeout=lambda: cluster.log_tail(host))


def pods_of(host, asked=None):
    """{name: Pod} of those bound to a host."""
    return {p["metadata"]["name"]: p for p in cluster.items("pods", host=asked or host)
            if p["spec"].get("nodeName") == host}


def wait_status(name, what, condition, host="h1", timeout_s=30):
    def look():
        status = cluster.get("pod", name, host=host).get("status", {})
        return status if condition(status) else None
    return wait_for(f"pod {name}: {what}", look, timeout_s,
                    on_timeout=lambda: cluster.shoal(host, "get", "pods", "-o", "wide", check=False).stdout
                    + cluster.shoal(host, "get", "events", check=False).stdout
                    + "".join(cluster.log_tail(h, 30) for h in cluster.hosts))


def wait_phase(name, phase, host="h1"):
    return wait_status(name, f"to be {phase}", lambda s: s.get("phase") == phase, host)


def gone(name, host="h1"):
    return cluster.shoal(host, "get", "pod", name, check=False).returncode != 0


class UnderLoad(unittest.TestCase):
    """kill -9 of an agent, again and again, on every host, the announcer of the VIP among them."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cluster.apply(WEB)
        for number, host in enumerate(cluster.hosts, 1):
            cluster.apply(pod(f"count-{number}", COUNT, host))
        cls.pods = cluster.wait_ready("app=web", 6)
        for number in range(1, 4):
            cluster.wait_ready(f"app=count-{number}", 1)
        web = wait_for("the Service to have its VIP", cls.service_with_vip, 20)
        cls.vip = web["status"]["loadBalancer"]["ingress"][0]["ip"]
        cls.cluster_ip = web["spec"]["clusterIP"]
        for host in cluster.hosts:
            wait_settled(host)
            wait_for(f"{host} to balance over 6 pods", lambda h=host: cls.ready_backends(h) == 6, 20)

    @classmethod
    def tearDownClass(cls):
        cluster.shoal("h1", "delete", "service/web", "deployment/web")
        cluster.shoal("h1", "delete", "pod", "count-1", "count-2", "count-3")

    @staticmethod
    def service_with_vip():
        web = cluster.get("service", "web")
        return web if web.get("status", {}).get("loadBalancer", {}).get("ingress") else None

    @staticmethod
    def ready_backends(host):
        view = cluster.shoal_json(host, "service", "show", "web")
        return sum(1 for b in view["ports"][0]["backends"] if b["state"] == "ready")

    def announcer(self):
        return next((h for h in cluster.hosts if self.vip in cluster.status(h).get("announced_vips", [])), None)

    @staticmethod
    def processes(host):
        seen = inventory(cluster, host)
        return {key: seen[key] for key in ("shims", "containers", "leases", "images", "links", "netns")}

    def test_nobody_notices(self):
        down = 0
        clients = LoadClients(self, ways_in(cluster, "count-2", "h2", self.vip, self.cluster_ip), RATE, IDLE)
        clients.check("begin", "before")
        for round_number in range(KILLS):
            announcer = self.announcer()
            # The announcer, then one that is not, then the next announcer; every other one stays down until the
            # others have called it dead.
            victim = announcer if round_number % 3 != 1 else next(h for h in cluster.hosts[::-1] if h != announcer)
            long = round_number % 2 == 1
            what = f"kill {round_number + 1}: {victim}{', the announcer' if victim == announcer else ''}"
            other = next(h for h in cluster.hosts if h != victim)
            before = self.processes(victim), {n: p["status"] for n, p in pods_of(victim).items()}
            cluster.kill_daemon(victim)
            if long:
                down += 1
                cluster.wait_members(other, set(cluster.hosts) - {victim}, 30)
                clients.check(f"down-{round_number}", what + " is down")
            cluster.start_daemon(victim)
            cluster.wait_members(other, set(cluster.hosts), 30)
            wait_settled(victim)
            clients.check(f"back-{round_number}", what + " is back")
            with self.subTest(what):
                self.check_taken_up(victim, before)
        print(f"{KILLS} kills ({down} of them until declared dead): {clients.requests} requests, 0 failed; "
              f"{3 * IDLE} idle connections, 0 broken")

    def check_taken_up(self, host, before):
        self.assertEqual(self.processes(host), before[0])
        self.assertEqual({n: p["status"] for n, p in pods_of(host).items()}, before[1])
        self.assertEqual(metric(host, "shoal_plan_operations_total"), 0, "operations to take up the data plane")
        self.assertEqual(metric(host, "shoal_audit_repairs_total"), 0)
        self.assertEqual(metric(host, "shoal_plan_errors_total"), 0)
        name = f"count-{host[1:]}"
        self.assertEqual(cluster.shoal(host, "exec", name, "--", "/bin/busybox", "echo", "in").stdout, "in\n")
        lines = cluster.shoal(host, "logs", name).stdout.splitlines()
        self.assertGreater(len(lines), 100)
        self.assertEqual(lines, [f"line {i}" for i in range(len(lines))])


def running_on(host):
    """{uid: names of its containers} of the pods that shall run on a host."""
    return {p["metadata"]["uid"]: [c["name"] for c in p["spec"]["containers"]] for p in pods_of(host).values()
            if p.get("status", {}).get("phase") not in ("Succeeded", "Failed")}


def wait_clean(host, kept=(), timeout_s=20):
    """Until a host holds what its pods need and nothing else."""
    def wrong():
        return differences(inventory(cluster, host), running_on(host), kept)
    wait_for(f"{host} to hold what its pods need and nothing else", lambda: not wrong(), timeout_s,
             on_timeout=lambda: "\n".join(wrong()) + "\n" + cluster.log_tail(host))


class MidCreate(unittest.TestCase):
    """kill -9 in the middle of a pod's creation: every pod comes up once, and nothing is left over."""

    @classmethod
    def setUpClass(cls):
        cls.gates = {"runtime": Gate(folder.name, "crun", shutil.which("crun"), only="run"),
                     "shim": Gate(folder.name, "shim", lab.SHIM, only="--dir")}
        cluster.write_config("h3", config={"oci_runtime": cls.gates["runtime"].program, "shim": cls.gates["shim"].program})
        cls.restart("h3")

    @classmethod
    def tearDownClass(cls):
        cluster.write_config("h3")
        cls.restart("h3")

    @staticmethod
    def restart(host):
        cluster.kill_daemon(host)
        cluster.start_daemon(host)
        wait_settled(host)

    def kill(self, who, uid, at_gate):
        if who == "agent":
            cluster.kill_daemon("h3")
        elif who == "shim":
            for pid, _ in inventory(cluster, "h3")["shims"][uid]:
                cluster.run("h3", "kill", "-9", str(pid))
        else:
            cluster.run("h3", "kill", "-9", str(at_gate))

    def test_at_known_states(self):
        # Which program is stopped, before or after the real one ran; who is killed then; the agent comes back while it
        # still stands there, or after it went on; the container that comes up ran once only.
        for number, (program, where, killed, released, once) in enumerate([
                ("runtime", "before", ["agent"], "after the start", True),
                ("runtime", "before", ["agent"], "while down", True),
                ("runtime", "before", ["itself"], "at once", True),
                ("runtime", "before", ["shim"], "at once", False),
                ("runtime", "before", ["agent", "shim"], "at once", False),
                ("runtime", "after", ["agent"], "while down", True),
                ("runtime", "after", ["agent"], "after the start", True),
                ("runtime", "after", ["itself"], "at once", False),
                ("runtime", "after", ["shim"], "at once", False),
                ("shim", "before", ["agent"], "while down", True),
                ("shim", "before", ["agent"], "after the start", True),
                ("shim", "before", ["itself"], "at once", True),
                ("shim", "after", ["agent"], "while down", True)]):
            with self.subTest(f"{program}, {where}: {' and '.join(killed)} killed, released {released}"):
                self.one_state(f"mid-{number}", self.gates[program], where, killed, released, once)
        cluster.shoal("h1", "delete", "pod", *[p for p in pods_of("h3") if p.startswith("mid-")])
        wait_clean("h3")

    def one_state(self, name, gate, where, killed, released, once):
        gate.hold(where)
        cluster.apply(pod(name, "echo started; exec sleep 1000", "h3"))
        at_gate = gate.wait(where)
        uid = cluster.get("pod", name)["metadata"]["uid"]
        for who in killed:
            self.kill(who, uid, at_gate)
        if released != "after the start":
            gate.release(where)
        if "agent" in killed:
            cluster.start_daemon("h3")
        if released == "after the start":
            # It has looked at the pod by now: a host whose pods are not all taken up is not settled.
            wait_for("the pod to be looked at", lambda: cluster.status("h3")["synced"], 10)
            gate.release(where)
        status = wait_status(name, "to be ready", lambda s: Cluster.is_ready({"status": s}))
        self.assertEqual([c["restartCount"] for c in status["containerStatuses"]], [0])
        if once:
            self.assertEqual(cluster.shoal("h3", "logs", name).stdout, "started\n")
        wait_clean("h3")

    def test_at_many_moments(self):
        cluster.apply(MANY)
        for begun in (1, 3, 6, 9):
            wait_for(f"{begun} pods to have been begun", lambda b=begun: sum(map(self.begun, cluster.hosts)) >= b, 30)
            for host in cluster.hosts:
                cluster.kill_daemon(host)
            for host in cluster.hosts:
                cluster.start_daemon(host)
        pods = cluster.wait_ready("app=many", 12)
        self.assertEqual([c["restartCount"] for p in pods for c in p["status"]["containerStatuses"]], [0] * 12)
        for host in cluster.hosts:
            wait_clean(host)
        cluster.shoal("h1", "delete", "deployment", "many")
        wait_for("the pods to be gone", lambda: not cluster.items("pods", "-l", "app=many"), 30)
        for host in cluster.hosts:
            wait_clean(host)

    @staticmethod
    def begun(host):
        return len(cluster.run(host, "sh", "-c", "ls /run/shoal/pods 2>/dev/null").stdout.split())


class Ends(unittest.TestCase):
    """Pods that are over: what is freed, what stays, what goes although something stood in the way."""

    def tearDown(self):
        names = [p["metadata"]["name"] for p in cluster.items("pods") if p["metadata"]["name"].startswith("end-")]
        if names:
            cluster.shoal("h1", "delete", "pod", *names)

    def test_a_finished_pod_frees_its_sandbox_and_keeps_its_story(self):
        cluster.apply(pod("end-good", "echo one; echo two >&2", "h2", restart="Never"))
        cluster.apply(pod("end-bad", "echo three; exit 3", "h2", restart="Never"))
        cluster.apply(pod("end-fine", "echo four", "h2", restart="OnFailure"))
        uids = []
        for name, phase in (("end-good", "Succeeded"), ("end-bad", "Failed"), ("end-fine", "Succeeded")):
            wait_phase(name, phase)
            uids.append(cluster.get("pod", name)["metadata"]["uid"])
        wait_clean("h2", kept=uids)

        def story():
            return {name: (cluster.get("pod", name, host="h2")["status"], sorted(cluster.shoal("h2", "logs", name).stdout.split()))
                    for name in ("end-good", "end-bad", "end-fine")}
        before = story()
        self.assertEqual([before[n][1] for n in before], [["one", "two"], ["three"], ["four"]])
        bad = before["end-bad"][0]["containerStatuses"][0]
        self.assertEqual((bad["state"]["terminated"]["exitCode"], bad["restartCount"]), (3, 0))
        for status, _ in before.values():
            self.assertRegex(status["podIP"], r"^10\.244\.")
        cluster.kill_daemon("h2")
        cluster.start_daemon("h2")
        wait_settled("h2")
        self.assertEqual(story(), before)
        wait_clean("h2", kept=uids)
        cluster.shoal("h1", "delete", "pod", "end-good", "end-bad", "end-fine")
        wait_clean("h2")

    def test_a_pod_deleted_while_the_agent_is_down_is_removed(self):
        cluster.apply(pod("end-asked", "exec sleep 1000", "h2"))
        cluster.apply(pod("end-forced", "exec sleep 1000", "h2"))
        for name in ("end-asked", "end-forced"):
            wait_status(name, "to be ready", lambda s: Cluster.is_ready({"status": s}))
        cluster.kill_daemon("h2")
        cluster.shoal("h1", "delete", "--no-wait", "pod", "end-asked")
        cluster.shoal("h1", "delete", "--grace-period", "0", "pod", "end-forced")
        self.assertTrue(gone("end-forced"))
        self.assertFalse(gone("end-asked"))
        self.assertEqual(len(inventory(cluster, "h2")["shims"]), 2)
        cluster.start_daemon("h2")
        wait_for("end-asked to be gone", lambda: gone("end-asked"), 20, on_timeout=lambda: cluster.log_tail("h2"))
        wait_clean("h2")

    def test_a_removal_that_something_stands_in_the_way_of_completes(self):
        cluster.apply(pod("end-busy", "exec sleep 1000", "h2"))
        cluster.apply(pod("end-left", "exec sleep 1000", "h2"))
        files = {}
        for name in ("end-busy", "end-left"):
            wait_status(name, "to be ready", lambda s: Cluster.is_ready({"status": s}))
            uid = cluster.get("pod", name)["metadata"]["uid"]
            files[name] = f"/var/lib/shoal/pods/{uid}/logs/main/held"
            cluster.run("h2", "sh", "-c", f"touch {files[name]} && chattr +i {files[name]}")
        self.addCleanup(cluster.run, "h2", "sh", "-c", f"chattr -i {' '.join(files.values())} 2>/dev/null; true")
        # One whose object waits for it, and one whose object is gone before the agent is back.
        cluster.shoal("h1", "delete", "--no-wait", "pod", "end-busy")
        wait_for("the removal to fail", lambda: "FailedKillPod" in cluster.shoal("h1", "get", "events").stdout, 20)
        self.assertFalse(gone("end-busy"))
        cluster.kill_daemon("h2")
        cluster.shoal("h1", "delete", "--grace-period", "0", "pod", "end-left")
        cluster.start_daemon("h2")
        wait_for("the sweep to fail", lambda: len(self.failures(files["end-left"].split("/")[5])) >= 1, 20,
                 on_timeout=lambda: cluster.log_tail("h2"))
        # What could go is gone: nothing runs, and nobody else can get the address before the rest has gone.
        seen = inventory(cluster, "h2")
        self.assertEqual((seen["shims"], seen["netns"], seen["mounts"]), ({}, [], []))
        self.assertEqual(len(seen["leases"]), 2)
        cluster.run("h2", "chattr", "-i", *files.values())
        wait_for("end-busy to be gone", lambda: gone("end-busy"), 20, on_timeout=lambda: cluster.log_tail("h2"))
        wait_clean("h2")

    @staticmethod
    def failures(uid):
        text = cluster.run("h2", "cat", "/var/log/shoald.log").stdout
        return [line for line in text.splitlines() if "FailedKillPod" in line and uid in line]


class Reboot(unittest.TestCase):
    """The host dies and boots: its disk is there, its kernel knows nothing, and it has another boot id."""

    def test_stale_state_is_swept_and_pods_run_again(self):
        for name, script, restart in (("re-always", "echo begun; exec sleep 1000", "Always"),
                                      ("re-never", "echo begun; exec sleep 1000", "Never"),
                                      ("re-done", "echo done", "Never"), ("re-gone", "exec sleep 1000", "Always")):
            cluster.apply(pod(name, script, "h3", restart=restart))
        for name in ("re-always", "re-never", "re-gone"):
            wait_status(name, "to be ready", lambda s: Cluster.is_ready({"status": s}))
        wait_phase("re-done", "Succeeded", host="h3")
        wait_clean("h3", kept=[cluster.get("pod", "re-done")["metadata"]["uid"]])
        done = cluster.get("pod", "re-done", host="h3")["status"]
        cluster.lab("kill", "h3")
        cluster.wait_members("h1", {"h1", "h2"}, 30)
        cluster.shoal("h1", "delete", "--grace-period", "0", "pod", "re-gone")
        cluster.lab("boot", "h3")
        cluster.run("h3", "sh", "-c", "cat /proc/sys/kernel/random/uuid >/run/boot_id && "
                    "mount --bind /run/boot_id /proc/sys/kernel/random/boot_id")
        cluster.start_daemon("h3")
        cluster.wait_members("h1", {"h1", "h2", "h3"}, 30)
        status = wait_status("re-always", "to be ready", lambda s: Cluster.is_ready({"status": s}), host="h3")
        self.assertEqual(status["containerStatuses"][0]["restartCount"], 1)
        self.assertEqual(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137)
        self.assertEqual(cluster.shoal("h3", "logs", "re-always").stdout, "begun\n")
        self.assertEqual(cluster.shoal("h3", "logs", "-p", "re-always").stdout, "begun\n")
        # What must not run twice does not.
        lost = wait_phase("re-never", "Failed", host="h3")
        self.assertEqual(lost["containerStatuses"][0]["restartCount"], 0)
        self.assertEqual(cluster.shoal("h3", "logs", "re-never").stdout, "begun\n")
        self.assertEqual(cluster.get("pod", "re-done", host="h3")["status"], done)
        self.assertEqual(cluster.shoal("h3", "logs", "re-done").stdout, "done\n")
        uids = [cluster.get("pod", n)["metadata"]["uid"] for n in ("re-never", "re-done")]
        wait_clean("h3", kept=uids)
        cluster.shoal("h1", "delete", "pod", "re-always", "re-never", "re-done")
        wait_clean("h3")


if __name__ == "__main__":
    unittest.main(verbosity=2)
