#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a host: said with what, where and how to mend it, and nothing is lost by it.

   LAN 198.18.0.0/24 --+-- h1 .11: cluster A, the store
                       +-- h2 .12: cluster A, pod web; what it has is taken away and given back
                       +-- h3 .13: in no cluster
                       +-- h4 .14: cluster B, the store
"""
import base64
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import objects, probe  # noqa: E402
from shoal_lab.cluster import SHOALD, wait_for  # noqa: E402
from shoal_lab.service_cluster import ServiceCluster  # noqa: E402

GIVES_UP_WITHIN_S = 10
HOLD = """\
import socket, sys
s = socket.socket(socket.AF_INET, getattr(socket, sys.argv[1]))
if sys.argv[1] == "SOCK_STREAM":
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", int(sys.argv[2])))
if sys.argv[1] == "SOCK_STREAM":
    s.listen()
print("held", flush=True)
sys.stdin.read()
"""


class Held:
    """A port of a host that another program has."""

    def __init__(self, cluster, host, proto, port):
        kind = {"TCP": "SOCK_STREAM", "UDP": "SOCK_DGRAM"}[proto]
        self.process = cluster.popen(host, "python3", "-c", HOLD, kind, port, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "held\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()


class BadHosts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # A host that is away for the length of a test is not replaced: its pod must be there again.
        cls.cluster = ServiceCluster(f"bad-host-{os.getpid()}", hosts=4, config={"pod_replace_after_s": 600})
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.members = ["h1", "h2"]
        everyone, cls.cluster.hosts = cls.cluster.hosts, cls.members
        cls.cluster.form()
        for host in everyone[2:]:
            cls.cluster.write_config(host)
            cls.cluster.start_daemon(host)
        cls.cluster.shoal("h4", "init")
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder, client=False)
        cls.cluster.apply(objects.documents(objects.pod("web", {"app": "web"}, objects.web_spec("blue"), "h2"),
                                            objects.service("web", {"app": "web"})))
        cls.web = cls.cluster.wait_ready("app=web", 1)[0]
        cls.vip = cls.cluster.addresses("web")[1]

    # ---- a daemon that does not start, and that does

    def stop(self, host):
        self.cluster.kill_daemon(host, "TERM")
        wait_for(f"shoald on {host} to end", lambda: self.cluster.run(
            host, "sh", "-c", "! kill -0 $(cat /run/shoald.pid)", check=False).returncode == 0, 10)

    def refuses(self, host, *words, flags=(), before=""):
        """shoald on that host ends by itself with an error that has these words; `before` is done in mounts of its own."""
        script = f'{before}\nexec timeout -s KILL {GIVES_UP_WITHIN_S} {SHOALD} "$@" 2>&1'
        done = self.cluster.run(host, "unshare", "-m", "sh", "-c", script, "sh", *flags, check=False)
        self.assertEqual(done.returncode, 1, f"{flags}: {done.stdout}")
        last = done.stdout.strip().splitlines()[-1]
        self.assertIn(" critical ", last)
        for word in words:
            self.assertIn(word, last)
        print(f"    {last.split(' critical ')[1]}")

    def back(self, host="h2"):
        """It starts, is a member again, and has what it had."""
        self.cluster.start_daemon(host)
        self.cluster.wait_members("h1", set(self.members))
        self.cluster.wait_members(host, set(self.members))
        self.still_serves()

    def still_serves(self):
        one = probe.connect(self.cluster, "h1", f"{self.web['status']['podIP']}:8080")[0]
        self.assertEqual((one["outcome"], one["said"].get("pod")), ("ok", "web"), one)

    def tearDown(self):
        now = wait_for("web to be ready", lambda: self.cluster.wait_ready("app=web", 1, 20)[0], 20)
        self.assertEqual(self.life_of(now), self.life_of(self.web))

    @staticmethod
    def life_of(pod):
        container = pod["status"]["containerStatuses"][0]
        return (pod["metadata"]["uid"], pod["status"]["podIP"], container["restartCount"], container["state"])

    # ---- one at a time

    def test_a_second_daemon_is_refused_and_the_first_goes_on(self):
        pid = self.cluster.run("h2", "cat", "/run/shoald.pid").stdout.strip()
        self.refuses("h2", "another shoald uses this state folder", "/var/lib/shoal/lock", f"process {pid}", "stop it")
        self.refuses("h2", "/run/shoal/shoald.sock", "another shoald answers there", "a run_dir of its own",
                     flags=["--state-dir", "/var/lib/other"])
        self.assertEqual(self.cluster.status("h2")["phase"], "Member")

    def test_a_port_in_use(self):
        self.stop("h2")
        for proto, port, key in (("TCP", 6443, "api.port"), ("UDP", 7946, "gossip.port"), ("TCP", 7946, "gossip.port"),
                                 ("TCP", 9464, "metrics.port")):
            with Held(self.cluster, "h2", proto, port):
                self.refuses("h2", f"{port}", "in use", "another program has the port", f"change {key}")
        for key in ("api", "gossip", "metrics"):
            self.refuses("h2", "198.18.0.77", f"change {key}.listen", flags=[f"--{key}-listen", "198.18.0.77"])
        self.back()

    def test_a_port_in_use_is_said_before_a_host_becomes_a_member(self):
        with Held(self.cluster, "h3", "UDP", 7946):
            for command in (["init"], ["join", "198.18.0.11:6443", self.token()]):
                done = self.cluster.shoal("h3", *command, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertIn("another program has the port", done.stderr)
                self.assertIn("gossip.port", done.stderr)
        self.assertEqual(self.cluster.status("h3")["phase"], "NotMember")
        self.assertEqual({n["metadata"]["name"] for n in self.cluster.items("nodes")}, set(self.members))

    # ---- what the host lacks

    def test_what_is_missing_is_named_with_how_to_get_it(self):
        self.stop("h2")
        self.refuses("h2", "/sys/fs/bpf/shoal", "mount -t bpf bpf /sys/fs/bpf", before="umount /sys/fs/bpf")
        self.refuses("h2", "/var/lib/shoal", "is not on a bpf file system", "bpffs_dir", flags=["--bpffs-dir", "/var/lib/shoal/b"])
        self.refuses("h2", "no cgroup", "mount", before="for m in $(findmnt -rno TARGET -t cgroup2,cgroup); do umount $m; done")
        self.refuses("h2", "no cgroup", "mount", before="for m in $(findmnt -rno TARGET -t cgroup2); do umount -l $m; done")
        self.refuses("h2", "cgroup_root", "/etc", "cgroup2", flags=["--cgroup-root", "/etc"])
        self.refuses("h2", "runtime.oci_runtime", "no-crun", "install it", flags=["--runtime-oci-runtime", "no-crun"])
        self.refuses("h2", "runtime.oci_runtime", "/no/crun", "install it", flags=["--runtime-oci-runtime", "/no/crun"])
        self.refuses("h2", "runtime.shim", "/no/shim", "install it", flags=["--runtime-shim", "/no/shim"])
        self.refuses("h2", "underlay", "eth9", "there is: eth0", flags=["--underlay", "eth9"])
        self.refuses("h2", "underlay", "198.18.0.77", "no link has the address", flags=["--underlay", "198.18.0.77"])
        self.refuses("h2", "MTU 9000 (network.mtu) does not fit", "576 to 1450", flags=["--network-mtu", "9000"])
        self.refuses("h2", "shoal_ring_refs holds 65536", "put limits.services back", "rm -r /sys/fs/bpf/shoal",
                     flags=["--limits-services", "128"])
        self.still_serves()  # all the while
        self.back()

    def test_what_is_switched_off_is_said_and_the_rest_goes_on(self):
        self.stop("h2")
        self.cluster.write_config("h2", "features: {tcx: off, socket_lb: off, masquerade: off}\n")
        self.addCleanup(self.cluster.write_config, "h2")
        self.back()
        limits = "\n".join(self.cluster.status("h2")["limitations"])
        for words in ("no TCX links", "features.socket_lb is off", "features.masquerade is off"):
            self.assertIn(words, limits)
            self.assertIn(words, self.cluster.log_tail("h2"))
        self.cluster.wait_rings("web", ["web"])
        for host in self.members:  # h1 by its hooks, and to a backend of a host without
            self.assertEqual(probe.connect(self.cluster, host, f"{self.vip}:80")[0]["outcome"], "ok", host)
        self.stop("h2")
        self.cluster.write_config("h2")
        self.back()
        self.assertEqual(self.cluster.status("h2")["limitations"], self.cluster.status("h1")["limitations"])

    # ---- tokens, keys, certificates

    def token(self, host="h1", *arguments):
        return self.cluster.shoal(host, "token", "create", *arguments).stdout.strip()

    def test_a_join_that_cannot_be(self):
        token, expired, of_b = self.token(), self.token("h1", "--ttl", "1s"), self.token("h4")
        made = time.time()
        swapped = token[:-1] + ("A" if token[-1] != "A" else "B")
        cases = [
            ("198.18.0.99:6443", token, "connect: No route to host; is this the address"),
            ("198.18.0.12:9999", token, "connect: Connection refused; is this the address"),
            ("198.18.0.11:9464", token, "TLS handshake"),
            ("198.18.0.11", token, '"198.18.0.11" is not ADDRESS:PORT'),
            ("198.18.0.12:6443", token, "join through 198.18.0.11:6443"),  # not the store's host
            ("198.18.0.11:6443", "shoal1.short", "malformed or cut short; copy it whole"),
            ("198.18.0.11:6443", token[:-4], "malformed or cut short; copy it whole"),
            ("198.18.0.11:6443", swapped, "unknown, used up or expired; make a new one"),
            ("198.18.0.11:6443", expired, "unknown, used up or expired; make a new one"),
            ("198.18.0.11:6443", of_b, "not a member of the cluster that the token was made for"),
        ]
        wait_for("the short-lived token to expire", lambda: time.time() >= made + 2, 5)  # whole seconds, rounded down
        for address, secret, words in cases:
            done = self.cluster.shoal("h3", "join", address, secret, check=False)
            self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
            self.assertIn(words, done.stderr)
        self.assertEqual(self.cluster.status("h3")["phase"], "NotMember")
        self.assertEqual({n["metadata"]["name"] for n in self.cluster.items("nodes")}, set(self.members))
        again = self.cluster.shoal("h2", "join", "198.18.0.14:6443", of_b, check=False)
        self.assertIn("is a member of cluster", again.stderr)
        elsewhere = self.cluster.shoal("h2", "token", "create", check=False)
        self.assertIn("tokens are made on the store's host (198.18.0.11)", elsewhere.stderr)

    def file_of(self, host, path):
        return base64.b64decode(self.cluster.run(host, "base64", "-w0", path).stdout)

    def put(self, host, path, content):
        self.cluster.run(host, "sh", "-c", 'base64 -d >"$1"', "sh", path, input=base64.b64encode(content).decode())

    def replaced(self, path, content):
        """Puts something else into a file of h2's state folder, until the test's end."""
        path = f"/var/lib/shoal/{path}"
        self.addCleanup(self.put, "h2", path, self.file_of("h2", path))
        self.put("h2", path, content)

    def test_a_wrong_cluster_key_is_said_on_both_sides(self):
        self.stop("h2")
        self.cluster.run("h1", "sh", "-c", ": >/var/log/shoald.log")
        self.replaced("pki/gossip.key", self.file_of("h4", "/var/lib/shoal/pki/gossip.key"))
        self.cluster.start_daemon("h2")
        for host, other in (("h1", "198.18.0.12"), ("h2", "198.18.0.11")):
            wait_for(f"{host} to say so", lambda h=host, o=other: any(
                "wrong cluster key" in line and f"from {o}:7946" in line and "shoal token create" in line
                for line in self.cluster.log_tail(h).splitlines()), 15, on_timeout=lambda h=host: self.cluster.log_tail(h))
        self.cluster.wait_members("h1", {"h1"})
        self.still_serves()  # pods and the data plane need no gossip
        self.stop("h2")
        self.doCleanups()
        self.back()

    def test_a_folder_that_is_half_of_another_cluster(self):
        self.stop("h2")
        for path, content, words in (
                ("pki/ca.crt", self.file_of("h4", "/var/lib/shoal/pki/ca.crt"), "pki/ca.crt is shoal-ca-"),
                ("pki/node.crt", self.file_of("h1", "/var/lib/shoal/pki/node.crt"), "pki/node.crt is of host h1"),
                ("pki/node.key", self.file_of("h1", "/var/lib/shoal/pki/node.key"), "pki/node.key: the private key is not the certificate's"),
                ("pki/gossip.key", b"short", "pki/gossip.key has 5 bytes"),
                ("cluster.json", b"{", "cluster.json: this host's membership cannot be read")):
            with self.subTest(path):
                self.replaced(path, content)
                self.refuses("h2", words, "/var/lib/shoal")
                self.doCleanups()
        self.back()

    def test_a_certificate_of_another_cluster_opens_nothing(self):
        for name in ("ca.crt", "node.crt", "node.key"):
            self.put("h3", f"/run/{name}", self.file_of("h4", f"/var/lib/shoal/pki/{name}"))
        ask = ["curl", "-sSk", "https://198.18.0.11:6443/api/v1/namespaces/default/pods"]
        theirs = self.cluster.run("h3", *ask, "--cert", "/run/node.crt", "--key", "/run/node.key", check=False)
        self.assertNotIn("podIP", theirs.stdout)
        self.assertTrue(theirs.returncode != 0 or "Unauthorized" in theirs.stdout, theirs.stdout)
        nobody = self.cluster.run("h3", *ask)
        self.assertIn("show a client certificate that this cluster's CA has signed", nobody.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
