#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in a lab host whose agent is stopped: puts many Services and EndpointSlices into its store at once.

   fill_store.py FILE TEMPLATE SERVICES BACKENDS

Each Service is a copy of TEMPLATE, which the agent's own API wrote, with a name, uid and ClusterIP of its own, and so is its
EndpointSlice (TEMPLATE-1), with BACKENDS addresses outside the cluster (kube_proxy.endpoint_ip). The agent that starts
next finds in its store what as many requests would have left there, ClusterIPs taken included.
"""
import ipaddress
import json
import sqlite3
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shoal_bench.kube_proxy import endpoint_ip  # noqa: E402  pylint: disable=wrong-import-position

SERVICE = "/services/default/"
SLICE = "/endpointslices.discovery.k8s.io/default/"
CLUSTER_IP = "/alloc/cluster-ips/"
CLUSTER_IPS = ipaddress.ip_network("10.96.0.0/16")


class Copies:
    """The template's objects, and others of their kind."""

    def __init__(self, db, template):
        self.service = self._stored(db, SERVICE + template)
        self.slice = self._stored(db, f"{SLICE}{template}-1")
        self.alloc = self._stored(db, CLUSTER_IP + self.service["spec"]["clusterIP"])
        taken = {key.removeprefix(CLUSTER_IP) for key, in db.execute("SELECT key FROM kv WHERE key LIKE ?", (CLUSTER_IP + "%",))}
        self.free = (str(ip) for ip in CLUSTER_IPS.hosts() if str(ip) not in taken)

    @staticmethod
    def _stored(db, key):
        row = db.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
        if row is None:
            sys.exit(f"fill_store.py: the store has no {key} to copy")
        return json.loads(row[0])

    @staticmethod
    def _named(body, name):
        return body | {"metadata": body["metadata"] | {"name": name, "uid": str(uuid.uuid4())}}

    def make(self, number, backends):
        """[(key, object)] of one more Service."""
        name, ip = f"bulk{number}", next(self.free)
        service = self._named(self.service, name)
        service["spec"] = service["spec"] | {"clusterIP": ip, "clusterIPs": [ip]}
        addresses = self._named(self.slice, f"{name}-1")
        addresses["metadata"]["labels"] = {"kubernetes.io/service-name": name}
        addresses["endpoints"] = [self.slice["endpoints"][0] | {"addresses": [endpoint_ip(number, backends, i)]}
                                  for i in range(backends)]
        alloc = self.alloc | {"owner": SERVICE + name, "uid": service["metadata"]["uid"]}
        return [(SERVICE + name, service), (f"{SLICE}{name}-1", addresses), (CLUSTER_IP + ip, alloc)]


def main():
    path, template = sys.argv[1:3]
    services, backends = map(int, sys.argv[3:5])
    db = sqlite3.connect(path, isolation_level=None)
    copies = Copies(db, template)
    revision = db.execute("SELECT value FROM meta WHERE name = 'revision'").fetchone()[0]
    db.execute("BEGIN IMMEDIATE")
    for number in range(services):
        revision += 1  # one a transaction of the store, which a Service, its address and its slice would have had two of
        db.executemany("INSERT INTO kv(key, value, create_revision, revision) VALUES (?, ?, ?, ?)",
                       [(key, json.dumps(body, separators=(",", ":")), revision, revision)
                        for key, body in copies.make(number, backends)])
    db.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (revision,))
    db.execute("COMMIT")
    db.close()


if __name__ == "__main__":
    main()
