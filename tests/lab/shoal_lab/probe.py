# SPDX-License-Identifier: Apache-2.0
"""Asking a path: shoal-loadgen from a host, a client machine or inside a pod, and what it saw.

A source is a node's name ("h1", "c1"), or a pod object whose image has /bin/shoal-loadgen.
"""
import json
import subprocess

from .cluster import LOADGEN, SHOAL, ClusterError


def name_of(source):
    return source if isinstance(source, str) else source["metadata"]["name"]


def address_of(cluster, source):
    """What a server should see as the source's address."""
    return cluster.address(source) if isinstance(source, str) else source["status"]["podIP"]


def argv(cluster, source, *command):
    if isinstance(source, str):
        return cluster.argv(source, LOADGEN, *command)
    return cluster.argv(source["spec"]["nodeName"], SHOAL, "exec", name_of(source), "--", "/bin/shoal-loadgen", *command)


def _lines(cluster, source, command, timeout_s):
    done = subprocess.run(argv(cluster, source, *command), capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        raise ClusterError(f"{name_of(source)}: {' '.join(map(str, command))}: exit {done.returncode}: "
                           f"{done.stderr.strip() or done.stdout.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def connect(cluster, source, *targets, count=1, timeout_ms=1000):
    """One connection after the other; each a dict: outcome, ms, peer, self, and the body's KEY=VALUE words as `said`."""
    command = ["connect", "-n", count, "--timeout", f"{timeout_ms}ms"]
    for target in targets:
        command += ["--to", target]
    seen = _lines(cluster, source, command, 30 + count * len(targets) * timeout_ms / 1000)
    for one in seen:
        one["said"] = dict(word.split("=", 1) for word in one["body"].split() if "=" in word)
    return seen


def split(cluster, source, target, count=2000, by="pod"):
    """How many of `count` requests, each on its own connection, each pod answered; any failure is an error."""
    tally = _lines(cluster, source, ["requests", "--to", target, "-n", count, "--by", by], 120)[-1]
    if tally["failed"]:
        raise ClusterError(f"{name_of(source)} to {target}: {tally['failed']} of {count} failed: {tally['failures']}")
    return tally["seen"]
