# SPDX-License-Identifier: Apache-2.0
"""A bare lab for tests: hosts and clients without any cluster software.

Each has a name of its own, so that tests run side by side, and ends with the process that made it, however that ends.
traces_of() looks from outside for what a lab may have left behind.
"""
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LAB = ROOT / "scripts/lab"
sys.path.insert(0, str(ROOT / "scripts"))

from lablib import cgroups, enter, state, syscalls  # noqa: E402

_numbers = itertools.count(1)


class LabFailure(Exception):
    pass


def exec_argv(name, node, command):
    """scripts/lab exec without an interpreter to start; if the command cannot run, it says so when it is run."""
    command = list(map(str, command))
    try:
        return enter.argv(name, node, command)
    except state.LabError:
        return [str(LAB), "exec", "--name", name, node, "--", *command]


class Lab:
    def __init__(self, hosts=2, clients=1, owner_pid=None):
        self.name = f"t{os.getpid()}-{next(_numbers)}"
        self.size = (hosts, clients)
        self.owner_pid = owner_pid or os.getpid()
        self.record = None

    def command(self, verb, *arguments, check=True, timeout=60, **options):
        argv = [str(LAB), verb, "--name", self.name, *map(str, arguments)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False, **options)
        if check and done.returncode != 0:
            raise LabFailure(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
        return done

    def up(self):
        hosts, clients = self.size
        done = self.command("up", "--hosts", hosts, "--clients", clients, "--owner-pid", self.owner_pid, "--json")
        self.record = json.loads(done.stdout)
        return self

    def down(self, check=True):
        self.command("down", check=check)

    def __enter__(self):
        return self.up()

    def __exit__(self, *_):
        self.down(check=False)

    def refresh(self):
        self.record = state.load(self.name)
        return self.record

    def argv(self, node, *command):
        return [str(LAB), "exec", "--name", self.name, node, "--", *map(str, command)]

    def run(self, node, *command, check=True, timeout=60, **options):
        done = subprocess.run(
            self.argv(node, *command), capture_output=True, text=True, timeout=timeout, check=False, **options
        )
        if check and done.returncode != 0:
            raise LabFailure(f"{node}: {' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip()}")
        return done

    def popen(self, node, *command, **options):
        return subprocess.Popen(self.argv(node, *command), **options)

    def reaches(self, source, target):
        """One echo, answered within a second."""
        return self.run(source, "ping", "-c1", "-W1", "-n", target, check=False).returncode == 0

    def kill_sandbox(self):
        syscalls.kill_process(state.seen_from_here(self.record, self.record["sandbox"]))

    def processes(self):
        """Every process that now lives in one of the lab's pid or network namespaces, as identities."""
        namespaces = {node["net_namespace"] for node in self.record["nodes"].values()}
        spaces = {node["pid_namespace"] for node in self.record["nodes"].values()}
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (
                syscalls.namespace_of(entry, "net") in namespaces or syscalls.namespace_of(entry, "pid") in spaces
            ):
                found.append(syscalls.identify(int(entry)))
        return found


def traces_of(lab, processes=()):
    """What is left of a lab that is down: a list for people, empty when all is well."""
    left = [f"process {p['pid']}" for p in processes if syscalls.is_alive(p)]
    for path in [*lab.record["cgroups"], state.folder(lab.name), state.disk(lab.name)]:
        if os.path.exists(path):
            left.append(path)
    left += [tree for tree in cgroups.lab_paths(lab.name) if os.path.exists(tree)]
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        left += [f"mount {line.split()[4]}" for line in file if f"/{lab.name}/" in line]
    if os.path.isdir("/run/netns"):
        left += [f"netns {name}" for name in os.listdir("/run/netns") if lab.name in name]
    return left
