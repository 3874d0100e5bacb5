# SPDX-License-Identifier: Apache-2.0
"""The outer sandbox: made, kept, swept.

  scripts/lab up ---fork---> keeper (outside) ---> unshare ---> process 1 of the sandbox (lab_init)
                                                                  +-- process 1 of h1 (lab_init), h2, ..., c1, ...
The keeper waits for the sandbox's end, whoever brings it about, and then clears away files and cgroups. The sandbox
dies with its keeper, too (--kill-child), so that there is never one without the other; what a killed keeper leaves on disk is
swept by the next `up` or `down`.
"""

import glob
import json
import os
import select
import shutil
import subprocess
import sys

from . import cgroups, hosts, state, syscalls
from .state import LabError

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LAB = os.path.join(REPOSITORY, "scripts", "lab")
TOOLS = ("ip", "nsenter", "unshare", "ethtool")


def find_lab_init():
    """The newest one built, or what $SHOAL_LAB_INIT names."""
    chosen = os.environ.get("SHOAL_LAB_INIT")
    built = [chosen] if chosen else glob.glob(f"{REPOSITORY}/build/*/tests/lab/lab_init")
    built = [path for path in built if os.access(path, os.X_OK)]
    if not built:
        raise LabError(
            "lab_init, the first process of a lab host, is not built yet. Build it:\n"
            "  cmake --preset release && ninja -C build/release lab_init"
        )
    return os.path.abspath(max(built, key=os.path.getmtime))


def check_machine():
    if os.geteuid() != 0:
        raise LabError("a lab makes namespaces and cgroups: run it as root")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabError(f"not installed: {', '.join(missing)}; scripts/install-deps installs them")


# --- Clearing away ----------------------------------------------------------------------------------


def clear_away(name, cgroup_trees):
    """Removes what a lab whose processes are gone has left: cgroups, disk, state. Returns what is still busy."""
    trees = sorted(set(cgroup_trees) | set(cgroups.lab_paths(name)))
    cgroups.kill_all(trees)
    busy = cgroups.remove(trees)
    shutil.rmtree(state.disk(name), ignore_errors=True)
    shutil.rmtree(state.folder(name), ignore_errors=True)
    for parent in (state.DISK,):
        try:
            os.rmdir(parent)
        except OSError:
            pass
    return busy


def sweep(name):
    """Before `up`: a lab of this name that has died leaves no trace. Refuses when one is alive."""
    try:
        lab = state.load(name)
    except LabError:
        lab = None
    if lab and syscalls.is_alive(state.seen_from_here(lab, lab["sandbox"])):
        raise LabError(f"lab {name!r} is up already; scripts/lab down --name {name}, or choose another --name")
    clear_away(name, lab["cgroups"] if lab else [])


# --- Inside -----------------------------------------------------------------------------------------


def become_sandbox(name, request_json, report_fd):
    """Process 1 of the sandbox (scripts/lab _sandbox): sets everything up, reports, executes lab_init."""
    lab = json.loads(request_json)
    os.set_inheritable(report_fd, False)  # closed by executing lab_init, here and in every host
    try:
        hosts.fresh_kernel_filesystems()
        os.makedirs("/run/shoal-lab", exist_ok=True)
        hosts.make_switch()
        booted = {node: hosts.boot(node, lab, lab["nodes"]) for node in lab["nodes"] if node != hosts.ROUTER}
        report = {"sandbox": syscalls.namespace_of("self", "pid"), "nodes": booted}
        report["start"] = syscalls.start_ticks("self")
        os.write(report_fd, json.dumps(report).encode() + b"\n")
    except BaseException as error:  # pylint: disable=broad-except
        os.write(report_fd, json.dumps({"error": str(error) or repr(error)}).encode() + b"\n")
        os._exit(1)
    os.chdir("/")
    os.execv(lab["lab_init"], ["lab_init", "sandbox", name])


# --- Outside ----------------------------------------------------------------------------------------


def _keep(name, lab, owner, report_fd):
    """The keeper's life, in a daemon of its own."""
    cgroups.join(lab["cgroups"], hosts.ROUTER)
    command = ["unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--propagation"]
    command += ["private", sys.executable, LAB, "_sandbox", "--name", name, "--report-fd", str(report_fd)]
    child = subprocess.Popen(
        command,
        pass_fds=[report_fd],
        stdin=subprocess.PIPE,
        text=True,
        cwd="/",
        preexec_fn=syscalls.die_with_parent,  # the keeper has one thread
    )
    # Back where it came from: the keeper must outlive the cgroup that it clears away.
    _leave_cgroups(lab["cgroups"])
    os.close(report_fd)
    with child.stdin as request:
        request.write(json.dumps(lab))
    waited = [os.pidfd_open(child.pid)]
    if owner is not None:
        owner_fd = syscalls.open_pidfd(owner)
        if owner_fd is None:
            child.kill()
        else:
            waited.append(owner_fd)
    if waited[0] not in select.select(waited, [], [])[0]:
        child.kill()  # the owner is gone; --kill-child takes the sandbox along
    child.wait()
    with state.locked(name):
        clear_away(name, lab["cgroups"])
    os._exit(0)


def _leave_cgroups(trees):
    for tree in trees:
        outside = os.path.dirname(os.path.dirname(tree))
        with open(f"{outside}/cgroup.procs", "w", encoding="utf-8") as file:
            file.write(str(os.getpid()))


def _start_keeper(name, lab, owner):
    """Forks the keeper off and returns (its identity, the fd on which the sandbox reports)."""
    report_read, report_write = os.pipe()
    pid_read, pid_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        keeper = os.fork()
        if keeper != 0:
            os.write(pid_write, str(keeper).encode())
            os._exit(0)
        try:
            os.chdir("/")
            log = os.open(f"{state.folder(name)}/keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            null = os.open("/dev/null", os.O_RDONLY)
            for fd, source in ((0, null), (1, log), (2, log)):
                os.dup2(source, fd)
            # The lab's lock above all: it would be held for as long as the keeper lives.
            os.closerange(3, report_write)
            os.closerange(report_write + 1, 65536)
            _keep(name, lab, owner, report_write)
        except BaseException as error:  # pylint: disable=broad-except
            print(f"keeper: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)
    os.close(report_write)
    os.close(pid_write)
    with os.fdopen(pid_read, encoding="utf-8") as file:
        keeper = int(file.read())
    os.waitpid(child, 0)
    return syscalls.identify(keeper), report_read


def _keeper_log(name):
    try:
        with open(f"{state.folder(name)}/keeper.log", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def up(name, host_count, client_count, owner_pid=None):
    """Makes a lab and returns its record. The caller holds the lab's lock."""
    check_machine()
    lab_init = find_lab_init()
    sweep(name)
    os.makedirs(state.folder(name), mode=0o755)
    os.makedirs(state.disk(name), mode=0o755)
    nodes = [hosts.ROUTER]
    nodes += [f"h{i + 1}" for i in range(host_count)] + [f"c{i + 1}" for i in range(client_count)]
    lab = {"name": name, "lab_init": lab_init, "disk": state.disk(name), "nodes": nodes}
    lab["cgroups"] = cgroups.lab_paths(name)
    try:
        cgroups.make(lab["cgroups"], hosts.ROUTER)
        owner = syscalls.identify(owner_pid) if owner_pid else None
        keeper, report_fd = _start_keeper(name, lab, owner)
        with os.fdopen(report_fd, encoding="utf-8") as file:
            text = file.readline()  # end of file, when the sandbox ended without a word
        report = json.loads(text) if text else {"error": f"the sandbox ended before it began. {_keeper_log(name)}"}
        if "error" in report:
            syscalls.kill_process(keeper)
            raise LabError(report["error"])
        return _record(lab, keeper, report)
    except BaseException:
        clear_away(name, lab["cgroups"])
        raise


def _record(lab, keeper, report):
    wanted = {report["sandbox"]} | {node["pid_namespace"] for node in report["nodes"].values()}
    outer = syscalls.find_init_of(wanted)
    lab["keeper"] = keeper
    lab["pid_namespace"] = syscalls.namespace_of("self", "pid")
    sandbox_pid = outer[report["sandbox"]]
    lab["sandbox"] = {
        "outer": sandbox_pid,
        "inner": 1,
        "start": syscalls.start_ticks(sandbox_pid),
        "pid_namespace": report["sandbox"],
    }
    router = {"net_namespace": syscalls.namespace_of(sandbox_pid, "net"), "link": "up"}
    lab["nodes"] = {hosts.ROUTER: lab["sandbox"] | router | addresses(hosts.ROUTER)}
    for node, booted in report["nodes"].items():
        lab["nodes"][node] = booted | {"outer": outer[booted["pid_namespace"]], "link": "up"} | addresses(node)
    state.save(lab)
    return lab


def addresses(node):
    v4, v6 = hosts.node_addresses(node)
    return {"ip4": v4, "ip6": v6}


def down(name, timeout_s=20.0):
    """Ends a lab, whatever state it is in. The caller does not hold the lock: the keeper needs it."""
    try:
        lab = state.load(name)
    except LabError:
        lab = None
    if lab:
        here = state.seen_from_here(lab, lab["sandbox"])
        if here["pid"] == 1:
            raise LabError("run `down` on the machine, not inside the lab")
        syscalls.kill_process(here)
        keeper_fd = syscalls.open_pidfd(lab["keeper"])
        if keeper_fd is not None:
            select.select([keeper_fd], [], [], timeout_s)
            os.close(keeper_fd)
    with state.locked(name):
        busy = clear_away(name, lab["cgroups"] if lab else [])
    if busy:
        raise LabError(f"still busy: {', '.join(busy)}; a process from outside the lab is in it")
    return lab is not None
