# SPDX-License-Identifier: Apache-2.0
"""What the Service conformance tests stand on: one cluster for a file, servers and clients in every place.

   c1 ---+--- LAN 198.18.0.0/24 ---+--- h1: clients (pod, host process), servers
         |                         +--- h2: servers
         |                         +--- h3: servers

The cluster is dual stack, and so is every Service that service() makes: what a test asserts, it asserts of both families.
A test says what it wants as Kubernetes objects and asks from three places: `pod` (a pod of h1), `host` (a process of
h1) and `outside` (c1). SHOAL_PROXY says which data plane the hosts have; where the two differ by design, a test says
so. netprobe (tests/images/netprobe.c) says who answered, whom the client believes to talk to and
from where the server saw it come.

SHOAL_CONFORMANCE_MODE names what the data plane goes without (MODES): every mode must keep every promise.
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/lab"))

from shoal_lab.cluster import BUILD, FAMILIES, PROXY, SHOAL, Cluster, ClusterError, wait_for  # noqa: E402

NETPROBE = BUILD / "tests/images/netprobe"
IMAGE = "shoal.dev/test/netprobe:1"
CLIENTS = ("pod", "host", "outside")
# What is switched off or chosen, as sections of every host's shoald.yaml.
MODES = {
    "default": "",
    "no-tcx": "features: {tcx: off}\n",
    "no-socket-lb": "features: {socket_lb: off}\n",
    # North-south in the driver, on veths: the switch and the clients are prepared for it.
    "xdp": "features: {xdp: on}\n",
    # Every fallback at once, but for set_retval, without which nobody is refused by ECONNREFUSED.
    "fallbacks": "features: {tcx: off, redirect_peer: off, redirect_neigh: off, sk_storage: off, coarse_clock: off}\n",
    "native": "",  # network.mode; see NETWORK
}
NETWORK = {"native": {"network_mode": "native"}}
MODE = os.environ.get("SHOAL_CONFORMANCE_MODE", "default")
if MODE not in MODES:
    sys.exit(f"SHOAL_CONFORMANCE_MODE: {MODE!r} is none of {', '.join(MODES)}")
REFUSED_MS_MAX = 500  # "at once", on a machine that may be busy


class ServiceTest(unittest.TestCase):
    """One cluster per class; every test has a namespace of its own, so that nothing is left between them."""

    HOSTS = 3
    CONFIG = {}
    cluster = None

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(f"conf{os.getpid()}", hosts=cls.HOSTS, config=cls.CONFIG | NETWORK.get(MODE, {}), dual_stack=True,
                              config_text=MODES[MODE])
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        if MODE == "xdp":
            cls.cluster.take_xdp()
        cls.cluster.form()
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "netprobe.tar"
            subprocess.run([str(ROOT / "tests/images/build"), "--probe", str(NETPROBE), str(archive)], check=True,
                           capture_output=True)
            cls.cluster.load_image(archive)
        cls.cluster.apply(pod("client", "default", host="h1", labels={"app": "client"}, command=["sleep", "86400"]))
        cls.cluster.wait_ready("app=client", 1)

    @classmethod
    def tearDownClass(cls):
        if MODE == "xdp" and not any(cls.cluster.sent_by_xdp(host) for host in cls.cluster.hosts):
            raise ClusterError("no host has sent a packet by XDP: " +
                               "; ".join(cls.cluster.status("h1")["limitations"]))

    def setUp(self):
        name = self.id().rsplit(".", 1)[-1].removeprefix("test_").replace("_", "-").lower()[:50].strip("-")
        self.ns = name
        self.apply(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
        self.addCleanup(self.delete_namespace)

    def delete_namespace(self):
        for kind in ("services", "deployments", "pods"):
            for item in self.items(kind):
                self.cluster.shoal("h1", "delete", kind, item["metadata"]["name"], "-n", self.ns, check=False)
        wait_for(f"{self.ns} to be empty", lambda: not self.items("pods"), 30)

    # ---- objects

    def apply(self, text):
        return self.cluster.apply(text)

    def items(self, kind, *args):
        return self.cluster.items(kind, "-n", self.ns, *args)

    def servers(self, *names, hosts=None, labels=None, **options):
        """Server pods, one a host in turn; returns when all are ready. Their answers carry their names."""
        hosts = hosts or [self.cluster.hosts[i % self.HOSTS] for i in range(len(names))]
        for name, host in zip(names, hosts):
            self.apply(pod(name, self.ns, host=host, labels={"app": "server", "name": name, **(labels or {})},
                           **options))
        ready = options.get("ready", True)
        if ready:
            self.wait_ready(*names)

    def wait_ready(self, *names):
        def all_ready():
            up = {p["metadata"]["name"] for p in self.items("pods") if Cluster.is_ready(p)}
            return set(names) <= up
        wait_for(f"{names} to be ready", all_ready, 40,
                 on_timeout=lambda: self.cluster.shoal("h1", "get", "pods,events", "-A", check=False).stdout)

    def service(self, name="web", text="", ports="[{port: 80, targetPort: 7000}]", selector="{app: server}",
                annotations="{}"):
        """Applies a Service; returns it once it has what it asks for."""
        self.apply(f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {self.ns}, "
                   f"annotations: {annotations}}}\nspec:\n  selector: {selector}\n  ports: {ports}\n"
                   "  ipFamilyPolicy: RequireDualStack\n"
                   + "".join(f"  {line}\n" for line in text.splitlines()))
        return self.get_service(name)

    def get_service(self, name="web"):
        def complete():
            service = self.cluster.get("service", name, "-n", self.ns)
            if service["spec"].get("type") == "LoadBalancer" and not service.get("status", {}).get(
                    "loadBalancer", {}).get("ingress"):
                return None
            return service
        return wait_for(f"Service {name}", complete, 10)

    @staticmethod
    def vip_of(service):
        return service["status"]["loadBalancer"]["ingress"][0]["ip"]

    @staticmethod
    def vips_of(service):
        """Its load balancer's addresses, one of each family."""
        ips = [entry["ip"] for entry in service["status"]["loadBalancer"]["ingress"]]
        assert [Cluster.family_of(ip) for ip in ips] == list(FAMILIES), ips
        return ips

    @staticmethod
    def cluster_ips_of(service):
        assert [Cluster.family_of(ip) for ip in service["spec"]["clusterIPs"]] == list(FAMILIES), service["spec"]
        return service["spec"]["clusterIPs"]

    def where(self, service):
        """(client, address) for each kind of client in each family: outside clients ask the VIP, others the ClusterIP."""
        return [(c, to) for c in CLIENTS
                for to in (self.vips_of(service) if c == "outside" else self.cluster_ips_of(service))]

    # ---- asking

    def argv(self, client, *args):
        """The command that runs netprobe where this client is."""
        if client == "outside":
            return self.cluster.argv("c1", NETPROBE, *args)
        if client == "host":
            return self.cluster.argv("h1", NETPROBE, *args)
        return self.cluster.argv("h1", SHOAL, "exec", "-i", "client", "--", "/bin/netprobe", *args)

    def ask(self, client, to, port, proto="tcp", n=1, *more):
        """n answers, as netprobe reports them."""
        done = subprocess.run(self.argv(client, "ask", proto, to, port, "-n", n, *more), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120, check=False)
        answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if len(answers) != n:
            raise ClusterError(f"netprobe from {client}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return answers

    def names(self, client, to, port, proto="tcp", n=30, *more):
        """Who answers n times; every time must be answered."""
        answers = self.ask(client, to, port, proto, n, *more)
        failed = [a for a in answers if not a["ok"]]
        self.assertEqual(failed, [], f"{client} to {to}:{port}/{proto}")
        return Counter(a["name"] for a in answers)

    def wait_names(self, client, to, port, names, proto="tcp", n=40, timeout_s=20):
        """Until exactly these answer, and nothing fails any more: how long a change takes is not the test's matter."""
        seen = []

        def settled():
            answers = self.ask(client, to, port, proto, n)
            seen[:] = [{a["name"] if a["ok"] else a["error"] for a in answers}]
            return seen[0] == set(names)
        wait_for(f"{client} to {to}:{port}/{proto} to be answered by {sorted(names)}", settled, timeout_s,
                 on_timeout=lambda: f"last: {seen}\n" + self.views())

    def refused(self, client, to, port, proto="tcp"):
        """Refused at once, and not by waiting for a timeout."""
        answer = self.ask(client, to, port, proto, 1)[0]
        # nftables tells a sender on the host itself by the call that sends: a rule has dropped its datagram.
        error = "EPERM" if (PROXY, client) == ("nftables", "host") and proto.startswith("udp") else "ECONNREFUSED"
        self.assertEqual((answer["ok"], answer.get("error")), (False, error), f"{client} {to}:{port}/{proto}")
        self.assertLess(answer["ms"], REFUSED_MS_MAX)

    def wait_refused(self, client, to, port, proto="tcp", timeout_s=15):
        wait_for(f"{client} to {to}:{port}/{proto} to be refused",
                 lambda: self.ask(client, to, port, proto)[0].get("error") == "ECONNREFUSED", timeout_s,
                 on_timeout=self.views)
        self.refused(client, to, port, proto)

    def announcers(self, vip):
        return [h for h in self.cluster.hosts if vip in self.cluster.status(h)["announced_vips"]]

    def hold(self, client, to, port, n):
        return Held(self.argv(client, "hold", to, port, "-n", n))

    def views(self):
        """What each host's data plane says of the test's Services, for a failure's report."""
        out = ""
        for host in self.cluster.hosts:
            for service in self.items("services"):
                name = service["metadata"]["name"]
                out += f"--- {host} {name}\n" + self.cluster.shoal(host, "service", "show", name, "-n", self.ns,
                                                                  check=False).stdout
        return out


class Held:
    """Connections that stay open; check() asks each of them again."""

    def __init__(self, argv):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.first = self._read()

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise ClusterError("the holder of connections ended")
        return json.loads(line)

    def check(self):
        return self._tell("check")

    def look(self):
        """How many are open, and how the others that have ended since the last look did; nothing is sent."""
        return self._tell("look")

    def _tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.process.stdout.close()


def pod(name, ns, host, labels, command=None, ports=("tcp:7000", "udp:7000"), ready=True, drain=0, spec="",
        container=""):
    """A netprobe pod bound to a host. ready: whether it is so from the start (its probe looks for a file)."""
    if command is None:
        args = ["/bin/netprobe", "serve", "--name", name, "--drain", str(drain), "--ready", "/tmp/ready",
                "http:7999", *ports]
        made = "touch /tmp/ready; " if ready else ""
        command = ["/bin/sh", "-c", f"{made}exec {' '.join(args)}"]
    else:
        command = ["/bin/" + command[0], *command[1:]]
    label_text = ", ".join(f"{k}: {json.dumps(v)}" for k, v in labels.items())
    probe = ("" if command[0] != "/bin/sh" else
             "    readinessProbe: {httpGet: {path: /, port: 7999}, periodSeconds: 1, failureThreshold: 1}\n")
    return (f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {ns}, labels: {{{label_text}}}}}\n"
            f"spec:\n  nodeName: {host}\n  terminationGracePeriodSeconds: {drain + 1}\n{spec}"
            f"  containers:\n  - name: main\n    image: {IMAGE}\n    command: {json.dumps(command)}\n{container}{probe}")
