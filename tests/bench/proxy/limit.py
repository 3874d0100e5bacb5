# SPDX-License-Identifier: Apache-2.0
"""Numbers that were set beforehand, as the peer of a pair: what is ours is measured, a limit stays what it is."""
from dataclasses import dataclass

from shoal_bench.rounds import Pair, Row


@dataclass(frozen=True)
class Limit:
    row: str
    unit: str
    most: float
    note: str


def limit_pair(limits, measure, **options):
    """measure() gives {row: value, ...}; the goal of each row is to stay within its limit."""
    return Pair("a limit", tuple(Row(one.row, one.unit, "lower", goal=1.0, verdict="interval", note=one.note) for one in limits),
                measure, lambda: {one.row: float(one.most) for one in limits}, **options)
