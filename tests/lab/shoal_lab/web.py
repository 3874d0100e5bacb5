# SPDX-License-Identifier: Apache-2.0
"""The demo's web server as a workload of lab tests: a Deployment of any size behind a LoadBalancer Service."""
from .cluster import build_image, wait_for

OBJECTS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: shoal.dev/demo/web:blue
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: LoadBalancer
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: http}}]
"""

# One connection from a source port of our own; prints the name of the pod that answered.
ASK = """\
import socket, sys
port, vip = int(sys.argv[1]), sys.argv[2]
with socket.socket() as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.settimeout(10)
    s.bind(("", port))
    s.connect((vip, 80))
    s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    body = b""
    while chunk := s.recv(4096):
        body += chunk
print(body.decode().rsplit("pod=", 1)[1].strip())
"""


def deploy(cluster, folder, replicas):
    """Returns the Service's ClusterIP and VIP, once every host balances over all replicas."""
    cluster.load_image(build_image("blue", folder / "blue.tar"))
    cluster.apply(OBJECTS.format(replicas=replicas))
    cluster.wait_ready("app=web", replicas)

    def addresses():
        web = cluster.get("service", "web")
        return web["spec"]["clusterIP"], web["status"]["loadBalancer"]["ingress"][0]["ip"]

    found = wait_for("the Service to have its VIP", addresses, 20)
    for host in cluster.hosts:
        wait_balanced(cluster, host, replicas)
    return found


def wait_balanced(cluster, host, replicas, timeout_s=30):
    def ready():
        port = cluster.shoal_json(host, "service", "show", "web")["ports"][0]
        return sum(1 for backend in port["backends"] if backend["state"] == "ready") == replicas
    wait_for(f"{host} to balance over {replicas} pods", ready, timeout_s, on_timeout=lambda: cluster.log_tail(host))


def announcer(cluster, vip):
    return wait_for("a host to announce the VIP",
                    lambda: next((h for h in cluster.hosts
                                  if vip in cluster.status(h).get("announced_vips", [])), None), 20)


def ask(cluster, client, port, vip):
    return cluster.run(client, "python3", "-c", ASK, str(port), vip).stdout.split()[0]
