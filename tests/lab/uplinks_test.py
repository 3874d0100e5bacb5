#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hosts with two NICs in two segments: node ports and VIPs on both, VIPs announced where their subnet is.

   c1 .101 ---+--- LAN 198.18.0.0/24 ----+--- eth0 h1 eth1 --------------------+
              |                          +--- eth0 h2 eth1 > eth1.100 (macvlan) +--- 198.18.1.0/24 --- eth1 c2 .102
              |                          +--- eth0 h3 eth1 > br0 (its port) ----+
   198.18.0.1, the router, has no way to the other segment

The kernel of a lab may have neither VLANs nor bonds: a macvlan with a VLAN's name stands for the one, a bridge with a
port for the other.
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
from shoal_lab.cluster import PROXY, wait_for  # noqa: E402
from shoal_lab.service_cluster import ServiceCluster  # noqa: E402

SECOND = "198.18.1"
SECOND_VIP = f"{SECOND}.210"
NODE_PORT = 30080
# What each host calls its uplinks, and the device that has its address in the second segment.
UPLINKS = {"h1": "['eth*']", "h2": "[eth0, eth1.100]", "h3": "['eth*']"}
DEVICE = {"h1": "eth1", "h2": "eth1.100", "h3": "br0"}
OWN_DEVICE = {"h2": "link add link eth1 name eth1.100 type macvlan mode bridge", "h3": "link add br0 type bridge"}


class TwoSegments(ServiceCluster):
    def up(self):
        super().up()
        labs = json.loads(self.lab("status", "--json").stdout)
        nodes = next(lab for lab in labs if lab["name"] == self.name)["nodes"]
        self.ip("lan", "link add second type bridge stp_state 0 forward_delay 0", "link set second up")
        for node in [*self.hosts, "c2"]:
            self.ip("lan", f"link add {node}b type veth peer name eth1 netns {nodes[node]['inner']}",
                    f"link set {node}b master second up")
            self.ip(node, "link set eth1 up")
            device = DEVICE.get(node, "eth1")
            if node in OWN_DEVICE:
                self.ip(node, OWN_DEVICE[node])
            if device == "br0":
                self.ip(node, "link set eth1 master br0")
            self.ip(node, f"link set {device} up", f"addr add {self.second(node)}/24 dev {device}")
        self.ip("c2", "addr flush dev eth0")
        self.lab("cut", "c2")

    def ip(self, node, *lines):
        self.run(node, "ip", "-batch", "-", input="\n".join(lines) + "\n")

    @classmethod
    def second(cls, node):
        return f"{SECOND}.{cls.address(node).rpartition('.')[2]}"

    def write_config(self, host, extra="", **options):
        super().write_config(host, extra, config={"network": f"  uplinks: {UPLINKS[host]}\n"}, **options)


class Uplinks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = TwoSegments(f"uplinks-{os.getpid()}", clients=2,
                                  config={"lb_pool": f"['198.18.0.208/28', '{SECOND}.208/28']"})
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder, client=False)
        node_port = objects.service("web", {"app": "web"})
        node_port["spec"]["ports"][0]["nodePort"] = NODE_PORT
        second = objects.service("second", {"app": "web"})
        second["spec"]["loadBalancerIP"] = SECOND_VIP
        outside = objects.service("outside", {"app": "web"}, kind="ClusterIP")
        outside["spec"]["externalIPs"] = [f"{SECOND}.{n}" for n in (11, 12, 13)]
        outside["spec"]["ports"] = [{"name": "http", "port": 8888, "targetPort": "http"}]
        cls.cluster.apply(objects.documents(objects.deployment("web", "blue", 3), node_port, second, outside))
        cls.webs = {p["metadata"]["name"] for p in cls.cluster.wait_ready("app=web", 3)}
        for name in ("web", "second", "outside"):
            cls.cluster.wait_rings(name, cls.webs)

    def network(self, host):
        return self.cluster.status(host)["network"]

    def uplinks(self, host):
        return [uplink["name"] for uplink in self.network(host)["uplinks"]]

    def answered_by_all(self, client, source, ip, port):
        """Every pod answers there, on whichever host it is, and sees the client where the data plane can show it."""
        seen = probe.connect(self.cluster, client, f"{ip}:{port}", count=60)
        self.assertEqual({one["outcome"] for one in seen}, {"ok"}, f"{client} to {ip}:{port}: {seen}")
        self.assertEqual({one["said"]["pod"] for one in seen}, self.webs, f"{client} to {ip}:{port}")
        if PROXY == "ebpf":
            self.assertEqual({one["said"]["client"] for one in seen}, {source}, f"{client} to {ip}:{port}")

    def test_every_host_says_which_uplinks_it_has(self):
        for host in self.cluster.hosts:
            network = self.network(host)
            self.assertEqual(self.uplinks(host), ["eth0", DEVICE[host]])
            self.assertEqual([u["address"] for u in network["uplinks"]],
                             [self.cluster.address(host), self.cluster.second(host)])
            self.assertEqual((network["podMTU"], network["overlayMTU"]), (1450, 1450))
        self.assertIn("uplink:           eth1.100 198.18.1.12, MTU 1500", self.cluster.shoal("h2", "status").stdout)

    def test_node_ports_and_external_addresses_are_served_on_each_uplink(self):
        for host in self.cluster.hosts:
            self.answered_by_all("c1", self.cluster.address("c1"), self.cluster.address(host), NODE_PORT)
            self.answered_by_all("c2", self.cluster.second("c2"), self.cluster.second(host), NODE_PORT)
            self.answered_by_all("c2", self.cluster.second("c2"), self.cluster.second(host), 8888)

    def test_a_vip_is_announced_in_the_segment_that_its_subnet_is_in(self):
        _, first = self.cluster.addresses("web")
        _, second = self.cluster.addresses("second")
        self.assertEqual((first.rpartition(".")[0], second), ("198.18.0", SECOND_VIP))
        self.answered_by_all("c1", self.cluster.address("c1"), first, 80)
        self.answered_by_all("c2", self.cluster.second("c2"), second, 80)
        for client, vip, device in (("c1", first, "eth0"), ("c2", second, DEVICE[self.cluster.announcer(second)])):
            host = self.cluster.announcer(vip)
            mac = json.loads(self.cluster.run(host, "ip", "-j", "link", "show", device).stdout)[0]["address"]
            known = json.loads(self.cluster.run(client, "ip", "-j", "neigh", "show", vip).stdout)[0]["lladdr"]
            self.assertEqual(known, mac, f"{vip} is at {host}'s {device} for {client}")

    def test_a_route_that_carries_less_lowers_the_mtus_and_back(self):
        route = self.cluster.run("h3", "ip", "route", "show", "default").stdout.split()
        for more, mtu in ((["mtu", "1400"], 1350), (["advmss", "1340"], 1330), ([], 1450)):
            self.cluster.run("h3", "ip", "route", "replace", *route, *more)
            wait_for(f"h3 to have an MTU of {mtu}", lambda m=mtu: self.network("h3")["podMTU"] == m, 20)
            device = json.loads(self.cluster.run("h3", "ip", "-j", "link", "show", "shoal-vxlan").stdout)[0]
            self.assertEqual((device["mtu"], self.network("h3")["overlayMTU"]), (mtu, mtu))

    def test_an_uplink_that_goes_down_is_none_and_is_one_again_when_it_comes_back(self):
        self.cluster.ip("h1", "link set eth1 down")
        wait_for("h1 to have one uplink", lambda: self.uplinks("h1") == ["eth0"], 20)
        self.answered_by_all("c1", self.cluster.address("c1"), self.cluster.address("h1"), NODE_PORT)
        self.cluster.ip("h1", "link set eth1 up")
        wait_for("h1 to have both", lambda: self.uplinks("h1") == ["eth0", "eth1"], 20)
        self.answered_by_all("c2", self.cluster.second("c2"), self.cluster.second("h1"), NODE_PORT)


if __name__ == "__main__":
    unittest.main(verbosity=2)
