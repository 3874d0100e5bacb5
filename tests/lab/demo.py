#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shoal's main job, end to end: pods on three hosts behind a weighted VIP. scripts/run builds and calls this.

   client c1 ---+                          +--- h1: shoald (store), pods
                |                          |
                +--- LAN 198.18.0.0/24 ----+--- h2: shoald, pods
                     (scripts/lab)         |
                                           +--- h3: shoald, pods

   Service web, type LoadBalancer: 90 % to Deployment web-blue, 10 % to web-green
"""
import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import cluster as lab  # noqa: E402
from shoal_lab.cluster import Cluster, ClusterError, wait_for  # noqa: E402
from shoal_lab.line_process import LineProcess  # noqa: E402

REQUESTS = 10_000
RATE = 500
IDLE = 1000
MOVES = [(50, 50), (0, 100), (50, 50), (90, 10)] * 5
MOVE_SECONDS = 2.0
TOLERANCE_POINTS = 1.5
CLEAN_SECONDS_MAX = 10.0
WATCH_SECONDS = 15.0

OBJECTS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web-{version}}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web, version: {version}}}}}
  template:
    metadata: {{labels: {{app: web, version: {version}}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: web
        image: shoal.dev/demo/web:{version}
        ports: [{{name: http, containerPort: 8080}}, {{name: echo, containerPort: 9000}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
"""

CLIENT = """\
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: client
    image: shoal.dev/demo/client:1
    command: [/bin/busybox, sleep, "86400"]
"""


def service(blue, green):
    return f"""\
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: {{shoal.dev/weights: "version=blue:{blue},version=green:{green}"}}
spec:
  type: LoadBalancer
  selector: {{app: web}}
  ports:
  - {{name: http, port: 80, targetPort: http}}
  - {{name: echo, port: 9000, targetPort: echo}}
"""


class Screen:
    """Progress for people: on standard output, or on standard error when that belongs to the JSON document."""

    def __init__(self, to_stderr):
        self.out = sys.stderr if to_stderr else sys.stdout
        self.started = time.monotonic()

    def step(self, text):
        print(f"[{time.monotonic() - self.started:6.1f} s] {text}", file=self.out, flush=True)

    def line(self, text=""):
        print(f"           {text}", file=self.out, flush=True)


def split_row(client, asked, result):
    return {"client": client, "asked": asked, "requests": result["requests"], "failed": result["failed"],
            "seen": {k: result["seen"].get(k, 0) for k in ("blue", "green")}}


def split_is_right(row):
    total = sum(row["asked"].values())
    answered = sum(row["seen"].values())
    return row["failed"] == 0 and row["requests"] == REQUESTS and all(
        abs(100 * row["seen"][k] / max(answered, 1) - 100 * row["asked"][k] / total) <= TOLERANCE_POINTS
        for k in row["asked"])


class Demo:
    def __init__(self, cluster, screen):
        self.cluster = cluster
        self.screen = screen
        self.result = {"pods": [], "splits": [], "moves": [], "host_kill": None, "announcer_kill": None, "ok": False}
        self.vip = None
        self.dead = set()

    @property
    def watcher(self):
        """A host that is alive, to ask."""
        return next(h for h in self.cluster.hosts if h not in self.dead)

    # ---- acts

    def images(self, folder):
        self.screen.step("building two OCI images from busybox-static and loading them on every host")
        for version in ("blue", "green"):
            self.cluster.load_image(lab.build_image(version, folder / f"{version}.tar"))
        subprocess.run([str(lab.ROOT / "tests/images/build"), "--client", str(lab.LOADGEN), str(folder / "client.tar")],
                       check=True, capture_output=True)
        self.cluster.load_image(folder / "client.tar")

    def deploy(self):
        self.screen.step("applying two Deployments, one Service (weights 90/10) and a client pod")
        for version in ("blue", "green"):
            self.cluster.apply(OBJECTS.format(version=version))
        self.cluster.apply(service(90, 10))
        self.cluster.apply(CLIENT)
        pods = self.cluster.wait_ready("app=web", 6)
        self.cluster.wait_ready("app=client", 1)
        for pod in sorted(pods, key=lambda p: p["metadata"]["name"]):
            row = {"name": pod["metadata"]["name"], "host": pod["spec"]["nodeName"], "ip": pod["status"]["podIP"],
                   "version": pod["metadata"]["labels"]["version"]}
            self.result["pods"].append(row)
            self.screen.line(f"{row['name']:<28} {row['host']:<4} {row['ip']:<14} {row['version']}")
        web = wait_for("the Service to have its VIP", lambda: self.service_with_vip(), 20)
        self.vip = web["status"]["loadBalancer"]["ingress"][0]["ip"]
        self.cluster_ip = web["spec"]["clusterIP"]
        for host in self.cluster.hosts:
            wait_for(f"{host} to balance over 6 pods", lambda h=host: self.ready_backends(h) == 6, 20,
                     on_timeout=lambda h=host: json.dumps(self.cluster.shoal_json(h, "service", "show", "web")))
        self.screen.line(f"Service web: ClusterIP {self.cluster_ip}, VIP {self.vip}, announced by {self.announcer()}")

    def service_with_vip(self):
        web = self.cluster.get("service", "web", host=self.watcher)
        return web if web.get("status", {}).get("loadBalancer", {}).get("ingress") else None

    def port_view(self, host, name="http"):
        view = self.cluster.shoal_json(host, "service", "show", "web")
        return next(p for p in view["ports"] if p["port_name"] == name)

    def ready_backends(self, host):
        return sum(1 for b in self.port_view(host)["backends"] if b["state"] == "ready")

    def announcer(self):
        for host in self.cluster.hosts:
            if host not in self.dead and self.vip in self.cluster.status(host).get("announced_vips", []):
                return host
        return None

    def splits(self):
        asked = {"blue": 90, "green": 10}
        pod = next(p for p in self.cluster.items("pods", "-l", "app=client"))
        host = pod["spec"]["nodeName"]
        for client, argv in (
                ("pod", self.cluster.argv(host, lab.SHOAL, "exec", "client", "--", "/bin/shoal-loadgen", "requests",
                                          "--to", f"{self.cluster_ip}:80", "-n", REQUESTS, "--concurrency", 8)),
                ("outside", self.cluster.argv("c1", lab.LOADGEN, "requests", "--to", f"{self.vip}:80", "-n", REQUESTS,
                                              "--concurrency", 8))):
            where = "a pod to the ClusterIP" if client == "pod" else "the outside client to the VIP"
            self.screen.step(f"{REQUESTS:,} requests from {where}, each on its own connection")
            done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
            if done.returncode not in (0, 1) or not done.stdout.strip():
                raise ClusterError(f"load generator: exit {done.returncode}: {done.stderr.strip()}")
            row = split_row(client, asked, json.loads(done.stdout.strip().split("\n")[-1]))
            self.result["splits"].append(row)
            total = max(1, sum(row["seen"].values()))
            self.screen.line("asked blue 90 % green 10 %   seen " + " ".join(
                f"{k} {100 * v / total:.2f} %" for k, v in row["seen"].items()) + f"   failed {row['failed']}")

    def moves(self):
        self.screen.step(f"holding {IDLE:,} idle connections and {RATE} requests a second while the weights move "
                         f"{len(MOVES)} times")
        idle = LineProcess(self.cluster.argv("c1", lab.LOADGEN, "idle", "--to", f"{self.vip}:9000", "-n", IDLE))
        load = LineProcess(self.cluster.argv("c1", lab.LOADGEN, "load", "--to", f"{self.vip}:80", "--rate", RATE,
                                             "--timeout", "1s", "--duration", 600))
        opened = idle.expect("ready", 30)
        if opened["open"] != IDLE:
            raise ClusterError(f"only {opened['open']} of {IDLE} idle connections could be opened")
        before = 0
        for number, (blue, green) in enumerate(MOVES, 1):
            load.say(f"mark {number}")
            self.cluster.apply(service(blue, green))
            self.wait_weights(blue, green)
            self.let_pass(MOVE_SECONDS)
            load.say(f"mark after-{number}")
            window = load.expect("window", 10)
            while window["name"] != str(number):
                window = load.expect("window", 10)
            idle.say("check")
            broken = idle.expect("check", 30)["broken"]
            row = {"asked": {"blue": blue, "green": green}, "requests": window["requests"],
                   "failed": window["failed"], "idle_broken": broken - before}
            before = broken
            self.result["moves"].append(row)
            self.screen.line(f"{number:>2}. blue {blue:>3} green {green:>3}: {row['requests']} requests, "
                             f"{row['failed']} failed, {row['idle_broken']} idle broken   seen {window['seen']}")
        idle.end()
        load.end()

    def wait_weights(self, blue, green):
        want = {"version=blue": blue, "version=green": green}

        def moved(host):
            return {g["name"]: g["weight"] for g in self.port_view(host)["groups"]} == want
        for host in self.cluster.hosts:
            wait_for(f"{host} to have the new weights", lambda h=host: moved(h), 10)

    @staticmethod
    def let_pass(seconds):
        """Load runs for this long: the length of a measurement, not a wait for something."""
        time.sleep(seconds)

    def kill(self, victim, key, what):
        self.screen.step(f"killing {victim} without warning: {what}")
        load = LineProcess(self.cluster.argv("c1", lab.LOADGEN, "load", "--to", f"{self.vip}:80", "--rate", RATE,
                                             "--timeout", "1s", "--duration", 600))
        load.expect("second", 10)
        load.say("mark killed")
        self.cluster.lab("kill", victim)
        self.dead.add(victim)
        self.let_pass(WATCH_SECONDS)
        load.say("mark done")
        window = load.expect("window", 10)
        while window["name"] != "killed":
            window = load.expect("window", 10)
        load.end()
        # Clean from the last failure on, counted from the kill; the loader stamps by the intended start.
        until = window["last_failure_s"] or 0.0
        row = {"seconds_until_clean": round(until, 2), "failed": window["failed"], "requests": window["requests"],
               "failed_after_clean": window["failed_since"].get(str(int(CLEAN_SECONDS_MAX)), 0)}
        self.result[key] = row
        self.screen.line(f"clean after {row['seconds_until_clean']:.2f} s ({row['failed']} of {row['requests']} "
                         "requests failed until then)")

    def choose_victims(self):
        announcer = self.announcer()
        if not announcer:
            raise ClusterError("no host announces the VIP")
        # A host that runs backends and neither announces the VIP nor holds the store, if there is one.
        with_backends = {p["host"] for p in self.result["pods"]}
        others = [h for h in self.cluster.hosts if h != announcer and h in with_backends]
        first = next((h for h in reversed(others)), None)
        if not first:
            raise ClusterError("no host but the announcer runs backends")
        return first, announcer

    def run(self, folder):
        self.images(folder)
        self.deploy()
        self.splits()
        self.moves()
        first, announcer = self.choose_victims()
        self.kill(first, "host_kill", "it runs backends")
        again = self.announcer() or announcer
        self.kill(again, "announcer_kill", "it announces the VIP")
        self.screen.line(f"the VIP is announced by {self.announcer()} now")
        self.result["ok"] = self.verdict()
        return self.result["ok"]

    def verdict(self):
        problems = []
        for row in self.result["splits"]:
            if not split_is_right(row):
                problems.append(f"the split seen from {row['client']} is off: {row['seen']}, failed {row['failed']}")
        if len(self.result["splits"]) != 2:
            problems.append("not both splits were measured")
        if sum(r["failed"] + r["idle_broken"] for r in self.result["moves"]) or len(self.result["moves"]) != len(MOVES):
            problems.append("requests failed or idle connections broke while the weights moved")
        for key in ("host_kill", "announcer_kill"):
            row = self.result[key]
            if not row or row["seconds_until_clean"] > CLEAN_SECONDS_MAX or row["failed_after_clean"]:
                problems.append(f"{key}: not clean within {CLEAN_SECONDS_MAX:.0f} s")
        for text in problems:
            self.screen.step(f"NOT OK: {text}")
        return not problems


def main():
    parser = argparse.ArgumentParser(prog="scripts/run", description="pods on three hosts behind a weighted VIP")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output, nothing else there")
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    args = parser.parse_args()
    screen = Screen(args.json)
    cluster = Cluster("demo", owned=not args.keep)
    code = 1
    demo = Demo(cluster, screen)
    try:
        screen.step("making a lab: hosts h1 h2 h3, client c1, no route out")
        cluster.down()
        cluster.up()
        screen.step("starting shoald on each host, shoal init on h1, shoal join on h2 and h3")
        cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-demo.") as folder:
            code = 0 if demo.run(Path(folder)) else 1
        screen.step("all as asked" if code == 0 else "not as asked")
    except (ClusterError, subprocess.SubprocessError, queue.Empty) as error:
        screen.step(f"failed: {type(error).__name__}: {error}")
        for host in cluster.hosts:
            if host not in demo.dead:
                screen.line(cluster.log_tail(host))
    finally:
        if args.json:
            print(json.dumps(demo.result))
        if args.keep:
            screen.step("the lab is up: scripts/lab exec --name demo h1 -- bash      end: scripts/lab down --name demo")
            screen.line(f"in it: {lab.SHOAL} get pods -o wide")
        else:
            cluster.down()
    return code


if __name__ == "__main__":
    sys.exit(main())
