#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Namespaces of pods other than their own: one pid namespace for all containers, and those of the host.

   h1 .11: store, all pods
"""
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import objects  # noqa: E402
from shoal_lab.cluster import Cluster, wait_for  # noqa: E402
from shoal_lab.inventory import differences, inventory  # noqa: E402

IMAGE = "shoal.dev/demo/web:blue"
# Leaves a process behind when it ends.
LEAVES = "setsid sleep 7001 & trap 'exit 9' TERM; while :; do sleep 0.1; done"
STAYS = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
SEES_PAUSE = {"exec": {"command": ["sh", "-c", "grep shoal-pause /proc/1/comm"]}, "periodSeconds": 1}


def container(name, script, **more):
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **more}


class Namespaces(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(f"namespaces-{os.getpid()}", hosts=1, clients=0)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder, ("blue",), client=False)
        cls.cluster.apply(objects.documents({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": "infra", "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}))

    def make(self, name, *containers, namespace="default", **spec):
        pod = objects.pod(name, {"app": name}, {"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec})
        pod["metadata"]["namespace"] = namespace
        self.cluster.apply(objects.documents(pod))

    def wait_pod(self, name, what, condition, namespace="default"):
        def pod():
            return self.cluster.get("pod", name, "-n", namespace)

        def holds():
            now = pod()
            return now if condition(now) else None
        return wait_for(f"pod {name}: {what}", holds, 30, on_timeout=lambda: json.dumps(
            pod()["status"], indent=1) + self.cluster.log_tail("h1"))

    def wait_ready(self, name, restarts=None, namespace="default"):
        return self.wait_pod(name, f"ready after {restarts} restarts", lambda pod: self.cluster.is_ready(pod) and (
            restarts is None or [c["restartCount"] for c in pod["status"]["containerStatuses"]] == restarts), namespace)

    def exec(self, name, container_name, *command, check=True, namespace="default"):
        return self.cluster.shoal("h1", "exec", name, "-n", namespace, "-c", container_name, "--", *command, check=check).stdout

    def pids(self, name, container_name, command):
        """Of the processes that have this command, as the container sees them."""
        script = "for p in /proc/[0-9]*; do echo $p $(tr '\\0' ' ' <$p/cmdline); done 2>/dev/null"
        return [line.split()[0].rpartition("/")[2] for line in self.exec(name, container_name, "sh", "-c", script).splitlines()
                if line.partition(" ")[2].strip() == command]

    def holder(self):
        return self.cluster.run("h1", "pgrep", "-x", "shoal-pause").stdout.split()

    def clean(self, name, namespace="default"):
        self.cluster.shoal("h1", "delete", "pod", name, "-n", namespace)
        wait_for(f"nothing to be left of pod {name}", lambda: not differences(inventory(self.cluster, "h1"), {}), 30,
                 on_timeout=lambda: differences(inventory(self.cluster, "h1"), {}))

    def restart_agent(self, signal):
        self.cluster.kill_daemon("h1", signal)
        self.cluster.start_daemon("h1")

    def test_containers_share_a_pid_namespace(self):
        self.make("shared", container("main", LEAVES), container("side", STAYS, readinessProbe=SEES_PAUSE),
                  shareProcessNamespace=True)
        pod = self.wait_ready("shared", [0, 0])
        uid = pod["metadata"]["uid"]
        self.assertEqual(differences(inventory(self.cluster, "h1"), {uid: ["main", "side"]}, sharing=[uid]), [])
        before = wait_for("what main leaves", lambda: self.pids("shared", "side", "sleep 7001"))
        holder = self.holder()
        # Neither end of the agent is theirs.
        for signal in ("KILL", "TERM"):
            self.restart_agent(signal)
            wait_for("the pod to be known", lambda: self.exec("shared", "side", "true", check=False) == "")
            self.assertEqual(wait_for("the same processes", lambda: self.pids("shared", "side", "sleep 7001")), before)
            self.assertEqual(self.holder(), holder)
        self.wait_ready("shared", [0, 0])
        # One container signals the other, and what that leaves ends with it.
        first = self.exec("shared", "side", "sh", "-c", "grep -l 'setsid sleep 7001' /proc/[0-9]*/cmdline").split("/")[2]
        self.exec("shared", "side", "kill", "-9", "1")
        self.exec("shared", "side", "kill", first)
        pod = self.wait_ready("shared", [1, 0])
        ended = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
        self.assertEqual(ended["exitCode"], 9)
        after = wait_for("what main leaves again", lambda: self.pids("shared", "side", "sleep 7001"))
        self.assertEqual(len(after), 1)
        self.assertNotEqual(after, before)
        self.assertEqual(self.holder(), holder)
        self.clean("shared")

    def test_a_pod_begins_anew_without_its_first_process(self):
        self.make("anew", container("main", STAYS), container("side", STAYS, readinessProbe=SEES_PAUSE),
                  shareProcessNamespace=True)
        self.wait_ready("anew")
        holder = self.holder()
        self.assertEqual(len(holder), 1)
        self.cluster.run("h1", "kill", "-KILL", *holder)
        self.wait_ready("anew", [1, 1])
        self.assertNotEqual(self.holder(), holder)
        self.assertTrue([e for e in self.cluster.items("events") if e["reason"] == "SandboxChanged"])
        # The same while nobody looks.
        self.cluster.kill_daemon("h1")
        self.cluster.run("h1", "kill", "-KILL", *self.holder())
        self.cluster.start_daemon("h1")
        self.wait_ready("anew", [2, 2])
        self.assertEqual(len(self.holder()), 1)
        self.clean("anew")

    def test_the_hosts_namespaces_are_for_namespaces_that_are_privileged(self):
        for field in ("hostPID", "hostIPC"):
            wish = objects.documents(objects.pod("taker", {}, {"containers": [container("main", STAYS)], field: True}))
            told = self.cluster.shoal("h1", "apply", "-f", "-", input=wish, check=False)
            self.assertNotEqual(told.returncode, 0)
            self.assertIn('violates PodSecurity "unlabelled" of namespace default: '
                          f"host namespaces ({field}=true)", told.stderr)
        both = {"containers": [container("main", STAYS)], "hostPID": True, "shareProcessNamespace": True}
        told = self.cluster.shoal("h1", "apply", "-f", "-", input=objects.documents(objects.pod("both", {}, both)), check=False)
        self.assertIn("ShareProcessNamespace and HostPID cannot both be enabled", told.stderr)

    def test_the_hosts_processes_and_its_shared_memory(self):
        self.make("host", container("main", LEAVES), container("side", STAYS), namespace="infra", hostPID=True, hostIPC=True)
        pod = self.wait_ready("host", [0, 0], "infra")
        look = ("sh", "-c", "for name in pid ipc net uts; do readlink /proc/self/ns/$name; done")
        own = self.cluster.run("h1", *look).stdout.split()
        theirs = self.exec("host", "side", *look, namespace="infra").split()
        self.assertEqual([one == other for one, other in zip(own, theirs)], [True, True, False, False])
        self.cluster.run("h1", "sh", "-c", "echo of the host >/dev/shm/shoal-namespaces-test")
        self.assertEqual(self.exec("host", "side", "cat", "/dev/shm/shoal-namespaces-test", namespace="infra"), "of the host\n")
        shim = self.cluster.run("h1", "pgrep", "-x", "shoal-shim").stdout.split()[0]
        self.assertEqual(self.exec("host", "side", "cat", f"/proc/{shim}/comm", namespace="infra"), "shoal-shim\n")
        # What a container leaves behind ends with it here as well.
        before = self.cluster.run("h1", "pgrep", "-fx", "sleep 7001").stdout.split()
        first = self.cluster.run("h1", "pgrep", "-fo", "setsid sleep 7001").stdout.split()
        self.cluster.run("h1", "kill", *first)
        self.wait_ready("host", [1, 0], "infra")
        after = wait_for("what main leaves again", lambda: self.cluster.run("h1", "pgrep", "-fx", "sleep 7001", check=False).stdout.split())
        self.assertEqual((len(before), len(after)), (1, 1))
        self.assertNotEqual(before, after)
        uid = pod["metadata"]["uid"]
        self.restart_agent("KILL")
        wait_for("the pod to be known", lambda: not differences(inventory(self.cluster, "h1"), {uid: ["main", "side"]}))
        self.clean("host", "infra")

    def test_without_it_each_has_its_own(self):
        self.make("own", container("main", STAYS), container("side", STAYS))
        self.wait_ready("own")
        self.assertEqual(self.exec("own", "side", "sh", "-c", "cat /proc/1/comm"), "sh\n")
        self.clean("own")


if __name__ == "__main__":
    unittest.main(verbosity=2)
