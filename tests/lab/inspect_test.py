#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""shoal drops, flows and trace against a live data plane: what they say is what happens.

   client c1 ---+--- LAN ---+--- h1: shoald, pods of web
                            +--- h2: shoald, pods of web
"""
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import web  # noqa: E402
from shoal_lab.cluster import Cluster, wait_for  # noqa: E402

REPLICAS = 4
FIRST_PORT = 41000
CONNECTIONS = 24


class Inspect(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(f"inspect-{os.getpid()}", hosts=2)
        cls.cluster.up()
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.form()
        with tempfile.TemporaryDirectory() as folder:
            cls.cluster_ip, cls.vip = web.deploy(cls.cluster, Path(folder), REPLICAS)
        cls.host = web.announcer(cls.cluster, cls.vip)
        cls.client = Cluster.address("c1")

    def trace(self, origin, to, *more, host=None):
        return self.cluster.shoal_json(host or self.host, "trace", "--from", origin, "--to", to, *more)

    def dropped(self, reason):
        drops = self.cluster.shoal_json(self.host, "drops")["drops"]
        return next(d["packets"] for d in drops if d["reason"] == reason)

    def test_trace_names_the_pod_that_will_answer(self):
        pods = set()
        for port in range(FIRST_PORT, FIRST_PORT + CONNECTIONS):
            trace = self.trace(f"outside:{self.client}", f"{self.vip}:80", "--source-port", str(port))
            self.assertEqual(trace["verdict"], "backend", json.dumps(trace))
            answered = web.ask(self.cluster, "c1", port, self.vip)
            self.assertEqual(trace["backend"]["pod"], f"default/{answered}", json.dumps(trace))
            pods.add(answered)
        self.assertGreater(len(pods), 1)  # the port did matter

    def test_a_flow_is_listed_by_service_pod_and_roles(self):
        port = FIRST_PORT + CONNECTIONS
        pod = web.ask(self.cluster, "c1", port, self.vip)
        # TCP has an entry where its pod is, for the reply; none where it is balanced.
        host = self.cluster.get("pod", pod)["spec"]["nodeName"]
        listed = self.cluster.shoal_json(host, "flows", "--service", "web", "--pod", pod)
        mine = [f for f in listed["flows"] if f["client"] == f"{self.client}:{port}" and f["direction"] == "reverse"]
        self.assertEqual(len(mine), 1, json.dumps(listed))
        self.assertEqual(mine[0]["frontend"], f"{self.vip}:80")
        self.assertEqual(mine[0]["pod"], f"default/{pod}")
        self.assertEqual(mine[0]["service"], "default/web")
        self.assertEqual(mine[0]["state"], "closing")
        self.assertTrue(listed["complete"])
        nothing = self.cluster.shoal(self.host, "flows", "--service", "none")
        self.assertEqual(nothing.stdout, "")

    def test_a_refusal_is_traced_and_counted(self):
        before = self.dropped("NO_FRONTEND")
        trace = self.trace(f"outside:{self.client}", f"{self.vip}:81")
        self.assertEqual((trace["verdict"], trace["reason"]), ("refused", "NO_FRONTEND"))
        refused = self.cluster.run("c1", "python3", "-c", "import socket,sys\n"
                                   "try: socket.create_connection((sys.argv[1], 81), 5)\n"
                                   "except ConnectionRefusedError: print('refused')", self.vip)
        self.assertEqual(refused.stdout, "refused\n")
        self.assertEqual(self.dropped("NO_FRONTEND"), before + 1)
        shown = self.cluster.shoal(self.host, "drops").stdout
        self.assertIn("no service on this port of a service address", shown)

    def test_a_pod_is_traced_on_its_own_host(self):
        pod = self.cluster.items("pods", "-l", "app=web")[0]
        name, host = pod["metadata"]["name"], pod["spec"]["nodeName"]
        trace = self.trace(name, f"{self.cluster_ip}:80", host=host)
        self.assertEqual(trace["verdict"], "shares")
        self.assertEqual(len(trace["shares"]), REPLICAS)
        self.assertAlmostEqual(sum(s["share"] for s in trace["shares"]), 1)
        other = next(h for h in self.cluster.hosts if h != host)
        refused = self.cluster.shoal(other, "trace", "--from", name, "--to", f"{self.cluster_ip}:80", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn(f"runs on {host}: trace it there", refused.stderr)

    def test_the_tables_load_is_in_the_status_and_the_metrics(self):
        web.ask(self.cluster, "c1", FIRST_PORT + CONNECTIONS + 1, self.vip)

        def counted():
            tables = {t["table"]: t for t in self.cluster.status(self.host)["tables"]}
            return tables if tables.get("flows", {}).get("entries", 0) > 0 else None
        flows = wait_for("a pass over the flow table", counted, 60)["flows"]
        self.assertEqual(flows["size"], 262144)
        self.assertLessEqual(flows["active"] + flows["closing"], flows["entries"])
        metrics = self.cluster.run(self.host, "python3", "-c", "import urllib.request as r\n"
                                   "print(r.urlopen('http://127.0.0.1:9464/metrics').read().decode())").stdout
        for line in ('shoal_map_entries_max{map="flows"} 262144', 'shoal_flow_table_pressure{table="flows"}',
                     'shoal_flow_table_entries{table="affinity",state="active"}'):
            self.assertIn(line, metrics)


if __name__ == "__main__":
    unittest.main(verbosity=2)
