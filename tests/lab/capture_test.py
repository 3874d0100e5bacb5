#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""shoal capture: what a pod sends and receives is in the file, whichever way the packets came; and what the host of a pod
has to do, any host answers for: capture, exec, logs.

   client c1 ---+--- LAN ---+--- h1: shoald, pods of web
                            +--- h2: shoald, pods of web

The pod is asked through its Service by a pod of its own host (whose packets are redirected past the host's end of the
link), by a pod of the other host (overlay) and from outside by the VIP.
"""
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import web  # noqa: E402
from shoal_lab.cluster import SHOAL, Cluster, wait_for  # noqa: E402

REPLICAS = 4
ASKED_MAX = 100  # connections until one of four pods has answered
FIRST_PORT = 42000
CAPTURES_MAX = 8
SYN, ACK = 0x02, 0x10
PCAP_NANOSECONDS, ETHERNET = 0xA1B23C4D, 1
NS_PER_S = 1_000_000_000
# Runs a command at a terminal of 33 lines of 111, and types a word once it has shown that.
AT_A_TERMINAL = """
import fcntl, os, pty, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    os.execv(sys.argv[1], sys.argv[1:])
seen, typed = b"", False
while True:
    try:
        more = os.read(terminal, 4096)
    except OSError:
        break
    seen += more
    if b"33 111" in seen and not typed:
        typed = os.write(terminal, b"hello\\r") > 0
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def packets(data):
    """The TCP packets of a pcap file: (source, port, destination, port, flags, payload)."""
    magic, major, minor, _, _, _, link = struct.unpack_from("<IHHIIII", data)
    assert (magic, major, minor, link) == (PCAP_NANOSECONDS, 2, 4, ETHERNET), data[:24].hex()
    at, out = 24, []
    while at < len(data):
        _, ns, kept, size = struct.unpack_from("<IIII", data, at)
        frame = data[at + 16:at + 16 + kept]
        assert ns < NS_PER_S and len(frame) == kept <= size, f"a broken record at {at}"
        at += 16 + kept
        if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
            continue
        tcp = frame[14 + (frame[14] & 15) * 4:14 + int.from_bytes(frame[16:18], "big")]
        ports = struct.unpack_from("!HH", tcp)
        out.append((socket.inet_ntoa(frame[26:30]), ports[0], socket.inet_ntoa(frame[30:34]), ports[1], tcp[13],
                    tcp[(tcp[12] >> 4) * 4:]))
    return out


class Capturing:
    """A `shoal capture` under way on a host, its file kept outside the lab."""

    def __init__(self, cluster, host, name, *arguments):
        self.cluster, self.host, self.pid_file = cluster, host, f"/run/{name}.pid"
        self.file = tempfile.TemporaryFile()  # pylint: disable=consider-using-with
        self.process = cluster.popen(host, "sh", "-c", 'echo $$ >"$1"; shift; exec "$@"', "sh", self.pid_file, SHOAL,
                                     "capture", *arguments, stdout=self.file, stderr=subprocess.PIPE, text=True)
        self.first = self.process.stderr.readline()  # the socket is open from here on

    def signal(self, name):
        self.cluster.run(self.host, "sh", "-c", f"kill -{name} $(cat {self.pid_file})")

    def end(self):
        """What it said at its end, and the file."""
        said = self.process.communicate(timeout=60)[1]
        self.file.seek(0)
        data = self.file.read()
        self.file.close()
        return said, data


class Capture(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(f"capture-{os.getpid()}", hosts=2)
        cls.cluster.up()
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.form()
        with tempfile.TemporaryDirectory() as folder:
            cls.cluster_ip, cls.vip = web.deploy(cls.cluster, Path(folder), REPLICAS)

    def pods(self):
        """Two of one host, the first is captured, and one of the other."""
        pods = self.cluster.wait_ready("app=web", REPLICAS)
        host = max(self.cluster.hosts, key=lambda h: sum(p["spec"]["nodeName"] == h for p in pods))
        near = [p for p in pods if p["spec"]["nodeName"] == host]
        far = [p for p in pods if p["spec"]["nodeName"] != host]
        self.assertGreater(len(near), 1)
        return host, near[0], near[1], far[0]

    def ask_until(self, pod, ask):
        """Asks until that pod has answered; the client's address as the pod saw it."""
        for n in range(ASKED_MAX):
            said = dict(word.split("=", 1) for word in ask(n).split() if "=" in word)
            if said["pod"] == pod["metadata"]["name"]:
                return said["client"].rsplit(":", 1)[0]
        self.fail(f"none of {ASKED_MAX} connections reached {pod['metadata']['name']}")

    def from_pod(self, pod):
        return lambda _: self.cluster.shoal(pod["spec"]["nodeName"], "exec", pod["metadata"]["name"], "--", "wget",
                                            "-qO-", f"http://{self.cluster_ip}/").stdout

    def from_outside(self, n):
        script = web.ASK.replace('.rsplit("pod=", 1)[1].strip()', "")
        return self.cluster.run("c1", "python3", "-c", script, str(FIRST_PORT + n), self.vip).stdout

    def test_both_directions_of_every_path_are_in_the_file(self):
        host, pod, near, far = self.pods()
        ip = self.cluster.pod_ip(pod)
        capture = Capturing(self.cluster, host, "paths", pod["metadata"]["name"], "-w", "-", "--port", "8080")
        self.assertIn("capturing what default/", capture.first)
        clients = {"a pod of its host": self.ask_until(pod, self.from_pod(near)),
                   "a pod of another host": self.ask_until(pod, self.from_pod(far)),
                   "outside": self.ask_until(pod, self.from_outside)}
        self.assertEqual(clients["a pod of its host"], self.cluster.pod_ip(near))
        self.assertEqual(clients["a pod of another host"], self.cluster.pod_ip(far))
        capture.signal("INT")
        said, data = capture.end()
        self.assertEqual(capture.process.returncode, 0, said)
        self.assertIn(" 0 dropped by the kernel: it was asked to", said)
        seen = packets(data)
        for who, client in clients.items():
            to_pod = [p for p in seen if p[0] == client and p[2:4] == (ip, 8080)]
            from_pod = [p for p in seen if p[:2] == (ip, 8080) and p[2] == client]
            where = f"{who} ({client}): {len(to_pod)} to the pod, {len(from_pod)} from it"
            print(f"    {where}")
            self.assertTrue(any(p[4] & (SYN | ACK) == SYN for p in to_pod), where)
            self.assertTrue(any(p[4] & (SYN | ACK) == SYN | ACK for p in from_pod), where)
            self.assertTrue(any(p[5].startswith(b"GET /") for p in to_pod), where)
            self.assertTrue(any(pod["metadata"]["name"].encode() in p[5] for p in from_pod), where)
        self.assertTrue(all(8080 in (p[1], p[3]) for p in seen))
        if shutil.which("tcpdump"):
            read = subprocess.run(["tcpdump", "-nr", "-"], input=data, capture_output=True, check=True)
            self.assertEqual(len(read.stdout.splitlines()), len(seen))
            self.assertIn(b"EN10MB", read.stderr)

    def test_it_ends_at_its_count_and_keeps_no_more_than_it_was_told(self):
        host, pod, near, _ = self.pods()
        ip = self.cluster.pod_ip(pod)
        name = pod["metadata"]["name"]
        capture = Capturing(self.cluster, host, "count", name, "-w", "/run/count.pcap", "--count", "4", "--snaplen",
                            "64", "--port", "8080", "--duration", "60s")
        self.ask_until(pod, self.from_pod(near))
        said, _ = capture.end()
        self.assertIn("4 packets captured, 0 dropped by the kernel: its count is reached", said)
        dump = self.cluster.run(host, "sh", "-c", "stat -c %a /run/count.pcap; od -An -v -tx1 /run/count.pcap").stdout
        mode, text = dump.split("\n", 1)
        self.assertEqual(mode, "600")
        data = bytes.fromhex(text)
        self.assertEqual(data[16:20], struct.pack("<I", 64))
        self.assertEqual(len(packets(data)), 4)
        self.assertTrue(all(ip in (p[0], p[2]) for p in packets(data)))

    def test_what_cannot_be_captured_is_refused_by_name(self):
        host, pod, _, _ = self.pods()
        done = self.cluster.shoal(host, "capture", "no-such-pod", "-w", "-", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout, "")
        self.assertIn("not found", done.stderr)
        # A terminal gets no packets.
        done = self.cluster.run(host, "python3", "-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)", SHOAL,
                                "capture", pod["metadata"]["name"], check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("| tcpdump -nr -", done.stdout)

    def test_any_host_answers_for_a_pod(self):
        host, pod, near, far = self.pods()
        other, name = far["spec"]["nodeName"], pod["metadata"]["name"]
        done = self.cluster.shoal(other, "exec", "-i", name, "--", "sh", "-c", "cat; echo bad >&2; exit 3", check=False,
                                  input="in\n")
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("in\n", "bad\n", 3))
        large = self.cluster.shoal(other, "exec", name, "--", "sh", "-c", "yes | head -c 3000000")
        self.assertEqual(len(large.stdout), 3_000_000)
        for asked in (host, other):
            # A command that ends while it is still sent something, and one that says more than it is sent.
            ended = self.cluster.run(asked, "sh", "-c", 'yes | "$@"', "sh", SHOAL, "exec", "-i", name, "--", "sh", "-c",
                                     "head -n 1; exit 5", check=False)
            self.assertEqual((ended.stdout, ended.stderr, ended.returncode), ("y\n", "", 5), asked)
            more = self.cluster.run(asked, "sh", "-c", 'seq 1 200000 | "$@" | wc -l', "sh", SHOAL, "exec", "-i", name, "--",
                                    "sed", "p;p;p;p;p;p;p;p;p;p;p;p;p;p;p;p;p;p;p")
            self.assertEqual(more.stdout.strip(), "4000000", asked)
        self.assertEqual(self.cluster.shoal(other, "logs", name).stdout, self.cluster.shoal(host, "logs", name).stdout)
        capture = Capturing(self.cluster, other, "far", name, "-w", "-", "--port", "8080")
        self.ask_until(pod, self.from_pod(near))
        capture.signal("INT")
        said, data = capture.end()
        self.assertEqual(capture.process.returncode, 0, said)
        self.assertIn(self.cluster.pod_ip(pod), {p[0] for p in packets(data)})
        # The command ends with who asked for it, across hosts too.
        sleeper = self.cluster.popen(other, "timeout", "-s", "KILL", "1", SHOAL, "exec", name, "--", "sleep", "4711")
        sleeper.wait(timeout=60)
        wait_for("the command to end", lambda: "sleep 4711" not in self.cluster.shoal(host, "exec", name, "--",
                                                                                       "ps").stdout, 10)
        self.cluster.kill_daemon(host)
        done = self.cluster.shoal(other, "exec", name, "--", "true", check=False)
        self.cluster.start_daemon(host)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f"host {host} (", done.stderr)
        wait_for("the host to answer again", lambda: self.cluster.shoal(other, "exec", name, "--", "true",
                                                                        check=False).returncode == 0, 30)

    def test_who_has_nothing_to_say_is_waited_for(self):
        _, pod, _, far = self.pods()
        following = self.cluster.popen(far["spec"]["nodeName"], "timeout", "12", SHOAL, "logs", "-f", "--tail", "0",
                                       pod["metadata"]["name"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, err = following.communicate(timeout=60)
        self.assertEqual((out, err, following.returncode), ("", "", 124))

    def test_a_command_has_a_terminal(self):
        host, pod, _, far = self.pods()
        for asked in (host, far["spec"]["nodeName"]):
            shown = self.cluster.run(asked, "python3", "-c", AT_A_TERMINAL, SHOAL, "exec", "-it", pod["metadata"]["name"], "--",
                                     "sh", "-c", "tty; stty size; read word; echo got $word; exit 7", check=False)
            self.assertRegex(shown.stdout, r"/dev/pts/\d+\n33 111\n")
            self.assertIn("got hello", shown.stdout)
            self.assertEqual(shown.returncode, 7, shown.stderr)

    def test_a_client_that_is_killed_gives_its_place_back(self):
        host, pod, _, _ = self.pods()
        name = pod["metadata"]["name"]
        running = [Capturing(self.cluster, host, f"place{n}", name, "-w", "-") for n in range(CAPTURES_MAX)]
        for capture in running:
            self.assertIn("capturing", capture.first)
        refused = self.cluster.shoal(host, "capture", name, "-w", "-", check=False)
        self.assertIn(f"{CAPTURES_MAX} captures run on this host", refused.stderr)
        for capture in running:
            capture.signal("KILL")
            capture.end()
        wait_for("a place for a capture", lambda: self.cluster.shoal(
            host, "capture", name, "-w", "/run/place.pcap", "--duration", "1s", check=False).returncode == 0, 20)

    def test_it_ends_with_the_pod(self):
        host, pod, _, _ = self.pods()
        name = pod["metadata"]["name"]
        capture = Capturing(self.cluster, host, "ends", name, "-w", "-")
        self.cluster.shoal(host, "delete", "pod", name)
        said, data = capture.end()
        self.assertEqual(capture.process.returncode, 0, said)
        self.assertIn("the pod's network has ended", said)
        packets(data)  # whole records


if __name__ == "__main__":
    unittest.main(verbosity=2)
