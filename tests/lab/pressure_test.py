#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pods that take more of a host than they may, or than it has.

    h1 ---- lan ---- h2      the test's pods run on h1; h2 is where others may go
                             h1's /var/lib/shoal is a tmpfs of 256 MiB
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
STATE = "/var/lib/shoal"
DISK_MIB = 256
TRANSITION_S = 6
MIB = 1 << 20
ON_H1 = {"nodeSelector": {"kubernetes.io/hostname": "h1"}}
# The slice of all pods, in the memory controller of whichever layout.
LIMIT_OF_PODS = """
set -e
for file in /sys/fs/cgroup/memory/shoal.slice/memory.limit_in_bytes /sys/fs/cgroup/shoal.slice/memory.max; do
    [ ! -e "$file" ] || { cat "$file"; [ -z "$1" ] || echo "$1" >"$file"; }
done
"""


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
        cls.cluster = Cluster(f"pressure-{os.getpid()}", hosts=2, clients=0,
                              config_text=f"node: {{pressure_transition_s: {TRANSITION_S}}}\n")
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.run("h1", "mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "tmpfs", STATE)
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
        self.make("large", [container("main", STAYS, requests={"ephemeral-storage": f"{have + 1}Ki"})], host=None, **ON_H1)
        self.wait_unschedulable("large", "1 Insufficient ephemeral-storage")
        self.make("fits", [container("main", STAYS, requests={"ephemeral-storage": f"{have}Ki"})], host=None, **ON_H1)
        self.wait_running("fits")

    # ---- the host is short

    def condition(self, kind, host="h1"):
        return next(c for c in self.cluster.get("node", host)["status"]["conditions"] if c["type"] == kind)

    def wait_condition(self, kind, status, reason):
        found = wait_for(f"{kind} to be {status}", lambda: (
            lambda seen: seen if seen["status"] == status else None)(self.condition(kind)), 30,
            on_timeout=lambda: self.cluster.log_tail("h1"))
        self.assertEqual(found["reason"], reason)
        wait_for("the event of that", lambda: any(
            event["reason"] == reason.replace("Kubelet", "Node") and event["involvedObject"]["name"] == "h1"
            for event in self.cluster.items("events")))

    def wait_unschedulable(self, name, words):
        wait_for(f"{name} to be kept away", lambda: any(words in c.get("message", "")
                                                        for c in self.status(name).get("conditions", [])),
                 on_timeout=lambda: self.cluster.shoal("h1", "describe", "pod", name).stdout)

    def wait_running(self, *names, timeout_s=30):
        for name in names:
            wait_for(f"{name} to run", lambda n=name: self.status(n).get("phase") == "Running", timeout_s,
                     on_timeout=lambda n=name: self.cluster.shoal("h1", "describe", "pod", n).stdout)

    def holder(self, name, mib, **resources):
        self.make(name, [container("main", f"head -c {mib * MIB} /dev/zero >/m/f; " + STAYS, mounts={"m": "/m"}, **resources)],
                  volumes=[{"name": "m", "emptyDir": {"medium": "Memory"}}])

    def test_memory(self):
        for kind, reason in (("MemoryPressure", "KubeletHasSufficientMemory"), ("DiskPressure", "KubeletHasNoDiskPressure"),
                             ("PIDPressure", "KubeletHasSufficientPID")):
            self.assertEqual((self.condition(kind)["status"], self.condition(kind)["reason"]), ("False", reason))
        guaranteed = {"cpu": "100m", "memory": "128Mi"}
        self.holder("guaranteed", 60, limits=guaranteed, requests=guaranteed)
        self.holder("small", 30)
        self.wait_running("guaranteed", "small")
        before = self.cluster.run("h1", "sh", "-c", LIMIT_OF_PODS, "sh", str(460 * MIB)).stdout.split()[0]
        self.addCleanup(self.cluster.run, "h1", "sh", "-c", LIMIT_OF_PODS, "sh", before)
        self.holder("greedy", 280)
        status = self.wait_evicted("greedy")
        self.assertRegex(status["message"], r"^The node was low on resource: memory\. Threshold quantity: 100Mi, available: "
                                            r"[0-9]+[KM]i\. Container main was using [0-9]+[KM]i, request is 0, "
                                            r"has larger consumption of memory\. $")
        self.assertEqual(status["qosClass"], "BestEffort")
        self.wait_condition("MemoryPressure", "True", "KubeletHasInsufficientMemory")
        # Best effort goes elsewhere, or nowhere; who asks for memory may come.
        self.make("anywhere", [container("main", STAYS)], host=None)
        self.make("here", [container("main", STAYS)], host=None, **ON_H1)
        self.make("asks", [container("main", STAYS, requests={"memory": "16Mi"})], host=None, **ON_H1)
        self.wait_unschedulable("here", "1 node(s) had untolerated taint {node.kubernetes.io/memory-pressure: }")
        self.wait_running("anywhere", "asks")
        self.assertEqual(self.cluster.get("pod", "anywhere")["spec"]["nodeName"], "h2")
        self.wait_condition("MemoryPressure", "False", "KubeletHasSufficientMemory")
        self.wait_running("here", "guaranteed", "small")

    def test_disk(self):
        self.make("modest", [container("main", f"head -c {20 * MIB} /dev/zero >/written; " + STAYS,
                                       requests={"ephemeral-storage": "40Mi"})])
        self.make("writer", [container("main", f"head -c {60 * MIB} /dev/zero >/written; " + STAYS)])
        self.make("logger", [container("main", "head -c 3000000 /dev/zero | tr '\\0' 'x' | fold -w 100; " + STAYS)])
        self.wait_running("modest", "writer", "logger")
        # What is short is less than what the writer has, and more than the others together.
        self.addCleanup(self.cluster.run, "h1", "rm", "-f", f"{STATE}/fill")
        self.cluster.run("h1", "sh", "-c", f"""
            until [ $(du -skx {STATE}/pods | cut -f1) -ge {83 * 1024} ]; do sleep 0.1; done
            free=$(df --output=avail -k {STATE} | tail -1)
            dd if=/dev/zero of={STATE}/fill bs=1k count=$((free - 30 * 1024)) 2>/dev/null""")
        status = self.wait_evicted("writer")
        self.assertRegex(status["message"], r"^The node was low on resource: ephemeral-storage\. Threshold quantity: [0-9]+(Ki)?, "
                                            r"available: [0-9]+[KM]i\. Container main was using [0-9]+[KM]i, request is 0, "
                                            r"has larger consumption of ephemeral-storage\. $")
        self.wait_condition("DiskPressure", "True", "KubeletHasDiskPressure")
        self.make("new", [container("main", STAYS, requests={"memory": "16Mi"})], host=None, **ON_H1)
        self.wait_unschedulable("new", "1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }")
        self.wait_condition("DiskPressure", "False", "KubeletHasNoDiskPressure")
        self.wait_running("new", "modest", "logger")
        metrics = self.cluster.run("h1", "curl", "-sS", "http://127.0.0.1:9464/metrics").stdout
        self.assertRegex(metrics, r'shoal_evictions_total{signal="(image|node)fs.available"} 1')


if __name__ == "__main__":
    unittest.main(verbosity=2)
