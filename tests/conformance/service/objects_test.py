#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Service conformance, the API's side: what is mirrored, what is refused and how, hosts that go. Topology: frame.py.

Named after the upstream sig-network tests where there is one ("should ...").
"""
import json
import threading
import unittest

from frame import CLIENTS, FAMILIES, IMAGE, PROXY, Cluster, ServiceTest, wait_for


class Objects(ServiceTest):
    def events(self, reason):
        return {(e["involvedObject"]["name"], e["message"]) for e in self.items("events") if e["reason"] == reason}

    def pod_ip(self, name):
        return self.cluster.get("pod", name, "-n", self.ns)["status"]["podIP"]

    def refusal(self, text):
        done = self.cluster.shoal("h1", "apply", "-f", "-", input=text, check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stderr

    def test_mirror_a_custom_Endpoints_resource_through_create_update_and_delete(self):
        self.servers("a", "b", hosts=["h1", "h2"])
        self.apply(f"apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: {self.ns}}}\n"
                   "spec: {ports: [{port: 80, targetPort: 7000}], ipFamilyPolicy: PreferDualStack}\n")
        addresses = self.cluster_ips_of(self.get_service())
        for address in addresses:
            self.wait_refused("pod", address, 80)

        def put(name):
            ips = [{"ip": Cluster.pod_ip(self.cluster.get("pod", name, "-n", self.ns), family)} for family in FAMILIES]
            self.apply(f"apiVersion: v1\nkind: Endpoints\nmetadata: {{name: web, namespace: {self.ns}}}\n"
                       f"subsets: [{{addresses: {json.dumps(ips)}, ports: [{{port: 7000}}]}}]\n")
        put("a")
        for client in ("pod", "host"):
            for address in addresses:
                self.wait_names(client, address, 80, {"a"})
        put("b")
        for address in addresses:
            self.wait_names("pod", address, 80, {"b"})
        slices = self.items("endpointslices", "-l", "kubernetes.io/service-name=web")
        self.assertEqual({(s["addressType"], s["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"])
                          for s in slices},
                         {(family, "endpointslicemirroring-controller.k8s.io") for family in FAMILIES})
        self.cluster.shoal("h1", "delete", "endpoints", "web", "-n", self.ns)
        for address in addresses:
            self.wait_refused("pod", address, 80)

    def test_create_Endpoints_and_EndpointSlices_for_Pods_matching_a_Service(self):
        self.servers("a", hosts=["h2"])
        self.service()

        def addresses():
            got = self.items("endpoints")
            return [a["ip"] for e in got for s in e.get("subsets", []) for a in s.get("addresses", [])]
        wait_for("the endpoint", lambda: addresses() == [self.pod_ip("a")], 15)
        table = self.cluster.shoal("h1", "get", "endpoints", "-n", self.ns).stdout
        self.assertIn(f"{self.pod_ip('a')}:7000", table)

    def test_node_ports_that_are_taken_or_out_of_range_are_refused(self):
        self.service(text="type: NodePort", ports="[{port: 80, targetPort: 7000, nodePort: 30777}]")
        other = (f"apiVersion: v1\nkind: Service\nmetadata: {{name: other, namespace: {self.ns}}}\n"
                 "spec: {type: NodePort, selector: {app: server}, ports: [{port: 80, nodePort: %d}]}\n")
        self.assertIn("provided port is already allocated", self.refusal(other % 30777))
        self.assertIn("provided port is not in the valid range. The range of valid ports is 30000-32767",
                      self.refusal(other % 8080))
        self.cluster.shoal("h1", "delete", "service", "web", "-n", self.ns)
        self.apply(other % 30777)

    def test_an_external_ip_cannot_take_another_services_address(self):
        self.servers("a", hosts=["h1"], labels={"of": "victim"})
        self.servers("b", hosts=["h2"], labels={"of": "thief"})
        victim = self.service("victim", selector="{of: victim}")["spec"]["clusterIP"]
        thief = self.service("thief", f"externalIPs: [{victim}]", selector="{of: thief}")["spec"]["clusterIP"]
        self.wait_names("pod", thief, 80, {"b"})
        self.wait_names("pod", victim, 80, {"a"})
        wait_for("an event", lambda: any(name == "thief" and "victim" in message
                                         for name, message in self.events("PortConflict")), 15)

    def test_host_ports_meet_with_an_event(self):
        container = "    ports: [{containerPort: 7000, hostPort: 8810}]\n"
        self.servers("a", hosts=["h2"], container=container)
        self.wait_names("outside", Cluster.address("h2"), 8810, {"a"})
        self.servers("b", hosts=["h2"], container=container)
        wait_for("an event", lambda: any(name == "b" for name, _ in self.events("PortConflict")), 15)
        self.wait_names("outside", Cluster.address("h2"), 8810, {"a"})
        self.cluster.shoal("h1", "delete", "pod", "a", "-n", self.ns)
        self.wait_names("outside", Cluster.address("h2"), 8810, {"b"})

    def test_ports_of_the_agent_stay_its_own(self):
        self.servers("a", hosts=["h2"], container="    ports: [{containerPort: 7000, hostPort: 9464}]\n")
        wait_for("an event", lambda: any(name == "a" for name, _ in self.events("PortReserved")), 15)
        done = self.cluster.run("c1", "curl", "-s", "-m", "3", f"http://{Cluster.address('h2')}:9464/metrics")
        self.assertIn("shoal_members", done.stdout)

    def test_each_ring_is_shown(self):
        self.servers("a", "b", hosts=["h1", "h2"])
        web = self.service(text="type: LoadBalancer\nexternalTrafficPolicy: Local\ninternalTrafficPolicy: Local")
        self.wait_names("pod", self.vip_of(web), 80, {"a", "b"})
        shown = json.loads(self.cluster.shoal("h1", "service", "show", "web", "-n", self.ns, "-o", "json").stdout)
        rings = {(p["family"], p["clients"]): {b["pod"].split("/")[1] for b in p["backends"] if b["slots"]}
                 for p in shown["ports"]}
        self.assertEqual(rings, {(family, clients): names for family in FAMILIES for clients, names in (
            ("inside", {"a"}), ("inside-external", {"a", "b"}), ("outside", {"a"}))})
        listed = self.cluster.shoal("h1", "get", "service", "web", "-n", self.ns).stdout
        vips = ",".join(self.vips_of(web))
        self.assertRegex(listed, rf"web\s+LoadBalancer\s+\S+\s+{vips}\s+80:3\d+/TCP")

    # ---- hosts that go

    def deployment(self, replicas):
        # It ends at once when it is asked to: whoever is still led there then fails.
        serve = "touch /tmp/ready; exec /bin/netprobe serve --name $HOSTNAME --ready /tmp/ready http:7999 tcp:7000"
        self.apply(f"""apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: {self.ns}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: server}}}}
  template:
    metadata: {{labels: {{app: server}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: main
        image: {IMAGE}
        command: {json.dumps(["/bin/sh", "-c", serve])}
        readinessProbe: {{httpGet: {{path: /, port: 7999}}, periodSeconds: 1}}
""")

    def ready_by_host(self):
        return sorted(p["spec"]["nodeName"] for p in self.items("pods")
                      if Cluster.is_ready(p) and "deletionTimestamp" not in p["metadata"])

    # There an open connection is not kept when another host takes over the address: README, and `shoal status`.
    @unittest.skipIf(PROXY == "nftables", "no flow state is shared between hosts by nftables")
    def test_a_cordoned_and_drained_host_leaves_without_a_failed_request(self):
        self.deployment(3)
        wait_for("a pod on each host", lambda: self.ready_by_host() == self.cluster.hosts, 60)
        # The clients' own pod is on h1 and is nobody's to make again: another host is drained.
        for i in range(16):
            vip = self.vip_of(self.service(f"web{i}", "type: LoadBalancer"))
            host = wait_for("an announcer", lambda v=vip: self.announcers(v), 10)[0]
            if host != "h1":
                break
        self.assertNotEqual(host, "h1")
        for client in CLIENTS:
            wait_for("an answer", lambda c=client: self.ask(c, vip, 80)[0]["ok"], 15)
        self.addCleanup(self.cluster.shoal, "h1", "uncordon", host)
        failed, asked, stop = [], {c: 0 for c in CLIENTS}, threading.Event()

        def keep_asking(client):
            while not stop.is_set():
                answers = self.ask(client, vip, 80, "tcp", 20)
                asked[client] += len(answers)
                failed.extend((client, a) for a in answers if not a["ok"])
        threads = [threading.Thread(target=keep_asking, args=(c,)) for c in CLIENTS]
        for thread in threads:
            thread.start()
        try:
            self.cluster.shoal("h1", "cordon", host)
            wait_for("the VIP to move", lambda: self.announcers(vip) not in ([], [host]), 15)
            self.cluster.shoal("h1", "drain", host, timeout=60)
            wait_for("three pods on the two others", lambda: len(self.ready_by_host()) == 3, 60)
            at_rest = dict(asked)
            wait_for("some more requests", lambda: all(asked[c] > at_rest[c] + 40 for c in CLIENTS), 30)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertNotIn(host, self.ready_by_host())
        self.assertEqual(failed, [], f"of {asked}")
        self.assertIn("SchedulingDisabled", self.cluster.shoal("h1", "get", "nodes").stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
