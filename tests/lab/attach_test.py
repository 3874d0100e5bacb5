#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Containers with a standard input and with a terminal, and those who attach to them, on the pod's host and on another.

    h1 ---- lan ---- h2      a pod is on either; who asks, on the same or on the other
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import objects  # noqa: E402
from shoal_lab.cluster import SHOAL, Cluster, wait_for  # noqa: E402

IMAGE = "shoal.dev/demo/web:blue"
# Says what it is told, and ends as it is told.
ECHO = "while read x; do echo got $x; echo bad >&2; [ $x = end ] && exit 7; done; exit 8"
# More than all the buffers on the way to who does not read it, at a pace that others keep up with.
FLOOD = ("read x; i=0; while [ $i -lt 100 ]; do yes 0123456789abcdef | head -c 200000; i=$((i + 1)); sleep 0.05; done; "
         "echo; echo done; read x; exit 3")
# Runs a command at a terminal of 33 lines of 111, looks at its size within, makes it larger, looks again and ends the shell.
AT_A_TERMINAL = """
import fcntl, os, pty, struct, sys, termios
def sized(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
pid, terminal = pty.fork()
if pid == 0:
    sized(0, 33, 111)
    os.execv(sys.argv[1], sys.argv[1:])
seen = b""
def until(text, typed=b""):
    global seen
    os.write(terminal, typed)
    while text not in seen:
        seen += os.read(terminal, 4096)
try:
    until(b"pressing enter")
    until(b"begun", b"echo be''gun\\r")
    until(b"33 111", b"stty size\\r")
    sized(terminal, 40, 120)
    until(b"40 120", b"while [ \\"$(stty size)\\" != '40 120' ]; do sleep 0.1; done; stty size\\r")
    os.write(terminal, b"exit 9\\r")
    while more := os.read(terminal, 4096):
        seen += more
except OSError:
    pass
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


# Ends the command by a signal while the terminal is raw, and says what the terminal is then.
ENDED_AT_A_TERMINAL = r"""
import os, pty, signal, subprocess, sys, termios, time
ours, theirs = pty.openpty()
before = termios.tcgetattr(theirs)
command = subprocess.Popen(sys.argv[1:], stdin=theirs, stdout=theirs, stderr=theirs)
deadline = time.monotonic() + 20
while termios.tcgetattr(theirs)[3] & termios.ICANON and time.monotonic() < deadline:
    time.sleep(0.02)
raw = not termios.tcgetattr(theirs)[3] & termios.ICANON
os.read(ours, 4096)  # or setting it back would wait for that
command.send_signal(signal.SIGTERM)
print(raw, command.wait(20), termios.tcgetattr(theirs) == before)
"""


class Attached:
    """A `shoal attach` under way on a host."""

    count = 0

    def __init__(self, cluster, host, *arguments):
        self.cluster, self.host = cluster, host
        Attached.count += 1
        self.pid_file = f"/run/attach{Attached.count}.pid"
        self.process = cluster.popen(host, "sh", "-c", 'echo $$ >"$1"; shift; exec "$@"', "sh", self.pid_file, SHOAL,
                                     "attach", *arguments, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.raw = bytearray()

    @property
    def seen(self):
        return self.raw.decode()

    def type(self, text):
        self.process.stdin.write(text.encode())

    def look(self):
        while more := self.process.stdout.read(1 << 20):
            self.raw += more
        return self.raw

    def sees(self, text, typed=None):
        """typed: again and again, where it may be before this is attached."""
        def there():
            if text.encode() not in self.look() and typed:
                self.type(typed)
            return text.encode() in self.raw
        return wait_for(f"{text!r} to be seen", there, 30, 0.2 if typed else 0.02, on_timeout=lambda: self.seen[-500:])

    def kill(self):
        self.cluster.run(self.host, "sh", "-c", f"kill -KILL $(cat {self.pid_file})")
        self.end()

    def end(self):
        """Its exit code and what it said of errors."""
        if not self.process.stdin.closed:
            self.process.stdin.close()
        code = self.process.wait(timeout=60)
        self.look()
        said = self.process.stderr.read().decode()
        self.process.stdout.close()
        self.process.stderr.close()
        return code, said


class Attach(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(f"attach-{os.getpid()}", hosts=2, clients=0)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder, ("blue",), client=False)

    def make(self, name, script, **more):
        """Its host, and the other one."""
        container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", script], **more}
        self.cluster.apply(objects.documents(objects.pod(name, {"app": name}, {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]})))
        pod = self.wait_pod(name, "Running")
        host = pod["spec"]["nodeName"]
        return host, next(h for h in self.cluster.hosts if h != host)

    def wait_pod(self, name, phase):
        def holds():
            pod = self.cluster.get("pod", name)
            return pod if pod["status"].get("phase") == phase else None
        return wait_for(f"pod {name} to be {phase}", holds, 30,
                        on_timeout=lambda: json.dumps(self.cluster.get("pod", name)["status"]))

    def logs(self, host, name):
        return self.cluster.shoal(host, "logs", name).stdout

    def attach(self, host, *arguments):
        return Attached(self.cluster, host, *arguments)

    def test_input_output_and_exit_code_from_both_hosts(self):
        here, there = self.make("echo", ECHO, stdin=True)
        near, far = self.attach(here, "-i", "echo"), self.attach(there, "-i", "echo")
        near.sees("got near\n", "near\n")
        far.sees("got far\n", "far\n")
        near.sees("got far\n")
        # One that leaves, and the end of his input, are nothing to the container.
        far.kill()
        onlooker = self.attach(there, "echo")
        near.sees("got still\n", "still\n")
        wait_for("the onlooker to see", lambda: near.type("again\n") or b"got again\n" in onlooker.look(), 20, 0.2)
        self.assertNotIn("got near", onlooker.seen)
        near.type("end\n")
        for attached in (near, onlooker):
            code, said = attached.end()
            self.assertEqual(code, 7, said)
            self.assertIn("bad\n", said)
            self.assertIn("got end\n", attached.seen)
        log = self.logs(there, "echo")
        for text in ("got near\n", "got far\n", "got still\n", "got end\n", "bad\n"):
            self.assertIn(text, log)
        self.wait_pod("echo", "Failed")
        late = self.cluster.shoal(there, "attach", "echo", check=False)
        self.assertNotEqual(late.returncode, 0)
        self.assertIn("cannot attach a container in a completed pod; current phase is Failed", late.stderr)

    def test_a_terminal_with_its_size(self):
        for asked in (0, 1):
            name = f"tty{asked}"
            hosts = self.make(name, "exec sh", stdin=True, tty=True)
            shown = self.cluster.run(hosts[asked], "python3", "-c", AT_A_TERMINAL, SHOAL, "attach", "-it", name, check=False)
            self.assertRegex(shown.stdout, r"(?s)33 111\s.*40 120\s")
            self.assertEqual(shown.returncode, 9, shown.stdout + shown.stderr)
            self.assertIn("begun", self.logs(hosts[0], name))

    def test_a_signal_leaves_the_terminal_as_it_was(self):
        here = self.make("signalled", "exec sh", stdin=True, tty=True)[0]
        shown = self.cluster.run(here, "python3", "-c", ENDED_AT_A_TERMINAL, SHOAL, "attach", "-it", "signalled").stdout
        self.assertEqual(shown.split(), ["True", "143", "True"])

    def test_an_agent_that_is_killed_leaves_the_streams_open(self):
        here, _ = self.make("kept", ECHO, stdin=True)
        first = self.attach(here, "-i", "kept")
        first.sees("got before\n", "before\n")
        self.cluster.kill_daemon(here)
        self.cluster.start_daemon(here)
        code, said = first.end()
        self.assertEqual(code, 1)
        self.assertIn("shoald ended the connection", said)
        wait_for("the pod to be known", lambda: self.cluster.shoal(here, "exec", "kept", "--", "true", check=False).returncode == 0)
        second = self.attach(here, "-i", "kept")
        second.sees("got after\n", "after\n")
        second.type("end\n")
        self.assertEqual(second.end()[0], 7)
        self.assertEqual(self.cluster.get("pod", "kept")["status"]["containerStatuses"][0]["restartCount"], 0)

    def test_who_does_not_read_holds_up_nobody(self):
        here, there = self.make("flood", FLOOD, stdin=True)
        slow = self.cluster.popen(there, SHOAL, "attach", "flood", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with tempfile.TemporaryFile() as shown:
            quick = self.cluster.popen(here, SHOAL, "attach", "-i", "flood", stdin=subprocess.PIPE, stdout=shown,
                                       stderr=subprocess.PIPE, bufsize=0)
            quick.stdin.write(b"go\n")
            wait_for("the whole log", lambda: self.cluster.shoal(here, "logs", "flood", "--tail", "1").stdout == "done\n", 60)
            quick.stdin.write(b"end\n")
            errors = quick.communicate(timeout=60)[1]
            self.assertEqual(quick.returncode, 3, errors)
            shown.seek(0)
            text = shown.read()
        self.assertEqual(len(text), 20_000_000 + len("\ndone\n"))
        self.assertTrue(text.endswith(b"\ndone\n"))
        said = slow.communicate(timeout=60)[1].decode()
        self.assertIn("detached from container main, which runs on", said)
        self.assertEqual(slow.returncode, 1)

    def test_who_goes_while_nothing_takes_his_input_leaves_his_place(self):
        hosts = self.make("deaf", "exec sleep 1000", stdin=True)
        typing = 'echo $$ >"$1"; shift; exec "$@" </dev/zero'

        def begin(i):
            return self.cluster.popen(hosts[i % 2], "sh", "-c", typing, "sh", f"/run/deaf{i}.pid", SHOAL, "attach", "-i", "deaf",
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def all_type():
            for i in (i for i, process in enumerate(begun) if process.poll() is not None):
                begun[i] = begin(i)  # the place of who was killed before may not have been free yet
            read = "".join(self.cluster.run(host, "sh", "-c", "for f in /run/deaf*.pid; do cat /proc/$(cat $f)/io; done",
                                            check=False).stdout for host in hosts)
            return sum(int(chars) > 60_000 for chars in re.findall(r"rchar: (\d+)", read)) == 16
        for _ in range(2):
            begun = [begin(i) for i in range(16)]
            wait_for("all to type", all_type, 30, on_timeout=lambda: str([p.poll() for p in begun]))
            late = self.cluster.shoal(hosts[1], "attach", "deaf", check=False)
            self.assertIn("16 are attached to this pod", late.stderr)
            for i, process in enumerate(begun):
                self.cluster.run(hosts[i % 2], "sh", "-c", f"kill -KILL $(cat /run/deaf{i}.pid)")
                process.wait(timeout=20)

    def test_stdin_once_ends_with_the_first_input(self):
        here, there = self.make("once", "cat; echo over; sleep 1000", stdin=True, stdinOnce=True)
        first = self.attach(there, "-i", "once")
        first.type("all of it\n")
        first.process.stdin.close()
        first.sees("all of it\nover\n")
        again = self.cluster.shoal(here, "attach", "-i", "once", check=False)
        self.assertEqual(again.returncode, 1)
        self.assertIn("takes no input: its stdin is not open, or was closed", again.stderr)
        first.kill()

    def test_what_cannot_be_had_is_said(self):
        here, there = self.make("plain", "cat; echo empty; sleep 1000")
        wait_for("its empty input", lambda: self.logs(here, "plain") == "empty\n")
        for host in (here, there):
            refused = self.cluster.shoal(host, "attach", "-i", "plain", check=False)
            self.assertIn("container main has no stdin to attach to", refused.stderr)
            absent = self.cluster.shoal(host, "attach", "plain", "-c", "other", check=False)
            self.assertIn("container other is not in pod plain", absent.stderr)
        # Without the command line's own looking first.
        path = "http://x/api/v1/namespaces/default/pods/plain/attach"
        for query, message in (("stdout=true&tty=true", "Unable to use a TTY - container main did not allocate one"),
                               ("", "you must specify at least 1 of stdin, stdout, stderr")):
            told = self.cluster.run(here, "curl", "-s", "--unix-socket", "/run/shoal/shoald.sock", "-X", "POST", "-H",
                                    "Connection: Upgrade", "-H", "Upgrade: shoal-exec.v1", f"{path}?{query}").stdout
            self.assertIn(message, told)
        told = self.cluster.run(here, "curl", "-s", "--unix-socket", "/run/shoal/shoald.sock", f"{path}?stdout=true").stdout
        self.assertIn("WebSocket and SPDY, as kubectl speaks them, are not there yet", told)


if __name__ == "__main__":
    unittest.main(verbosity=2)
