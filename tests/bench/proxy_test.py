#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/bench proxy works: each of its parts gives its rows, in its small form and as few rounds as there may be.

What the rows say about speed is judged by nobody here: the machine may be busy.
"""
import json
import math
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5


class Proxy(unittest.TestCase):
    def measure(self, part):
        """{row name: its raw row} of one part."""
        with tempfile.TemporaryDirectory(prefix="shoal-bench-test.") as folder:
            raw = Path(folder) / "raw.json"
            argv = [ROOT / "scripts/bench", "proxy", "--only", part, "--small", "--rounds", ROUNDS, "--json", "--no-build",
                    "--raw", raw]
            done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=250, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            rows = {row["row"]: row for row in json.loads(raw.read_text(encoding="utf-8"))["rows"]}
            self.assertEqual([row["row"] for row in json.loads(done.stdout)], list(rows))
        for name, row in rows.items():
            self.assertGreaterEqual(len(row["samples"]), ROUNDS, name)
            for side in ("ours", "peer"):
                self.assertTrue(math.isfinite(row[side]) and row[side] > 0, row)
        return rows

    def test_load(self):
        rows = self.measure("load")
        for peer in ("iptables", "nftables", "nft -f"):
            for what in ("load", "one backend's change"):
                self.assertIn(f"{what}, beside {peer}", rows)
        self.assertIn("100 Services x 10 backends", rows["load, beside iptables"]["note"])
        for services, load_ms in (("100", 60), ("1,000", 600)):
            self.assertEqual(rows[f"load, {services} Services x 10 backends"]["peer"], load_ms)
            self.assertEqual(rows[f"one backend's change, {services} Services x 10 backends"]["peer"], 1)

    def test_sockets(self):
        rows = self.measure("sockets")
        self.assertEqual({name: row["goal"] for name, row in rows.items()}, {
            "ClusterIP crr rate by socket hooks, 100 Services": ">= 1.00",
            "ClusterIP rr rate by socket hooks, 100 Services": ">= 1.00",
            "ClusterIP crr rate by socket hooks, 100 Services, beside nftables": ">= 1.30",
            "ClusterIP crr rate by socket hooks, 100 Services, beside iptables-nft": ">= 1.80",
            "ClusterIP crr rate by socket hooks, 100 Services, beside iptables-legacy": ">= 1.80",
            "CPU of a stream by ClusterIP by socket hooks": "<= 1.00"})

    def test_tc(self):
        rows = self.measure("tc")
        self.assertEqual({name: row["goal"] for name, row in rows.items()}, {
            "ClusterIP rr rate by tc, 100 Services": ">= 1.00", "ClusterIP crr rate by tc, 100 Services": None,
            "CPU of a stream by ClusterIP by tc": "<= 1.00"})

    def test_scale(self):
        rows = self.measure("scale")
        memory = rows["kernel memory, 1,000 Services x 10 backends"]
        self.assertEqual((memory["peer"], len(memory["samples"])), (250, ROUNDS))
        # Rings alone have 100 slots of 4 bytes a backend.
        self.assertGreater(memory["ours"], 1000 * 10 * 400 / 1e6)
        self.assertIn("ClusterIP crr rate by socket hooks, 1,000 Services beside 1", rows)

    def test_memory(self):
        (name, row), = self.measure("memory").items()
        self.assertEqual((name, row["peer"]), ("agent memory, 2,000 backends", 150))
        for sample in row["samples"]:
            also = sample["also"]["ours"]
            self.assertGreater(also["kib"]["VmRSS"], also["empty_kib"]["VmRSS"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
