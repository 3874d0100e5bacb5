# SPDX-License-Identifier: Apache-2.0
"""scripts/bench: measures Shoal beside a peer or a limit, in the same run on the same machine."""
import argparse
import ast
import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import machine, report, rounds, stats

ROOT = Path(__file__).resolve().parents[3]
BENCHES = ROOT / "tests/bench/benches"
RAW_FOLDER = ROOT / "build/bench"
ROUNDS_DEFAULT = 11
ROUNDS_MAX = 1000

EPILOG = """\
Each row is measured in paired rounds, ours and the peer in turn. A missed goal is shown, not punished: the exit status is 0
when everything could be measured, 1 when something could not, 2 for wrong use. The raw rows with the machine go to
build/bench/NAME-TIME.json.
"""


class Interrupted(BaseException):
    """A signal asked the run to end: everything that was set up is cleared away on the way out."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.number = number


def benches():
    """{name: first line of the docstring}, without running any."""
    found = {}
    for path in sorted(BENCHES.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = text.split("\n", 1)[0]
    return found


def rounds_number(text):
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number') from error
    if not stats.ROUNDS_MIN <= number <= ROUNDS_MAX:
        raise argparse.ArgumentTypeError(
            f"{number} rounds: {stats.ROUNDS_MIN} to {ROUNDS_MAX}; fewer say nothing about the noise")
    return number


def parse(argv):
    known = benches()
    listed = "\n".join(f"  {name:10} {text}" for name, text in known.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=f"{__doc__}\n\nbenches:\n{listed}", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", metavar="NAME", help="which bench")
    parser.add_argument("--list", action="store_true", help="the benches, one a line")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="a JSON list of rows on standard output, nothing else there")
    shape.add_argument("--markdown", action="store_true", help="a section for tests/bench/RESULTS.md on standard output")
    parser.add_argument("--rounds", type=rounds_number, default=ROUNDS_DEFAULT, metavar="N",
                        help=f"paired rounds a row, at least {stats.ROUNDS_MIN} (default: {ROUNDS_DEFAULT})")
    parser.add_argument("--only", metavar="PART[,PART]", help="measure these parts of the bench only (--list names them)")
    parser.add_argument("--small", action="store_true",
                        help="a fiftieth of what there is much of: shows that all of it works, and says little about speed")
    parser.add_argument("--raw", metavar="FILE", help="put the raw rows there instead")
    parser.add_argument("--no-build", action="store_true",
                        help="measure what is built already, in $SHOAL_BUILD_DIR or build/release")
    args = parser.parse_args(argv)
    if args.list:
        print("\n".join(f"{name}\t{text} ({', '.join(load(name).PARTS)})" for name, text in known.items()))
        sys.exit(0)
    if args.name not in known:
        what = "no bench is named" if args.name is None else f'there is no bench "{args.name}"'
        parser.error(f"{what}; there is: {', '.join(known)}")
    if args.raw and not os.path.isdir(os.path.dirname(os.path.abspath(args.raw))):
        parser.error(f"--raw {args.raw}: its folder does not exist")
    args.parts = parts_of(parser, args)
    if args.small and not getattr(load(args.name), "HAS_SMALL", False):
        parser.error(f"--small: {args.name} has no small form")
    return args


def load(name):
    return importlib.import_module(f"benches.{name}")


def parts_of(parser, args):
    """The parts that are asked for, in the bench's own order."""
    known = load(args.name).PARTS
    asked = set(known) if args.only is None else set(args.only.split(","))
    if unknown := sorted(asked - set(known)):
        parser.error(f"--only: {args.name} has no part \"{unknown[0]}\"; there is: {', '.join(known)}")
    return [pairs for name, pairs in known.items() if name in asked]


def say(text):
    print(f"scripts/bench: {text}", file=sys.stderr, flush=True)


def build(targets):
    """What users run: the release build. Its messages go to standard error."""
    def step(*command):
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    step("scripts/install-deps")
    say(f"build (release): {' '.join(targets)}")
    quiet = subprocess.run(["cmake", "--preset", "release"], cwd=ROOT, capture_output=True, text=True, check=False)
    if quiet.returncode != 0:
        sys.stderr.write(quiet.stdout + quiet.stderr)
        raise subprocess.CalledProcessError(quiet.returncode, quiet.args)
    step("cmake", "--build", "--preset", "release", "--", *targets)


def interrupt(number, _frame):
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # clearing away takes its time and is not to be cut short
    raise Interrupted(number)


def measure(args):
    about = {"bench": args.name, "command": shlex.join(["scripts/bench", *sys.argv[1:]]),
             "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "revision": machine.revision(ROOT),
             "rounds": args.rounds, "machine": machine.describe(), "load_before": machine.load()}
    if warning := machine.busy_warning(about["load_before"], about["machine"]["cpus"]):
        say(warning)
    stage = rounds.Stage(f"bench-{args.name}-{os.getpid()}", say, args.small)
    began = time.monotonic()
    measured = rounds.run_parts(args.parts, stage, args.rounds)
    about |= {"seconds": round(time.monotonic() - began, 1), "load_after": machine.load()}
    return about, measured


def main(argv=None):
    args = parse(sys.argv[1:] if argv is None else argv)
    if os.geteuid() != 0:
        say("it makes network namespaces and loads BPF: run it as root")
        return 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        if not args.no_build:
            build(load(args.name).BUILD)
        about, measured = measure(args)
        raw = args.raw or str(RAW_FOLDER / f"{args.name}-{about['began'].replace(':', '')}.json")
        document = report.as_document(about, measured)
        report.save(raw, document)
    except Interrupted as stopped:
        say(f"ended by {stopped}; nothing is left behind")
        return 128 + stopped.number
    except subprocess.CalledProcessError as error:
        say(f"{shlex.join(map(str, error.cmd))}: exit {error.returncode}")
        return 1
    except Exception as error:  # pylint: disable=broad-except
        say(f"{type(error).__name__}: {error}")
        if os.environ.get("SHOAL_LAB_LOGS"):
            raise
        return 1
    say(f"raw rows: {raw}")
    if args.json:
        print(json.dumps(report.as_list(measured), indent=1))
    elif args.markdown:
        print(report.as_markdown(document))
    else:
        print("\n".join(report.as_table(measured)))
    return 0
