# SPDX-License-Identifier: Apache-2.0
"""A lab host with a real systemd as process 1: systemd-nspawn in the host's own network and cgroup subtree.

   lab host h1 (namespaces, eth0 198.18.0.11)
     systemd-nspawn -b: an overlay over the machine's own root, without what its administrator switched on
       systemd: pure cgroup v2 (whatever the machine has), journal, a boot id of each boot's own
         shoald.service from agent/daemon/systemd, the programs that were built

What it is not: its kernel's, its devices' and its mounts' first owner. A cgroup2 tree on a machine whose controllers
are v1's has none, so limits cannot be looked at there.
"""
import subprocess
import tempfile

from shoal_lab import cluster
from shoal_lab.cluster import ROOT, ClusterError, wait_for

FOLDER = "/var/lib/shoal/machine"  # on the lab's disk
MACHINE = "/run/machine"

_PREPARE = f"""
set -e
mkdir -p {FOLDER}/upper {FOLDER}/work {FOLDER}/state {MACHINE}
mount -t overlay machine -o lowerdir=/,upperdir={FOLDER}/upper,workdir={FOLDER}/work {MACHINE}
cd {MACHINE}
# Only what packages bring: nothing that was enabled, mounted or configured on this machine.
rm -rf etc/systemd/system etc/systemd/network etc/fstab etc/machine-id etc/shoal var/log/journal
mkdir -p etc/systemd/system/multi-user.target.wants etc/systemd/system/shoald.service.d etc/shoal
mkdir -p usr/libexec/shoal var/lib/shoal
uuid=$(cat /proc/sys/kernel/random/uuid)
echo "$uuid" | tr -d - >etc/machine-id
echo machine >etc/hostname
cp {ROOT}/agent/daemon/systemd/shoald.service {ROOT}/agent/daemon/systemd/shoal.slice usr/lib/systemd/system/
touch usr/sbin/shoald usr/bin/shoal usr/bin/shoal-cp usr/libexec/shoal/shoal-shim
"""


class Machine:
    def __init__(self, lab, host="h1"):
        self.lab = lab
        self.host = host
        self.nspawn = None
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.init = None

    def prepare(self):
        self.lab.run(self.host, "sh", "-c", _PREPARE)

    def write(self, path, text):
        """A file of the machine's, before it boots or while it runs."""
        self.lab.run(self.host, "sh", "-c", f"mkdir -p $(dirname {MACHINE}{path}) && cat >{MACHINE}{path}", input=text)

    def boot(self):
        binds = [f"--bind-ro={cluster.SHOALD}:/usr/sbin/shoald", f"--bind-ro={cluster.SHOAL}:/usr/bin/shoal",
                 f"--bind-ro={cluster.SHOAL}-cp:/usr/bin/shoal-cp",
                 f"--bind-ro={cluster.SHIM}:/usr/libexec/shoal/shoal-shim",
                 f"--bind={FOLDER}/state:/var/lib/shoal", "--bind=/sys/fs/bpf"]
        self.nspawn = self.lab.popen(
            # Without nspawn's own filter of system calls, which no machine has.
            self.host, "env", "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1",
            "SYSTEMD_SECCOMP=0",
            "systemd-nspawn", "-q", "-D", MACHINE, "--register=no", "--keep-unit", "-b", "--console=pipe",
            "--link-journal=no", "--capability=all",
            *binds, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        self.init = wait_for("systemd to be started", self.find_init, 30, on_timeout=self.words)
        wait_for("systemd to be up", lambda: self.state() in ("running", "degraded"), 60, on_timeout=self.words)

    def words(self):
        self.log.seek(0)
        ended = "" if self.nspawn.poll() is None else f"systemd-nspawn ended with {self.nspawn.returncode}: "
        return ended + self.log.read()

    def find_init(self):
        """Process 1 of the machine, as the lab host sees it."""
        found = self.lab.run(self.host, "sh", "-c", "pid=$(pgrep -x systemd-nspawn) && cat /proc/$pid/task/$pid/children",
                             check=False).stdout.split()
        for pid in found:
            name = self.lab.run(self.host, "cat", f"/proc/{pid}/comm", check=False).stdout.strip()
            if name == "systemd":
                return int(pid)
        return None

    def power_off(self):
        self.run("systemctl", "poweroff", check=False)
        self.nspawn.wait(timeout=60)

    def close(self):
        """After the lab is down."""
        if self.nspawn:
            self.nspawn.wait(timeout=30)
        self.log.close()

    def argv(self, *command):
        return self.lab.argv(self.host, "nsenter", "-t", self.init, "-m", "-u", "-i", "-p", "-C", *command)

    def run(self, *command, check=True, timeout=60, **options):
        done = subprocess.run(self.argv(*command), capture_output=True, text=True, timeout=timeout, check=False, **options)
        if check and done.returncode != 0:
            raise ClusterError(f"machine: {' '.join(map(str, command))}: exit {done.returncode}: "
                               f"{done.stderr.strip() or done.stdout.strip()}")
        return done

    def state(self):
        return self.run("systemctl", "is-system-running", check=False).stdout.strip()

    def show(self, unit, *properties):
        """A unit's properties: {name: value}."""
        text = self.run("systemctl", "show", unit, "-p", ",".join(properties)).stdout
        return dict(line.split("=", 1) for line in text.splitlines())

    def journal(self, unit, lines=60):
        return self.run("journalctl", "--no-pager", "-o", "cat", "-n", str(lines), "-u", unit, check=False).stdout
