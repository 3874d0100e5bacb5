# SPDX-License-Identifier: Apache-2.0
"""Pods as places to measure from: their network is Shoal's, the processes in it are the bench's own.

A load generator that ran as a container would also pay for its seccomp filter at every system call, which plain routing
does not; entered by nsenter, it differs from its peer by the path alone. Its socket hooks are the host's, as a pod's are.
"""
import json

IDLE = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {host}
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: idle, image: "{image}", command: [/bin/busybox, sleep, "86400"]}}
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{ports}]
"""


class PodPlace:
    """An idle pod on a host; `node` is that host."""

    def __init__(self, cluster, node, name, image):
        self.node = node
        self.name = name
        cluster.apply(IDLE.format(name=name, host=node.host, image=image))
        self.pod = cluster.wait_ready(f"app={name}", 1)[0]
        state = node.run("cat", f"/run/shoal/pods/{self.pod['metadata']['uid']}/shim.state")
        self.pid = next(line.split()[2] for line in state.splitlines() if line.startswith("container "))

    def inside(self, *argv):
        return ("nsenter", "-t", self.pid, "-n", *argv)

    def run(self, *argv):
        return self.node.run(*self.inside(*argv))

    def start(self, *argv):
        return self.node.start(*self.inside(*argv))


def service_of(cluster, name, ports, seen_from, wait_for):
    """A Service before the pods of that name; its ClusterIP once the host that asks balances over them."""
    listed = ", ".join(f"{{name: p{port}, port: {port}, targetPort: {port}}}" for port in ports)
    cluster.apply(SERVICE.format(name=name, ports=listed))
    wait_for(f"{seen_from} to have a backend of {name}", lambda: _has_backends(cluster, seen_from, name, len(ports)), 20,
             on_timeout=lambda: json.dumps(cluster.shoal_json(seen_from, "service", "show", name)))
    return cluster.get("service", name)["spec"]["clusterIP"]


def _has_backends(cluster, host, name, ports):
    view = cluster.shoal_json(host, "service", "show", name)["ports"]
    return len(view) == ports and all(any(b["state"] == "ready" for b in port["backends"]) for port in view)
