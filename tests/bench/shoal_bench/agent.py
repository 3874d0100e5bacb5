# SPDX-License-Identifier: Apache-2.0
"""An agent on a lab host that is a cluster of its own, with as many Services in its store as a bench wants."""
import copy
import re
import sys
from pathlib import Path

from .pods import PodPlace, service_of

FILL = Path(__file__).resolve().parent / "fill_store.py"
STORE = "/var/lib/shoal/store.db"
LOADED_TIMEOUT_S = 120
SPARE = 1024  # entries of each table, for what a bench adds and for rings that are being replaced
TEMPLATE = """\
apiVersion: v1
kind: Service
metadata: {name: template}
spec: {ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: template-1, labels: {kubernetes.io/service-name: template}}
addressType: IPv4
endpoints: [{addresses: [10.127.0.1]}]
ports: [{port: 8080}]
"""


def limits(services, backends):
    """The configuration's section for that many, and little more: a ring has a power of two of slots, 100 a backend at least,
    in blocks of 64."""
    blocks = max(1, (1 << (100 * backends - 1).bit_length()) // 64)
    return (f"limits: {{services: {services + SPARE}, backends: {services * backends + SPARE}, "
            f"ring_blocks: {services * blocks + SPARE}}}\n")


class Agent:
    """`node` is its host's; the host has no agent yet, and nobody else joins its cluster."""

    def __init__(self, cluster, node, wait_for, config_text=""):
        self.node = node
        self.host = node.host
        self.wait_for = wait_for
        self.cluster = copy.copy(cluster)
        self.cluster.hosts = [node.host]
        self.cluster.config_text = config_text
        self.cluster.form()

    def entries(self, table):
        """Of one table of the data plane, as the agent counts them."""
        said = self.node.run("curl", "-sS", "--max-time", "20", "http://127.0.0.1:9464/metrics")
        found = re.search(rf'^shoal_map_entries{{[^}}]*"{table}"[^}}]*}} ([0-9.e+]+)$', said, re.MULTILINE)
        return int(float(found[1])) if found else 0

    def fill(self, services, backends):
        """That many more Services with that many addresses each; returns when the data plane has them."""
        before = self.entries("frontends")
        self.cluster.apply(TEMPLATE)
        self.stop()
        self.node.run(sys.executable, "-B", FILL, STORE, "template", services, backends)
        self.start()
        self.wait_for(f"{self.host} to have read its store", lambda: self.cluster.get("service", "template"), LOADED_TIMEOUT_S)
        self.cluster.shoal(self.host, "delete", "service", "template")
        self.wait_for(f"{self.host} to balance {services} Services more", lambda: self.entries("frontends") == before + services,
                      LOADED_TIMEOUT_S, 1.0, on_timeout=lambda: self.cluster.log_tail(self.host))

    def start(self):
        self.cluster.start_daemon(self.host)

    def stop(self):
        self.cluster.kill_daemon(self.host, "TERM")

    def pid(self):
        """As the host sees it."""
        return self.node.run("cat", "/run/shoald.pid").strip()

    def pod(self, name, image):
        return PodPlace(self.cluster, self.node, name, image)

    def service(self, name, ports):
        """Before the pods of that name; its ClusterIP, once connections are balanced."""
        return service_of(self.cluster, name, ports, self.host, self.wait_for)

    def picks(self, name):
        """How many connections a Service had, by who picked their backends: {"connects": by socket hooks, "flows": by tc}."""
        backends = [b for port in self.cluster.shoal_json(self.host, "service", "show", name)["ports"] for b in port["backends"]]
        return {counter: sum(b[counter] for b in backends) for counter in ("connects", "flows")}

    def rss_kib(self):
        """What the process has in memory: {"VmRSS": KiB, "RssAnon": KiB, ...}."""
        text = self.node.run("cat", f"/proc/{self.pid()}/status")
        return {name: int(kib) for name, kib in re.findall(r"^(VmRSS|VmHWM|RssAnon|RssFile|RssShmem):\s+(\d+) kB$", text,
                                                           re.MULTILINE)}

    def map_bytes(self):
        """What the kernel accounts for each BPF map that the agent holds: {map id: bytes}."""
        text = self.node.run("sh", "-c", f"cat /proc/{self.pid()}/fdinfo/* 2>/dev/null || true")
        return {int(map_id): int(size) for size, map_id in re.findall(r"^memlock:\s+(\d+)\nmap_id:\s+(\d+)$", text, re.MULTILINE)}
