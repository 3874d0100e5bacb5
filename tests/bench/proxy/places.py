# SPDX-License-Identifier: Apache-2.0
"""A lab whose hosts each stand for one way to a server, and those ways: Shoal's, plain routing, kube-proxy's rules."""
import contextlib
from pathlib import Path

from shoal_bench import agent, kube_proxy, paths, shield
from shoal_bench.node import Node, NodeError
from shoal_bench.plain import PlainRoute
from shoal_lab import cluster as lab
from shoal_lab.objects import CLIENT_IMAGE, build_client_image

BACKENDS = 10  # of a Service that is there for its number
SERVER = "server"


class Places:
    """Use as a context manager. Hosts are named by their number in the lab, from 1."""

    def __init__(self, stage, hosts):
        self.stage = stage
        self.leave = contextlib.ExitStack()
        self.cluster = lab.Cluster(stage.name, hosts=hosts, clients=0)

    def __enter__(self):
        with self.leave:  # whatever fails on the way in is cleared away
            self.leave.callback(self.cluster.down)
            self.cluster.up()
            self.nodes = [self.leave.enter_context(Node(self.cluster, host, realtime=True)) for host in self.cluster.hosts]
            self.shielded, self.shield_words = shield.shield_argv(self.nodes[0])
            self.archive = build_client_image(Path(f"/var/tmp/shoal-lab/{self.stage.name}"))  # the lab's own folder
            self.leave = self.leave.pop_all()
        return self

    def __exit__(self, *what):
        return self.leave.__exit__(*what)

    def node(self, number):
        return self.nodes[number - 1]

    def agent(self, number, services, features=""):
        """One with that many Services of 10 backends each, of addresses that nobody has."""
        self.stage.progress(f"h{number}: an agent with {services:,} Services{f' ({features.strip()})' if features else ''}")
        here = agent.Agent(self.cluster, self.node(number), lab.wait_for, agent.limits(services, BACKENDS) + features)
        here.cluster.load_image(self.archive)
        if services:
            here.fill(services, BACKENDS)
        return here

    def through_shoal(self, here, picked_by="connects"):
        """Between two pods of an agent's host, by a Service more and by the pod's address: two Paths. `picked_by` says which
        counter counts connections: "connects" (socket hooks) or "flows" (tc); that only this one does is made sure of."""
        client, server = here.pod("client", CLIENT_IMAGE), here.pod(SERVER, CLIENT_IMAGE)
        cluster_ip = here.service(SERVER, paths.PORTS.values())
        paths.start_servers(server.run, server.start, self.shielded, lab.LOADGEN)
        both = [paths.Path(client.run, to, self.shielded, lab.LOADGEN).ready(lab.wait_for)
                for to in (cluster_ip, server.pod["status"]["podIP"])]
        if {counter for counter, number in here.picks(SERVER).items() if number} != {picked_by}:
            raise NodeError(f"{here.host}: connections to {SERVER} were counted as {here.picks(SERVER)}, not as {picked_by} alone")
        return both

    def through_routes(self, number):
        """The same topology with routes alone."""
        route = PlainRoute(self.node(number), self.node(number), 1)
        paths.start_servers(route.run_server, route.start_server, self.shielded, lab.LOADGEN)
        return paths.Path(route.run_client, route.server_ip, self.shielded, lab.LOADGEN).ready(lab.wait_for)

    def through_rules(self, number, services, rules):
        """And with kube-proxy's rules in the router. The Service that is asked has one endpoint, as ours has, and lies in the
        middle: where the rules are walked one by one, it is as far from the first as Services are on average."""
        asked = services // 2
        node = self.node(number)
        route = PlainRoute(node, node, 1, net="10.255")  # in kube_proxy.PODS
        self.stage.progress(f"h{number}: {services:,} Services in {rules}, in kube-proxy's shape")
        LOAD_RULES[rules](node, services, {asked: [route.server_ip]})
        route.run_server(*paths.UNPACED)
        route.start_server(*self.shielded, lab.LOADGEN, "serve", "--serial", "--port", kube_proxy.ENDPOINT_PORT)
        return paths.Path(route.run_client, kube_proxy.service_ip(asked), self.shielded, lab.LOADGEN,
                          {"crr": kube_proxy.SERVICE_PORT}).ready(lab.wait_for, ("crr",))


def load_iptables(backend, backends):
    def load(node, services, real):
        node.run(f"iptables-{backend}-restore", text=kube_proxy.iptables(services, backends, real))
        node.run(f"iptables-{backend}-restore", "--noflush", text=kube_proxy.iptables_frame())
    return load


def load_nftables(node, services, real):
    node.run("nft", "-f", "-", text=kube_proxy.nft(services, BACKENDS, real))
    node.run("nft", "-f", "-", text=kube_proxy.nft_frame(services, node.address))


# iptables has two backends in the kernel: nf_tables is Debian's default, and kube-proxy takes what its host has. There the
# Services that are not asked have one endpoint each: with ten, the loading takes minutes, and no packet meets them.
LOAD_RULES = {"nftables": load_nftables, "iptables-nft": load_iptables("nft", 1),
              "iptables-legacy": load_iptables("legacy", BACKENDS)}
