# SPDX-License-Identifier: Apache-2.0
"""Commands that run in a lab's node: in its namespaces and in its cgroups."""

import os

from . import cgroups, hosts, state, syscalls

# $1 and $2: lab and node, $3: so many files of cgroups follow, then the command. It moves itself into those and becomes it. An interpreter to
# start would cost a tenth of a second of a core each time, and tests run thousands of commands.
SCRIPT = """export SHOAL_LAB=$1 SHOAL_LAB_HOST=$2
left=$3
shift 3
while [ "$left" -gt 0 ]; do
  echo $$ >"$1" || exit 125
  shift
  left=$((left - 1))
done
exec "$@"
"""


def nsenter(lab, node, command):
    """The command line for a node; the caller has joined the node's cgroups."""
    record = state.require_node(lab, node)
    process = state.seen_from_here(lab, record)
    if not syscalls.is_alive(process):
        raise state.LabError(f"{node} is dead; scripts/lab boot {node} starts it again")
    flags = ["-m", "-u", "-i", "-n", "-p"] + (["-C"] if node != hosts.ROUTER else [])
    return ["nsenter", "-t", str(process["pid"]), *flags, f"--wdns={os.getcwd()}", *command]


def argv(name, node, command):
    """The same from anywhere; good as long as the node lives. LabError when it is not there now."""
    lab = state.require(name)
    inside = nsenter(lab, node, command)
    files = cgroups.joined_by(lab["cgroups"], node)
    return ["/bin/sh", "-c", SCRIPT, "sh", name, node, str(len(files)), *files, *inside]
