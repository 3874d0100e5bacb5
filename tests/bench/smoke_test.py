#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/bench smoke works: in its shortest legal form it gives its rows, and an interrupted one leaves nothing.

What the rows say about speed is judged by nobody here: the machine may be busy.
"""
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lab"))

from shoal_lab.cluster import wait_for  # noqa: E402
from shoal_lab.lab import Lab, state, traces_of  # noqa: E402

KEYS = ["row", "ours", "peer", "unit", "ratio", "goal", "holds"]


class Smoke(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="shoal-bench-test.")
        self.addCleanup(folder.cleanup)
        self.raw = Path(folder.name) / "raw.json"

    def start(self):
        return subprocess.Popen(
            [str(ROOT / "scripts/bench"), "smoke", "--json", "--rounds", "5", "--no-build", "--raw", str(self.raw)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_gives_its_rows_and_keeps_the_raw_ones(self):
        bench = self.start()
        out, err = bench.communicate(timeout=250)
        self.assertEqual(bench.returncode, 0, err)
        rows = json.loads(out)
        names = [row["row"] for row in rows]
        self.assertIn("pod start", names)
        self.assertIn("ClusterIP crr rate, same host", names)
        for row in rows:
            self.assertEqual(list(row), KEYS)
            for side in ("ours", "peer", "ratio"):
                self.assertTrue(math.isfinite(row[side]) and row[side] > 0, row)
            self.assertIs(type(row["holds"]), type(None) if row["goal"] is None else bool, row)
        raw = json.loads(self.raw.read_text(encoding="utf-8"))
        self.assertEqual([row["row"] for row in raw["rows"]], names)
        for row in raw["rows"]:
            self.assertGreaterEqual(len(row["samples"]), 5)
            self.assertEqual(len(row["samples"]) % 5, 0, row["row"])
        self.assertEqual({side["first"] for side in raw["rows"][0]["samples"]}, {"ours", "peer"})
        self.assertIn("kernel", raw["machine"])

    def test_an_interrupted_run_leaves_nothing(self):
        bench = self.start()
        lab = Lab()
        lab.name = f"bench-smoke-{bench.pid}"
        lab.record = wait_for("its lab to be up", lambda: state.load(lab.name), 60)
        processes = lab.processes()
        self.assertGreater(len(processes), 5)
        os.kill(bench.pid, signal.SIGTERM)
        out, err = bench.communicate(timeout=60)
        self.assertEqual((bench.returncode, out), (128 + signal.SIGTERM, ""), err)
        self.assertEqual(traces_of(lab, processes), [])
        self.assertEqual(os.listdir(self.raw.parent), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
