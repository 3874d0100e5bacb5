# SPDX-License-Identifier: Apache-2.0
"""A cgroup subtree a lab and host, in every hierarchy that is mounted (cgroup2, and v1 where it is).

In cgroup2 the lab's tree is /shoal-lab/NAME below the root; in a v1 hierarchy it is below the caller's own cgroup, so
that limits set on whoever starts a lab hold for the lab too. A host's processes live in its subtree, and a cgroup
namespace begun there makes it look like the root.
"""

import contextlib
import errno
import fcntl
import os
import time

TREE = "shoal-lab"


class Hierarchy:
    """One mounted hierarchy: where, which type, and its mount options."""

    def __init__(self, mount_point, fstype, options):
        self.mount_point = mount_point
        self.fstype = fstype  # "cgroup" or "cgroup2"
        self.options = options  # what mount -o needs to get the same v1 hierarchy again: "cpu,cpuacct"

    @property
    def is_v2(self):
        return self.fstype == "cgroup2"


def hierarchies():
    """The hierarchies below /sys/fs/cgroup, in mount order."""
    result = {}
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            mount_point = left.split()[4]
            fstype, _, options = right.split()[:3]
            if fstype not in ("cgroup", "cgroup2") or not mount_point.startswith("/sys/fs/cgroup"):
                continue
            wanted = [o for o in options.split(",") if o not in ("rw", "ro", "xattr") and "=" not in o]
            named = [o for o in options.split(",") if o.startswith("name=")]
            if named:
                wanted = ["none"] + named
            result[mount_point] = Hierarchy(mount_point, fstype, ",".join(wanted))
    return list(result.values())


def own_path(hierarchy):
    """The calling process's cgroup in that hierarchy, as a path from its root."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if hierarchy.is_v2:
                if controllers == "":
                    return path
            elif controllers and set(controllers.split(",")) <= set(hierarchy.options.split(",")):
                return path
    return "/"


def lab_paths(name):
    """Where a lab of that name has its trees: one absolute folder a hierarchy."""
    paths = []
    for hierarchy in hierarchies():
        below = "/" if hierarchy.is_v2 else own_path(hierarchy)
        # A lab begun from inside another lab's host, or twice from one shell, does not nest in itself.
        below = below.partition(f"/{TREE}/")[0] or "/"
        paths.append(os.path.normpath(f"{hierarchy.mount_point}/{below}/{TREE}/{name}"))
    return paths


def _write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def is_unified():
    """No v1 hierarchy: cgroup2 has the controllers, and a cgroup that hands them on may hold no process itself."""
    return all(h.is_v2 for h in hierarchies())


@contextlib.contextmanager
def _alone():
    """Labs that begin at once share parents: none may be seen half made."""
    fd = os.open("/sys/fs/cgroup", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _make(path, delegate):
    """mkdir -p, and what a fresh cgroup needs before a process may enter it."""
    with _alone():
        _make_alone(path, delegate)


def _make_alone(path, delegate):
    parts = []
    while not os.path.isdir(path):
        parts.append(path)
        path = os.path.dirname(path)
    for folder in reversed(parts):
        parent = os.path.dirname(folder)
        if delegate:
            with open(f"{parent}/cgroup.controllers", encoding="utf-8") as file:
                for controller in file.read().split():
                    try:
                        _write(f"{parent}/cgroup.subtree_control", f"+{controller}")
                    except OSError:
                        pass  # one that may not be delegated: the host goes without
        os.mkdir(folder)
        for knob in ("cpuset.cpus", "cpuset.mems"):  # v1: empty at first, and then nobody may enter
            if os.path.exists(f"{folder}/{knob}") and not os.path.exists(f"{folder}/cgroup.controllers"):
                with open(f"{parent}/{knob}", encoding="utf-8") as file:
                    _write(f"{folder}/{knob}", file.read())


LEAF = "host"  # on a unified layout: where a host's processes live, so that its root may hand on controllers


def make(lab_trees, host):
    delegate = is_unified()
    for tree in lab_trees:
        _make(f"{tree}/{host}", delegate)


def joined_by(lab_trees, host, at_root=False):
    """The files into which a process that joins the host writes its pid; at_root: to begin a cgroup namespace there."""
    files = []
    for tree in lab_trees:
        leaf = f"{tree}/{host}" if at_root or not is_unified() else f"{tree}/{host}/{LEAF}"
        os.makedirs(leaf, exist_ok=True)
        files.append(f"{leaf}/cgroup.procs")
    return files


def join(lab_trees, host, at_root=False):
    """Moves the calling process into the host's subtree everywhere."""
    for file in joined_by(lab_trees, host, at_root):
        _write(file, str(os.getpid()))


def kill_all(lab_trees, below=""):
    for tree in lab_trees:
        knob = f"{tree}/{below}/cgroup.kill"
        if os.path.exists(knob):
            try:
                _write(knob, "1")
            except OSError:
                pass


def _remove_once(folder):
    """Removes a subtree, leaves first; False when something in it is still busy."""
    clean = True
    for parent, folders, _ in os.walk(folder, topdown=False):
        for child in folders:
            clean = _rmdir(os.path.join(parent, child)) and clean
    return _rmdir(folder) and clean


def _rmdir(folder):
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise
    return True


def remove(paths, timeout_s=5.0):
    """Removes subtrees; processes that are still on their way out are waited for. Returns what could not be removed."""
    deadline = time.monotonic() + timeout_s
    left = [path for path in paths if os.path.isdir(path)]
    while left:
        left = [path for path in left if not _remove_once(path)]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    for path in paths:
        _rmdir_quietly(os.path.dirname(path))  # the shoal-lab folder itself, when this was the last lab
    return left


def _rmdir_quietly(folder):
    try:
        os.rmdir(folder)
    except OSError:
        pass
