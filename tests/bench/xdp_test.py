#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/bench xdp measures what it says: both programs send every packet on, and what is no case is refused.

How fast they are is judged by nobody here: the machine may be busy.
"""
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/lab"), str(ROOT / "tests/bench")]

from benches import xdp  # noqa: E402
from shoal_bench.node import Node, NodeError  # noqa: E402
from shoal_lab.cluster import Cluster  # noqa: E402


class Xdp(unittest.TestCase):
    def setUp(self):
        cluster = Cluster("benchxdp", hosts=1, clients=0)
        self.addCleanup(cluster.down)
        cluster.up()
        self.node = Node(cluster, "h1")
        self.node.__enter__()
        self.addCleanup(self.node.__exit__, None, None, None)
        xdp.prepare(self.node)

    def test_both_sides_send_every_packet_on(self):
        cases = {"v4": xdp.case("4", 1024), "v6": xdp.case("6", 1024), "syn": xdp.case("4", 1 << 20, "syn"),
                 "services": xdp.case("6", 1024, services=20)}
        for side in ("shoal", "floor"):
            ns = xdp.measure(self.node, side, cases)
            self.assertEqual(list(ns), list(cases))
            self.assertGreater(min(ns.values()), 0)

    def test_what_cannot_be_measured_is_said(self):
        for case in ("4:steady:1000:1", "4:steady", "4:steady:64:0"):
            with self.assertRaisesRegex(NodeError, f'"{case}" is no CASE'):
                xdp.measure(self.node, "shoal", {"row": case})
        # Without a way to the backends' hosts every packet is left to tc.
        self.node.run("ip", "neigh", "flush", "dev", "eth0", "nud", "permanent")
        with self.assertRaisesRegex(NodeError, "not XDP_TX"):
            xdp.measure(self.node, "shoal", {"row": xdp.case("4", 1)})
        self.assertNotIn("bench", self.node.run("ls", "/sys/fs/bpf").split())


if __name__ == "__main__":
    unittest.main()
