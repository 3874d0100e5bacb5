#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""network.load_balancer_mode: auto. Topology: frame.py; h1 announces all VIPs, since the others take no new pods.

`guard` makes the switch take from h2 and h3 only what comes from their own addresses, as port security, source guards and
clouds do: then their pods cannot answer an outside client from the VIP, and are reached by SNAT.
"""
import unittest

from frame import FAMILIES, Cluster, ServiceTest, wait_for

GUARD = """add table bridge guard
delete table bridge guard
table bridge guard {
  chain in {
    type filter hook prerouting priority 0;
%s
  }
}
"""


class Auto(ServiceTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for host in ("h2", "h3"):
            cls.cluster.shoal("h1", "cordon", host)

    def setUp(self):
        super().setUp()
        self.addCleanup(self.open)

    def guard(self, *hosts):
        lines = [f'    iifname "{host}" {kind} saddr != {Cluster.address(host, family)} '
                 f'{kind} saddr {{ {pools} }} counter drop'
                 for host in hosts for kind, family, pools in (("ip", "IPv4", "198.18.0.0/24"),
                                                              ("ip6", "IPv6", "2001:db8:1::/64"))]
        self.cluster.run("lan", "nft", "-f", "-", input=GUARD % "\n".join(lines))

    def open(self):
        self.cluster.run("lan", "nft", "-f", "-", input="add table bridge guard\ndelete table bridge guard\n")

    def ways(self, host):
        balancer = self.cluster.status(host)["network"]["loadBalancer"]
        self.assertEqual(balancer["mode"], "auto")
        return {entry["name"]: (entry["way"], entry["foreignSources"]) for entry in balancer["hosts"]}

    def wait_ways(self, **ways):
        word = {"dsr": "passes", "snat": "drops"}
        wait_for(f"h1 to reach hosts by {ways}",
                 lambda: self.ways("h1") == {host: (way, word[way]) for host, way in ways.items()}, 40,
                 on_timeout=lambda: f"{self.ways('h1')}\n{self.cluster.log_tail('h1')}")

    def web(self):
        self.servers("a", "b", "c")
        return self.service(text="type: LoadBalancer", ports="[{name: t, port: 80, targetPort: 7000}, "
                                                             "{name: u, port: 80, targetPort: 7000, protocol: UDP}]")

    def seen_from(self, web, by_snat):
        """All three answer outside clients; those of `by_snat` see h1, the others the client."""
        for family, vip in zip(FAMILIES, self.vips_of(web)):
            self.assertEqual(self.announcers(vip), ["h1"])
            for proto in ("tcp", "udp"):
                self.wait_names("outside", vip, 80, {"a", "b", "c"}, proto)
                for answer in self.ask("outside", vip, 80, proto, 30):
                    self.assertTrue(answer["ok"], answer)
                    client = Cluster.address("h1" if answer["name"] in by_snat else "c1", family)
                    self.assertEqual((answer["seen"].split()[0], answer["peer"]), (client, f"{vip} 80"), answer)

    def test_a_network_that_takes_foreign_sources_has_dsr(self):
        self.wait_ways(h2="dsr", h3="dsr")
        self.seen_from(self.web(), "")
        self.assertRegex(self.cluster.shoal("h1", "status").stdout, "load balancer: +auto, h2 by dsr, h3 by dsr\n")

    def test_hosts_that_it_does_not_take_them_from_are_reached_by_snat(self):
        web = self.web()
        vips = self.vips_of(web)
        self.wait_ways(h2="dsr", h3="dsr")
        self.seen_from(web, "")
        before = [self.hold("outside", vip, 80, 40) for vip in vips]
        for held in before:
            self.addCleanup(held.close)
        self.guard("h2")
        self.wait_ways(h2="snat", h3="dsr")
        self.seen_from(web, "b")
        status = self.cluster.status("h1")
        self.assertTrue([line for line in status["limitations"] if "drops what h2 sends" in line], status["limitations"])
        self.assertIn('shoal_foreign_sources{host="h2"} 0\n', self.metrics())
        reasons = [e["reason"] for e in self.cluster.items("events", "-A") if e["involvedObject"]["kind"] == "Node"]
        self.assertIn("ForeignSourcesDropped", reasons)

        # An agent that is started anew knows it from the first packet on.
        self.cluster.kill_daemon("h1")
        self.cluster.start_daemon("h1")
        for _ in range(10):
            for vip in vips:
                self.names("outside", vip, 80, "tcp", 20)
        self.wait_ways(h2="snat", h3="dsr")

        during = [self.hold("outside", vip, 80, 40) for vip in vips]
        for held in during:
            self.addCleanup(held.close)
        self.open()
        self.wait_ways(h2="dsr", h3="dsr")
        self.seen_from(web, "")
        # Each as it began: those of before are by DSR, those of during to h2 by SNAT.
        for held in before + during:
            self.assertEqual(held.check()["broken"], 0)

    def metrics(self):
        return self.cluster.run("h1", "python3", "-c",
                                "import urllib.request as u; "
                                f"print(u.urlopen('http://{Cluster.address('h1')}:9464/metrics').read().decode())").stdout

    def test_all_hosts_may_be_reached_by_snat(self):
        web = self.web()
        self.guard("h2", "h3")
        self.wait_ways(h2="snat", h3="snat")
        self.seen_from(web, "bc")


if __name__ == "__main__":
    unittest.main(verbosity=2)
