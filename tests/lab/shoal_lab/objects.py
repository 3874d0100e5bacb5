# SPDX-License-Identifier: Apache-2.0
"""The objects that lab tests are made of, as values: the demo's web server, a client pod, Services."""
import json
import subprocess
from pathlib import Path

from .cluster import LOADGEN, ROOT, build_image

CLIENT_IMAGE = "shoal.dev/demo/client:1"


def load_images(cluster, folder, versions=("blue",), client=True):
    """Builds the images in a folder and loads them on every host."""
    folder = Path(folder)
    for version in versions:
        cluster.load_image(build_image(version, folder / f"{version}.tar"))
    if client:
        cluster.load_image(build_client_image(folder))


def build_client_image(folder):
    archive = Path(folder) / "client.tar"
    subprocess.run([str(ROOT / "tests/images/build"), "--client", str(LOADGEN), str(archive)], check=True, capture_output=True)
    return archive


def documents(*objects):
    """One manifest, as `shoal apply -f -` takes it."""
    return "\n---\n".join(json.dumps(one, indent=1) for one in objects) + "\n"


def web_spec(version):
    """A pod's spec: HTTP on 8080, echo on 9000; SIGUSR1 to its first process turns readiness over."""
    return {
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "web",
            "image": f"shoal.dev/demo/web:{version}",
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "echo", "containerPort": 9000}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1},
        }],
    }


def pod(name, labels, spec, host=None):
    if host:
        spec = {**spec, "nodeName": host}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def deployment(name, version, replicas, labels=None):
    """The web server of that version; its pods have the labels app=web, version=VERSION, or those given."""
    labels = labels or {"app": "web", "version": version}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
                 "template": {"metadata": {"labels": labels}, "spec": web_spec(version)}},
    }


def client_pod(host):
    """A pod on that host to connect from."""
    spec = {"terminationGracePeriodSeconds": 1,
            "containers": [{"name": "client", "image": CLIENT_IMAGE, "command": ["/bin/busybox", "sleep", "86400"]}]}
    return pod(f"client-{host}", {"app": "client"}, spec, host)


def service(name, selector, weights=None, kind="LoadBalancer"):
    metadata = {"name": name}
    if weights:
        metadata["annotations"] = {"shoal.dev/weights": weights}
    ports = [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "echo", "port": 9000, "targetPort": "echo"}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"type": kind, "selector": selector, "ports": ports}}
