#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What hosts and pods use: `shoal top`, metrics.k8s.io, the kubelet's stats/summary and Prometheus.

    h1 ---- lan ---- h2      pod burn on h1: one container burns CPU, one holds memory and has a file on disk
                             pod quiet on h2; each host is asked about both
"""
import json
import os
import re
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import objects  # noqa: E402
from shoal_lab.cluster import Cluster, wait_for  # noqa: E402

IMAGE = "shoal.dev/demo/web:blue"
MIB = 1 << 20
HELD = 64 * MIB
ON_DISK = 6 * MIB
METRICS = "/apis/metrics.k8s.io/v1beta1"
# The CPU is cut to half a core, and the machine is shared: this much it gets at least.
BURN_MILLI = (100, 650)

BURN = {"terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "mem", "emptyDir": {"medium": "Memory"}}, {"name": "disk", "emptyDir": {}}],
        "containers": [
            {"name": "burn", "image": IMAGE, "command": ["sh", "-c", "while :; do :; done"],
             "resources": {"limits": {"cpu": "500m"}}},
            {"name": "hold", "image": IMAGE,
             "command": ["sh", "-c", f"head -c {HELD} /dev/zero >/mem/f; head -c {ON_DISK} /dev/zero >/disk/f; "
                                     f"head -c {MIB} /dev/zero >/written; sleep 86400"],
             "securityContext": {"runAsUser": 0},
             "volumeMounts": [{"name": "mem", "mountPath": "/mem"}, {"name": "disk", "mountPath": "/disk"}]}]}
QUIET = {"terminationGracePeriodSeconds": 0,
         "containers": [{"name": "main", "image": IMAGE, "command": ["sleep", "86400"]}]}


def milli(text):
    """A CPU quantity as metrics have it, in thousandths."""
    return int(text[:-1]) / 1e6 if text.endswith("n") else int(text)


class Top(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(f"top-{os.getpid()}", hosts=2, clients=0)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder, ("blue",), client=False)
        cls.cluster.apply(objects.documents(objects.pod("burn", {"app": "burn"}, BURN, "h1"),
                                            objects.pod("quiet", {"app": "quiet"}, QUIET, "h2")))
        for name in ("burn", "quiet"):
            cls.cluster.wait_ready(f"app={name}", 1)

    def raw(self, host, path):
        done = self.cluster.run(host, "curl", "-sS", "--max-time", "20", "--unix-socket", "/run/shoal/shoald.sock",
                                f"http://shoal{path}")
        return json.loads(done.stdout)

    def rows(self, host, *arguments):
        done = self.cluster.shoal(host, "top", *arguments)
        return [line.split() for line in done.stdout.splitlines()]

    def held(self, host):
        """The container's memory, once it has written all that it holds."""
        wait_for("the memory to be held", lambda: any(
            row[1] == "hold" and int(row[3][:-2]) >= HELD // MIB for row in self.rows(host, "pods", "--containers")[1:]))

    def test_top_pods_and_nodes_from_each_host(self):
        self.held("h1")
        for host in self.cluster.hosts:
            rows = self.rows(host, "pods", "--containers", "--sort-by", "cpu")
            self.assertEqual(rows[0], ["POD", "NAME", "CPU(cores)", "MEMORY(bytes)"])
            self.assertEqual([row[:2] for row in rows[1:]], [["burn", "burn"], ["burn", "hold"], ["quiet", "main"]])
            self.assertTrue(BURN_MILLI[0] <= int(rows[1][2][:-1]) <= BURN_MILLI[1], rows)
            self.assertTrue(HELD // MIB <= int(rows[2][3][:-2]) <= HELD // MIB + 8, rows)
            self.assertLess(int(rows[3][2][:-1]), 20, rows)
            self.assertEqual(self.rows(host, "pods", "-l", "app=quiet", "--no-headers")[0][0], "quiet")
            self.assertEqual(self.rows(host, "pods", "-A", "--sort-by", "memory")[1][:2], ["default", "burn"])
            self.assertEqual(len(self.rows(host, "pod", "burn")), 2)
            rows = self.rows(host, "nodes")
            self.assertEqual(rows[0], ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"])
            self.assertEqual([row[0] for row in rows[1:]], ["h1", "h2"])
            # Each lab host has a cgroup subtree of its own.
            self.assertGreaterEqual(int(rows[1][1][:-1]), BURN_MILLI[0], rows)
            self.assertGreaterEqual(int(rows[1][3][:-2]), HELD // MIB, rows)
        absent = self.cluster.shoal("h2", "top", "pods", "none", check=False)
        self.assertEqual(absent.returncode, 4)
        self.assertIn('pods.metrics.k8s.io "default/none" not found', absent.stderr)

    def test_metrics_api(self):
        groups = [group["name"] for group in self.raw("h2", "/apis")["groups"]]
        self.assertIn("metrics.k8s.io", groups)
        for host in self.cluster.hosts:
            pods = self.raw(host, f"{METRICS}/namespaces/default/pods?labelSelector=app%3Dburn")
            self.assertEqual((pods["kind"], len(pods["items"])), ("PodMetricsList", 1))
            pod = pods["items"][0]
            self.assertEqual(pod["metadata"]["labels"], {"app": "burn"})
            self.assertRegex(pod["window"], r"^[0-9.]+s$")
            burn = next(c for c in pod["containers"] if c["name"] == "burn")
            self.assertRegex(burn["usage"]["memory"], r"^[0-9]+Ki$")
            self.assertTrue(BURN_MILLI[0] <= milli(burn["usage"]["cpu"]) <= BURN_MILLI[1], burn)
            self.assertEqual(self.raw(host, f"{METRICS}/namespaces/default/pods/quiet")["metadata"]["name"], "quiet")
            self.assertEqual(self.raw(host, f"{METRICS}/nodes/h2")["kind"], "NodeMetrics")
            self.assertEqual([n["metadata"]["name"] for n in self.raw(host, f"{METRICS}/nodes")["items"]], ["h1", "h2"])
        self.assertEqual(self.raw("h1", f"{METRICS}/nodes/none")["code"], 404)
        refused = self.raw("h1", f"{METRICS}/pods?fieldSelector=spec.nodeName%3Dh1")
        self.assertIn("field label not supported: spec.nodeName", refused["message"])

    def test_summary_has_disk_and_network(self):
        def measured():
            summary = self.raw("h2", "/api/v1/nodes/h1/proxy/stats/summary")
            pod = next(p for p in summary["pods"] if p["podRef"]["name"] == "burn")
            return (summary, pod) if pod.get("ephemeral-storage", {}).get("usedBytes", 0) >= ON_DISK + MIB else None
        # Who asks first is answered before the folders were walked; they are looked at anew after a minute.
        summary, pod = wait_for("the pod's files to be measured", measured, 90, 1)
        self.assertEqual([v["name"] for v in pod["volume"]], ["disk"])
        self.assertTrue(ON_DISK <= pod["volume"][0]["usedBytes"] <= ON_DISK + MIB, pod["volume"])
        hold = next(c for c in pod["containers"] if c["name"] == "hold")
        self.assertTrue(MIB <= hold["rootfs"]["usedBytes"] <= 2 * MIB, hold)
        self.assertGreater(hold["memory"]["pageFaults"], 0)
        self.assertGreaterEqual(pod["process_stats"]["process_count"], 2)
        self.assertEqual(pod["network"]["name"], "eth0")
        self.assertGreater(summary["node"]["fs"]["capacityBytes"], 0)

    def scrape(self, host):
        text = self.cluster.run(host, "curl", "-sS", "--max-time", "20", "http://127.0.0.1:9464/metrics").stdout
        return {key: float(value) for key, value in re.findall(r"^(container_\S+) (\S+)$", text, re.M)}

    def test_prometheus_counts_on(self):
        labels = 'namespace="default",pod="burn"'
        cpu = f'container_cpu_usage_seconds_total{{{labels},container="burn"}}'
        received = f'container_network_receive_bytes_total{{{labels},interface="eth0"}}'
        first = self.scrape("h1")
        self.assertGreater(first[cpu], 0)
        self.assertIn(f'container_memory_working_set_bytes{{{labels},container="hold"}}', first)
        self.assertFalse([key for key in first if 'pod="quiet"' in key], "each host tells of its own pods")
        address = self.cluster.pod_ip(self.cluster.items("pods", "-l", "app=burn")[0])
        self.cluster.run("h2", "ping", "-c", "3", "-i", "0.2", "-s", "1000", address)
        second = wait_for("more CPU time", lambda: (lambda seen: seen if seen[cpu] > first[cpu] else None)(self.scrape("h1")))
        self.assertGreaterEqual(second[received] - first[received], 3000)

    def test_zz_a_dead_host_is_left_out(self):
        self.cluster.kill_daemon("h2")
        done = self.cluster.shoal("h1", "top", "nodes")
        self.assertIn("Warning: host h2 is left out", done.stderr)
        self.assertEqual(done.stdout.splitlines()[-1].split(), ["h2"] + ["<unknown>"] * 4)
        self.assertIn("burn", self.cluster.shoal("h1", "top", "pods").stdout)
        wait_for("h2 to be dead", lambda: "host h2 is left out: it is not alive" in
                 self.cluster.shoal("h1", "top", "pods").stderr)
        refused = self.cluster.shoal("h1", "top", "pods", "quiet", check=False)
        self.assertIn("pod quiet is on host h2, which is not alive", refused.stderr)
        self.cluster.start_daemon("h2")
        wait_for("h2 to answer again", lambda: not self.cluster.shoal("h1", "top", "nodes").stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
