#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The frame of scripts/bench without any bench: statistics, rounds, reports, wrong use."""
import contextlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_bench import kube_proxy, machine, report, stats  # noqa: E402
from shoal_bench.agent import limits  # noqa: E402
from shoal_bench.rounds import Measured, Pair, Row, Stage, run_parts, run_rounds  # noqa: E402

BENCH = Path(__file__).resolve().parents[2] / "scripts/bench"


class Statistics(unittest.TestCase):
    def test_the_median_of_odd_and_even_counts(self):
        self.assertEqual(stats.median([3, 1, 2]), 2)
        self.assertEqual(stats.median([4, 1, 2, 3]), 2.5)
        with self.assertRaises(ValueError):
            stats.median([])

    def test_an_interval_is_made_of_order_statistics(self):
        # Textbook ranks for 95 %: n = 9 gives the 2nd and 8th, n = 15 the 4th and 12th, n = 20 the 6th and 15th.
        for n, low, high, covered in ((9, 2, 8, 0.961), (15, 4, 12, 0.965), (20, 6, 15, 0.959)):
            interval = stats.median_interval(random.Random(n).sample(range(1, n + 1), n))
            self.assertEqual((interval.low, interval.high), (low, high), n)
            self.assertAlmostEqual(interval.coverage, covered, 3)

    def test_five_rounds_cannot_reach_95_percent_and_say_so(self):
        interval = stats.median_interval([5, 1, 4, 2, 3])
        self.assertEqual((interval.low, interval.high, interval.coverage), (1, 5, 0.9375))

    def test_intervals_enclose_the_true_median_as_often_as_they_say(self):
        seed = 20240229
        draw = random.Random(seed)
        trials, inside = 4000, 0
        for _ in range(trials):
            interval = stats.median_interval([math.exp(draw.gauss(0, 1)) for _ in range(11)])  # skewed; its median is 1
            inside += interval.low <= 1 <= interval.high
        self.assertAlmostEqual(inside / trials, stats.coverage(11, 1), delta=0.01, msg=f"seed {seed}")

    def test_the_ratio_is_the_median_of_the_rounds_ratios(self):
        # The machine is three times slower in two rounds: each round's ratio is 2 all the same.
        samples = [(20, 10), (60, 30), (60, 30), (20, 10), (22, 11)]
        summary = stats.summarize(samples, "higher", 2.0)
        self.assertEqual((summary.ours, summary.peer, summary.ratio, summary.holds), (22, 11, 2.0, True))

    def test_goals_by_direction(self):
        for better, ratio, holds in (("higher", 1.0, True), ("higher", 0.9999, False), ("lower", 1.0, True),
                                     ("lower", 1.0001, False)):
            self.assertIs(stats.meets(ratio, better, 1.0), holds, (better, ratio))
        self.assertIsNone(stats.meets(0.5, "lower", None))
        almost = [(0.99999, 1)] * 5  # printed as 1.0, so it holds
        self.assertIs(stats.summarize(almost, "higher", 1.0).holds, True)

    def test_a_goal_may_be_held_against_the_interval(self):
        samples = [(ratio, 1) for ratio in (0.97, 0.98, 0.99, 1.0, 1.01)]
        self.assertIs(stats.summarize(samples, "higher", 1.0).holds, False)
        self.assertIs(stats.summarize(samples, "higher", 1.0, "interval").holds, True)
        self.assertIs(stats.summarize(samples, "higher", 1.02, "interval").holds, False)
        self.assertIs(stats.summarize(samples, "lower", 0.97, "interval").holds, True)
        self.assertIs(stats.summarize(samples, "lower", 0.96, "interval").holds, False)
        self.assertIsNone(stats.summarize(samples, "lower", None, "interval").holds)

    def test_refuses_too_few_rounds_and_values_that_are_none(self):
        with self.assertRaisesRegex(ValueError, "4 rounds"):
            stats.summarize([(1, 1)] * 4, "higher", None)
        for bad in (0, -1, math.nan, math.inf):
            with self.assertRaisesRegex(ValueError, "round 3"):
                stats.ratios([(1, 1), (1, 1), (bad, 1)])


class Rounds(unittest.TestCase):
    def test_the_sides_take_turns_at_being_first_and_warmups_are_dropped(self):
        calls = []

        def side(name):
            def call():
                calls.append(name)
                return {"a": float(len(calls)), "b": 1.0}
            return call
        pair = Pair("p", (Row("a", "s", "lower"), Row("b", "s", "lower")), side("ours"), side("peer"), warmups=2)
        a, b = run_rounds([pair], 5, lambda _: None, clock=lambda: 0)
        self.assertEqual(calls[:4], ["ours", "peer"] * 2)
        self.assertEqual(calls[4:], ["ours", "peer", "peer", "ours", "ours", "peer", "peer", "ours", "ours", "peer"])
        self.assertEqual([s["first"] for s in a.samples], ["ours", "peer", "ours", "peer", "ours"])
        self.assertEqual(a.paired()[:2], [(5.0, 6.0), (8.0, 7.0)])
        self.assertEqual(len(b.samples), 5)

    def test_names_are_unique_and_directions_known(self):
        row = Row("a", "s", "lower")
        with self.assertRaisesRegex(ValueError, "one name"):
            run_rounds([Pair("p", (row, row), dict, dict)], 5, lambda _: None)
        with self.assertRaisesRegex(ValueError, "better"):
            Row("a", "s", "bigger")
        with self.assertRaisesRegex(ValueError, "verdict"):
            Row("a", "s", "lower", verdict="mean")

    def test_pairs_are_measured_more_or_less_often_than_asked_but_never_too_few_times(self):
        for options, asked, rounds in (({}, 11, 11), ({"rounds_factor": 3}, 11, 33), ({"rounds_max": 6}, 11, 6),
                                       ({"rounds_max": 6}, 5, 5), ({"rounds_max": 1}, 11, stats.ROUNDS_MIN)):
            self.assertEqual(Pair("p", (), dict, dict, **options).rounds(asked), rounds, options)

    def test_parts_are_set_up_and_cleared_away_one_after_the_other(self):
        events = []

        def part(name):
            @contextlib.contextmanager
            def pairs(stage):
                events.append(f"{name} up in {stage.name}")
                try:
                    yield [Pair("p", (Row(name, "s", "lower"),), lambda: {name: 1.0}, lambda: {name: 2.0})]
                finally:
                    events.append(f"{name} down")
            return pairs
        stage = Stage("lab", lambda _: None)
        self.assertEqual([m.row.name for m in run_parts([part("a"), part("b")], stage, 5)], ["a", "b"])
        self.assertEqual(events, ["a up in lab", "a down", "b up in lab", "b down"])
        with self.assertRaisesRegex(ValueError, "one name"):
            run_parts([part("a"), part("a")], stage, 5)

    def test_a_small_form_has_less_of_everything_but_something(self):
        self.assertEqual([Stage("lab", print, small).sized(number) for small, number in ((False, 5000), (True, 5000), (True, 3))],
                         [5000, 100, 1])


class Reports(unittest.TestCase):
    def measured(self):
        rate = Measured(Row("rate", "1/s", "higher", goal=1.0, note="How."), "the limit")
        time = Measured(Row("time", "ms", "lower"), "a peer")
        for number in range(1, 8):
            rate.samples.append({"round": number, "first": "ours", "ours": 12345.678 + number, "peer": 13000.0, "at_s": 0})
            time.samples.append({"round": number, "first": "ours", "ours": 1.23456, "peer": 2.0, "at_s": 0})
        return [rate, time]

    def test_the_json_list(self):
        rate, time = json.loads(json.dumps(report.as_list(self.measured())))
        self.assertEqual(rate, {"row": "rate", "ours": 12350.0, "peer": 13000.0, "unit": "1/s", "ratio": 0.95, "goal": ">= 1.00",
                                "holds": False})
        self.assertEqual(time, {"row": "time", "ours": 1.235, "peer": 2.0, "unit": "ms", "ratio": 0.6173, "goal": None,
                                "holds": None})

    def test_the_document_holds_what_the_list_is_computed_from(self):
        document = report.as_document({"bench": "x"}, self.measured())
        for row in document["rows"]:
            again = stats.summarize([(s["ours"], s["peer"]) for s in row["samples"]], row["better"], None)
            self.assertEqual(again.ratio, row["ratio"])
            self.assertLessEqual(row["interval"][0], row["ratio"])
            self.assertGreaterEqual(row["interval"][1], row["ratio"])

    def test_the_table_says_everything_in_words(self):
        text = "\n".join(report.as_table(self.measured()))
        for part in (">= 1.00  no", "(98.4 %)       7", "rate: beside the limit, higher is better. How.",
                     "time: beside a peer, lower"):
            self.assertIn(part, text)

    def test_the_markdown_section_has_every_round(self):
        about = {"bench": "x", "command": "scripts/bench x", "began": "T", "revision": "abc", "seconds": 3, "load_before": 0.1,
                 "load_after": 0.2, "machine": machine.describe()}
        text = report.as_markdown(report.as_document(about, self.measured()))
        self.assertIn("| rate | 12,350 | 13,000 | 1/s | **0.950** |", text)
        self.assertIn("`scripts/bench x`, T, revision abc.", text)
        self.assertEqual(text.count("1.235/2"), 7)

    def test_a_file_is_whole_or_not_there(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/new/raw.json"
            report.save(path, {"a": 1})
            self.assertEqual(json.loads(Path(path).read_text(encoding="utf-8")), {"a": 1})
            with self.assertRaises(TypeError):
                report.save(f"{folder}/new/bad.json", {"a": object()})
            self.assertEqual(os.listdir(f"{folder}/new"), ["raw.json"])

    def test_the_machine_is_described_without_its_name(self):
        about = machine.describe()
        self.assertGreater(about["memory_mib"], 0)
        self.assertNotIn(os.uname().nodename, [str(value) for value in about.values()])
        self.assertIsNone(machine.busy_warning(0.4, 2))
        self.assertIn("busy", machine.busy_warning(3.0, 2))


class Rules(unittest.TestCase):
    """kube-proxy's shape, by what a connection meets."""

    def test_a_real_service_leads_to_its_endpoints_and_others_to_theirs(self):
        iptables = kube_proxy.iptables(3, 2, {1: ["10.255.2.2"]}).splitlines()
        self.assertEqual([line.split()[-1] for line in iptables if "--to-destination" in line],
                         [f"{ip}:8080" for ip in (kube_proxy.endpoint_ip(0, 2, 0), kube_proxy.endpoint_ip(0, 2, 1), "10.255.2.2",
                                                  kube_proxy.endpoint_ip(2, 2, 0), kube_proxy.endpoint_ip(2, 2, 1))])
        nft = kube_proxy.nft(3, 2, {1: ["10.255.2.2"]})
        self.assertIn("service-1 numgen random mod 1 vmap { 0 : goto endpoint-1-0 }", nft)
        self.assertIn("dnat to 10.255.2.2:8080", nft)
        self.assertNotIn(kube_proxy.endpoint_ip(1, 2, 0) + " ", nft)

    def test_endpoints_share_evenly(self):
        lines = [line for line in kube_proxy.iptables(1, 4).splitlines() if line.startswith("-A KUBE-SVC-") and " -> " in line]
        left, shares = 1.0, []
        for line in lines:
            words = line.split()
            chance = float(words[words.index("--probability") + 1]) if "--probability" in words else 1.0
            shares.append(left * chance)
            left *= 1 - chance
        self.assertEqual([round(share, 6) for share in shares], [0.25] * 4)

    def test_a_change_takes_one_endpoint_away(self):
        self.assertEqual(kube_proxy.iptables_change(0, 4).count("DNAT"), 3)
        self.assertIn("mod 3 ", kube_proxy.nft_change(0, 4))

    def test_limits_fit_rings_of_powers_of_two(self):
        self.assertEqual(limits(5000, 10), "limits: {services: 6024, backends: 51024, ring_blocks: 81024}\n")
        self.assertEqual(limits(0, 10), "limits: {services: 1024, backends: 1024, ring_blocks: 1024}\n")


class Command(unittest.TestCase):
    def run_bench(self, *args):
        return subprocess.run([str(BENCH), *args], capture_output=True, text=True, timeout=60, check=False)

    def test_lists_its_benches(self):
        done = self.run_bench("--list")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("smoke\t", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^proxy\t.* \(load, sockets, tc, scale, memory\)$")

    def test_wrong_use_is_refused_before_anything_is_built(self):
        for args, words in (((), "no bench is named; there is: "), (("nope",), 'no bench "nope"; there is: '),
                            (("smoke", "--rounds", "4"), "4 rounds: 5 to"), (("smoke", "--rounds", "many"), "not a number"),
                            (("smoke", "--raw", "/no/such/folder/x.json"), "does not exist"), (("smoke", "--wat"), "--wat"),
                            (("proxy", "--only", "tc,tcx"), 'no part "tcx"; there is: load, sockets'),
                            (("smoke", "--small"), "no small form")):
            done = self.run_bench(*args)
            self.assertEqual((done.returncode, done.stdout), (2, ""), args)
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
