#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tokens, keys and certificates that are not the cluster's: refused with how to mend it, and nothing is lost by it.

   LAN 198.18.0.0/24 --+-- h1 .11: cluster A, the store
                       +-- h2 .12: cluster A, pod web; gets keys that are not its own
                       +-- h3 .13: in no cluster
                       +-- h4 .14: cluster B, the store
"""
import base64
import sys
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab.cluster import wait_for  # noqa: E402
from shoal_lab.one_sick import OneSick  # noqa: E402


class BadKeys(OneSick):
    NAME = "bad-key"

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
                "wrong cluster key" in line and f" {o}:7946" in line and "shoal token create" in line
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
