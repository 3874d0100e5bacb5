#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/tidylib/clang_tidy on a project of a few lines, with the checks of this repository."""
import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))

from tidylib import clang_tidy  # noqa: E402

HEADER = """#pragma once
namespace mini {
struct Base {
  virtual ~Base() = default;
  virtual int half(int n) const = 0;
};
struct Text {
  explicit Text(const char* value) : value_(value) {}
  const char* value_;
};
}  // namespace mini
"""
ONE = """#include "agent/mini.h"
namespace mini {
namespace {
struct Floor : Base {
  int half(int n) const override { return n / 2; }
};
}  // namespace
int floor_half(int n) { return Floor().half(n); }
}  // namespace mini
"""
TWO = """#include "agent/mini.h"
namespace mini {
double quarter(int n) { return n / 4.0; }
}  // namespace mini
"""
ALONE = "int alone() { return 1; }\n"


class Project(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="shoal-clang-tidy-test.")
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve()
        self.said = []
        self.flags = {}
        shutil.copy(ROOT / ".clang-tidy", self.root)
        (self.root / "build").mkdir()
        self.write("agent/mini.h", HEADER)
        self.write("agent/one.cpp", ONE)
        self.write("agent/two.cpp", TWO)
        self.write("agent/alone.cpp", ALONE)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def replace(self, name, old, new):
        text = (self.root / name).read_text()
        self.assertEqual(text.count(old), 1, f"{name}: {old}")
        self.write(name, text.replace(old, new))

    def check(self, without=()):
        sources = sorted(self.root.glob("agent/*.cpp"))
        commands = [{"directory": str(self.root / "build"), "file": str(s),
                     "command": f"/usr/bin/c++ -I{self.root} -O1 -Wall -std=c++20 {self.flags.get(s.name, '')} -o {s.stem}.o -c {s}"}
                    for s in sources if s.name not in without]
        (self.root / "build/compile_commands.json").write_text(json.dumps(commands))
        self.said = []
        return clang_tidy.check(self.root, self.root / "build", sources, 2, self.said.append)

    def counts(self, report):
        return report.checked, report.unchanged, report.runs

    def test_what_is_clean_is_read_in_one_go_and_once(self):
        report = self.check()
        self.assertEqual(report.findings, [])
        self.assertEqual(self.counts(report), (3, 0, 1))
        self.assertEqual(self.counts(self.check()), (0, 3, 0))

    def test_findings_come_with_their_own_file_and_line(self):
        self.replace("agent/mini.h", "  explicit Text", "  Text")
        self.replace("agent/one.cpp", "const override", "const")
        self.replace("agent/two.cpp", "n / 4.0", "n / 4")
        for _ in range(2):  # what has findings is not taken for clean
            report = self.check()
            self.assertEqual([f.split(": ")[0] + f[f.rindex(" "):] for f in report.findings],
                             ["agent/mini.h:8 [google-explicit-constructor]",
                              "agent/one.cpp:5 [modernize-use-override]",
                              "agent/two.cpp:3 [bugprone-integer-division]"])
        self.assertEqual(self.counts(report), (2, 1, 1))

    def test_a_change_is_seen_by_all_that_it_reaches_and_by_nobody_else(self):
        self.check()
        self.write("agent/mini.h", HEADER + "// A change.\n")
        self.assertEqual(self.counts(self.check()), (2, 1, 1))
        self.flags["alone.cpp"] = "-DALONE=1"
        self.assertEqual(self.counts(self.check()), (1, 2, 1))
        self.write(".clang-tidy", (self.root / ".clang-tidy").read_text() + "# A change.\n")
        self.assertEqual(self.counts(self.check()), (3, 0, 2))  # two sets of flags

    def test_sources_that_define_the_same_name_are_kept_apart(self):
        for name in ("one", "two"):
            self.write(f"agent/{name}.cpp", "namespace {\nint same(int n) {\n  return n;\n}\n}  // namespace\n"
                                            f"double {name}(int n) {{ return same(n) / 2; }}\n")
        report = self.check()
        self.assertEqual([f[: f.index(": ")] for f in report.findings], ["agent/one.cpp:6", "agent/two.cpp:6"])
        self.assertEqual(report.runs, 2)
        self.assertFalse([s for s in self.said if "split" in s])

    def test_a_clash_that_only_the_compiler_sees_is_split_off(self):
        for name in ("one", "two"):
            self.write(f"agent/{name}.cpp", "enum { same };\n" + f"double {name}(int n) {{ return n / 2; }}\n")
        first = self.check()
        self.assertEqual([f[: f.index(": ")] for f in first.findings], ["agent/one.cpp:2", "agent/two.cpp:2"])
        self.assertEqual(len([s for s in self.said if "split" in s]), 1)
        self.assertEqual(self.check().findings, first.findings)

    def test_what_clang_cannot_compile_is_a_finding_and_hides_no_other(self):
        self.write("agent/alone.cpp", "int alone() { return nothing; }\n")
        self.replace("agent/two.cpp", "n / 4.0", "n / 4")
        findings = self.check().findings
        self.assertEqual([f.split(": ")[0] + f[f.rindex(" "):] for f in findings],
                         ["agent/alone.cpp:1 [clang-diagnostic-error]", "agent/two.cpp:3 [bugprone-integer-division]"])

    def test_flags_that_end_the_run_are_not_taken_for_clean(self):
        self.flags["alone.cpp"] = "-include no/such/file.h"
        findings = self.check().findings
        self.assertEqual(len(findings), 1, findings)
        self.assertIn("no/such/file.h", findings[0])

    def test_a_source_that_the_build_does_not_know_is_a_finding(self):
        findings = self.check(without=["alone.cpp"]).findings
        self.assertEqual(len(findings), 1, findings)
        self.assertRegex(findings[0], r"^agent/alone\.cpp:1: not in .*compile_commands\.json")


if __name__ == "__main__":
    unittest.main()
