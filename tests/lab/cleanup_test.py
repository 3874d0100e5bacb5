#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""shoald --cleanup: nothing of Shoal is left in the kernel, and a shoald that starts again makes it all anew.

   client c1 ---+--- LAN ---+--- h1: shoald, a pod of web   <- is cleaned up
                            +--- h2: shoald, a pod of web
"""
import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import web  # noqa: E402
from shoal_lab.cluster import SHOALD, Cluster, wait_for  # noqa: E402

HOST = "h1"
# Everything that Shoal may leave, one thing a line. (A new bpffs holds maps.debug and progs.debug of the kernel's own.)
TRACES = """\
ip -o link | grep -E 'shl|shoal'
ip route show table all | grep -E 'shl|shoal|proto 83'
ip rule | grep -i shoal
nft list ruleset | grep -i shoal
ls /sys/fs/bpf | grep -v '[.]debug$'
bpftool net show | grep -i shoal
tc filter show dev eth0 ingress
for tree in $(awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts); do
  ls -d $tree/shoal.slice 2>/dev/null
  bpftool cgroup show $tree 2>/dev/null | grep -i shoal
done
ps -eo args | grep '[s]hoal-shim'
grep /shoal/pods/ /proc/mounts
true
"""


class Cleanup(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(f"cleanup-{os.getpid()}", hosts=2)
        self.cluster.up()
        self.addCleanup(self.cluster.down)
        self.cluster.form()
        with tempfile.TemporaryDirectory() as folder:
            self.cluster_ip, self.vip = web.deploy(self.cluster, Path(folder), 2)

    def traces(self):
        return self.cluster.run(HOST, "sh", "-c", TRACES).stdout.splitlines()

    def cleanup(self, *flags):
        return self.cluster.run(HOST, SHOALD, "--cleanup", *flags, check=False)

    def daemon_runs(self):
        return self.cluster.run(HOST, "sh", "-c", "kill -0 $(cat /run/shoald.pid)", check=False).returncode == 0

    def test_the_kernel_is_left_as_though_shoal_had_never_been_there(self):
        before = self.traces()
        for sign in ("shoal-vxlan", "shl", "proto 83", "shoal", "shoal.slice", "shoal-shim"):
            self.assertTrue(any(sign in line for line in before), f"{sign}: the check sees nothing of it")

        refused = self.cleanup()
        self.assertEqual(refused.returncode, 1)
        self.assertIn("shoald runs on this host", refused.stderr)
        listed = self.cleanup("--dry-run")
        self.assertEqual(listed.returncode, 0, listed.stderr)
        for what in ("would remove link shoal-vxlan", "would remove BPF links/cgroup-connect4",
                     "would remove nftables table inet shoal", "(running)"):
            self.assertIn(what, listed.stdout)

        self.cluster.kill_daemon(HOST, "TERM")
        wait_for("shoald to end", lambda: not self.daemon_runs(), 20)
        refused = self.cleanup()
        self.assertEqual(refused.returncode, 1)
        self.assertIn("pods run on this host", refused.stderr)
        self.assertEqual(sorted(self.traces()), sorted(before))  # refusals and the dry run changed nothing

        done = self.cleanup("--force")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(self.traces(), [])
        self.assertIn("there is nothing of Shoal in this kernel", self.cleanup().stdout)

        # Membership, images and objects are on disk: the host comes back as it was.
        self.cluster.start_daemon(HOST)
        self.cluster.wait_ready("app=web", 2, timeout_s=90)
        web.wait_balanced(self.cluster, HOST, 2, timeout_s=60)
        self.assertEqual(
            sorted(p["metadata"]["name"] for p in self.cluster.ready_pods("app=web")),
            sorted({web.ask(self.cluster, "c1", port, self.vip) for port in range(42000, 42016)}))


if __name__ == "__main__":
    unittest.main(verbosity=2)
