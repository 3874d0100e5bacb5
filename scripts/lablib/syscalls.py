# SPDX-License-Identifier: Apache-2.0
"""The few system calls that Python 3.11's library lacks, and process identity that survives pid reuse."""

import ctypes
import os
import signal

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def unshare(flags):
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def die_with_parent():
    """SIGKILL for the calling process when the thread that made it ends; kept through exec."""
    _check(_libc.prctl(1, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def sethostname(name):
    data = name.encode()
    _check(_libc.sethostname(data, ctypes.c_size_t(len(data))), "sethostname")


def mount(source, target, fstype=None, flags=0, data=None):
    def text(value):
        return None if value is None else value.encode()

    _check(
        _libc.mount(text(source), text(target), text(fstype), ctypes.c_ulong(flags), text(data)),
        f"mount {fstype or source} on {target}",
    )


def detach(target):
    """Takes away the topmost mount on target with all that is below it; nothing mounted there is fine."""
    if _libc.umount2(target.encode(), ctypes.c_int(MNT_DETACH)) != 0:
        error = ctypes.get_errno()
        if error not in (22, 2):  # EINVAL: no mount point; ENOENT
            raise OSError(error, f"umount {target}: {os.strerror(error)}")


def start_ticks(pid):
    """When the process started, in clock ticks since boot; None when there is none (a zombie counts as none)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def identify(pid):
    return {"pid": pid, "start": start_ticks(pid)}


def is_alive(process):
    return bool(process) and process["start"] is not None and start_ticks(process["pid"]) == process["start"]


def open_pidfd(process):
    """A pidfd for exactly that process, or None when it is gone."""
    try:
        fd = os.pidfd_open(process["pid"])
    except OSError:
        return None
    if is_alive(process):  # checked after the open: the pidfd now pins whoever has the pid
        return fd
    os.close(fd)
    return None


def kill_process(process, number=signal.SIGKILL):
    """True when the signal was sent."""
    fd = open_pidfd(process)
    if fd is None:
        return False
    try:
        signal.pidfd_send_signal(fd, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def namespace_of(pid, kind):
    """The inode number of a process's namespace, or None."""
    try:
        return int(os.readlink(f"/proc/{pid}/ns/{kind}").partition("[")[2].rstrip("]"))
    except OSError:
        return None


def find_init_of(pid_namespaces):
    """pid, as this process sees it, of process 1 of each given pid namespace: {inode: pid}."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        inode = namespace_of(entry, "pid")
        if inode not in pid_namespaces:
            continue
        try:
            with open(f"/proc/{entry}/status", encoding="utf-8", errors="replace") as file:
                nspid = next(line for line in file if line.startswith("NSpid:")).split()[1:]
        except (OSError, StopIteration):
            continue
        if nspid[-1] == "1":
            found[inode] = int(entry)
    return found
