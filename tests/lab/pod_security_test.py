#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a pod may do on its host: privileges by namespace, users and groups, seccomp, limits and their ends."""
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import cluster as lab  # noqa: E402
from shoal_lab.cluster import Cluster, wait_for  # noqa: E402
from shoal_lab.shells import ShellCluster  # noqa: E402

IMAGE = "shoal.dev/demo/client:1"


def pod(name, script, context=None, pod_context=None, resources=None, namespace="default", restart="Never"):
    return json.dumps({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"restartPolicy": restart, "terminationGracePeriodSeconds": 0, "securityContext": pod_context or {},
                 "containers": [{"name": "main", "image": IMAGE, "command": ["/bin/busybox", "sh", "-c", script],
                                 "securityContext": context or {}, "resources": resources or {}}]}})


class PodSecurity(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="shoal-security.")
        cls.cluster = ShellCluster(f"security-{os.getpid()}", hosts=1, clients=0)
        cls.cluster.up()
        try:
            cls.cluster.form()
            tar = Path(cls.folder.name) / "client.tar"
            subprocess.run([str(lab.ROOT / "tests/images/build"), "--client", str(lab.LOADGEN), str(tar)],
                           check=True, capture_output=True)
            cls.cluster.load_image(tar)
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.cluster.down()
        cls.folder.cleanup()

    def refused(self, manifest):
        path = Path(self.folder.name) / "refused.json"
        path.write_text(manifest, encoding="utf-8")
        out = self.cluster.shoal("h1", "apply", "-f", str(path), check=False)
        self.assertNotEqual(out.returncode, 0, out.stdout)
        return out.stderr

    def ended(self, name, ns="default"):
        """Its status once it has ended, and what it said."""
        def look():
            found = self.cluster.shoal_json("h1", "get", "pod", name, "-n", ns)
            return found["status"] if found["status"].get("phase") in ("Succeeded", "Failed") else None
        status = wait_for(f"pod {name} to end", look, 30, on_timeout=lambda: self.cluster.log_tail("h1"))
        return status, self.cluster.shoal("h1", "logs", name, "-n", ns).stdout

    def run_pod(self, name, script, **more):
        self.cluster.apply(pod(name, script, **more))
        return self.ended(name, more.get("namespace", "default"))

    def test_privileged_containers_need_a_namespace_that_allows_them(self):
        wish = pod("taker", "true",
                   {"privileged": True})
        told = self.refused(wish)
        self.assertIn('violates PodSecurity "unlabelled" of namespace default', told)
        self.assertIn("pod-security.kubernetes.io/enforce=privileged", told)
        self.cluster.apply(textwrap.dedent("""\
            apiVersion: v1
            kind: Namespace
            metadata: {name: infra, labels: {pod-security.kubernetes.io/enforce: privileged}}
            """))
        status, text = self.run_pod("taker", "mount -t tmpfs x /tmp && echo mounted && grep Seccomp: /proc/self/status",
                                    context={"privileged": True, "runAsUser": 0}, namespace="infra")
        self.assertEqual(status["phase"], "Succeeded", text)
        self.assertEqual(text, "mounted\nSeccomp:\t0\n")

    def test_a_restricted_namespace_takes_what_fits_only(self):
        self.cluster.apply(textwrap.dedent("""\
            apiVersion: v1
            kind: Namespace
            metadata: {name: tight, labels: {pod-security.kubernetes.io/enforce: restricted}}
            """))
        told = self.refused(pod("loose", "true", namespace="tight"))
        for word in ("allowPrivilegeEscalation != false", "unrestricted capabilities", "runAsNonRoot != true", "seccompProfile"):
            self.assertIn(word, told)
        status, text = self.run_pod(
            "fits", "id -u; grep -E 'CapBnd|NoNewPrivs' /proc/self/status", namespace="tight",
            context={"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            pod_context={"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}})
        self.assertEqual((status["phase"], text), ("Succeeded", "1000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n"))

    def test_users_and_groups(self):
        _, text = self.run_pod("groups", "id -u; id -g; id -G", context={"runAsGroup": 3000},
                               pod_context={"runAsUser": 1000, "fsGroup": 2000, "supplementalGroups": [4000, 2000]})
        uid, gid, groups = text.splitlines()
        self.assertEqual((uid, gid, set(groups.split())), ("1000", "3000", {"3000", "2000", "4000"}))

    def test_no_new_privileges_and_seccomp_are_on_unless_asked(self):
        look = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status"
        self.assertEqual(self.run_pod("default", look)[1], "NoNewPrivs:\t1\nSeccomp:\t2\n")
        self.assertEqual(self.run_pod("open", look, context={"allowPrivilegeEscalation": True,
                                                             "seccompProfile": {"type": "Unconfined"}})[1],
                         "NoNewPrivs:\t0\nSeccomp:\t0\n")

    def test_a_seccomp_profile_of_the_host(self):
        rules = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}
        context = {"seccompProfile": {"type": "Localhost", "localhostProfile": "deny/mkdir.json"}}
        self.cluster.apply(pod("profiled", "mkdir /x || echo no", context, restart="OnFailure"))

        def waiting():
            found = self.cluster.get("pod", "profiled")
            state = (found["status"].get("containerStatuses") or [{}])[0].get("state", {})
            return state.get("waiting", {}) if "deny/mkdir.json" in state.get("waiting", {}).get("message", "") else None
        why = wait_for("the missing profile to be told", waiting, 20, on_timeout=lambda: self.cluster.log_tail("h1"))
        self.assertIn("cannot load seccomp profile", why["message"])
        self.cluster.run("h1", "sh", "-c", "mkdir -p /var/lib/shoal/seccomp/deny && cat >/var/lib/shoal/seccomp/deny/mkdir.json",
                         input=json.dumps(rules))
        _, text = self.ended("profiled")
        self.assertIn("no\n", text)
        self.assertIn("must not contain '..'", self.refused(pod("out", "true", {"seccompProfile": {
            "type": "Localhost", "localhostProfile": "../../etc/passwd"}})))

    def test_out_of_memory_is_told(self):
        status, _ = self.run_pod("eater", "exec /bin/busybox dd if=/dev/zero of=/dev/null bs=200M count=4",
                                 resources={"limits": {"memory": "32Mi", "cpu": "500m"}})
        ended = status["containerStatuses"][0]["state"]["terminated"]
        self.assertEqual((status["phase"], ended["reason"], ended["exitCode"]), ("Failed", "OOMKilled", 137))
        self.assertEqual(status["qosClass"], "Guaranteed")

    def test_what_does_not_fit_waits_and_says_so(self):
        have = self.cluster.get("node", "h1")["status"]
        cpus = int(have["capacity"]["cpu"])
        self.assertEqual(have["allocatable"]["cpu"], f"{cpus * 1000 - 100}m")
        self.assertEqual(int(have["capacity"]["memory"][:-2]) - int(have["allocatable"]["memory"][:-2]), 256 * 1024)
        limit = self.cluster.run("h1", "sh", "-c", "cat /sys/fs/cgroup/memory/shoal.slice/memory.limit_in_bytes 2>/dev/null"
                                 " || cat /sys/fs/cgroup/shoal.slice/memory.max").stdout
        self.assertLessEqual(abs(int(limit) - int(have["allocatable"]["memory"][:-2]) * 1024), 4096)
        self.cluster.apply(pod("large", "true", resources={"requests": {"cpu": f"{cpus * 1000 - 99}m"}}))
        wait_for("the pod to be told unschedulable", lambda: "1 Insufficient cpu." in json.dumps(
            self.cluster.get("pod", "large")["status"]), 10, on_timeout=lambda: self.cluster.log_tail("h1"))
        self.cluster.shoal("h1", "delete", "pod", "large")
        self.assertEqual(self.run_pod("small", "true", resources={"requests": {"cpu": "200m"}})[0]["phase"], "Succeeded")

    def test_a_fork_bomb_stays_in_its_pod(self):
        self.cluster.write_config("h1", extra="limits: {pod_pids: 64}\n")
        self.cluster.kill_daemon("h1")
        self.cluster.start_daemon("h1")
        wait_for("the host to be settled", lambda: self.cluster.status("h1").get("settled"), 30)
        self.cluster.apply(pod("bomb", "i=0; while [ $i -lt 200 ]; do sleep 1000 & i=$((i+1)); done; sleep 1000",
                               restart="Always"))
        wait_for("the bomb to be held", lambda: "Resource temporarily unavailable" in self.cluster.shoal(
            "h1", "logs", "bomb", check=False).stdout + self.cluster.shoal("h1", "logs", "--previous", "bomb", check=False).stdout,
            30, on_timeout=lambda: self.cluster.log_tail("h1"))
        # Others go on.
        self.assertEqual(self.run_pod("beside", "echo fine")[1], "fine\n")
        self.cluster.shoal("h1", "delete", "pod", "bomb")
        self.cluster.write_config("h1")


if __name__ == "__main__":
    unittest.main(verbosity=2)
