# SPDX-License-Identifier: Apache-2.0
"""A cluster as its Services' users and owners see it: addresses, rings, events."""
import json

from .cluster import Cluster, wait_for


class ServiceCluster(Cluster):
    """A cluster and its Services' addresses."""

    def addresses(self, name):
        """ClusterIP and VIP, once every host's data plane has both."""
        def both():
            one = self.get("service", name)
            ingress = one.get("status", {}).get("loadBalancer", {}).get("ingress")
            return (one["spec"]["clusterIP"], ingress[0]["ip"]) if ingress else None
        cluster_ip, vip = wait_for(f"Service {name} to have its VIP", both, 20)
        for host in self.hosts:
            wait_for(f"{host} to serve {name} at both", lambda h=host: self.served(h, name) >= {cluster_ip, vip}, 10)
        wait_for(f"a host to announce {vip}", lambda: self.announcer(vip), 10)
        return cluster_ip, vip

    def port(self, host, name):
        view = self.shoal_json(host, "service", "show", name)
        return next(p for p in view["ports"] if p["port_name"] == "http")

    def served(self, host, name):
        return {f["ip"] for f in self.port(host, name)["frontends"]}

    def announcer(self, vip, hosts=None):
        return next((h for h in hosts or self.hosts if vip in self.status(h).get("announced_vips", [])), None)

    def wait_rings(self, name, pods, hosts=None):
        """Until every host gives new connections to exactly these pods."""
        want = {f"default/{p}" for p in pods}

        def has(host):
            return {b["pod"] for b in self.port(host, name)["backends"] if b["slots"] > 0} == want
        for host in hosts or self.hosts:
            wait_for(f"{host} to balance {name} over {sorted(want)}", lambda h=host: has(h), 20,
                     on_timeout=lambda h=host: json.dumps(self.port(h, name)["backends"], indent=1))

    def events_of(self, name):
        return [e for e in self.items("events") if e["involvedObject"]["name"] == name]

    def wait_event(self, name, reason, words):
        return wait_for(f"event {reason} on Service {name}", lambda: next(
            (e for e in self.events_of(name) if e["reason"] == reason and words in e["message"]), None), 15,
            on_timeout=lambda: json.dumps(self.events_of(name), indent=1))
