#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pods that take more of a host than they may, or than it has.

    h1 ---- lan ---- h2      the test's pods run on h1; h2 is where others may go
"""
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
STAYS = "exec sleep 86400"


def container(name, script, storage=None, mounts=None, **resources):
    out = {"name": name, "image": IMAGE, "command": ["sh", "-c", script], "securityContext": {"runAsUser": 0}}
    if storage:
        resources.setdefault("limits", {})["ephemeral-storage"] = storage
    if resources:
        out["resources"] = resources
    if mounts:
        out["volumeMounts"] = [{"name": name, "mountPath": path} for name, path in mounts.items()]
    return out


class Pressure(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(f"pressure-{os.getpid()}", hosts=2, clients=0)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder, ("blue",), client=False)

    def make(self, name, containers, host="h1", **spec):
        self.cluster.apply(objects.documents(objects.pod(name, {"app": name}, {
            "terminationGracePeriodSeconds": 0, "containers": containers, **spec}, host)))
        self.addCleanup(self.cluster.shoal, "h1", "delete", "pod", name, "--ignore-not-found", "--now")

    def status(self, name):
        return self.cluster.get("pod", name)["status"]

    def wait_evicted(self, name, message=None, timeout_s=40):
        status = wait_for(f"{name} to be evicted", lambda: (
            lambda seen: seen if seen.get("phase") == "Failed" else None)(self.status(name)), timeout_s,
            on_timeout=lambda: self.cluster.shoal("h1", "describe", "pod", name).stdout + self.cluster.log_tail("h1"))
        self.assertEqual(status["reason"], "Evicted")
        if message is not None:
            self.assertEqual(status["message"], message)
        wait_for("its event", lambda: any(
            event["reason"] == "Evicted" and event["message"].strip() == status["message"].strip() and
            event["involvedObject"]["name"] == name for event in self.cluster.items("events")))
        return status

    def test_ephemeral_storage_is_held_to_its_limits(self):
        self.make("layer", [container("main", "head -c 4000000 /dev/zero >/written; " + STAYS, "2Mi"),
                            container("other", STAYS, "20Mi")])
        self.make("volume", [container("main", "head -c 4000000 /dev/zero >/v/f; " + STAYS, "2Mi", {"v": "/v"})],
                  volumes=[{"name": "v", "emptyDir": {}}])
        self.make("talker", [container("main", "head -c 4000000 /dev/zero | tr '\\\\0' 'x' | fold -w 100; " + STAYS, "2Mi"),
                             container("other", STAYS, "20Mi")])
        self.make("modest", [container("main", "head -c 1000000 /dev/zero >/written; " + STAYS, "8Mi")])
        self.wait_evicted("layer", 'Container main exceeded its local ephemeral storage limit "2Mi". ')
        self.wait_evicted("volume", "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ")
        self.wait_evicted("talker", 'Container main exceeded its local ephemeral storage limit "2Mi". ')
        self.assertEqual(self.status("modest")["phase"], "Running")
        refused = self.cluster.shoal("h1", "apply", "-f", "-", check=False, input=objects.documents(objects.pod(
            "wrong", {}, {"containers": [{"name": "main", "image": IMAGE, "resources": {
                "limits": {"ephemeral-storage": "1Mi"}, "requests": {"ephemeral-storage": "2Mi"}}}]})))
        self.assertIn("must be less than or equal to ephemeral-storage limit of 1Mi", refused.stderr)

    def test_the_scheduler_counts_ephemeral_storage(self):
        node = self.cluster.get("node", "h1")["status"]
        have = int(node["allocatable"]["ephemeral-storage"][:-2])
        self.assertLess(have, int(node["capacity"]["ephemeral-storage"][:-2]))
        self.make("huge", [container("main", STAYS, requests={"ephemeral-storage": f"{have * 2}Ki"})], host=None)
        wait_for("the reason", lambda: any("2 Insufficient ephemeral-storage" in c.get("message", "")
                                           for c in self.status("huge").get("conditions", [])))


if __name__ == "__main__":
    unittest.main(verbosity=2)
