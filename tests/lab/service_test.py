#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Services, from a pod, from a host's own process and from outside.

   c1 .101: the outside --+                  +-- h1 .11: store, client-h1, pods
                          |                  |
                          +-- LAN -----------+-- h2 .12: client-h2, pods
                             198.18.0.0/24   |
                                             +-- h3 .13: client-h3, pods

   pods: 1 blue, 3 green, 1 red       Service web: LoadBalancer, version=blue:50,version=green:50
                                      Service all: LoadBalancer, all five alike
                                      Service none: LoadBalancer, selects nothing
"""
import collections
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import objects, probe  # noqa: E402
from shoal_lab.cluster import LOADGEN, SHOAL, wait_for  # noqa: E402
from shoal_lab.line_process import LineProcess  # noqa: E402
from shoal_lab.service_cluster import ServiceCluster  # noqa: E402

REQUESTS = 2000
IDLE = 200
POINTS = 6.0  # of 100: more than five standard deviations of a fair coin thrown that often
REFUSED_WITHIN_MS = 500


class Services(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = ServiceCluster(f"service-{os.getpid()}")
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder, ("blue", "green", "red"))
        cls.cluster.apply(objects.documents(
            *(objects.deployment(f"web-{v}", v, n) for v, n in (("blue", 1), ("green", 3), ("red", 1))),
            *map(objects.client_pod, cls.cluster.hosts), cls.web(50, 50),
            objects.service("all", {"app": "web"}), objects.service("none", {"app": "nobody"})))
        cls.webs = {p["metadata"]["name"]: p for p in cls.cluster.wait_ready("app=web", 5)}
        cls.clients = sorted(cls.cluster.wait_ready("app=client", 3), key=lambda p: p["spec"]["nodeName"])
        cls.cluster_ip, cls.vip = cls.cluster.addresses("web")
        cls.cluster.addresses("all")
        cls.cluster.addresses("none")
        cls.cluster.wait_rings("web", cls.of("blue") + cls.of("green"))
        cls.cluster.wait_rings("all", cls.webs)

    @staticmethod
    def web(blue, green):
        return objects.service("web", {"app": "web"}, f"version=blue:{blue},version=green:{green}")

    @classmethod
    def of(cls, version):
        return [n for n, p in cls.webs.items() if p["metadata"]["labels"]["version"] == version]

    def everyone(self, cluster_ip, vip):
        """(source, addresses to ask): pods and hosts ask the ClusterIP and the VIP, the outside the VIP."""
        return [(s, (cluster_ip, vip)) for s in [*self.clients, *self.cluster.hosts]] + [("c1", (vip,))]

    def halves(self):
        """Service web as it was, with both groups in the rings."""
        self.cluster.apply(objects.documents(self.web(50, 50)))
        self.cluster.wait_rings("web", self.of("blue") + self.of("green"))

    # ---- who is seen

    def test_the_peer_is_the_address_that_was_asked_and_the_source_is_kept(self):
        cluster_ip, vip = self.cluster.addresses("all")
        announcer = self.cluster.announcer(vip)
        self.assertTrue(announcer)
        answered = collections.defaultdict(set)
        for source, addresses in self.everyone(cluster_ip, vip):
            asked_by = probe.address_of(self.cluster, source)
            # Enough that one of five even backends stays out once in a million runs.
            for one in probe.connect(self.cluster, source, *(f"{a}:80" for a in addresses), count=70):
                where = f"{probe.name_of(source)}: {one}"
                self.assertEqual(one["outcome"], "ok", where)
                self.assertEqual(one["peer"], one["to"], where)
                self.assertEqual(one["said"]["client"], asked_by, where)
                answered[probe.name_of(source), one["to"]].add(one["said"]["pod"])
            print(f"    {probe.name_of(source):<10} to {' and '.join(addresses):<30} is seen as {asked_by}")
        for path, pods in answered.items():
            self.assertEqual(pods, set(self.webs), path)
        hosts = {p["spec"]["nodeName"] for p in self.webs.values()}
        self.assertGreater(len(hosts - {announcer}), 0, "some backends are not on the host that announces")

    def test_replies_of_remote_backends_come_straight_from_their_hosts(self):
        _, vip = self.cluster.addresses("all")
        macs = {json.loads(self.cluster.run(h, "ip", "-j", "link", "show", "eth0").stdout)[0]["address"]: h
                for h in self.cluster.hosts}
        # The second packet of a handshake, seen by c1: who sent it, and in whose name.
        sniffer = subprocess.Popen(
            self.cluster.argv("c1", "tcpdump", "-lne", "--immediate-mode", "-i", "eth0",
                              f"src host {vip} and tcp[tcpflags] & (tcp-syn|tcp-ack) == (tcp-syn|tcp-ack)"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (sniffer.kill(), sniffer.wait(), sniffer.stdout.close(), sniffer.stderr.close()))
        self.assertTrue(any(line.startswith("listening on") for line in iter(sniffer.stderr.readline, "")))
        seen = probe.connect(self.cluster, "c1", f"{vip}:80", count=60)
        expected = {int(one["self"].rsplit(":", 1)[1]): self.webs[one["said"]["pod"]]["spec"]["nodeName"] for one in seen}
        bound = threading.Timer(20, sniffer.kill)
        self.addCleanup(bound.cancel)
        bound.start()
        by_port = {}
        while by_port.keys() < expected.keys():
            line = sniffer.stdout.readline()
            self.assertTrue(line, f"not seen in time: {expected.keys() - by_port.keys()}")
            by_port[int(line.split(" > ")[2].split(":")[0].rsplit(".", 1)[1])] = macs[line.split()[1]]
        self.assertEqual(by_port, expected)
        print(f"    announced by {self.cluster.announcer(vip)}, answered by {sorted(set(by_port.values()))}")

    def test_a_pod_reaches_itself_through_its_service(self):
        cluster_ip, vip = self.cluster.addresses("all")
        name = self.of("blue")[0]
        script = 'for a in $(seq 60); do wget -qO- "http://$1/" || echo "failed"; done'
        for address in (cluster_ip, vip):
            lines = self.cluster.run(self.webs[name]["spec"]["nodeName"], SHOAL, "exec", name, "--", "/bin/sh", "-c", script,
                                     "sh", address).stdout.splitlines()
            self.assertEqual(len(lines), 60)
            self.assertNotIn("failed", lines)
            self.assertIn(name, {line.split("pod=")[1].split()[0] for line in lines})

    # ---- refusals

    def test_nobody_there_is_a_refusal_at_once(self):
        none_ip, none_vip = self.cluster.addresses("none")
        paths, slowest = 0, 0.0
        for source, addresses in self.everyone(none_ip, none_vip):
            targets = [f"{a}:80" for a in addresses]
            # And a port that Service web does not have.
            targets += [f"{a}:81" for a in ([self.cluster_ip] if source != "c1" else []) + [self.vip]]
            for one in probe.connect(self.cluster, source, *targets, count=3, timeout_ms=3000):
                where = f"{probe.name_of(source)}: {one}"
                self.assertEqual(one["outcome"], "refused", where)
                self.assertLess(one["ms"], REFUSED_WITHIN_MS, where)
                slowest = max(slowest, one["ms"])
            paths += len(targets)
        print(f"    {paths} paths refuse, the slowest after {slowest:.1f} ms")
        self.cluster.wait_event("none", "NoReadyBackend", "refused")

    # ---- weights

    def shares(self, source, target):
        by_pod = probe.split(self.cluster, source, target, REQUESTS)
        share = {v: 100 * sum(by_pod.get(n, 0) for n in self.of(v)) / REQUESTS for v in ("blue", "green", "red")}
        print(f"    {probe.name_of(source):<10} to {target:<17} " + "  ".join(f"{v} {s:.1f} %" for v, s in share.items()))
        return by_pod, share

    def test_a_group_has_its_share_whatever_its_number_of_pods(self):
        for source, target in ((self.clients[0], f"{self.cluster_ip}:80"), ("h2", f"{self.cluster_ip}:80"),
                               ("c1", f"{self.vip}:80")):
            by_pod, share = self.shares(source, target)
            self.assertAlmostEqual(share["blue"], 50, delta=POINTS)
            self.assertAlmostEqual(share["green"], 50, delta=POINTS)
            self.assertEqual(share["red"], 0, "in no listed group")
            for name in self.of("green"):
                self.assertAlmostEqual(100 * by_pod[name] / REQUESTS, 50 / 3, delta=POINTS)

    def test_weight_0_gets_no_new_connection_and_keeps_those_it_has(self):
        idle = subprocess.Popen(self.cluster.argv("c1", LOADGEN, "idle", "--to", f"{self.vip}:9000", "-n", 60),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (idle.kill(), idle.wait(), idle.stdin.close(), idle.stdout.close()))
        self.assertEqual(json.loads(idle.stdout.readline())["open"], 60)
        self.addCleanup(self.halves)
        self.cluster.apply(objects.documents(self.web(0, 100)))
        self.cluster.wait_rings("web", self.of("green"))
        for source, target in ((self.clients[1], f"{self.cluster_ip}:80"), ("h3", f"{self.vip}:80"), ("c1", f"{self.vip}:80")):
            self.assertEqual(self.shares(source, target)[1], {"blue": 0, "green": 100, "red": 0})
        idle.stdin.write("check\n")
        idle.stdin.flush()
        checked = json.loads(idle.stdout.readline())
        self.assertEqual((checked["type"], checked["broken"]), ("check", 0), checked)

    def test_idle_connections_keep_their_backends_through_two_changes_and_a_takeover(self):
        # The host that takes the VIP over has never seen a packet of them.
        idle = LineProcess(self.cluster.argv("c1", LOADGEN, "idle", "--to", f"{self.vip}:9000", "-n", IDLE))
        self.addCleanup(idle.end)
        self.assertEqual(idle.expect("ready", 30)["open"], IDLE)
        self.addCleanup(self.halves)
        for blue, green in ((95, 5), (5, 95)):
            self.cluster.apply(objects.documents(self.web(blue, green)))
            for host in self.cluster.hosts:
                wait_for(f"{blue} to {green} at {host}", lambda h=host, b=blue: self.effective(h) == b / 100, 15)
        first = self.cluster.announcer(self.vip)
        self.addCleanup(self.cluster.shoal, "h1", "uncordon", first)
        self.cluster.shoal("h1", "cordon", first)
        rest = [h for h in self.cluster.hosts if h != first]
        wait_for("another announcer", lambda: self.cluster.announcer(self.vip, rest), 15)
        for check in ("the first packets", "and the next ones"):
            idle.say("check")
            checked = idle.expect("check", 30)
            self.assertEqual(checked["broken"], 0, f"{check}: {checked}")
        port = self.cluster.port(self.cluster.announcer(self.vip, rest), "web")
        self.assertEqual(port["counters"]["unclaimed"], 0)

    def effective(self, host):
        """The share of new connections that the blue group gets on a host."""
        groups = {g["name"]: g for g in self.cluster.port(host, "web")["groups"]}
        return round(groups["version=blue"]["effective"], 2)

    def test_an_empty_group_hands_its_share_over_and_an_event_says_so(self):
        blue, = self.of("blue")
        self.turn(blue)
        self.addCleanup(self.halves)
        self.addCleanup(self.turn, blue, True)  # before that
        self.cluster.wait_rings("web", self.of("green"))
        event = self.cluster.wait_event("web", "WeightGroupNotReady", "version=blue")
        print(f"    event: {event['reason']}: {event['message']}")
        groups = {g["name"]: g for g in self.cluster.port("h2", "web")["groups"]}
        self.assertEqual((groups["version=blue"]["effective"], groups["version=green"]["effective"]), (0, 1))
        for source, target in ((self.clients[2], f"{self.cluster_ip}:80"), ("c1", f"{self.vip}:80")):
            self.assertEqual(self.shares(source, target)[1], {"blue": 0, "green": 100, "red": 0})

    # ---- readiness

    def turn(self, name, ready=False):
        """Turns a web pod's readiness over, and waits until its host has noticed."""
        self.cluster.run(self.webs[name]["spec"]["nodeName"], SHOAL, "exec", name, "--", "/bin/kill", "-USR1", "1")
        wait_for(f"{name} to be {'ready' if ready else 'unready'}",
                 lambda: self.cluster.is_ready(self.cluster.get("pod", name)) == ready, 15)

    def test_an_unready_pod_leaves_all_rings_and_comes_back(self):
        victim = self.of("green")[0]
        cluster_ip, vip = self.cluster.addresses("all")
        idle = subprocess.Popen(self.cluster.argv("c1", LOADGEN, "idle", "--to", f"{vip}:9000", "-n", 50),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (idle.kill(), idle.wait(), idle.stdin.close(), idle.stdout.close()))
        self.assertEqual(json.loads(idle.stdout.readline())["open"], 50)
        began = time.monotonic()
        self.turn(victim)
        rest = set(self.webs) - {victim}
        self.cluster.wait_rings("all", rest)
        print(f"    {victim} left the rings of {len(self.cluster.hosts)} hosts after {time.monotonic() - began:.1f} s")
        for source, addresses in self.everyone(cluster_ip, vip):
            seen = probe.connect(self.cluster, source, *(f"{a}:80" for a in addresses), count=70)
            self.assertEqual({one["said"].get("pod") for one in seen}, rest, probe.name_of(source))
        idle.stdin.write("check\n")
        idle.stdin.flush()
        self.assertEqual(json.loads(idle.stdout.readline())["broken"], 0, "connections that were there stay")
        self.turn(victim, True)
        self.cluster.wait_rings("all", self.webs)
        self.assertIn(victim, probe.split(self.cluster, "c1", f"{vip}:80", 200))


if __name__ == "__main__":
    unittest.main(verbosity=2)
