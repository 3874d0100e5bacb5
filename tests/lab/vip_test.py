#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A VIP outlives the host that announces it.

   c1 .101: the outside, listens for ARP --+-- LAN --+-- h1 .11: store, web
                                                     +-- h2 .12: web
                                                     +-- h3 .13: web
                                                         one of them announces the VIP, and is killed
"""
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import objects, probe  # noqa: E402
from shoal_lab.cluster import wait_for  # noqa: E402
from shoal_lab.service_cluster import ServiceCluster  # noqa: E402

MOVES_WITHIN_S = 10.0  # from the kill; the bound for a host's death


class VipMoves(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = ServiceCluster(f"vip-{os.getpid()}")
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder, client=False)
        cls.cluster.apply(objects.documents(objects.deployment("web", "blue", 3), objects.service("web", {"app": "web"})))
        cls.webs = {p["metadata"]["name"]: p for p in cls.cluster.wait_ready("app=web", 3)}
        cls.cluster.wait_rings("web", cls.webs)
        cls.vip = cls.cluster.addresses("web")[1]

    def mac(self, host):
        return json.loads(self.cluster.run(host, "ip", "-j", "link", "show", "eth0").stdout)[0]["address"]

    def neighbour(self):
        """The MAC that c1 would send to, from its own table."""
        entries = json.loads(self.cluster.run("c1", "ip", "-j", "neigh", "show", self.vip).stdout or "[]")
        return entries[0].get("lladdr") if entries else None

    def listen_for_gratuitous_arp(self, but_from):
        """tcpdump that ends with the first ARP packet in which another host says where the VIP is, asked by nobody."""
        number = "0x" + "".join(f"{int(part):02x}" for part in self.vip.split("."))
        wanted = f"arp and arp[14:4] = {number} and arp[24:4] = {number} and not ether src {but_from}"
        listener = subprocess.Popen(self.cluster.argv("c1", "tcpdump", "-lne", "--immediate-mode", "-c1", "-i", "eth0", wanted),
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (listener.kill(), listener.wait(), listener.stdout.close(), listener.stderr.close()))
        for line in listener.stderr:
            if line.startswith("listening on"):
                return listener
        self.fail("tcpdump does not listen")

    def test_the_vip_moves_with_a_gratuitous_arp_when_its_announcer_is_killed(self):
        first = self.cluster.announcer(self.vip)
        self.assertEqual(probe.connect(self.cluster, "c1", f"{self.vip}:80")[0]["outcome"], "ok")
        self.assertEqual(self.neighbour(), self.mac(first))
        listener = self.listen_for_gratuitous_arp(but_from=self.mac(first))
        rest = [h for h in self.cluster.hosts if h != first]
        macs = {self.mac(h): h for h in rest}
        killed = time.monotonic()
        self.cluster.lab("kill", first)
        heard, _ = listener.communicate(timeout=30)
        after = time.monotonic() - killed
        print(f"    {first} killed; after {after:.1f} s: {heard.strip().split(' ', 1)[1]}")
        source, destination = heard.split()[1], heard.split()[3].rstrip(",")
        self.assertIn(source, macs, heard)
        self.assertEqual(destination, "ff:ff:ff:ff:ff:ff")
        self.assertLess(after, MOVES_WITHIN_S)
        # c1 has asked nobody: what it heard has turned its table over.
        wait_for("c1 to know the VIP's new place", lambda: self.neighbour() == source, 5,
                 on_timeout=lambda: str(self.neighbour()))
        wait_for("the new announcer to say so", lambda: self.cluster.announcer(self.vip, rest) == macs[source], 5)
        left = [n for n, p in self.webs.items() if p["spec"]["nodeName"] != first]
        self.cluster.wait_rings("web", left, rest)
        seen = probe.connect(self.cluster, "c1", f"{self.vip}:80", count=50)
        self.assertEqual({(s["outcome"], s["said"].get("client")) for s in seen}, {("ok", self.cluster.address("c1"))})
        self.assertEqual({s["said"]["pod"] for s in seen}, set(left))


if __name__ == "__main__":
    unittest.main(verbosity=2)
