#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pods in the networks of their hosts, as backends of a Service.

   c1 .101: the outside ---+--- LAN 198.18.0.0/24 ---+--- h1 .11: store, web, client pod
                                                     +--- h2 .12: web, client pod
"""
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import objects, probe  # noqa: E402
from shoal_lab.cluster import Cluster, PROXY, wait_for  # noqa: E402
from shoal_lab.inventory import inventory  # noqa: E402

NAMESPACE = "infra"


def web(**more):
    """A Deployment whose pods say on which host they are."""
    spec = objects.web_spec("blue")
    spec["hostNetwork"] = True
    spec["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": "http"}, "periodSeconds": 1}
    out = objects.deployment("web", "blue", 2)
    out["metadata"]["namespace"] = NAMESPACE
    out["spec"]["template"]["spec"] = {**spec, **more}
    return out


class HostNetwork(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(f"hostnet-{os.getpid()}", hosts=2, clients=1)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder, ("blue",))
        cls.cluster.apply(objects.documents(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}},
            *[objects.client_pod(host) for host in cls.cluster.hosts]))
        cls.cluster.wait_ready("app=client", 2)
        cls.idle = {host: inventory(cls.cluster, host) for host in cls.cluster.hosts}

    def pods(self):
        return [p for p in self.cluster.items("pods", "-n", NAMESPACE) if p["metadata"]["labels"].get("app") == "web"]

    def wait_web(self, ready):
        def there():
            found = [p for p in self.pods() if Cluster.is_ready(p) and "deletionTimestamp" not in p["metadata"]]
            return found if len(found) == ready else None
        return wait_for(f"{ready} pods of web to be ready", there, 40, on_timeout=lambda: json.dumps(self.pods(), indent=1)
                        + "".join(self.cluster.log_tail(h) for h in self.cluster.hosts))

    def test_as_backends_of_a_service(self):
        service = objects.service("web", {"app": "web"}, kind="NodePort")
        service["metadata"]["namespace"] = NAMESPACE
        self.cluster.apply(objects.documents(web(), service))
        pods = self.wait_web(2)
        hosts = self.cluster.hosts
        self.assertEqual(sorted(p["spec"]["nodeName"] for p in pods), hosts)
        for pod in pods:
            own = Cluster.address(pod["spec"]["nodeName"])
            self.assertEqual((pod["status"]["podIP"], pod["status"]["hostIP"]), (own, own))
            self.assertEqual([port["hostPort"] for port in pod["spec"]["containers"][0]["ports"]], [8080, 9000])
            named = self.cluster.shoal("h1", "exec", pod["metadata"]["name"], "-n", NAMESPACE, "--", "sh", "-c",
                                       "echo $(hostname) $HOSTNAME $(cat /etc/hostname); head -1 /etc/hosts").stdout
            name = self.cluster.run(pod["spec"]["nodeName"], "hostname").stdout.strip()
            self.assertEqual(named, f"{name} {name} {name}\n# Kubernetes-managed hosts file (host network).\n")
        slices = self.cluster.items("endpointslices", "-n", NAMESPACE)
        self.assertEqual(sorted((e["addresses"][0], e["nodeName"], e["targetRef"]["kind"]) for s in slices for e in s["endpoints"]),
                         [(Cluster.address(h), h, "Pod") for h in hosts])
        self.assertEqual({(p["name"], p["port"]) for s in slices for p in s["ports"]}, {("http", 8080), ("echo", 9000)})
        service = self.cluster.get("service", "web", "-n", NAMESPACE)
        cluster_ip, port = service["spec"]["clusterIP"], service["spec"]["ports"][0]["nodePort"]
        names = {self.cluster.run(host, "hostname").stdout.strip() for host in hosts}
        self.assertEqual(len(names), 2)
        pod_clients = {p["spec"]["nodeName"]: p for p in self.cluster.items("pods", "-l", "app=client")}
        ways = [(client, f"{cluster_ip}:80") for client in [*pod_clients.values(), *hosts]]
        ways += [(client, f"{Cluster.address(host)}:{port}") for client in ("c1", "h1", pod_clients["h2"]) for host in hosts]
        for client, address in ways:
            seen = probe.split(self.cluster, client, address, 200)
            self.assertEqual(set(seen), names, f"{probe.name_of(client)} to {address}")
            self.assertGreater(min(seen.values()), 50, f"{probe.name_of(client)} to {address}: {seen}")
        self.a_third_has_no_host()
        self.agents_come_back(cluster_ip, names)
        refused = self.cluster.shoal("h1", "capture", pods[0]["metadata"]["name"], "-n", NAMESPACE, check=False)
        self.assertIn("is in the network of its host", refused.stderr)
        traced = self.cluster.shoal("h1", "trace", "--from", f"{NAMESPACE}/{pods[0]['metadata']['name']}", "--to",
                                    f"{cluster_ip}:80", check=False)
        self.assertIn("is in the network of its host" if PROXY == "ebpf" else "proxy: nftables", traced.stderr)
        for kind in ("deployment", "service"):
            self.cluster.shoal("h1", "delete", kind, "web", "-n", NAMESPACE)
        wait_for("its pods to be gone", lambda: not self.pods(), 40)
        for host in hosts:
            wait_for(f"nothing to be left on {host}", lambda: self.left(host) == self.left(host, self.idle[host]), 30,
                     on_timeout=lambda: f"{self.left(host)}, not {self.left(host, self.idle[host])}")
            self.assertEqual(self.cluster.run(host, "ss", "-ltnH", "sport = :8080").stdout, "")

    def left(self, host, seen=None):
        seen = seen or inventory(self.cluster, host)
        return {key: seen[key] for key in ("shims", "containers", "mounts", "cgroups", "leases", "netns", "links", "routes",
                                           "run", "data", "images")}

    def a_third_has_no_host(self):
        scaled = web()
        scaled["spec"]["replicas"] = 3
        self.cluster.apply(objects.documents(scaled))

        def why():
            return [c["message"] for p in self.pods() for c in p.get("status", {}).get("conditions", [])
                    if c["type"] == "PodScheduled" and c["status"] == "False"]
        told = wait_for("the third pod to have no host", why, 20)
        self.assertIn("2 node(s) didn't have free ports for the requested pod ports", told[0])
        self.cluster.apply(objects.documents(web()))
        wait_for("two pods again", lambda: len(self.pods()) == 2, 20)

    def agents_come_back(self, cluster_ip, names):
        before = sorted((p["metadata"]["uid"], p["status"]["containerStatuses"][0]["containerID"]) for p in self.pods())
        for host in self.cluster.hosts:
            self.cluster.kill_daemon(host)
        self.assertEqual(set(probe.split(self.cluster, "h2", f"{cluster_ip}:80", 100)), names)
        for host in self.cluster.hosts:
            self.cluster.start_daemon(host)
        for host in self.cluster.hosts:
            self.cluster.wait_members(host, set(self.cluster.hosts))
        pods = self.wait_web(2)
        self.assertEqual(sorted((p["metadata"]["uid"], p["status"]["containerStatuses"][0]["containerID"]) for p in pods), before)
        self.assertEqual(sorted(p["status"]["podIP"] for p in pods), sorted(Cluster.address(h) for h in self.cluster.hosts))

    def test_only_where_the_namespace_says_privileged(self):
        out = web()
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "taker"}, "spec": out["spec"]["template"]["spec"]}
        told = self.cluster.shoal("h1", "apply", "-f", "-", input=json.dumps(pod), check=False)
        self.assertNotEqual(told.returncode, 0)
        self.assertIn('violates PodSecurity "unlabelled" of namespace default: host namespaces (hostNetwork=true)', told.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
