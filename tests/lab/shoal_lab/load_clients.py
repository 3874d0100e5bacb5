# SPDX-License-Identifier: Apache-2.0
"""Everything that must not notice: new connections, open loop and without retries, and idle ones beside them, from the
outside client to a VIP, from a pod and from its host to the ClusterIP.
"""
from pathlib import Path

from shoal_lab import cluster as lab
from shoal_lab.inventory import inventory
from shoal_lab.line_process import LineProcess


def process_of(cluster, name, host):
    """The first process of a pod of that host, by its pid there."""
    uid = cluster.get("pod", name)["metadata"]["uid"]
    return next(iter(inventory(cluster, host)["containers"][uid].values()))[0]


def ways_in(cluster, pod, pod_host, vip, cluster_ip):
    """[(who, command prefix, address)]"""
    in_pod = ["nsenter", "-n", "-t", str(process_of(cluster, pod, pod_host))]
    return [("c1 to the VIP", cluster.argv("c1"), vip),
            ("a pod to the ClusterIP", [*cluster.argv(pod_host), *in_pod], cluster_ip),
            ("h1 to the ClusterIP", cluster.argv("h1"), cluster_ip)]


class LoadClients:
    def __init__(self, test, ways, rate, idle, timeout="2s", seconds=600):
        self.test = test
        self.requests = 0
        self.datagrams = 0
        self.clients = []
        self.askers = []
        for who, way, target in ways:
            waiting = LineProcess([*way, str(lab.LOADGEN), "idle", "--to", f"{target}:9000", "-n", str(idle)])
            test.addCleanup(waiting.end)
            test.assertEqual(waiting.expect("ready", 30)["open"], idle, who)
            load = LineProcess([*way, str(lab.LOADGEN), "load", "--to", f"{target}:80", "--rate", str(rate),
                                "--timeout", timeout, "--duration", str(seconds)])
            test.addCleanup(load.end)
            self.clients.append((who, load, waiting))

    def add_udp(self, ways, port, rate):
        for who, way, target in ways:
            asker = LineProcess([*way, str(Path(__file__).with_name("udp_asker.py")), target, str(port), str(rate)])
            self.test.addCleanup(asker.end)
            self.askers.append((f"{who}, UDP", asker))

    def check(self, mark, what):
        """No request since the last mark has failed, and no idle connection is broken."""
        for load in [load for _, load, _ in self.clients] + [asker for _, asker in self.askers]:
            load.say(f"mark {mark}")
        for who, asker in self.askers:
            window = asker.expect("window", 30)
            self.test.assertEqual(window["failures"], {}, f"{what}: {who}: {window}")
            self.datagrams += window["requests"]
        for who, load, waiting in self.clients:
            window = load.expect("window", 30)
            self.test.assertEqual((window["failed"], window["failures"]), (0, {}), f"{what}: {who}: {window}")
            self.requests += window["requests"]
            waiting.say("check")
            self.test.assertEqual(waiting.expect("check", 30)["broken"], 0, f"{what}: idle connections of {who}")
