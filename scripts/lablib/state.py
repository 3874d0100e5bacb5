# SPDX-License-Identifier: Apache-2.0
"""What is known of a lab that is up: /run/shoal-lab/NAME/lab.json, and who may change it.

Process ids are kept as the machine sees them ("outer") and as the sandbox sees them ("inner"), each good together with
the start time only, so that every command works from outside the sandbox and from inside it.
"""

import contextlib
import fcntl
import json
import os
import re
import time

from . import syscalls

RUN = "/run/shoal-lab"
DISK = "/var/tmp/shoal-lab"  # on a disk: images are big, and overlayfs does not stack on overlayfs
LOCK_TIMEOUT_S = 60
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class LabError(Exception):
    """Something the user is told in one line."""


def check_name(name):
    if not NAME.fullmatch(name):
        raise LabError(f"lab name {name!r}: lower-case letters, digits and '-', at most 32")
    return name


def folder(name):
    return f"{RUN}/{name}"


def disk(name):
    return f"{DISK}/{name}"


def _lock(fd, name):
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                os.close(fd)
                raise LabError(f"another command has been at work on lab {name!r} for {LOCK_TIMEOUT_S} s") from error
        time.sleep(0.02)


@contextlib.contextmanager
def locked(name):
    """One command at a time changes a lab."""
    os.makedirs(RUN, mode=0o755, exist_ok=True)
    path = f"{RUN}/.{name}.lock"
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _lock(fd, name)
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(fd).st_ino == os.stat(path).st_ino:
                break
        os.close(fd)  # removed by whoever held it: the next one starts afresh
    try:
        yield
    finally:
        if not os.path.isdir(folder(name)):
            os.unlink(path)
        os.close(fd)


def save(lab):
    path = f"{folder(lab['name'])}/lab.json"
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(lab, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.new", path)


def load(name):
    """The lab's record, or None."""
    try:
        with open(f"{folder(check_name(name))}/lab.json", encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LabError(f"{folder(name)}/lab.json cannot be read ({error}); scripts/lab down --name {name}") from error


def names():
    try:
        return sorted(e for e in os.listdir(RUN) if NAME.fullmatch(e) and os.path.isdir(f"{RUN}/{e}"))
    except FileNotFoundError:
        return []


def seen_from_here(lab, record):
    """A recorded process under the pid by which the caller sees it."""
    here = syscalls.namespace_of("self", "pid")
    if here == lab["pid_namespace"]:
        return {"pid": record["outer"], "start": record["start"]}
    if here == lab["sandbox"]["pid_namespace"]:
        return {"pid": record["inner"], "start": record["start"]}
    raise LabError("run this on the machine itself or in the lab's sandbox, not in one of its hosts")


def require(name):
    """The record of a lab that is up."""
    lab = load(name)
    if lab is None:
        up = [n for n in names() if load(n)]
        raise LabError(f"no lab {name!r} is up; " + (f"there is: {', '.join(up)} (--name)" if up else "scripts/lab up"))
    if not syscalls.is_alive(seen_from_here(lab, lab["sandbox"])):
        raise LabError(f"lab {name!r} has died; scripts/lab up --name {name} makes a new one")
    return lab


def require_node(lab, node):
    if node not in lab["nodes"]:
        raise LabError(f"no host {node!r} in lab {lab['name']!r}; there is: {', '.join(lab['nodes'])}")
    return lab["nodes"][node]
