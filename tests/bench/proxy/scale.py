# SPDX-License-Identifier: Apache-2.0
"""50,000 Services beside one: what a connection costs, and what the kernel keeps for them.

   h1: client pod - shoald with one Service - server pod        h2: the same with 50,000 Services more
"""
import contextlib

from shoal_bench import paths
from shoal_bench.rounds import Row
from shoal_bench.stats import ROUNDS_MIN

from .limit import Limit, limit_pair
from .places import BACKENDS, Places

SERVICES = 50_000
KERNEL_MB_MAX = 250
FLAT = 0.99  # two hosts with one Service each differ by 0.2 %


def map_mb(here, row):
    sizes = here.map_bytes()
    return {row: sum(sizes.values()) / 1e6, "largest_mb": [round(size / 1e6, 1) for size in sorted(sizes.values())[:-6:-1]]}


@contextlib.contextmanager
def pairs(stage):
    services = stage.sized(SERVICES)
    with Places(stage, hosts=2) as places:
        one, many = places.agent(1, 0), places.agent(2, services)
        few_path, many_path = places.through_shoal(one)[0], places.through_shoal(many)[0]
        crr = Row(f"ClusterIP crr rate by socket hooks, {services:,} Services beside 1", "1/s", "higher", goal=FLAT,
                  verdict="interval",
                  note=f"{paths.WHAT['crr']}: one at a time for {paths.WINDOW}, between two pods of a host, by a ClusterIP, with "
                       f"{services:,} x {BACKENDS} backends more in the maps; {places.shield_words}.")
        memory = f"kernel memory, {services:,} Services x {BACKENDS} backends"
        note = ("Of all BPF maps that the agent holds, as their fdinfo accounts for it. limits.services, backends and ring_blocks "
                "are as small as that many need; the tables for flows, clients and datagrams have their default sizes.")
        yield [paths.rate_pair(crr, "crr", many_path, few_path, "one Service"),
               limit_pair([Limit(memory, "MB", KERNEL_MB_MAX, note)], lambda: map_mb(many, memory), warmups=0,
                          rounds_max=ROUNDS_MIN)]
