# SPDX-License-Identifier: Apache-2.0
"""The machine that a run was made on: enough to judge its figures, nothing that says whose it is."""
import os
import platform
import subprocess
from pathlib import Path


def _field(path, key):
    try:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=" if path.endswith("os-release") else ":")
            if name.strip() == key:
                return value.strip().strip('"')
    except OSError:
        pass
    return None


def describe():
    memory_kib = int((_field("/proc/meminfo", "MemTotal") or "0").split()[0])
    return {
        "system": _field("/etc/os-release", "PRETTY_NAME"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "virtual": "hypervisor" in (_field("/proc/cpuinfo", "flags") or "").split(),
        "memory_mib": memory_kib // 1024,
    }


def load():
    """Runnable processes on average over the last minute, ours included."""
    return round(os.getloadavg()[0], 2)


def busy_warning(load_now, cpus):
    """What people are told when others are at work on the machine; None when they are not."""
    if load_now <= cpus * 0.5:
        return None
    return (f"the machine is busy (load {load_now:.1f} on {cpus} CPUs): absolute figures are inflated, intervals wide")


def revision(root):
    """The commit that was measured, with "+" when files differ from it; None outside a clone."""
    def git(*args):
        return subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, check=False)
    head = git("rev-parse", "--short=12", "HEAD")
    if head.returncode != 0:
        return None
    changed = git("status", "--porcelain", "--untracked-files=no").stdout.strip()
    return head.stdout.strip() + ("+" if changed else "")
