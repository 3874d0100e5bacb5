#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Service conformance, the basics: who answers, and what each side sees. Topology: frame.py.

Named after the upstream sig-network tests where there is one ("should ...").
"""
import re
import subprocess
import unittest

from drain_case import DrainCase
from frame import CLIENTS, FAMILIES, MODE, NETPROBE, PROXY, Cluster, ServiceTest, wait_for


class Basic(DrainCase, ServiceTest):
    def both_frontends(self, service):
        """(client, address) for each kind of client: pods and hosts use both, outside clients the VIP."""
        vips = self.vips_of(service)
        return [(c, a) for c in CLIENTS for a in (*self.cluster_ips_of(service), *vips) if c != "outside" or a in vips]

    def test_serve_a_basic_endpoint_from_pods(self):
        self.servers("a", "b", hosts=["h1", "h2"])
        web = self.service(text="type: LoadBalancer")
        for client, to in self.both_frontends(web):
            self.wait_names(client, to, 80, {"a", "b"})
        self.cluster.shoal("h1", "delete", "pod", "a", "-n", self.ns)
        for client, to in self.both_frontends(web):
            self.wait_names(client, to, 80, {"b"})
        self.cluster.shoal("h1", "delete", "pod", "b", "-n", self.ns)
        for client, to in self.both_frontends(web):
            self.wait_refused(client, to, 80)

    def test_serve_multiport_endpoints_from_pods(self):
        self.servers("a", "b", hosts=["h1", "h2"], ports=("tcp:7000", "udp:7000", "tcp:7100"))
        web = self.service(text="type: LoadBalancer",
                           ports="[{name: one, port: 80, targetPort: 7000}, {name: two, port: 81, targetPort: 7100}]")
        for client, to in self.both_frontends(web):
            self.wait_names(client, to, 80, {"a", "b"})
            self.wait_names(client, to, 81, {"a", "b"})
            self.refused(client, to, 82)

    def test_serve_endpoints_on_same_port_and_different_protocols(self):
        self.servers("t", hosts=["h1"], ports=("tcp:7000",))
        self.servers("u", hosts=["h2"], ports=("udp:7000",))
        web = self.service(text="type: LoadBalancer", selector="{name: t}",
                           ports="[{name: dns-tcp, port: 53, targetPort: 7000, protocol: TCP},"
                                 " {name: dns-udp, port: 53, targetPort: 7000, protocol: UDP}]")
        for client, to in self.both_frontends(web):
            self.wait_names(client, to, 53, {"t"}, "tcp")
        self.service(text="type: LoadBalancer", selector="{name: u}",
                     ports="[{name: dns-tcp, port: 53, targetPort: 7000, protocol: TCP},"
                           " {name: dns-udp, port: 53, targetPort: 7000, protocol: UDP}]")
        for client, to in self.both_frontends(web):
            self.wait_names(client, to, 53, {"u"}, "udp")

    def test_named_target_ports(self):
        container = "    ports: [{name: web, containerPort: %d}]\n"
        self.servers("a", hosts=["h1"], ports=("tcp:7000",), container=container % 7000)
        self.servers("b", hosts=["h2"], ports=("tcp:7001",), container=container % 7001)
        web = self.service(text="type: LoadBalancer", ports="[{port: 80, targetPort: web}]")
        for client, to in self.both_frontends(web):
            self.wait_names(client, to, 80, {"a", "b"})

    def test_the_client_sees_the_service_and_the_server_sees_the_client(self):
        pod = self.cluster.get("pod", "client")
        addresses = {(family, client): ip for family in FAMILIES
                     for client, ip in (("outside", self.cluster.address("c1", family)),
                                        ("pod", self.cluster.pod_ip(pod, family)))}
        for name, host in (("a", "h1"), ("b", "h2")):
            with self.subTest(server=host):
                self.servers(name, hosts=[host])
                web = self.service(name, "type: LoadBalancer", selector=f"{{name: {name}}}",
                                   ports="[{name: t, port: 80, targetPort: 7000},"
                                         " {name: u, port: 80, targetPort: 7000, protocol: UDP}]")
                for client, to in self.both_frontends(web):
                    for proto in ("tcp", "udp", "udp-connected"):
                        self.wait_names(client, to, 80, {name}, proto, n=3)
                        answer = self.ask(client, to, 80, proto)[0]
                        self.assertEqual(answer["peer"], f"{to} 80", f"{client} {proto}")
                        # A host's process may use any of its host's addresses; a pod and a client have one.
                        if client != "host":
                            family = self.cluster.family_of(to)
                            self.assertEqual(answer["seen"].split()[0],
                                             self.between(client, to, host) or addresses[family, client],
                                             f"{client} {proto}")

    def between(self, client, to, host):
        """The host that an outside client is seen as: without DSR, where its address is announced by another one."""
        if PROXY != "nftables" or client != "outside":
            return None
        announcer = self.announcers(to)[0]
        return Cluster.address(announcer, self.cluster.family_of(to)) if announcer != host else None

    def test_refused_at_once_without_a_backend_and_on_other_ports(self):
        web = self.service(text="type: LoadBalancer",
                           ports="[{name: t, port: 80, targetPort: 7000},"
                                 " {name: u, port: 80, targetPort: 7000, protocol: UDP}]")
        for client, to in self.both_frontends(web):
            self.wait_refused(client, to, 80)
            self.refused(client, to, 80, "udp-connected")
            self.refused(client, to, 81)
            self.refused(client, to, 81, "udp-connected")

    def test_readiness_decides(self):
        self.servers("a", hosts=["h1"])
        self.servers("b", hosts=["h2"], ready=False)
        web = self.service(text="type: LoadBalancer")
        for client, to in self.both_frontends(web):
            self.wait_names(client, to, 80, {"a"})
        self.cluster.shoal("h2", "exec", "b", "-n", self.ns, "--", "/bin/touch", "/tmp/ready")
        for client, to in self.both_frontends(web):
            self.wait_names(client, to, 80, {"a", "b"})
        self.cluster.shoal("h2", "exec", "b", "-n", self.ns, "--", "/bin/rm", "/tmp/ready")
        for client, to in self.both_frontends(web):
            self.wait_names(client, to, 80, {"a"})

    def test_a_pod_reaches_itself_through_its_service(self):
        self.servers("a", hosts=["h1"])
        web = self.service(text="type: LoadBalancer")
        self.wait_names("host", web["spec"]["clusterIP"], 80, {"a"})
        for to in (*self.cluster_ips_of(web), *self.vips_of(web)):
            done = self.cluster.shoal("h1", "exec", "a", "-n", self.ns, "--", "/bin/netprobe", "ask", "tcp", to, "80",
                                      "-n", "20")
            self.assertEqual(done.stdout.count('"ok":true'), 20, done.stdout)

    def test_service_without_selector(self):
        self.servers("a", hosts=["h2"])
        pod = self.items("pods")[0]
        self.apply(f"apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: {self.ns}}}\n"
                   "spec: {ports: [{port: 80, targetPort: 7000}], ipFamilyPolicy: PreferDualStack}\n")
        for family, to in zip(FAMILIES, self.cluster_ips_of(self.get_service())):
            self.apply("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: "
                       f"{{name: web-{family.lower()}, namespace: "
                       f"{self.ns}, labels: {{kubernetes.io/service-name: web}}}}\naddressType: {family}\n"
                       f"endpoints: [{{addresses: ['{Cluster.pod_ip(pod, family)}'], nodeName: h2, "
                       "conditions: {ready: true}}]\nports: [{name: '', port: 7000, protocol: TCP}]\n")
            for client in ("pod", "host"):
                self.wait_names(client, to, 80, {"a"})

    def test_backends_that_are_no_pods(self):
        """Processes of hosts see who asks; a machine outside is asked on the clients' behalf, by a host."""
        places = {"h1": "h1", "h2": "h2", "outside": "lan"}
        router = {"IPv4": "198.18.0.1", "IPv6": "2001:db8:1::1"}
        for name, node in places.items():
            server = self.cluster.popen(node, NETPROBE, "serve", "--name", name, "tcp:7600", "udp:7600")
            self.addCleanup(server.wait)
            self.addCleanup(server.kill)
        self.apply(f"apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: {self.ns}}}\n"
                   "spec:\n  type: LoadBalancer\n  ipFamilyPolicy: RequireDualStack\n"
                   "  ports: [{name: t, port: 80, targetPort: 7600}, {name: u, port: 80, targetPort: 7600, "
                   "protocol: UDP}]\n")
        web = self.get_service()
        hosts = {Cluster.address(host, family): host for host in self.cluster.hosts for family in FAMILIES}
        for name, node in places.items():
            for family in FAMILIES:
                at = router[family] if node == "lan" else Cluster.address(node, family)
                self.apply("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: "
                           f"{{name: web-{family.lower()}, namespace: {self.ns}, "
                           f"labels: {{kubernetes.io/service-name: web}}}}\naddressType: {family}\n"
                           f"endpoints: [{{addresses: ['{at}']}}]\n"
                           "ports: [{name: t, port: 7600, protocol: TCP}, {name: u, port: 7600, protocol: UDP}]\n")
            for client, to in self.both_frontends(web):
                for proto in ("tcp", "udp"):
                    self.wait_names(client, to, 80, {name}, proto, n=5)
                    answer = self.ask(client, to, 80, proto)[0]
                    if client == "outside":
                        seen = answer["seen"].split()[0]
                        if name == "outside":
                            self.assertIn(seen, hosts, f"{to} over {proto}: {answer}")
                        else:
                            own = Cluster.address("c1", Cluster.family_of(to))
                            self.assertEqual(seen, self.between(client, to, node) or own,
                                             f"{to} over {proto}: {answer}")

    def test_pods_answer_at_their_own_addresses_and_see_who_asks(self):
        self.servers("a", "b", hosts=["h1", "h2"])
        pods = {p["metadata"]["name"]: p for p in self.items("pods")}
        client = self.cluster.get("pod", "client")
        for family in FAMILIES:
            for node in self.cluster.items("nodes"):
                cidr = Cluster.of_family(node["spec"]["podCIDRs"], family)
                self.cluster.run("c1", "ip", "route", "replace", cidr, "via",
                                 Cluster.address(node["metadata"]["name"], family))
                self.addCleanup(self.cluster.run, "c1", "ip", "route", "del", cidr)
            asked_by = {"pod": Cluster.pod_ip(client, family), "host": Cluster.address("h1", family),
                        "outside": Cluster.address("c1", family)}
            for name, server in pods.items():
                for asker, expected in asked_by.items():
                    for proto in ("tcp", "udp"):
                        answer = self.ask(asker, Cluster.pod_ip(server, family), 7000, proto)[0]
                        self.assertEqual((answer.get("name"), answer.get("seen", "").split(" ")[0]), (name, expected),
                                         f"{asker} to {name} over {family}, {proto}: {answer}")

    def test_hosts_see_pods_and_the_outside_sees_hosts(self):
        client = self.cluster.get("pod", "client")
        for node in ("h2", "c1"):
            server = self.cluster.popen(node, NETPROBE, "serve", "--name", node, "tcp:7500")
            self.addCleanup(server.wait)
            self.addCleanup(server.kill)
            for family in FAMILIES:
                to = Cluster.address(node, family)
                wait_for(f"{node} to answer", lambda t=to: self.ask("pod", t, 7500)[0]["ok"], 10)
                self.assertEqual(self.ask("pod", to, 7500)[0]["seen"].split()[0],
                                 Cluster.address("h1", family) if node == "c1" else Cluster.pod_ip(client, family))

    def test_drain_timeout_closes_what_is_left_of_a_group_at_weight_0(self):
        closed = self.drain(4, kill=("h2",) if MODE == "default" else ())
        views = [self.cluster.shoal(host, "service", "show", "web", "-n", self.ns).stdout for host in self.cluster.hosts]
        told = [int(n) for view in views for n in re.findall(r"drain: version=blue closed (\d+) connection", view)]
        self.assertEqual(len(told), 3, views)
        self.assertGreaterEqual(sum(told), closed, views)

        def told_by_events():
            return [e["message"] for e in self.items("events") if e["reason"] == "GroupDrained"]

        wait_for("an event of h1's group", lambda: any("connections to group version=blue on h1" in message
                                                        for message in told_by_events()),
                 10, on_timeout=lambda: str(told_by_events()))

    def test_bulk_bytes_pass_both_ways(self):
        for name, host in (("a", "h1"), ("b", "h2")):
            self.servers(name, hosts=[host])
            web = self.service(name, "type: LoadBalancer", selector=f"{{name: {name}}}")
            for client, to in self.both_frontends(web):
                with self.subTest(server=host, client=client, to=to):
                    self.wait_names(client, to, 80, {name}, n=3)
                    done = subprocess.run(self.argv(client, "bulk", to, 80, 20_000_000, "--timeout", 20000),
                                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                                          check=False)
                    self.assertIn('"ok":true', done.stdout, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
