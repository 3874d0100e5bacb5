# SPDX-License-Identifier: Apache-2.0
"""What an agent needs for a cluster of 100,000 backends.

   h1: shoald, the only host of its cluster
"""
import contextlib

from shoal_bench import agent
from shoal_bench.node import Node
from shoal_lab import cluster as lab

from .limit import Limit, limit_pair

SERVICES = 10_000
BACKENDS = 10
RSS_MB_MAX = 150


def restarted_mb(here, row, last, empty):
    """Of an agent that has just read all of it. The kernel's maps have never been without: it is asked for what it wants."""
    here.stop()
    here.start()
    lab.wait_for(f"{here.host} to know Service {last}", lambda: here.picks(last), 60, 0.2)
    kib = here.rss_kib()
    return {row: kib["VmRSS"] * 1024 / 1e6, "kib": kib, "empty_kib": empty}


@contextlib.contextmanager
def pairs(stage):
    services = stage.sized(SERVICES)
    with contextlib.ExitStack() as leave:
        cluster = lab.Cluster(stage.name, hosts=1, clients=0)
        leave.callback(cluster.down)
        cluster.up()
        node = leave.enter_context(Node(cluster, "h1"))
        here = agent.Agent(cluster, node, lab.wait_for, agent.limits(services, BACKENDS))
        empty = here.rss_kib()
        stage.progress(f"h1: an agent with {services:,} Services")
        here.fill(services, BACKENDS)
        row = f"agent memory, {services * BACKENDS:,} backends"
        note = (f"RSS of shoald, started anew each time, once it wants all of {services:,} Services x {BACKENDS} addresses in "
                "EndpointSlices without pods; without any it is in the raw rows as empty_kib. It holds the store, too.")
        last = f"bulk{services - 1}"
        yield [limit_pair([Limit(row, "MB", RSS_MB_MAX, note)], lambda: restarted_mb(here, row, last, empty), warmups=0)]
