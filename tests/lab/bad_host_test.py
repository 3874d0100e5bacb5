#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a host lacks or another program has: said with what, where and how to mend it, and nothing is lost by it.

   LAN 198.18.0.0/24 --+-- h1 .11: cluster A, the store
                       +-- h2 .12: cluster A, pod web; what it has is taken away and given back
                       +-- h3 .13: in no cluster
                       +-- h4 .14: cluster B, the store
"""
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import objects, probe  # noqa: E402
from shoal_lab.cluster import BUILD, ClusterError  # noqa: E402
from shoal_lab.one_sick import OneSick  # noqa: E402

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
        if self.process.stdout.readline() != "held\n":
            raise ClusterError(f"{host}: {proto} port {port} cannot be held")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()


class BadHosts(OneSick):
    NAME = "bad-host"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            cls.cluster.load_image(objects.build_client_image(folder), ["h2"])
        cls.cluster.apply(objects.documents(objects.client_pod("h2")))
        cls.client = cls.cluster.wait_ready("app=client", 1)[0]

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
        cluster_ip = self.cluster.addresses("web")[0]
        # A pod packet by packet, and another host by its hooks to a backend of one without.
        for source, target in ((self.client, cluster_ip), (self.client, self.vip), ("h1", cluster_ip), ("h1", self.vip)):
            one = probe.connect(self.cluster, source, f"{target}:80")[0]
            self.assertEqual((one["outcome"], one["peer"], one["said"].get("client")),
                             ("ok", f"{target}:80", probe.address_of(self.cluster, source)), one)
        self.stop("h2")
        self.cluster.write_config("h2")
        self.back()
        self.assertEqual(self.cluster.status("h2")["limitations"], self.cluster.status("h1")["limitations"])

    def test_an_uplink_that_takes_no_xdp_is_served_by_tc(self):
        def programs():
            link, = json.loads(self.cluster.run("h2", "ip", "-j", "-d", "link", "show", "dev", "eth0").stdout)
            return link.get("xdp", {}).get("prog", {}).get("id")

        def said():
            return [limit for limit in self.cluster.status("h2")["limitations"] if "XDP" in limit]

        def restart(text=""):
            self.stop("h2")
            self.cluster.write_config("h2", text)
            self.back()

        self.cluster.take_xdp()
        self.addCleanup(self.cluster.write_config, "h2")
        theirs = self.cluster.run("h2", "ip", "link", "set", "dev", "eth0", "xdpdrv", "obj", BUILD / "bpf/xdp_pass.bpf.o",
                                  "sec", "xdp") and programs()
        restart("features: {xdp: on}\n")
        limit, = said()
        self.assertIn("no XDP on the uplink eth0: another XDP program is on the device", limit)
        self.assertIn("goes through tc", limit)
        self.assertIn(limit, self.cluster.log_tail("h2"))
        self.assertEqual(programs(), theirs)
        self.still_serves()
        # Theirs is gone: ours comes, and stays through a restart.
        self.cluster.run("h2", "ip", "link", "set", "dev", "eth0", "xdpdrv", "off")
        for _ in range(2):
            restart("features: {xdp: on}\n")
            self.assertEqual(said(), [])
            self.assertIsNotNone(programs())
            self.still_serves()
        # On a veth it is used only where the config says so.
        restart()
        self.assertIn("the uplink eth0, a veth", said()[0])
        self.assertIsNone(programs())
        restart("features: {xdp: off}\n")
        self.assertIn("no XDP: ", said()[0])
        self.still_serves()
        restart()


if __name__ == "__main__":
    unittest.main(verbosity=2)
