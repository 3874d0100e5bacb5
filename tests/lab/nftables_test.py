#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""proxy: nftables, where it is not like the other data plane: no BPF, one table, and a change of mode.

   client c1 ---+--- LAN ---+--- h1: shoald, proxy: nftables; a client pod, server a
                            +--- h2: shoald, proxy: ebpf at first; server b

The two hosts' pods talk with each other whatever the modes: the overlay is the same on the wire.
"""
import json
import os
import sys
import unittest
import unittest.mock
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance/service"))
os.environ["SHOAL_PROXY"] = "nftables"

from frame import FAMILIES, Cluster, ServiceTest, wait_for  # noqa: E402

PICKS = 3000
TOLERANCE = 0.027  # five standard deviations of a share of 0.9: once in a million


class Nftables(ServiceTest):
    HOSTS = 2

    @classmethod
    def setUpClass(cls):
        write = Cluster.write_config

        def by_host(self, host, extra="", config=None):
            write(self, host, extra, {"proxy": "ebpf" if host == "h2" else "nftables"} | (config or {}))
        cls.enterClassContext(unittest.mock.patch.object(Cluster, "write_config", by_host))
        super().setUpClass()

    def restart(self, host, proxy=None):
        self.cluster.kill_daemon(host)
        if proxy:
            self.cluster.write_config(host, config={"proxy": proxy})
        self.cluster.start_daemon(host)
        wait_for(f"{host} to have the whole view", lambda: self.cluster.status(host)["settled"], 40)

    def tables(self, host):
        return self.cluster.run(host, "nft", "list", "tables").stdout

    def pins(self, host):
        return self.cluster.run(host, "sh", "-c", "ls /sys/fs/bpf/shoal 2>/dev/null", check=False).stdout

    def dropped(self, reason):
        drops = self.cluster.shoal_json("h1", "drops")["drops"]
        return next(d["packets"] for d in drops if d["reason"] == reason)

    def test_1_it_loads_no_bpf_and_says_what_it_cannot_do(self):
        self.assertEqual(self.pins("h1"), "")
        limits = " ".join(self.cluster.status("h1")["limitations"])
        self.assertIn("run one mode in the whole cluster", limits)
        for command in (("flows",), ("trace", "--from", "default/client", "--to", "10.96.0.1:443")):
            done = self.cluster.shoal("h1", *command, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("proxy: nftables", done.stderr)

    def test_2_shares_are_the_weights(self):
        self.servers("a", hosts=["h1"], labels={"version": "blue"})
        self.servers("b", hosts=["h2"], labels={"version": "green"})
        web = self.service(annotations=json.dumps({"shoal.dev/weights": "version=blue:90,version=green:10"}))
        for to in self.cluster_ips_of(web):
            self.wait_names("pod", to, 80, {"a", "b"}, n=100)
            picks = self.names("pod", to, 80, "tcp", PICKS)
            self.assertAlmostEqual(picks["a"] / PICKS, 0.9, delta=TOLERANCE)
        shown = json.loads(self.cluster.shoal("h1", "service", "show", "web", "-n", self.ns, "-o", "json").stdout)
        self.assertEqual({(g["name"], round(g["effective"], 6)) for p in shown["ports"] for g in p["groups"]},
                         {("version=blue", 0.9), ("version=green", 0.1)})
        self.assertTrue(all(p["counters"]["flows"] >= PICKS for p in shown["ports"]), shown)

    def test_3_a_pod_cannot_send_from_an_address_that_is_not_its_own(self):
        before = self.dropped("SPOOFED_SOURCE")
        pid = self.cluster.run("h1", "sh", "-c", "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | "
                               "grep -q '^/bin/sleep 86400' && echo ${p#/proc/} && break; done").stdout.strip()
        for family, source in zip(FAMILIES, ("192.0.2.7/32", "2001:db8:9::7/128")):
            enter = ("nsenter", "-t", pid, "-n")
            self.cluster.run("h1", *enter, "ip", "addr", "add", source, "dev", "eth0", "nodad")
            self.addCleanup(self.cluster.run, "h1", *enter, "ip", "addr", "del", source, "dev", "eth0")
            self.cluster.run("h1", *enter, "ping", "-c", "2", "-i", "0.2", "-W", "1", "-I", source.split("/")[0],
                             Cluster.address("h2", family), check=False)
        self.assertGreaterEqual(self.dropped("SPOOFED_SOURCE"), before + 4)

    def test_4_a_udp_client_is_led_on_when_its_backend_goes(self):
        self.servers("a", "b", hosts=["h1", "h2"])
        web = self.service(ports="[{port: 80, targetPort: 7000, protocol: UDP}]")
        for to in self.cluster_ips_of(web):
            self.wait_names("pod", to, 80, {"a", "b"}, "udp")
        for port, to in zip((41000, 41001), self.cluster_ips_of(web)):
            gone = self.udp_from(port, to)
            self.assertEqual(self.udp_from(port, to), gone)  # one flow
            self.cluster.shoal("h1", "delete", "pod", gone, "-n", self.ns)
            wait_for("another backend to answer the same flow",
                     lambda p=port, t=to, g=gone: self.udp_from(p, t) not in (None, g), 10)
            self.servers(gone, hosts=["h1" if gone == "a" else "h2"])
            self.wait_names("pod", to, 80, {"a", "b"}, "udp")

    def udp_from(self, port, to):
        """Who answers a datagram of this very flow of h1's, if anybody does."""
        script = ("import socket,sys\ns=socket.socket(socket.AF_INET6 if ':' in sys.argv[2] else socket.AF_INET,"
                  "socket.SOCK_DGRAM)\ns.bind(('',int(sys.argv[1])))\ns.settimeout(0.7)\n"
                  "s.sendto(b'ask',(sys.argv[2],80))\nprint(s.recv(512).decode())\n")
        done = self.cluster.run("h1", "python3", "-c", script, str(port), to, check=False)
        return done.stdout.split()[0] if done.returncode == 0 else None

    def test_5_a_killed_agent_leaves_it_serving_and_a_new_one_changes_nothing(self):
        self.servers("a", "b", hosts=["h1", "h2"])
        web = self.service(text="type: LoadBalancer")
        where = self.where(web)
        for client, to in where:
            self.wait_names(client, to, 80, {"a", "b"})
        self.cluster.kill_daemon("h1")
        for client, to in where:
            if client != "pod":  # exec needs the agent
                self.names(client, to, 80)
        before = self.cluster.run("h1", "nft", "-a", "list", "table", "inet", "shoal-services").stdout
        self.cluster.start_daemon("h1")
        wait_for("h1 to have the whole view", lambda: self.cluster.status("h1")["settled"], 40)
        for client, to in where:
            self.names(client, to, 80)

        def rules(text):  # counters aside
            return [line.split(" counter ")[0] for line in text.splitlines() if "# handle" in line and "dnat" in line]
        after = self.cluster.run("h1", "nft", "-a", "list", "table", "inet", "shoal-services").stdout
        self.assertEqual(rules(after), rules(before))

    def test_6_a_host_changes_its_mode_and_its_pods_go_on(self):
        self.servers("a", "b", hosts=["h1", "h2"])
        web = self.service(text="type: LoadBalancer")
        where = self.where(web)
        for host, proxy in (("h1", "ebpf"), ("h1", "nftables"), ("h2", "nftables")):
            self.restart(host, proxy)
            wait_for(f"nothing of the other mode on {host}", lambda h=host, p=proxy: ("shoal-services" in self.tables(h))
                     == (p == "nftables") and bool(self.pins(h)) == (p == "ebpf"), 20)
            for client, to in where:
                self.wait_names(client, to, 80, {"a", "b"})
        self.assertEqual({p["status"]["containerStatuses"][0]["restartCount"] for p in self.items("pods")}, {0})


if __name__ == "__main__":
    unittest.main(verbosity=2)
