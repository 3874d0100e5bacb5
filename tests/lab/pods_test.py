#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The life of a pod on one host, under the names of upstream's sig-node tests.

     LAN 198.18.0.0/24 --- h1 .11: store, all pods
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

IMAGE = "shoal.dev/demo/web:blue"


def container(name, script, **more):
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **more}


# A shell that ends at once when it is told to, and says so.
STAYS = "trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.1; done"


class PodTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(f"pods-{cls.__name__.lower()}-{os.getpid()}", hosts=1, clients=0)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder, ("blue",), client=False)

    def make(self, name, *containers, annotations=None, **spec):
        pod = objects.pod(name, {"app": name}, {"terminationGracePeriodSeconds": 5, "containers": list(containers), **spec})
        pod["metadata"]["annotations"] = annotations or {}
        self.cluster.apply(objects.documents(pod))

    def pod(self, name):
        return self.cluster.get("pod", name)

    def shown(self, name):
        """STATUS as `shoal get pods` prints it."""
        lines = self.cluster.shoal("h1", "get", "pods").stdout.splitlines()
        return next(line.split()[2] for line in lines if line.startswith(name + " "))

    def wait_pod(self, name, what, condition, timeout_s=30):
        def holds():
            pod = self.pod(name)
            return pod if condition(pod) else None
        return wait_for(f"pod {name}: {what}", holds, timeout_s,
                        on_timeout=lambda: json.dumps(self.pod(name)["status"], indent=1) + self.cluster.log_tail("h1"))

    def wait_phase(self, name, phase, timeout_s=30):
        return self.wait_pod(name, phase, lambda pod: pod["status"].get("phase") == phase, timeout_s)

    def wait_shown(self, name, status, timeout_s=30):
        wait_for(f"pod {name} to be shown as {status}", lambda: self.shown(name) == status, timeout_s, 0.02,
                 on_timeout=lambda: self.shown(name) + self.cluster.log_tail("h1"))

    def logs(self, name, container_name, *args):
        return self.cluster.shoal("h1", "logs", name, "-c", container_name, *args).stdout

    def delete(self, name):
        self.cluster.shoal("h1", "delete", "pod", name)
        wait_for(f"pod {name} to be gone",
                 lambda: name not in self.cluster.shoal("h1", "get", "pods").stdout.split(), 30)

    def events(self, name, reason):
        return [e["message"] for e in self.cluster.items("events")
                if e["involvedObject"]["name"] == name and e["reason"] == reason]

    @staticmethod
    def status(pod, name):
        lists = pod["status"].get("initContainerStatuses", []) + pod["status"]["containerStatuses"]
        return next(one for one in lists if one["name"] == name)

    @staticmethod
    def condition(pod, kind):
        return next(one for one in pod["status"]["conditions"] if one["type"] == kind)


class InitContainers(PodTest):
    """sig-node InitContainer, Sidecar Containers."""

    def test_should_invoke_init_containers_on_a_restart_never_pod(self):
        self.make("never", container("run", "true"), restartPolicy="Never",
                  initContainers=[container("init1", "true"), container("init2", "true")])
        pod = self.wait_phase("never", "Succeeded")
        ends = [self.status(pod, name)["state"]["terminated"] for name in ("init1", "init2", "run")]
        self.assertLessEqual(ends[0]["finishedAt"], ends[1]["startedAt"])
        self.assertLessEqual(ends[1]["finishedAt"], ends[2]["startedAt"])
        self.assertEqual(self.condition(pod, "Initialized")["status"], "True")
        self.assertEqual(self.condition(pod, "Ready")["reason"], "PodCompleted")
        self.assertEqual(self.shown("never"), "Completed")

    def test_should_invoke_init_containers_on_a_restart_always_pod(self):
        self.make("always", container("run", STAYS), initContainers=[container("init1", "sleep 2"), container("init2", "true")])
        self.wait_shown("always", "Init:0/2")
        self.assertEqual(self.condition(self.pod("always"), "Initialized")["message"],
                         "containers with incomplete status: [init1 init2]")
        pod = self.wait_phase("always", "Running")
        self.assertTrue(all(self.status(pod, name)["ready"] for name in ("init1", "init2", "run")))
        self.assertEqual(self.shown("always"), "Running")

    def test_should_not_start_app_containers_if_init_containers_fail_on_a_restart_always_pod(self):
        self.make("stuck", container("run", STAYS), initContainers=[container("init1", "false"), container("init2", "true")])
        pod = self.wait_pod("stuck", "its restarts", lambda p: self.status(p, "init1")["restartCount"] >= 1)
        self.wait_shown("stuck", "Init:CrashLoopBackOff")
        self.assertEqual(pod["status"]["phase"], "Pending")
        for name in ("init2", "run"):
            self.assertEqual(self.status(pod, name)["state"]["waiting"]["reason"], "PodInitializing")
        uid = pod["metadata"]["uid"]
        self.assertEqual(self.status(self.pod("stuck"), "init1")["state"]["waiting"]["message"],
                         f"back-off 10s restarting failed container=init1 pod=stuck_default({uid})")
        self.delete("stuck")

    def test_should_not_start_app_containers_and_fail_the_pod_if_init_containers_fail_on_a_restart_never_pod(self):
        self.make("failed", container("run", STAYS), restartPolicy="Never",
                  initContainers=[container("init1", "true"), container("init2", "exit 3")])
        pod = self.wait_phase("failed", "Failed")
        self.assertEqual(self.status(pod, "init2")["state"]["terminated"]["exitCode"], 3)
        self.assertEqual(self.status(pod, "run")["state"]["waiting"]["reason"], "PodInitializing")
        self.assertEqual(self.shown("failed"), "Init:Error")

    def test_sidecars_start_before_and_end_after_the_rest(self):
        sidecars = [container(name, STAYS, restartPolicy="Always") for name in ("first", "second")]
        self.make("side", container("run", "sleep 2"), restartPolicy="Never", initContainers=sidecars)
        pod = self.wait_phase("side", "Running")
        starts = [self.status(pod, name)["state"]["running"]["startedAt"] for name in ("first", "second", "run")]
        self.assertEqual(starts, sorted(starts))
        pod = self.wait_phase("side", "Succeeded")
        ends = [self.status(pod, name)["state"]["terminated"]["finishedAt"] for name in ("run", "second", "first")]
        self.assertEqual(ends, sorted(ends))
        for name in ("first", "second"):
            self.assertEqual(self.logs("side", name), "up\ntold\n")

    def test_an_agent_that_is_killed_goes_on_where_it_was(self):
        self.make("taken", container("run", STAYS), initContainers=[container("init1", "sleep 4"), container("init2", "sleep 1")])
        self.wait_pod("taken", "its first container", lambda p: "running" in self.status(p, "init1")["state"])
        self.cluster.kill_daemon("h1")
        self.cluster.start_daemon("h1")
        pod = self.wait_phase("taken", "Running")
        self.assertEqual([self.status(pod, name)["restartCount"] for name in ("init1", "init2", "run")], [0, 0, 0])
        self.assertEqual(self.logs("taken", "init1"), "")


if __name__ == "__main__":
    unittest.main(verbosity=2)
