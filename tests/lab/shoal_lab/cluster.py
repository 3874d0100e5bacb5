# SPDX-License-Identifier: Apache-2.0
"""A Shoal cluster in a lab: hosts with shoald, joined; what the demo, the lab tests and the benches stand on.

Nothing is mocked: the programs are the ones that were built, the hosts are scripts/lab's. Waiting is for
conditions, with a bound; a condition that does not come says what it was and shows the agents' last words.
"""
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from .lab import exec_argv

ROOT = Path(__file__).resolve().parents[3]
BUILD = Path(os.environ.get("SHOAL_BUILD_DIR", ROOT / "build/release"))
SHOALD = BUILD / "agent/shoald"
SHOAL = BUILD / "agent/shoal"
VARIANT = BUILD / "tests/lab/variant/shoald-variant"  # shoald with maps of other layouts
SHIM = BUILD / "runtime/shim/shoal-shim"
LOADGEN = BUILD / "tests/bench/loadgen/shoal-loadgen"
LAB = ROOT / "scripts/lab"

# Outside the lab's host addresses; scripts/lab leaves .201 to .250 free.
LB_POOL = "198.18.0.208/28"
FAMILIES = ("IPv4", "IPv6")
# Which data plane the hosts have unless a test says so: any test can be run on the other one.
PROXY = os.environ.get("SHOAL_PROXY", "ebpf")
# How full the machine's disk is decides nothing here, but where a test says so.
NO_DISK_PRESSURE = "node: {eviction_disk_percent: 0, eviction_inodes_percent: 0, eviction_images_percent: 0}\n"
NETWORK_MODE = os.environ.get("SHOAL_NETWORK_MODE", "vxlan")
DUAL_STACK = ("  pod_cidr: ['10.244.0.0/16', 'fd10:244::/48']\n"
              "  service_cidr: ['10.96.0.0/16', 'fd10:96::/112']\n"
              f"  lb_pool: ['{LB_POOL}', '2001:db8:1::d00/120']\n")


class ClusterError(Exception):
    pass


def wait_for(what, condition, timeout_s=30.0, every_s=0.1, on_timeout=None):
    """Until condition() is true; its value. Conditions are polled, never slept for."""
    deadline = time.monotonic() + timeout_s
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = None
        except (ClusterError, subprocess.SubprocessError, ValueError, KeyError) as error:
            last = error
        if time.monotonic() > deadline:
            detail = f" ({last})" if last else ""
            extra = f"\n{on_timeout()}" if on_timeout else ""
            raise ClusterError(f"waited {timeout_s:.0f} s for {what}{detail}{extra}")
        time.sleep(every_s)


class Cluster:
    def __init__(self, name, hosts=3, clients=1, config=None, owned=True, dual_stack=False, config_text=""):
        self.name = name
        self.config_text = config_text  # whole sections that stand in every host's shoald.yaml
        self.dual_stack = dual_stack  # pods and services of both families
        self.hosts = [f"h{i + 1}" for i in range(hosts)]
        self.clients = [f"c{i + 1}" for i in range(clients)]
        self.config = config or {}
        self.owned = owned  # the lab ends with this process

    # ---- the lab

    def lab(self, *args, check=True, **options):
        command = [str(LAB), args[0], "--name", self.name, *args[1:]]
        done = subprocess.run(command, capture_output=True, text=True, **options)
        if check and done.returncode != 0:
            raise ClusterError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
        return done

    def up(self):
        for program in (SHOALD, SHOAL, SHIM):
            if not program.exists():
                raise ClusterError(f"{program} is not built: run scripts/test or scripts/run once")
        owner = ["--owner-pid", str(os.getpid())] if self.owned else []
        self.lab("up", "--hosts", str(len(self.hosts)), "--clients", str(len(self.clients)), "--json", *owner)

    def down(self):
        self.lab("down", check=False)

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None and os.environ.get("SHOAL_LAB_LOGS"):
            for host in self.hosts:
                print(self.log_tail(host, 200), file=sys.stderr)
        self.down()

    def argv(self, host, *command):
        return exec_argv(self.name, host, command)

    def run(self, host, *command, check=True, timeout=60, **options):
        done = subprocess.run(self.argv(host, *command), capture_output=True, text=True, timeout=timeout, **options)
        if check and done.returncode != 0:
            raise ClusterError(f"{host}: {' '.join(map(str, command))}: exit {done.returncode}: "
                               f"{done.stderr.strip() or done.stdout.strip()}")
        return done

    def popen(self, host, *command, **options):
        return subprocess.Popen(self.argv(host, *command), **options)

    @staticmethod
    def address(node, family="IPv4"):
        number = int(node[1:]) + (10 if node[0] == "h" else 100)
        return f"198.18.0.{number}" if family == "IPv4" else f"2001:db8:1::{number}"

    @staticmethod
    def family_of(ip):
        return "IPv6" if ":" in ip else "IPv4"

    @classmethod
    def of_family(cls, ips, family):
        """The one of that family; no such one is an error."""
        return next(ip for ip in ips if cls.family_of(ip) == family)

    @classmethod
    def pod_ip(cls, pod, family="IPv4"):
        return cls.of_family([entry["ip"] for entry in pod["status"]["podIPs"]], family)

    def take_xdp(self):
        """The switch takes what the hosts' XDP sends: its ports run a program that lets everything pass. And hosts send what a
        card would, whose checksums are made: XDP on the next veth would not know of those that are left out."""
        program = BUILD / "bpf/xdp_pass.bpf.o"
        for node in self.hosts + self.clients:
            self.run("lan", "ip", "link", "set", "dev", node, "xdpdrv", "obj", program, "sec", "xdp")
        for host in self.hosts:
            self.run(host, "ethtool", "-K", "eth0", "tx", "off")

    def sent_by_xdp(self, host):
        """Frames that the uplink's driver has turned round, since it is there; the kernel's own count."""
        counts = (line.split(":") for line in self.run(host, "ethtool", "-S", "eth0").stdout.splitlines())
        return sum(int(count[1]) for count in counts if count[0].strip().startswith("rx_queue_")
                   and count[0].strip().endswith("_xdp_tx"))

    # ---- the agents

    def write_config(self, host, extra="", config=None):
        config = self.config | (config or {})
        sections = self.config_text + extra
        if not re.search("^node:", sections, re.MULTILINE):
            sections += NO_DISK_PRESSURE
        text = (f"node_name: {host}\n"
                f"proxy: {config.get('proxy', PROXY)}\n"
                f"runtime:\n  shim: {config.get('shim', SHIM)}\n"
                f"  oci_runtime: {config.get('oci_runtime', 'crun')}\n"
                "network:\n"
                f"  mode: {config.get('network_mode', NETWORK_MODE)}\n"
                f"  load_balancer_mode: {config.get('load_balancer_mode', 'auto')}\n"
                + (DUAL_STACK if self.dual_stack else f"  lb_pool: {config.get('lb_pool', LB_POOL)}\n")
                + config.get("network", "") +  # more lines of that section
                "cluster:\n"
                f"  pod_replace_after_s: {config.get('pod_replace_after_s', 5)}\n"
                "log:\n"
                f"  level: {config.get('log_level', 'info')}\n" + sections)
        self.run(host, "sh", "-c", "mkdir -p /etc/shoal && cat > /etc/shoal/shoald.yaml", input=text)

    def start_daemon(self, host, program=SHOALD):
        """Starts shoald the way a service manager would: in the background, its log in a file of the host."""
        self.run(host, "sh", "-c",
                 f"setsid {program} >>/var/log/shoald.log 2>&1 </dev/null & echo $! >/run/shoald.pid")
        wait_for(f"shoald on {host} to answer", lambda: self.status(host), 15, on_timeout=lambda: self.log_tail(host))

    def kill_daemon(self, host, signal="KILL"):
        self.run(host, "sh", "-c", f"kill -{signal} $(cat /run/shoald.pid)")
        wait_for(f"shoald on {host} to end", lambda: not self.daemon_lives(host), 15, 0.02)

    def daemon_lives(self, host):
        return self.run(host, "sh", "-c", "kill -0 $(cat /run/shoald.pid)", check=False).returncode == 0

    def status(self, host):
        return self.shoal_json(host, "status")

    def log_tail(self, host, lines=40):
        done = self.run(host, "tail", "-n", str(lines), "/var/log/shoald.log", check=False)
        return f"--- {host}: shoald.log\n{done.stdout}{done.stderr}"

    def shoal(self, host, *args, check=True, **options):
        return self.run(host, SHOAL, *args, check=check, **options)

    def shoal_json(self, host, *args, **options):
        return json.loads(self.shoal(host, *args, "-o", "json", **options).stdout)

    def form(self):
        """init on the first host, join on the others; returns when all see all."""
        for host in self.hosts:
            self.write_config(host)
            self.start_daemon(host)
        self.shoal(self.hosts[0], "init")
        wait_for("h1 to be a cluster", lambda: self.alive_members(self.hosts[0]) == {self.hosts[0]},
                 on_timeout=lambda: self.log_tail(self.hosts[0]))
        for host in self.hosts[1:]:
            token = self.shoal(self.hosts[0], "token", "create").stdout.strip()
            self.shoal(host, "join", f"{self.address(self.hosts[0])}:6443", token)
        for host in self.hosts:
            self.wait_members(host, set(self.hosts))

    def alive_members(self, host):
        return {m["name"] for m in self.shoal_json(host, "members")["members"] if m["state"] == "alive"}

    def wait_members(self, host, names, timeout_s=20):
        wait_for(f"{host} to see {sorted(names)} alive", lambda: self.alive_members(host) == names, timeout_s,
                 on_timeout=lambda: self.log_tail(host))

    # ---- objects

    def apply(self, text, host=None):
        return self.shoal(host or self.hosts[0], "apply", "-f", "-", input=text)

    def get(self, kind, *args, host=None):
        return self.shoal_json(host or self.hosts[0], "get", kind, *args)

    def items(self, kind, *args, host=None):
        return self.get(kind, *args, host=host).get("items", [])

    @staticmethod
    def is_ready(pod):
        return any(c["type"] == "Ready" and c["status"] == "True"
                   for c in pod.get("status", {}).get("conditions", []))

    def ready_pods(self, selector, host=None):
        return [p for p in self.items("pods", "-l", selector, host=host)
                if self.is_ready(p) and "deletionTimestamp" not in p["metadata"]]

    def wait_ready(self, selector, count, timeout_s=60, host=None):
        def describe():
            pods = self.shoal(host or self.hosts[0], "get", "pods", "-o", "wide", check=False)
            events = self.shoal(host or self.hosts[0], "get", "events", check=False)
            return pods.stdout + pods.stderr + events.stdout + "".join(self.log_tail(h, 20) for h in self.hosts)
        return wait_for(f"{count} ready pods of {selector}",
                        lambda: (lambda pods: pods if len(pods) == count else None)(self.ready_pods(selector, host)),
                        timeout_s, on_timeout=describe)

    def load_image(self, archive, hosts=None):
        for host in hosts or self.hosts:
            self.shoal(host, "image", "load", str(archive))


def build_image(version, output):
    """An OCI archive of the demo's web server; made on the spot, the same bytes each time."""
    subprocess.run([str(ROOT / "tests/images/build"), version, str(output)], check=True, capture_output=True)
    return output
