# SPDX-License-Identifier: Apache-2.0
"""Keeps the rest of a busy machine out of a measurement of one path: both ends at real-time priority on one CPU.

The client and the server of a closed loop never need two CPUs at once; on one, what is measured is the work on the path and not
how long an idle CPU takes to wake. Ours and the peer are shielded alike. Windows must be short: a CPU is never given to
real-time processes for a whole second (sched_rt_runtime_us, and the fair server of newer kernels).
"""
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

from lablib import cgroups  # noqa: E402  pylint: disable=wrong-import-position

PRIORITY = 10


def lift_cpu_group(pid):
    """Out of the lab's cgroup to the caller's, in the v1 cpu hierarchy only: in a v1 group without a budget of its own, kernels
    with CONFIG_RT_GROUP_SCHED refuse real-time priority. What the process starts from now on follows."""
    for hierarchy in cgroups.hierarchies():
        if not hierarchy.is_v2 and "cpu" in hierarchy.options.split(","):
            with open(f"{hierarchy.mount_point}{cgroups.own_path(hierarchy)}/cgroup.procs", "w", encoding="utf-8") as file:
                file.write(str(pid))


def shield_argv(node):
    """What to put before a command line on that node, and in words what it does."""
    cpu = max(os.sched_getaffinity(0))
    argv = ["chrt", "-f", str(PRIORITY), "taskset", "-c", str(cpu)]
    if node.may(*argv, "true"):
        return argv, "both ends on one CPU at real-time priority"
    argv = ["nice", "-n", "-20", "taskset", "-c", str(cpu)]
    return argv, "both ends on one CPU; real-time priority was refused, so that other work on the machine shows"
