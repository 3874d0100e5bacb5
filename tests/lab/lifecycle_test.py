#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The lab itself: what it promises to everything that is tested in it.

   sandbox (no way out)
     bridge lan .1 ---+--- h1 .11
                      +--- h2 .12
                      +--- c1 .101
"""
import os
import signal
import subprocess
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab.cluster import wait_for  # noqa: E402
from shoal_lab.lab import LAB, Lab, cgroups, state, syscalls, traces_of  # noqa: E402


class OneLab(unittest.TestCase):
    """What can be looked at without breaking it: one lab for all."""

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(hosts=2, clients=1).up()

    @classmethod
    def tearDownClass(cls):
        cls.lab.down(check=False)

    def test_everybody_reaches_everybody_in_both_families(self):
        targets = ["198.18.0.1", "198.18.0.11", "198.18.0.12", "198.18.0.101"]
        targets += ["2001:db8:1::1", "2001:db8:1::11", "2001:db8:1::12", "2001:db8:1::101"]
        script = 'for t; do ping -c1 -W2 -n "$t" >/dev/null || echo "$t"; done'
        for source in ("h1", "h2", "c1", "lan"):
            silent = self.lab.run(source, "sh", "-c", script, "sh", *targets).stdout
            self.assertEqual(silent, "", f"from {source}")
        self.assertTrue(self.lab.reaches("c1", "h2"))  # by name

    def test_there_is_no_way_out(self):
        with open("/proc/net/route", encoding="utf-8") as file:
            machine_links = {line.split()[0] for line in file.readlines()[1:]}
        for node in ("lan", "h1", "c1"):
            links = {line.split()[1].split("@")[0].rstrip(":") for line in
                     self.lab.run(node, "ip", "-o", "link").stdout.splitlines()}
            self.assertLessEqual(links, {"lo", "eth0", "lan", "h1", "h2", "c1"}, f"{node}: {machine_links}")
        routes = self.lab.run("lan", "ip", "route").stdout.splitlines()
        self.assertEqual([line.split()[0] for line in routes], ["198.18.0.0/24"])
        refused = self.lab.run("h1", "ping", "-c1", "-W1", "192.0.2.77", check=False)
        self.assertIn("Unreachable", refused.stdout)

    def test_exec_passes_the_exit_code_signals_streams_and_the_folder(self):
        self.assertEqual(self.lab.run("h1", "sh", "-c", "exit 42", check=False).returncode, 42)
        killed = self.lab.run("h1", "sh", "-c", "kill -TERM $$", check=False)
        self.assertEqual(killed.returncode, -signal.SIGTERM)
        self.assertEqual(self.lab.run("h1", "cat", input="through\n").stdout, "through\n")
        noisy = self.lab.run("h1", "sh", "-c", "echo out; echo err >&2")
        self.assertEqual((noisy.stdout, noisy.stderr), ("out\n", "err\n"))
        self.assertEqual(self.lab.run("h1", "pwd", cwd="/usr/lib").stdout, "/usr/lib\n")
        self.assertEqual(self.lab.run("h1", "no-such-program", check=False).returncode, 127)

    def test_exec_passes_a_terminal(self):
        shown = subprocess.run(
            ["script", "-qec", " ".join(self.lab.argv("h1", "tty")), "/dev/null"],
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )
        self.assertRegex(shown.stdout, r"/dev/pts/\d+|/dev/tty")

    def test_every_command_works_inside_the_sandbox_too(self):
        inside = self.lab.argv("lan", LAB, "exec", "--name", self.lab.name, "h2", "--", "hostname")
        self.assertEqual(subprocess.check_output(inside, text=True, timeout=60), "h2\n")
        listed = self.lab.run("lan", LAB, "status", "--name", self.lab.name).stdout
        self.assertIn("198.18.0.101", listed)
        nested = self.lab.run("h1", LAB, "exec", "--name", self.lab.name, "h2", "--", "true", check=False)
        self.assertNotEqual(nested.returncode, 0)  # a host knows nothing of the lab

    def test_a_host_is_a_machine_of_its_own(self):
        self.assertEqual(self.lab.run("h1", "hostname").stdout, "h1\n")
        processes = self.lab.run("h1", "ps", "-e", "-o", "pid=,comm=").stdout.split("\n")
        self.assertEqual(processes[0].split(), ["1", "lab_init"])
        self.assertLess(len(processes), 6)
        self.lab.run("h1", "sh", "-c", "for d in /run/shoal /etc/shoal /etc /var/lib/shoal /var/log; do echo h1 >$d/of; done")
        for folder in ("/run/shoal", "/etc/shoal", "/etc", "/var/lib/shoal", "/var/log"):
            self.assertEqual(self.lab.run("h2", "test", "-e", f"{folder}/of", check=False).returncode, 1, folder)
            self.assertFalse(os.path.exists(f"{folder}/of"), folder)
        self.assertEqual(self.lab.run("h1", "cat", "/proc/sys/net/ipv4/ip_forward").stdout, "1\n")
        self.assertEqual(self.lab.run("c1", "cat", "/proc/sys/net/ipv4/ip_forward").stdout, "0\n")
        offload = self.lab.run("c1", "ethtool", "-k", "eth0").stdout
        self.assertIn("tx-checksumming: off", offload)

    def test_a_hosts_folder_carries_overlays(self):
        self.lab.run("h1", "sh", "-ec", "cd /var/lib/shoal; mkdir -p l u w m; echo x >l/f; "
                     "mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m; echo y >m/f; cat l/f u/f; umount m")

    def test_a_host_has_its_own_bpffs_and_cgroup_root(self):
        self.lab.run("h1", "mkdir", "/sys/fs/bpf/mine")
        self.assertEqual(self.lab.run("h2", "test", "-e", "/sys/fs/bpf/mine", check=False).returncode, 1)
        for line in self.lab.run("h1", "cat", "/proc/self/cgroup").stdout.splitlines():
            self.assertRegex(line, r":/(host)?$")
        v2 = next(h.mount_point for h in cgroups.hierarchies() if h.is_v2)
        self.lab.run("h1", "mkdir", f"{v2}/mine")
        self.assertFalse(os.path.exists(f"{v2}/mine"))
        self.assertEqual(self.lab.run("h2", "test", "-e", f"{v2}/mine", check=False).returncode, 1)
        sleeper = self.lab.popen("h1", "sleep", "60")
        try:
            wait_for("the command to be in the host's cgroup", lambda: self._in_cgroup(sleeper.pid), 10)
        finally:
            sleeper.kill()
            sleeper.wait()

    def _in_cgroup(self, pid):
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            return all(f"/shoal-lab/{self.lab.name}/h1" in line for line in file)

    def test_a_name_in_use_and_a_host_that_is_none_are_refused(self):
        again = self.lab.command("up", check=False)
        self.assertEqual(again.returncode, 1)
        self.assertIn("up already", again.stderr)
        nobody = self.lab.run("h9", "true", check=False)
        self.assertIn("no host 'h9'", nobody.stderr)
        self.assertIn("h1", nobody.stderr)
        odd = subprocess.run([LAB, "up", "--name", "../x"], capture_output=True, text=True, timeout=60, check=False)
        self.assertIn("lower-case letters", odd.stderr)
        huge = subprocess.run([LAB, "up", "--name", f"{self.lab.name}-x", "--hosts", "81"], capture_output=True,
                              text=True, timeout=60, check=False)
        self.assertIn("at most 80 hosts", huge.stderr)


class Lifecycle(unittest.TestCase):
    def assert_no_trace(self, lab, processes):
        wait_for(f"lab {lab.name} to leave nothing", lambda: not traces_of(lab, processes), 20,
                 on_timeout=lambda: "\n".join(traces_of(lab, processes)))

    def test_cut_and_heal(self):
        with Lab() as lab:
            lab.command("cut", "h1")
            self.assertFalse(lab.reaches("h2", "198.18.0.11"))
            self.assertIn("NO-CARRIER", lab.run("h1", "ip", "-o", "link", "show", "eth0").stdout)
            self.assertEqual(lab.refresh()["nodes"]["h1"]["link"], "cut")
            lab.command("heal", "h1")
            wait_for("h1 to answer again", lambda: lab.reaches("h2", "198.18.0.11"), 10)

    def test_a_killed_host_is_gone_and_boots_with_its_disk(self):
        with Lab() as lab:
            lab.run("h1", "sh", "-c", "echo kept >/var/lib/shoal/disk; echo lost >/run/shoal/memory; sleep 600 >/dev/null 2>&1 &")
            outsider = lab.popen("h1", "sleep", "600")  # entered from outside: half of it is not in the host
            h1 = lab.record["nodes"]["h1"]

            def inside_h1():
                return [p for p in lab.processes() if syscalls.namespace_of(p["pid"], "net") == h1["net_namespace"]]

            # lab_init, the host's own sleep, and nsenter with the sleep below it.
            wait_for("both commands to run", lambda: len(inside_h1()) >= 4, 10)
            inside = inside_h1()
            lab.command("kill", "h1")
            # What was in the host's pid namespace is gone with the kill; nsenter, which is not in it, ends when its child has.
            wait_for("everything that had the host's network to be gone",
                     lambda: not [p for p in inside if syscalls.is_alive(p)], 10)
            outsider.wait(timeout=10)
            self.assertFalse(lab.reaches("h2", "198.18.0.11"))
            self.assertNotIn("h1:", lab.run("lan", "ip", "-o", "link").stdout)
            self.assertIn("dead", lab.run("h1", "true", check=False).stderr)
            lab.command("boot", "h1")
            wait_for("h1 to answer again", lambda: lab.reaches("h2", "198.18.0.11"), 10)
            self.assertEqual(lab.run("h1", "cat", "/var/lib/shoal/disk").stdout, "kept\n")
            self.assertEqual(lab.run("h1", "test", "-e", "/run/shoal/memory", check=False).returncode, 1)

    def test_down_leaves_nothing(self):
        lab = Lab().up()
        lab.run("h1", "sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & mkdir /sys/fs/bpf/x")
        processes = lab.processes()
        self.assertGreaterEqual(len(processes), 5)
        lab.down()
        self.assertEqual(traces_of(lab, processes), [])
        self.assertIn("was not up", lab.command("down").stderr)

    def test_killing_the_first_process_leaves_nothing(self):
        lab = Lab().up()
        lab.run("h2", "sh", "-c", "setsid sleep 600 >/dev/null 2>&1 &")
        processes = lab.processes()
        lab.kill_sandbox()
        self.assert_no_trace(lab, processes)

    def test_killing_the_keeper_ends_the_lab_and_the_next_up_sweeps(self):
        lab = Lab().up()
        processes = lab.processes()
        syscalls.kill_process(lab.record["keeper"])
        wait_for("the sandbox to die with its keeper", lambda: not any(map(syscalls.is_alive, processes)), 20)
        lab.up()
        self.assertTrue(lab.reaches("h1", "198.18.0.12"))
        processes = lab.processes()
        lab.down()
        self.assert_no_trace(lab, processes)

    def test_a_lab_ends_with_its_owner(self):
        owner = subprocess.Popen(["sleep", "600"])
        lab = Lab(owner_pid=owner.pid).up()
        processes = lab.processes()
        owner.kill()
        owner.wait()
        self.assert_no_trace(lab, processes)

    def test_two_labs_do_not_see_each_other(self):
        with Lab(hosts=1, clients=0) as one, Lab(hosts=1, clients=0) as two:
            self.assertNotEqual(one.record["nodes"]["h1"]["net_namespace"], two.record["nodes"]["h1"]["net_namespace"])
            one.run("h1", "sh", "-c", "echo one >/var/lib/shoal/of")
            self.assertEqual(two.run("h1", "test", "-e", "/var/lib/shoal/of", check=False).returncode, 1)
            one.command("kill", "h1")
            self.assertTrue(two.reaches("lan", "198.18.0.11"))
            self.assertIn(two.name, state.names())

    def test_a_lab_that_cannot_begin_leaves_nothing_and_says_why(self):
        lab = Lab()
        failed = lab.command("up", check=False, env={**os.environ, "SHOAL_LAB_INIT": "/no/such/program"})
        self.assertIn("not built yet", failed.stderr)
        failed = lab.command("up", check=False, env={**os.environ, "SHOAL_LAB_INIT": "/etc/passwd"})
        self.assertIn("ninja -C build/release lab_init", failed.stderr)
        self.assertNotIn(lab.name, state.names())


if __name__ == "__main__":
    unittest.main(verbosity=2)
