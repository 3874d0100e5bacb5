#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Service conformance: kinds of Services and their policies. Topology: frame.py.

Named after the upstream sig-network tests where there is one ("should ...").
"""
import json
import unittest

from frame import CLIENTS, FAMILIES, MODE, Cluster, ServiceTest, wait_for


class Kinds(ServiceTest):
    def node_ports(self, service):
        return {p.get("name", ""): p["nodePort"] for p in service["spec"]["ports"]}

    def test_be_able_to_create_a_functioning_NodePort_service(self):
        self.servers("a", "b", hosts=["h1", "h2"])
        web = self.service(text="type: NodePort")
        port = self.node_ports(web)[""]
        self.assertTrue(30000 <= port <= 32767, port)
        for family in FAMILIES:
            for host in self.cluster.hosts:  # h3 has no server
                self.wait_names("outside", Cluster.address(host, family), port, {"a", "b"})
            for client in ("pod", "host"):
                # What a host sends to itself passes no device of Shoal's: only socket hooks see it.
                at = "h2" if (client, MODE) == ("host", "no-socket-lb") else "h1"
                self.wait_names(client, Cluster.address(at, family), port, {"a", "b"})
            self.wait_names("pod", Cluster.address("h3", family), port, {"a", "b"})

    def test_be_able_to_change_the_type_from_ClusterIP_to_ExternalName_and_to_NodePort(self):
        self.servers("a", hosts=["h2"])
        web = self.service()
        address = web["spec"]["clusterIP"]
        self.wait_names("pod", address, 80, {"a"})
        self.apply(f"apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: {self.ns}}}\n"
                   "spec: {type: ExternalName, externalName: example.com}\n")
        service = self.cluster.get("service", "web", "-n", self.ns)
        self.assertEqual(service["spec"].get("clusterIP", ""), "")
        wait_for("the address to be nobody's", lambda: not self.ask("pod", address, 80, "tcp", 1, "--timeout", "500")[0][
            "ok"], 10)
        web = self.service(text="type: NodePort")
        port = self.node_ports(web)[""]
        self.wait_names("outside", Cluster.address("h3"), port, {"a"})
        self.service(text="type: ClusterIP")
        wait_for("the node port to be closed", lambda: not self.ask("outside", Cluster.address("h3"), port, "tcp", 1,
                                                                    "--timeout", "500")[0]["ok"], 10)

    def test_external_ips(self):
        self.servers("a", "b", hosts=["h1", "h2"])
        external = {"IPv4": "198.18.0.251", "IPv6": "2001:db8:1::e01"}
        self.service(text=f"externalIPs: {json.dumps(list(external.values()))}")
        for family, ip in external.items():
            self.cluster.run("c1", "ip", "route", "replace", ip, "via", Cluster.address("h1", family))
            for client in CLIENTS:
                self.wait_names(client, ip, 80, {"a", "b"})

    def test_headless_services_have_slices_and_no_address(self):
        self.servers("a", "b", hosts=["h1", "h2"])
        self.apply(f"apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: {self.ns}}}\n"
                   "spec: {clusterIP: None, selector: {app: server}, ports: [{port: 80, targetPort: 7000}], "
                   "ipFamilyPolicy: PreferDualStack}\n")
        self.assertEqual(self.get_service()["spec"]["clusterIP"], "None")

        def endpoints():
            return {(s["addressType"], a) for s in self.items("endpointslices", "-l", "kubernetes.io/service-name=web")
                    for e in s.get("endpoints", []) for a in e["addresses"]}
        pods = {(f, Cluster.pod_ip(p, f)) for p in self.items("pods") for f in FAMILIES}
        wait_for("both endpoints", lambda: endpoints() == pods, 10)

    def test_host_ports(self):
        container = "    ports: [{containerPort: 7000, hostPort: 8800}]\n"
        self.servers("a", hosts=["h2"], container=container)
        for family in FAMILIES:
            for client in CLIENTS:
                self.wait_names(client, Cluster.address("h2", family), 8800, {"a"})
            self.assertFalse(self.ask("outside", Cluster.address("h1", family), 8800)[0]["ok"])

    def test_load_balancer_classes_of_others_are_left_alone(self):
        self.servers("a", hosts=["h2"])
        self.apply(f"apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: {self.ns}}}\nspec: {{type: "
                   "LoadBalancer, loadBalancerClass: example.com/other, selector: {app: server}, "
                   "ports: [{port: 80, targetPort: 7000}]}\n")
        service = self.cluster.get("service", "web", "-n", self.ns)
        self.wait_names("pod", service["spec"]["clusterIP"], 80, {"a"})
        service = self.cluster.get("service", "web", "-n", self.ns)
        self.assertFalse(service.get("status", {}).get("loadBalancer", {}).get("ingress"))

    def test_publish_not_ready_addresses(self):
        self.servers("a", hosts=["h2"], ready=False)
        wait_for("an address", lambda: self.items("pods")[0].get("status", {}).get("podIP"), 20)
        web = self.service(text="publishNotReadyAddresses: true")
        self.wait_names("pod", web["spec"]["clusterIP"], 80, {"a"})


class Policies(ServiceTest):
    def test_have_session_affinity_work_for_service_with_type_clusterIP_and_LoadBalancer(self):
        self.servers("a", "b", "c")
        web = self.service(text="type: LoadBalancer\nsessionAffinity: ClientIP\n"
                                "sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}")
        for client, to in self.where(web):
            wait_for("an answer", lambda c=client, t=to: self.ask(c, t, 80)[0]["ok"], 15)
            self.assertEqual(len(self.names(client, to, 80, "tcp", 60)), 1, client)

    def test_have_session_affinity_work_for_NodePort_service(self):
        self.servers("a", "b", "c")
        web = self.service(text="type: NodePort\nsessionAffinity: ClientIP")
        port = web["spec"]["ports"][0]["nodePort"]
        for to in (Cluster.address("h2", family) for family in FAMILIES):
            wait_for("an answer", lambda t=to: self.ask("outside", t, port)[0]["ok"], 15)
            self.assertEqual(len(self.names("outside", to, port, "tcp", 60)), 1)

    def test_be_able_to_switch_session_affinity(self):
        self.servers("a", "b", "c")
        web = self.service(text="type: LoadBalancer")
        where = self.where(web)
        for client, to in where:
            self.wait_names(client, to, 80, {"a", "b", "c"}, n=60)
        self.service(text="type: LoadBalancer\nsessionAffinity: ClientIP")
        for client, to in where:
            wait_for(f"{client} to stay with one", lambda c=client, t=to: len(self.names(c, t, 80, "tcp", 60)) == 1, 15)
        self.service(text="type: LoadBalancer\nsessionAffinity: None")
        for client, to in where:
            self.wait_names(client, to, 80, {"a", "b", "c"}, n=60)

    def test_affinity_follows_the_weights(self):
        self.servers("a", labels={"version": "blue"}, hosts=["h1"])
        self.servers("b", labels={"version": "green"}, hosts=["h2"])
        text = "type: LoadBalancer\nsessionAffinity: ClientIP"
        for blue, green, name in ((100, 0, "a"), (0, 100, "b")):
            web = self.service(text=text, annotations=json.dumps(
                {"shoal.dev/weights": f"version=blue:{blue},version=green:{green}"}))
            for client, to in self.where(web):
                self.wait_names(client, to, 80, {name})

    def test_external_traffic_policy_local(self):
        self.servers("a", "b", hosts=["h1", "h2"])
        web = self.service(text="type: LoadBalancer\nexternalTrafficPolicy: Local")
        port = web["spec"]["ports"][0]["nodePort"]
        for family, address, vip in zip(FAMILIES, self.cluster_ips_of(web), self.vips_of(web)):
            self.wait_names("outside", Cluster.address("h1", family), port, {"a"})
            self.wait_names("outside", Cluster.address("h2", family), port, {"b"})
            self.wait_refused("outside", Cluster.address("h3", family), port)
            # The VIP is where a server is; inside clients go anywhere.
            answers = {a["name"] for a in self.ask("outside", vip, 80, "tcp", 20)}
            self.assertIn(answers, ({"a"}, {"b"}))
            for client in ("pod", "host"):
                self.wait_names(client, address, 80, {"a", "b"})
                self.wait_names(client, vip, 80, {"a", "b"})
            self.assertEqual(self.ask("outside", Cluster.address("h1", family), port)[0]["seen"].split()[0],
                             Cluster.address("c1", family))

    def test_internal_traffic_policy_local(self):
        self.servers("a", "b", hosts=["h1", "h2"])
        web = self.service(text="type: LoadBalancer\ninternalTrafficPolicy: Local")
        for address, vip in zip(self.cluster_ips_of(web), self.vips_of(web)):
            for client in ("pod", "host"):
                self.wait_names(client, address, 80, {"a"})
            self.wait_names("outside", vip, 80, {"a", "b"})

    def test_health_check_node_port(self):
        self.servers("a", hosts=["h2"])
        web = self.service(text="type: LoadBalancer\nexternalTrafficPolicy: Local")
        port = web["spec"]["healthCheckNodePort"]

        def health(host, family="IPv4"):
            address = Cluster.address(host, family)
            if family == "IPv6":
                address = f"[{address}]"
            done = self.cluster.run("c1", "curl", "-s", "-m", "3", "-w", "\n%{http_code}",
                                    f"http://{address}:{port}/", check=False)
            body, code = done.stdout.rsplit("\n", 1)
            return int(code), json.loads(body) if body else {}
        wait_for("h2 to say it has one", lambda: health("h2")[0] == 200, 15)
        self.assertEqual(health("h2")[1], {"service": {"namespace": self.ns, "name": "web"}, "localEndpoints": 1,
                                           "serviceProxyHealthy": True})
        self.assertEqual(health("h2", "IPv6"), health("h2"))
        wait_for("h3 to say it has none", lambda: health("h3")[0] == 503, 15)
        self.assertEqual(health("h3")[1]["localEndpoints"], 0)

    def test_traffic_distribution_prefers_close(self):
        self.servers("a", "b", hosts=["h1", "h2"])
        web = self.service(text="trafficDistribution: PreferClose")
        for client in ("pod", "host"):
            self.wait_names(client, web["spec"]["clusterIP"], 80, {"a"})
        self.cluster.shoal("h1", "delete", "pod", "a", "-n", self.ns)
        for client in ("pod", "host"):
            self.wait_names(client, web["spec"]["clusterIP"], 80, {"b"})

    def test_load_balancer_source_ranges(self):
        self.servers("a", hosts=["h2"])
        v4, v6 = (f"{Cluster.address('c1', family)}/{bits}" for family, bits in zip(FAMILIES, (32, 128)))

        def take(*ranges):
            return self.service(text=f"type: LoadBalancer\nloadBalancerSourceRanges: {json.dumps(ranges)}")

        def wait_shut_out(vip):
            wait_for(f"the client to be shut out of {vip}", lambda: self.ask(
                "outside", vip, 80, "tcp", 1, "--timeout", "500")[0].get("error") == "TIMEOUT", 15)
            self.wait_names("pod", vip, 80, {"a"})
        vips = self.vips_of(take(v4, v6))
        for vip in vips:
            self.wait_names("outside", vip, 80, {"a"})
        web = take("192.0.2.0/24", "2001:db8:2::/64")
        for vip in vips:
            wait_shut_out(vip)
        for family in FAMILIES:  # a node port is not the load balancer's
            self.wait_names("outside", Cluster.address("h1", family), web["spec"]["ports"][0]["nodePort"], {"a"})
        take(v6)  # says nothing of IPv4 clients: they are not among those that may
        self.wait_names("outside", vips[1], 80, {"a"})
        wait_shut_out(vips[0])

    def test_terminating_backends_drain(self):
        self.servers("a", "b", hosts=["h1", "h2"], drain=8)
        web = self.service(text="type: LoadBalancer")
        where = self.where(web)
        for client, to in where:
            self.wait_names(client, to, 80, {"a", "b"})
        held = {(client, to): self.hold(client, to, 80, 20) for client, to in where}
        for holder in held.values():
            self.addCleanup(holder.close)
            self.assertEqual(holder.first["open"], 20)
        self.cluster.shoal("h1", "delete", "pod", "b", "-n", self.ns, "--wait=false")
        for client, to in where:
            self.wait_names(client, to, 80, {"a"}, timeout_s=6)
            self.assertEqual(held[client, to].check()["broken"], 0, "an established connection did not drain")

    def test_serving_terminating_backends_are_better_than_none(self):
        self.servers("a", hosts=["h2"], drain=10)
        web = self.service(text="type: LoadBalancer")
        where = self.where(web)
        for client, to in where:
            self.wait_names(client, to, 80, {"a"})
        self.cluster.shoal("h1", "delete", "pod", "a", "-n", self.ns, "--wait=false")
        wait_for("the pod to be terminating",
                 lambda: "deletionTimestamp" in self.items("pods")[0]["metadata"], 5)
        for client, to in where:
            self.names(client, to, 80, "tcp", 20)


if __name__ == "__main__":
    unittest.main(verbosity=2)
