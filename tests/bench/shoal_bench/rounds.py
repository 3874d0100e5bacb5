# SPDX-License-Identifier: Apache-2.0
"""Rows, and how they are measured: in rounds, ours and the peer in turn, the other one first every time.

A bench is a module tests/bench/benches/NAME.py:
  - its docstring's first line says what it measures (scripts/bench --list shows it);
  - BUILD names the ninja targets of the release build that it needs;
  - PARTS names its parts, in the order in which they are measured; `--only` chooses among them. Each is a context manager
    pairs(stage) that sets everything up, gives a list of Pair, and clears everything away, however it is left. `stage`
    is the Stage below;
  - HAS_SMALL, when it is there and true, says that its parts size what they have many of by stage.sized() (`--small`).
The frame does the rest: arguments, build, rounds, statistics, the machine, raw rows.
"""
import time
from dataclasses import dataclass, field
from typing import Callable

from . import stats

BETTER = ("higher", "lower")
VERDICTS = ("median", "interval")
SMALL_DIVISOR = 50


@dataclass(frozen=True)
class Row:
    """One line of the result. The ratio is always ours / peer; the goal is a bound for it, from the better side."""

    name: str
    unit: str
    better: str  # "higher" or "lower"
    goal: float | None = None
    note: str = ""  # what is compared with what, in one sentence
    verdict: str = "median"  # what is held against the goal: the median ratio, or (also equality is a goal) its interval

    def __post_init__(self):
        if self.better not in BETTER:
            raise ValueError(f"row {self.name!r}: better is {self.better!r}, not one of {BETTER}")
        if self.verdict not in VERDICTS:
            raise ValueError(f"row {self.name!r}: the verdict is by {self.verdict!r}, not one of {VERDICTS}")

    @property
    def goal_text(self):
        if self.goal is None:
            return None
        return f"{'>=' if self.better == 'higher' else '<='} {f'{self.goal:.2f}' if self.goal >= 0.1 else f'{self.goal:g}'}"


@dataclass(frozen=True)
class Pair:
    """One thing measured on both sides. Each call measures once and gives {row name: value}, values above zero; what it gives
    beyond the rows is kept with the raw ones."""

    peer_name: str
    rows: tuple[Row, ...]
    ours: Callable[[], dict]
    peer: Callable[[], dict]
    warmups: int = 1  # on each side, before the first round; their values are dropped
    rounds_factor: int = 1  # rounds that are cheap are measured so many times as often
    rounds_max: int | None = None  # rounds that are dear are measured no more often, whatever was asked for

    def rounds(self, asked):
        number = asked * self.rounds_factor
        return number if self.rounds_max is None else min(number, max(self.rounds_max, stats.ROUNDS_MIN))


@dataclass
class Measured:
    row: Row
    peer_name: str
    samples: list = field(default_factory=list)  # {"round", "first", "ours", "peer", "at_s", perhaps "also"}

    def paired(self):
        return [(s["ours"], s["peer"]) for s in self.samples]


@dataclass(frozen=True)
class Stage:
    """What a bench gets from the frame."""

    name: str  # of the lab, unique on this machine
    progress: Callable[[str], None]  # one line for people
    small: bool = False  # only shows that everything works: see sized()

    def sized(self, number):
        """How many of something that a bench has many of. What a bench says of itself uses the answer."""
        return max(1, number // SMALL_DIVISOR) if self.small else number


def run_parts(parts, stage, rounds):
    """One part after the other, each set up and cleared away; a list of Measured."""
    results = []
    for pairs in parts:
        with pairs(stage) as listed:
            results += run_rounds(listed, rounds, stage.progress)
    check_names([result.row.name for result in results])
    return results


def check_names(names):
    if len(set(names)) != len(names):
        raise ValueError(f"two rows have one name: {names}")


def run_rounds(pairs, rounds, progress, clock=time.monotonic):
    """Measures every pair in that many rounds, times its factor, and returns a Measured for each row, in order."""
    names = [row.name for pair in pairs for row in pair.rows]
    check_names(names)
    began = clock()
    results = []
    for pair in pairs:
        progress(f"{pair.rows[0].name}: beside {pair.peer_name}")
        for _ in range(pair.warmups):
            pair.ours()
            pair.peer()
        measured = [Measured(row, pair.peer_name) for row in pair.rows]
        for number in range(1, pair.rounds(rounds) + 1):
            first, second = ("ours", "peer") if number % 2 else ("peer", "ours")
            values = {side: getattr(pair, side)() for side in (first, second)}
            about = {"round": number, "first": first, "at_s": round(clock() - began, 2)}
            for result in measured:
                result.samples.append(about | {side: values[side][result.row.name] for side in ("ours", "peer")})
            also = {side: {k: v for k, v in values[side].items() if k not in names} for side in ("ours", "peer")}
            if any(also.values()):
                measured[0].samples[-1]["also"] = also
        results += measured
    return results
