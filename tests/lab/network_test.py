#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pod network: every pod IP answers from everywhere, and sources are what they should be.

   c1 .101, has routes to the pod CIDRs --+                  +-- h1 .11: store, web, client-h1
                                          |                  |
                                          +-- LAN -----------+-- h2 .12: web, client-h2
                                          |  198.18.0.0/24   |
   c2 .102, has none ---------------------+                  +-- h3 .13: web, client-h3; masquerade off

SHOAL_NETWORK_MODE (vxlan, native) says how pods reach pods of other hosts, SHOAL_PROXY which data plane the hosts have.
"""
import json
import os
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import objects, probe  # noqa: E402
from shoal_lab.cluster import LOADGEN, NETWORK_MODE, PROXY, SHOAL, Cluster, wait_for  # noqa: E402

SERVE_PORT = 8088
LAN_MTU = 1500
OVERHEAD = 50  # of VXLAN
PING_HEADERS = 28  # IPv4 and ICMP


class OneHostWithoutMasquerade(Cluster):
    def write_config(self, host, extra="", **options):
        super().write_config(host, extra + ("features:\n  masquerade: off\n" if host == "h3" else ""), **options)


class Server:
    """A server on a client machine that answers with the address it sees."""

    def __init__(self, cluster, node):
        self.process = cluster.popen(node, LOADGEN, "serve", "--port", SERVE_PORT, "--body", f"version={node}",
                                     "--show-client", stdout=-1, text=True)
        self.line = self.process.stdout.readline()  # once it listens

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class PodNetwork(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = OneHostWithoutMasquerade(f"network-{os.getpid()}", clients=2)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder)
        cls.cluster.apply(objects.documents(objects.deployment("web", "blue", 3),
                                            *map(objects.client_pod, cls.cluster.hosts)))
        cls.webs = cls.cluster.wait_ready("app=web", 3)
        cls.clients = sorted(cls.cluster.wait_ready("app=client", 3), key=lambda p: p["spec"]["nodeName"])
        for node in cls.cluster.items("nodes"):
            cls.cluster.run("c1", "ip", "route", "add", node["spec"]["podCIDR"], "via",
                            cls.cluster.address(node["metadata"]["name"]))
        # Each host routes to the others' pods once it knows them.
        for host in cls.cluster.hosts:
            for web in cls.webs:
                wait_for(f"{host} to reach {web['status']['podIP']}",
                         lambda h=host, w=web: cls.reaches(h, w) == "ok", 10)

    @classmethod
    def reaches(cls, source, web):
        return probe.connect(cls.cluster, source, f"{web['status']['podIP']}:8080")[0]["outcome"]

    def test_every_pod_answers_every_pod_host_and_client_and_sees_who_asks(self):
        self.assertEqual({w["spec"]["nodeName"] for w in self.webs}, set(self.cluster.hosts))
        by_ip = {w["status"]["podIP"]: w["metadata"]["name"] for w in self.webs}
        for source in [*self.clients, *self.cluster.hosts, "c1"]:
            seen = probe.connect(self.cluster, source, *(f"{ip}:8080" for ip in by_ip))
            for one, (ip, name) in zip(seen, by_ip.items(), strict=True):
                where = f"{probe.name_of(source)} to {name} at {ip}: {one}"
                self.assertEqual(one["outcome"], "ok", where)
                self.assertEqual(one["said"]["pod"], name, where)
                self.assertEqual(one["said"]["client"], probe.address_of(self.cluster, source), where)
                self.assertEqual(one["peer"], f"{ip}:8080", where)
            print(f"    {probe.name_of(source):<10} as {probe.address_of(self.cluster, source):<13}"
                  f" -> {len(seen)} pods, slowest {max(s['ms'] for s in seen):.1f} ms")

    def test_every_pod_answers_ping(self):
        addresses = [p["status"]["podIP"] for p in [*self.webs, *self.clients]]
        script = 'for t; do ping -c1 -W2 -n "$t" >/dev/null || echo "$t"; done'
        for node in [*self.cluster.hosts, "c1"]:
            self.assertEqual(self.cluster.run(node, "sh", "-c", script, "sh", *addresses).stdout, "", f"from {node}")

    def test_a_pod_reaches_every_host_under_its_own_address(self):
        for host in self.cluster.hosts:
            with Server(self.cluster, host):
                for client in self.clients:
                    one = probe.connect(self.cluster, client, f"{self.cluster.address(host)}:{SERVE_PORT}")[0]
                    self.assertEqual(one["outcome"], "ok", f"{probe.name_of(client)} to {host}: {one}")
                    self.assertEqual(one["said"]["client"], client["status"]["podIP"], f"to {host}")

    def test_the_outside_sees_the_host_or_the_pod_where_masquerade_is_off(self):
        on_h1, _, on_h3 = self.clients
        with Server(self.cluster, "c1"), Server(self.cluster, "c2"):
            for pod, node, expected in (
                    (on_h1, "c1", self.cluster.address("h1")),  # has a route, which the host cannot know
                    (on_h1, "c2", self.cluster.address("h1")),
                    (on_h3, "c1", on_h3["status"]["podIP"])):
                one = probe.connect(self.cluster, pod, f"{self.cluster.address(node)}:{SERVE_PORT}")[0]
                self.assertEqual(one["outcome"], "ok", f"{probe.name_of(pod)} to {node}: {one}")
                self.assertEqual(one["said"]["client"], expected, f"{probe.name_of(pod)} to {node}")
                print(f"    {probe.name_of(pod)} ({pod['status']['podIP']}) is seen by {node} as {one['said']['client']}")
            # Nobody told c2 where pods are: it cannot answer one that shows its own address.
            lost = probe.connect(self.cluster, on_h3, f"{self.cluster.address('c2')}:{SERVE_PORT}", timeout_ms=500)[0]
            self.assertNotEqual(lost["outcome"], "ok", lost)

    # ---- the way between hosts

    @staticmethod
    def pod_mtu():
        return LAN_MTU if NETWORK_MODE == "native" else LAN_MTU - OVERHEAD

    def tunnelled(self, host):
        return int(self.cluster.run(host, "cat", "/sys/class/net/shoal-vxlan/statistics/rx_packets").stdout)

    def test_each_host_says_which_way_pods_take_and_how_large_their_packets_are(self):
        for host in self.cluster.hosts:
            status = self.cluster.status(host)
            self.assertEqual(status["network"]["mode"], NETWORK_MODE)
            self.assertEqual((status["network"]["podMTU"], status["network"]["overlayMTU"]),
                             (self.pod_mtu(), LAN_MTU - OVERHEAD))
            self.assertEqual([w for w in status["limitations"] if "network.mode" in w], [])

    def test_only_the_overlay_takes_packets_through_the_tunnel(self):
        for client in self.clients:
            here = client["spec"]["nodeName"]
            for web in self.webs:
                there = web["spec"]["nodeName"]
                before = self.tunnelled(there)
                self.assertEqual(self.reaches(client, web), "ok")
                grown = self.tunnelled(there) > before
                self.assertEqual(grown, NETWORK_MODE == "vxlan" and here != there, f"{here} to {there}")

    def ping(self, node, to, size, prefix=()):
        """Whether one that no router may split is answered; `size` is the whole packet's."""
        return self.cluster.run(node, *prefix, "ping", "-c1", "-W2", "-n", "-M", "do", "-s", size - PING_HEADERS, to,
                                check=False).returncode == 0

    def test_packets_of_full_size_pass_and_larger_ones_are_refused(self):
        for client in self.clients:
            host = client["spec"]["nodeName"]
            pid = self.cluster.run(host, "pgrep", "-o", "-f", "busybox sleep 86400").stdout.strip()
            inside = ("nsenter", f"--net=/proc/{pid}/ns/net")
            for web in self.webs:
                to = web["status"]["podIP"]
                self.assertTrue(self.ping(host, to, self.pod_mtu(), inside), f"pod of {host} to {to}")
                self.assertFalse(self.ping(host, to, self.pod_mtu() + 1, inside), f"pod of {host} to {to}")
        for web in self.webs:
            for node in ("c1", *self.cluster.hosts):
                self.assertTrue(self.ping(node, web["status"]["podIP"], self.pod_mtu()), f"{node} to {web['status']}")
                self.assertFalse(self.ping(node, web["status"]["podIP"], self.pod_mtu() + 1), node)

    @unittest.skipUnless((NETWORK_MODE, PROXY) == ("native", "ebpf"), "told by BPF; on the overlay by the outer address")
    def test_a_machine_that_says_it_is_a_pod_of_another_host_is_not_believed(self):
        mine, theirs = self.clients[0]["status"]["podIP"], self.clients[1]["status"]["podIP"]
        self.cluster.run("c1", "ip", "addr", "add", f"{theirs}/32", "dev", "lo")
        self.addCleanup(self.cluster.run, "c1", "ip", "addr", "del", f"{theirs}/32", "dev", "lo")

        def dropped():
            drops = self.cluster.shoal_json("h1", "drops")["drops"]
            return next((d["packets"] for d in drops if d["reason"] == "SPOOFED_SOURCE"), 0)
        before = dropped()
        self.cluster.run("c1", "ping", "-c1", "-W1", "-n", "-I", theirs, mine, check=False)
        self.assertEqual(dropped() - before, 1)

    @unittest.skipUnless(NETWORK_MODE == "native", "the mode that is changed")
    def test_hosts_of_two_modes_say_so_and_their_pods_reach_each_other(self):
        def restart(mode):
            self.cluster.kill_daemon("h3", "TERM")
            self.cluster.write_config("h3", config={"network_mode": mode})
            self.cluster.start_daemon("h3")

        def told(host, words):
            return any("network.mode" in w and words in w for w in self.cluster.status(host)["limitations"])
        self.addCleanup(restart, "native")
        restart("vxlan")
        for host, words in (("h1", "vxlan on h3"), ("h2", "vxlan on h3"), ("h3", "native on h1, h2")):
            wait_for(f"{host} to tell of the other mode", lambda h=host, w=words: told(h, w), 20)
        vxlan_from_h3 = lambda: "shoal-vxlan" in self.cluster.run("h3", "ip", "route", "get", self.webs_ip("h1")).stdout  # noqa: E731
        wait_for("h3 to take the tunnel", vxlan_from_h3, 20)
        for source in [*self.clients, *self.cluster.hosts]:
            for web in self.webs:
                self.assertEqual(self.reaches(source, web), "ok", f"{probe.name_of(source)} to {web['spec']['nodeName']}")
        restart("native")
        for host in self.cluster.hosts:
            wait_for(f"{host} to be content", lambda h=host: not told(h, ""), 20)
        wait_for("h3 to take the route", lambda: not vxlan_from_h3(), 20)

    @unittest.skipUnless(NETWORK_MODE == "native", "routes over the uplink go with it")
    def test_routes_to_other_hosts_are_back_soon_after_their_link(self):
        def routes():
            listed = json.loads(self.cluster.run("h1", "ip", "-j", "route", "show", "proto", "83", "dev", "eth0").stdout)
            return sorted(route["dst"] for route in listed)
        before = routes()
        self.assertEqual(len(before), 2)
        default = self.cluster.run("h1", "ip", "route", "show", "default").stdout.strip()
        self.cluster.run("h1", "ip", "-batch", "-",
                         input=f"link set eth0 down\nlink set eth0 up\nroute add {default}\n")
        began = time.monotonic()
        wait_for("h1's routes to be back", lambda: routes() == before, 6)
        print(f"    back after {time.monotonic() - began:.2f} s")
        for web in self.webs:
            wait_for(f"h1 to reach {web['spec']['nodeName']}", lambda w=web: self.reaches("h1", w) == "ok", 10)

    def webs_ip(self, host):
        return next(w["status"]["podIP"] for w in self.webs if w["spec"]["nodeName"] == host)

    # ---- addresses that were somebody's

    def solo(self):
        return objects.pod("solo", {"app": "solo"}, objects.web_spec("blue"), "h2")

    def dumps(self):
        return {host: self.cluster.run(host, SHOAL, "dump").stdout for host in self.cluster.hosts}

    def everyone(self):
        return [*self.clients, *self.cluster.hosts, "c1"]

    def test_a_pod_made_anew_leaves_no_stale_address(self):
        self.cluster.apply(objects.documents(self.solo(), objects.service("solo", {"app": "solo"})))
        self.addCleanup(self.cluster.shoal, "h1", "delete", "service", "solo", "--ignore-not-found")
        self.addCleanup(self.cluster.shoal, "h1", "delete", "pod", "solo", "--ignore-not-found")
        first = self.cluster.wait_ready("app=solo", 1)[0]
        links = self.links("h2")
        self.cluster.shoal("h1", "delete", "pod", "solo")
        self.cluster.apply(objects.documents(self.solo()))
        second = wait_for("the second solo to be ready", lambda: next(
            (p for p in self.cluster.ready_pods("app=solo") if p["metadata"]["uid"] != first["metadata"]["uid"]), None))
        old, new = first["status"]["podIP"], second["status"]["podIP"]
        print(f"    solo was {old}, is {new}")
        self.assertNotEqual(old, new, "an address rests before it is given again")
        # What is retired stays for a grace, for packets under way.
        wait_for("no data plane to know the old address",
                 lambda: not any(self.mentions(text, old) for text in self.dumps().values()), 15,
                 on_timeout=lambda: json.dumps(self.dumps(), indent=1))
        self.assertEqual(self.links("h2"), links, "one link a pod")
        self.assertNotIn(old, self.cluster.run("h2", "ip", "route", "show", "table", "all").stdout.split())
        self.assertNotIn(old, self.cluster.run("h2", "ip", "neigh").stdout.split())
        slices = self.cluster.items("endpointslices", "-l", "kubernetes.io/service-name=solo")
        self.assertEqual([e["addresses"] for s in slices for e in s["endpoints"]], [[new]])
        vip = self.cluster.get("service", "solo")["spec"]["clusterIP"]
        for source in self.everyone():
            gone, there = probe.connect(self.cluster, source, f"{old}:8080", f"{new}:8080", timeout_ms=300)
            self.assertNotEqual(gone["outcome"], "ok", f"{probe.name_of(source)}: {gone}")
            self.assertEqual(there["outcome"], "ok", f"{probe.name_of(source)}: {there}")
            if source != "c1":  # a ClusterIP is for members and their pods
                self.assertEqual(probe.split(self.cluster, source, f"{vip}:80", 50), {"solo": 50}, probe.name_of(source))

    @staticmethod
    def mentions(text, ip):
        return any(word.split(":")[0].split("/")[0] == ip for word in text.replace("=", " ").split())

    def links(self, host):
        return len(self.cluster.run(host, "ip", "-o", "link").stdout.splitlines())


if __name__ == "__main__":
    unittest.main(verbosity=2)
