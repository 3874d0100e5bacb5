#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The agent is killed, upgraded and downgraded under load, and nobody notices.

   client c1 ---+                          +--- h1: shoald (store), pods of web and dns
                |                          |
                +--- LAN 198.18.0.0/24 ----+--- h2: shoald, pods of web and dns, the pod that asks
                     (scripts/lab)         |
                                           +--- h3: shoald, pods of web and dns

   Load: TCP and UDP, from c1 to the VIP, from a pod and from h1 to the ClusterIP; idle TCP connections beside it, that
   were there before the rings changed, so that the rings alone do not know their backends. The other build is
   shoald-variant, whose maps all have other layouts (tests/lab/variant).

   SHOAL_ROUNDS: of each kind, 10 unless said otherwise.
"""
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import cluster as lab  # noqa: E402
from shoal_lab.cluster import wait_for  # noqa: E402
from shoal_lab.load_clients import LoadClients, ways_in  # noqa: E402
from shoal_lab.shells import ShellCluster  # noqa: E402

ROUNDS = int(os.environ.get("SHOAL_ROUNDS", "10"))
RATE = 100
UDP_RATE = 40
IDLE = 60
NETPROBE = lab.BUILD / "tests/images/netprobe"

OBJECTS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: shoal.dev/demo/web:blue
        ports: [{name: http, containerPort: 8080}, {name: echo, containerPort: 9000}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: dns}
spec:
  replicas: 3
  selector: {matchLabels: {app: dns}}
  template:
    metadata: {labels: {app: dns}}
    spec:
      containers:
      - name: dns
        image: shoal.dev/test/netprobe:1
        command: [/bin/netprobe, serve, "udp:5353"]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: echo, port: 9000, targetPort: echo}
---
apiVersion: v1
kind: Service
metadata: {name: dns}
spec:
  type: LoadBalancer
  selector: {app: dns}
  ports: [{name: dns, port: 53, protocol: UDP, targetPort: 5353}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec:
  nodeName: h2
  containers:
  - name: main
    image: shoal.dev/demo/web:blue
"""


class Upgrade(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        # A restart that takes long on a busy machine is no death: the VIP stays where the flows are.
        cls.cluster = ShellCluster(f"upgrade-{os.getpid()}", hosts=3, clients=1, config={"pod_replace_after_s": 60},
                                   config_text="gossip: {probe_interval_ms: 3000, probe_timeout_ms: 1000}\n")
        cls.cluster.up()
        try:
            cls.form()
        except BaseException:
            cls.cluster.down()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.cluster.down()

    @classmethod
    def form(cls):
        cls.cluster.form()
        with tempfile.TemporaryDirectory() as folder:
            cls.cluster.load_image(lab.build_image("blue", Path(folder) / "blue.tar"))
            subprocess.run([str(lab.ROOT / "tests/images/build"), "--probe", str(NETPROBE), f"{folder}/probe.tar"],
                           check=True, capture_output=True)
            cls.cluster.load_image(f"{folder}/probe.tar")
        cls.cluster.apply(OBJECTS)
        for app, count in (("web", 3), ("dns", 3), ("client", 1)):
            cls.cluster.wait_ready(f"app={app}", count)
        cls.services = {name: wait_for(f"Service {name} to have its VIP", lambda n=name: cls.with_vip(n), 20)
                        for name in ("web", "dns")}
        cls.wait_backends(3)

    @classmethod
    def with_vip(cls, name):
        service = cls.cluster.get("service", name)
        return service if service.get("status", {}).get("loadBalancer", {}).get("ingress") else None

    @classmethod
    def addresses(cls, name):
        service = cls.services[name]
        return service["status"]["loadBalancer"]["ingress"][0]["ip"], service["spec"]["clusterIP"]

    @classmethod
    def wait_backends(cls, count):
        def ready(host, name):
            view = cls.cluster.shoal_json(host, "service", "show", name)
            return sum(1 for b in view["ports"][0]["backends"] if b["state"] == "ready")
        for host in cls.cluster.hosts:
            for name, wanted in (("web", count), ("dns", 3)):
                wait_for(f"{host} to balance {name} over {wanted} pods",
                         lambda h=host, n=name, w=wanted: ready(h, n) == w, 30)

    def metric(self, host, name):
        text = self.cluster.run(host, "curl", "-s", "--max-time", "5", "http://127.0.0.1:9464/metrics").stdout
        return sum(map(float, re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M)))

    def sets(self, host):
        return sorted(n for n in self.cluster.run(host, "ls", "/sys/fs/bpf/shoal").stdout.split() if n != "links")

    def start(self, host, program):
        self.cluster.start_daemon(host, program)
        wait_for(f"{host} to be settled", lambda: self.cluster.status(host).get("settled"), 30,
                 on_timeout=lambda: self.cluster.log_tail(host))

    def check_taken_up(self, host, sets, what):
        """Nothing had to be made anew, but what sockets hold where the build is another one."""
        self.assertEqual(self.sets(host), sets, what)
        self.assertEqual(self.metric(host, "shoal_plan_operations_total"), 0, f"{what}: operations to take it up")
        self.assertEqual(self.metric(host, "shoal_plan_errors_total"), 0, what)
        lost = [text for text in self.cluster.status(host)["limitations"] if "was made anew" in text]
        self.assertLessEqual(len(lost), 1, what)

    def test_nobody_notices(self):
        web, dns = (ways_in(self.cluster, "client", "h2", *self.addresses(name)) for name in ("web", "dns"))
        clients = LoadClients(self, web, RATE, IDLE, seconds=7200)
        clients.add_udp(dns, 53, UDP_RATE)
        clients.check("begin", "before")
        # One backend more: some of what was connected before is where the rings would not lead it any more.
        self.cluster.apply(OBJECTS.replace("replicas: 3", "replicas: 4", 1))
        self.cluster.wait_ready("app=web", 4)
        self.wait_backends(4)
        clients.check("scaled", "one backend more")
        began = time.monotonic()
        self.kill(clients)
        killed = time.monotonic()
        self.upgrade(clients)
        print(f"{ROUNDS} kills in {killed - began:.0f} s and {ROUNDS} upgrades in {time.monotonic() - killed:.0f} s: "
              f"{clients.requests} requests and {clients.datagrams} datagrams, 0 failed; {3 * IDLE} idle connections, "
              "0 broken")

    def kill(self, clients):
        for number in range(ROUNDS):
            host = self.cluster.hosts[number % 3]
            what = f"kill {number + 1}, of {host}"
            sets = self.sets(host)
            self.cluster.kill_daemon(host)
            self.start(host, lab.SHOALD)
            self.check_taken_up(host, sets, what)
            clients.check(f"kill-{number}", what)

    def upgrade(self, clients):
        """To the other build and back. Every third time the new agent is killed on the way, at one moment or another."""
        builds = {host: [lab.SHOALD, lab.VARIANT] for host in self.cluster.hosts}
        for number in range(ROUNDS):
            host = self.cluster.hosts[number % 3]
            builds[host].reverse()
            program = builds[host][0]
            what = f"upgrade {number + 1}, of {host} to {program.name}"
            before = self.sets(host)
            self.assertEqual(len(before), 1)
            self.cluster.kill_daemon(host, "TERM" if number % 2 else "KILL")
            if number // 3 % 3 == 2:
                self.killed_on_the_way(host, program, 0.02 * (number % 29))
                what += ", killed on the way"
            self.start(host, program)
            after = self.sets(host)
            self.assertEqual(len(after), 1)
            self.assertGreater(int(after[0][1:]), int(before[0][1:]), what)
            self.check_taken_up(host, after, what)
            clients.check(f"upgrade-{number}", what)

    def killed_on_the_way(self, host, program, after_s):
        self.cluster.run(host, "sh", "-c", f"{program} >>/var/log/shoald.log 2>&1 </dev/null & sleep {after_s}; kill -9 $!; wait")


if __name__ == "__main__":
    unittest.main(verbosity=2)
