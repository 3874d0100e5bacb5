#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""network.load_balancer_mode: snat, for networks that let a host send only from addresses that lead to it. Topology: frame.py."""
import unittest

from drain_case import DrainCase
from frame import FAMILIES, Cluster, ServiceTest, wait_for


class Snat(DrainCase, ServiceTest):
    CONFIG = {"load_balancer_mode": "snat"}

    def test_outside_clients_reach_pods_of_all_hosts(self):
        self.servers("a", "b", "c")
        web = self.service(text="type: LoadBalancer", ports="[{name: t, port: 80, targetPort: 7000}, "
                                                            "{name: u, port: 80, targetPort: 7000, protocol: UDP}]")
        for family, vip in zip(FAMILIES, self.vips_of(web)):
            announcer = wait_for("an announcer", lambda v=vip: self.announcer_of(v), 10)
            for proto in ("tcp", "udp"):
                self.wait_names("outside", vip, 80, {"a", "b", "c"}, proto)
                for answer in self.ask("outside", vip, 80, proto, 30):
                    here = self.cluster.hosts["abc".index(answer["name"])] == announcer
                    self.assertEqual(answer["seen"].split()[0],
                                     Cluster.address("c1" if here else announcer, family), answer)
                    self.assertEqual(answer["peer"], f"{vip} 80", answer)

    def test_drain_timeout_closes_what_is_left_of_a_group_at_weight_0(self):
        self.drain(4)

    def announcer_of(self, vip):
        """The host whose MAC address the client has for the VIP."""
        self.ask("outside", vip, 80)
        text = self.cluster.run("c1", "ip", "neigh", "show", vip).stdout
        for host in self.cluster.hosts:
            mac = self.cluster.run(host, "cat", "/sys/class/net/eth0/address").stdout.strip()
            if mac in text:
                return host
        return None


if __name__ == "__main__":
    unittest.main(verbosity=2)
