#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Volumes of pods, under the names of upstream's sig-storage tests.

     LAN 198.18.0.0/24 --+-- h1 .11: store, most pods
                         +-- h2 .12: a claim's host that goes away
"""
import base64
import json
import os
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import objects  # noqa: E402
from shoal_lab.cluster import wait_for  # noqa: E402
from shoal_lab.inventory import inventory  # noqa: E402
from shoal_lab.shells import ShellCluster  # noqa: E402

IMAGE = "shoal.dev/demo/web:blue"
STAYS = "while :; do sleep 0.1; done"
INFRA = "infra"  # a namespace whose pods may have the host's folders


def config_map(name, data, **more):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data, **more}


def secret(name, data, namespace="default"):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": data}


def claim(name, modes=("ReadWriteOnce",)):
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": list(modes), "resources": {"requests": {"storage": "1Gi"}}}}


def pod(name, script, volumes, mounts, host="h1", namespace="default", annotations=None, context=None, labels=None, **spec):
    """mounts: {volume: path} or [(volume, path, {more})]."""
    listed = [(v, p, {}) for v, p in mounts.items()] if isinstance(mounts, dict) else mounts
    main = {"name": "main", "image": IMAGE, "command": ["sh", "-c", script], "securityContext": context or {},
            "volumeMounts": [{"name": v, "mountPath": p, **more} for v, p, more in listed],
            **{key: spec.pop(key) for key in ("env", "resources") if key in spec}}
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels or {"app": name}, "annotations": annotations or {}},
            "spec": {"nodeName": host, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                     "volumes": [{"name": v, **source} for v, source in volumes.items()], "containers": [main],
                     "securityContext": {"runAsUser": 0}, **spec}}


class Volumes(unittest.TestCase):
    cluster = None

    @classmethod
    def setUpClass(cls):
        if Volumes.cluster:
            return
        cluster = Volumes.cluster = ShellCluster(f"volumes-{os.getpid()}", hosts=2, clients=0)
        unittest.addModuleCleanup(cluster.down)
        cluster.up()
        cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cluster, folder, ("blue",), client=False)
        cluster.apply(objects.documents({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": INFRA, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}))

    def make(self, *things):
        self.cluster.apply(objects.documents(*things))

    def pod(self, name, ns="default"):
        return self.cluster.get("pod", name, "-n", ns)

    def wait_pod(self, name, what, condition, ns="default", timeout_s=30):
        def holds():
            found = self.pod(name, ns)
            return found if condition(found) else None
        return wait_for(f"pod {name}: {what}", holds, timeout_s, 0.05,
                        on_timeout=lambda: json.dumps(self.pod(name, ns)["status"], indent=1) + "\n".join(self.events(name))
                        + self.cluster.log_tail("h1"))

    def running(self, name, ns="default"):
        return self.wait_pod(name, "running", lambda p: p["status"].get("phase") == "Running", ns)

    def output(self, name, ns="default"):
        """What a pod said that has ended."""
        ended = self.wait_pod(name, "its end", lambda p: p["status"].get("phase") in ("Succeeded", "Failed"), ns)
        return self.cluster.shoal(ended["spec"]["nodeName"], "logs", name, "-n", ns).stdout

    def said(self, thing):
        self.make(thing)
        return self.output(thing["metadata"]["name"], thing["metadata"]["namespace"])

    def exec(self, name, *command, host="h1", check=True):
        return self.cluster.shoal(host, "exec", name, "--", *command, check=check).stdout

    def wait_file(self, name, path, text, host="h1", timeout_s=5):
        """Live updates are seen within a second or so; the bound is for a busy machine."""
        wait_for(f"{path} in {name} to be {text!r}", lambda: self.exec(name, "cat", path, host=host, check=False) == text,
                 timeout_s, 0.05, on_timeout=lambda: self.exec(name, "cat", path, host=host, check=False) + self.cluster.log_tail(host))

    def events(self, name, reason=None):
        return [e["message"] for ns in ("default", INFRA) for e in self.cluster.items("events", "-n", ns)
                if e["involvedObject"]["name"] == name and reason in (None, e["reason"])]

    def wait_event(self, name, reason, text):
        wait_for(f"an event {reason} of {name}: {text}", lambda: any(text in m for m in self.events(name, reason)), 20,
                 on_timeout=lambda: str(self.events(name)))

    def delete(self, kind, *names, ns="default"):
        self.cluster.shoal("h1", "delete", kind, *names, "-n", ns)

    def wait_gone(self, kind, name, ns="default"):
        wait_for(f"{kind} {name} to be gone",
                 lambda: self.cluster.shoal("h1", "get", kind, name, "-n", ns, check=False).returncode != 0, 20, 0.05,
                 on_timeout=lambda: self.cluster.log_tail("h1"))


class EmptyDir(Volumes):
    """sig-storage EmptyDir volumes."""

    def test_should_support_all_of_root_and_non_root_0644_0666_0777_tmpfs_and_default(self):
        pods = []
        for user in ("root", "nonroot"):
            for mode in ("0644", "0666", "0777"):
                for medium in ("tmpfs", "default"):
                    script = (f"umask 0; echo content >/v/f && chmod {mode} /v/f && stat -c '%a %u' /v/f && stat -c %a /v; "
                              "grep ' /v ' /proc/mounts | cut -d' ' -f1")
                    source = {"emptyDir": {"medium": "Memory"} if medium == "tmpfs" else {}}
                    pods.append(pod(f"{user}-{mode}-{medium}", script, {"v": source}, {"v": "/v"},
                                    securityContext={"runAsUser": 1001 if user == "nonroot" else 0}))
        self.make(*pods)
        for one in pods:
            user, mode, medium = one["metadata"]["name"].split("-")
            lines = self.output(one["metadata"]["name"]).splitlines()
            self.assertEqual(lines[:2], [f"{int(mode)} {1001 if user == 'nonroot' else 0}", "777"], one["metadata"]["name"])
            self.assertEqual(lines[2] == "shoal", medium == "tmpfs", lines)
        self.delete("pod", *[one["metadata"]["name"] for one in pods])

    def test_pod_should_support_shared_volumes_between_containers(self):
        one = pod("shared", "until [ -e /a/f ]; do sleep 0.05; done; cat /a/f", {"v": {"emptyDir": {}}}, {"v": "/a"})
        one["spec"]["initContainers"] = [{"name": "init", "image": IMAGE, "command": ["sh", "-c", "echo -n init, >/b/f"],
                                          "volumeMounts": [{"name": "v", "mountPath": "/b"}]}]
        one["spec"]["containers"].append({"name": "other", "image": IMAGE, "command": ["sh", "-c", "cat /c/f; touch /c/g || echo ro"],
                                          "volumeMounts": [{"name": "v", "mountPath": "/c", "readOnly": True}]})
        self.make(one)
        self.wait_pod("shared", "its end", lambda p: p["status"].get("phase") == "Succeeded")
        self.assertEqual(self.cluster.shoal("h1", "logs", "shared", "-c", "main").stdout, "init,\n")
        self.assertIn("ro\n", self.cluster.shoal("h1", "logs", "shared", "-c", "other").stdout)

    def test_memory_volumes_hold_no_more_than_the_pod_may_have(self):
        self.make(pod("bounded", "df -k /own /pods", {
            "own": {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, "pods": {"emptyDir": {"medium": "Memory"}}},
            {"own": "/own", "pods": "/pods"}, resources={"limits": {"memory": "64Mi"}}))
        sizes = [int(line.split()[1]) for line in self.output("bounded").splitlines() if line.startswith("shoal")]
        self.assertEqual(sizes, [1024, 65536])

    def test_a_volume_that_outgrows_its_limit_evicts_its_pod(self):
        self.make(pod("greedy", "head -c 3000000 /dev/zero >/v/f; " + STAYS,
                      {"v": {"emptyDir": {"sizeLimit": "1Mi"}}}, {"v": "/v"}, restartPolicy="Always"))
        found = self.wait_pod("greedy", "eviction", lambda p: p["status"].get("phase") == "Failed")
        self.assertEqual(found["status"]["reason"], "Evicted")
        self.assertEqual(found["status"]["message"], 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". ')
        self.wait_event("greedy", "Evicted", 'Usage of EmptyDir volume "v" exceeds the limit "1Mi".')
        uid = found["metadata"]["uid"]
        wait_for("its volume to be gone",
                 lambda: self.cluster.run("h1", "test", "-e", f"/var/lib/shoal/pods/{uid}/volumes", check=False).returncode, 10)

    def test_volumes_outlive_the_agent_the_shim_and_their_containers(self):
        volumes = {"disk": {"emptyDir": {}}, "memory": {"emptyDir": {"medium": "Memory"}}}
        self.make(pod("survivor", "trap 'exit 1' TERM; date >>/disk/starts; date >>/memory/starts; " + STAYS, volumes,
                      {"disk": "/disk", "memory": "/memory"}, restartPolicy="Always",
                      annotations={"shoal.dev/restart-backoff-base": "100ms"}))
        uid = self.running("survivor")["metadata"]["uid"]

        def starts(count):
            for volume in volumes:
                wait_for(f"{count} starts in {volume}",
                         lambda v=volume: len(self.exec("survivor", "cat", f"/{v}/starts", check=False).splitlines()) == count, 20,
                         on_timeout=lambda: self.cluster.log_tail("h1"))
        starts(1)
        self.cluster.kill_daemon("h1")
        self.cluster.start_daemon("h1")
        self.running("survivor")
        starts(1)
        self.exec("survivor", "kill", "1")  # the container
        wait_for("its restart", lambda: self.pod("survivor")["status"]["containerStatuses"][0]["restartCount"], 20)
        starts(2)
        shim = f"$(sed -n 's/^shim \\([0-9]*\\) .*/\\1/p' /run/shoal/pods/{uid}/shim.state)"
        self.cluster.run("h1", "sh", "-c", f"kill -9 {shim}")
        starts(3)
        # Both at once.
        self.cluster.run("h1", "sh", "-c", f"kill -9 $(cat /run/shoald.pid) {shim}")
        wait_for("shoald to end", lambda: not self.cluster.daemon_lives("h1"), 15, 0.02)  # it holds its lock until then
        self.cluster.start_daemon("h1")
        starts(4)


class ConfigMaps(Volumes):
    """sig-storage ConfigMap, Secrets, Projected configMap, secret, combined."""

    def test_should_be_consumable_from_pods_in_volume(self):
        """with mappings, with defaultMode, as non-root with fsGroup; binary data; in multiple volumes in the same pod"""
        self.make(config_map("map", {"data-1": "value-1", "data-2": "value-2"},
                             binaryData={"bytes": base64.b64encode(b"\0\xff\n").decode()}),
                  secret("hidden", {"data-1": "secret-1"}), secret("hidden", {"data-1": "another"}, INFRA))
        show = "cd /v && for f in $(find . -type f -o -type l | sort); do case $f in ./..*) ;; *) echo $f $(stat -Lc '%a %g' $f) $(od -c $f | head -1 | cut -c9-);; esac; done; touch /v/x 2>/dev/null || echo read-only"
        sources = {
            "plain": {"configMap": {"name": "map"}},
            "moded": {"configMap": {"name": "map", "defaultMode": 0o400}},
            "secret": {"secret": {"secretName": "hidden"}},
            "projected": {"projected": {"sources": [
                {"configMap": {"name": "map", "items": [{"key": "data-1", "path": "c"}]}}, {"secret": {"name": "hidden"}},
                {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}},
        }
        self.make(*[pod(name, show, {"v": source}, {"v": "/v"}) for name, source in sources.items()],
                  pod("mapped", "cat /v/path/to/data-2; stat -Lc ' %a' /v/path/to/data-2; ls /v", {"v": {"configMap": {"name": "map", "items": [
                      {"key": "data-2", "path": "path/to/data-2", "mode": 0o400}]}}}, {"v": "/v"}),
                  pod("grouped", "id -u; cat /v/data-1; stat -Lc ' %a %g' /v/data-1; stat -c '%a %g' /d", {
                      "v": {"secret": {"secretName": "hidden", "defaultMode": 0o440}}, "d": {"emptyDir": {}}}, {"v": "/v", "d": "/d"},
                      securityContext={"runAsUser": 1000, "fsGroup": 1001}),
                  pod("several", "cat /a/data-1 /b/data-1; grep -c ' /b tmpfs' /proc/mounts", {
                      "a": {"configMap": {"name": "map"}}, "b": {"secret": {"secretName": "hidden"}}}, {"a": "/a", "b": "/b"}))
        def shown(name):
            return [" ".join(line.split()) for line in self.output(name).splitlines()]
        letters = " ".join
        self.assertEqual(shown("plain"), ["./bytes 644 0 \\0 377 \\n", f"./data-1 644 0 {letters('value-1')}",
                                          f"./data-2 644 0 {letters('value-2')}", "read-only"])
        self.assertEqual(shown("moded")[1], f"./data-1 400 0 {letters('value-1')}")
        self.assertEqual(self.output("mapped"), "value-2 400\npath\n")
        self.assertEqual(shown("secret"), [f"./data-1 644 0 {letters('secret-1')}", "read-only"])
        self.assertEqual(shown("projected"), [f"./c 644 0 {letters('value-1')}", f"./data-1 644 0 {letters('secret-1')}",
                                              f"./name 644 0 {letters('projected')}", "read-only"])
        self.assertEqual(self.output("grouped"), "1000\nsecret-1 440 1001\n2777 1001\n")
        self.assertEqual(self.output("several"), "value-1secret-11\n")

    def test_updates_should_be_reflected_in_volume(self):
        self.make(config_map("changing", {"a": "1"}), secret("changing", {"a": "1"}),
                  pod("watcher", STAYS, {
                      "map": {"configMap": {"name": "changing"}}, "hidden": {"secret": {"secretName": "changing"}},
                      "both": {"projected": {"sources": [{"configMap": {"name": "changing"}},
                                                         {"secret": {"name": "changing", "items": [{"key": "a", "path": "s"}]}}]}}},
                      [("map", "/map", {}), ("hidden", "/hidden", {}), ("both", "/both", {}), ("map", "/part", {"subPath": "a"})]))
        self.running("watcher")
        began = time.monotonic()
        self.make(config_map("changing", {"a": "2", "b": "new"}), secret("changing", {"a": "3"}))
        for path, text in {"/map/a": "2", "/map/b": "new", "/hidden/a": "3", "/both/a": "2", "/both/s": "3"}.items():
            self.wait_file("watcher", path, text)
        print(f"updates were seen after {time.monotonic() - began:.2f} s", file=sys.stderr)
        self.assertEqual(self.exec("watcher", "cat", "/part"), "1")  # as in Kubernetes
        self.assertEqual(self.exec("watcher", "ls", "-a", "/map").split()[2].startswith("..20"), True)
        # A restarted agent takes up what changed while it was away.
        self.cluster.kill_daemon("h1")
        self.cluster.start_daemon("h1")
        self.make(config_map("changing", {"a": "4"}))
        self.wait_file("watcher", "/map/a", "4", timeout_s=15)
        self.delete("pod", "watcher")

    def test_optional_updates_should_be_reflected_in_volume(self):
        self.make(config_map("goes", {"a": "1"}), config_map("alters", {"a": "1"}),
                  pod("optional", STAYS, {name: {"configMap": {"name": name, "optional": True}} for name in ("goes", "alters", "comes")},
                      {name: f"/{name}" for name in ("goes", "alters", "comes")}))
        self.running("optional")
        self.assertEqual(self.exec("optional", "ls", "/comes"), "")
        self.delete("configmap", "goes")
        self.make(config_map("alters", {"a": "2"}), config_map("comes", {"a": "3"}))
        self.wait_file("optional", "/comes/a", "3")
        self.wait_file("optional", "/alters/a", "2")
        wait_for("what is gone to go", lambda: self.exec("optional", "ls", "/goes") == "", 5, 0.05)
        self.delete("pod", "optional")

    def test_a_missing_one_is_waited_for(self):
        self.make(pod("early", "cat /v/a", {"v": {"configMap": {"name": "late"}}}, {"v": "/v"}))
        self.wait_event("early", "FailedMount", 'MountVolume.SetUp failed for volume "v" : configmap "late" not found')
        found = self.pod("early")["status"]
        self.assertEqual(found["phase"], "Pending")
        self.assertEqual(found["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating")
        time.sleep(2)  # it is tried more and more seldom
        began = time.monotonic()
        self.make(config_map("late", {"a": "here"}))
        self.assertEqual(self.output("early"), "here\n")
        self.assertLess(time.monotonic() - began, 5)


class Downward(Volumes):
    """sig-storage Downward API volume."""

    def test_should_update_labels_and_annotations_on_modification(self):
        items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                 {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
                 {"path": "podname", "mode": 0o400, "fieldRef": {"fieldPath": "metadata.name"}},
                 {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu", "divisor": "1m"}},
                 {"path": "memory", "resourceFieldRef": {"containerName": "main", "resource": "limits.memory"}}]
        def one(value):
            return pod("self", STAYS, {"v": {"downwardAPI": {"items": items}}}, {"v": "/v"}, labels={"key1": value, "a": "b"},
                       annotations={"builder": value}, resources={"limits": {"cpu": "250m", "memory": "64Mi"}})
        self.make(one("value1"))
        self.running("self")
        self.assertEqual(self.exec("self", "cat", "/v/labels"), 'a="b"\nkey1="value1"')
        self.assertEqual(self.exec("self", "sh", "-c", "cat /v/podname; stat -Lc ' %a' /v/podname; cat /v/cpu; echo; cat /v/memory"),
                         "self 400\n250\n67108864")
        self.make(one("value2"))
        self.wait_file("self", "/v/labels", 'a="b"\nkey1="value2"')
        wait_for("the annotation", lambda: 'builder="value2"' in self.exec("self", "cat", "/v/annotations"), 5, 0.05)
        self.delete("pod", "self")


class Subpath(Volumes):
    """sig-storage Subpath; sig-node Variable Expansion."""

    def test_atomic_writer_volumes_should_support_subpaths(self):
        """with configmap pod, with configmap pod with mountPath of existing file, with secret, downward and projected pod"""
        self.make(config_map("parts", {"f": "of the map"}), secret("parts", {"f": "of the secret"}),
                  pod("subpaths", "cat /etc/passwd; for f in /s /d/n /p; do echo; cat $f; done; echo; touch /s 2>/dev/null || echo read-only", {
                      "map": {"configMap": {"name": "parts"}}, "hidden": {"secret": {"secretName": "parts"}},
                      "self": {"downwardAPI": {"items": [{"path": "dir/n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                      "all": {"projected": {"sources": [{"configMap": {"name": "parts"}}]}}},
                      [("map", "/etc/passwd", {"subPath": "f"}), ("hidden", "/s", {"subPath": "f"}),
                       ("self", "/d", {"subPath": "dir"}), ("all", "/p", {"subPath": "f"})]))
        self.assertEqual(self.output("subpaths"), "of the map\nof the secret\nsubpaths\nof the map\nread-only\n")

    def test_should_succeed_in_writing_subpaths_in_container(self):
        self.make(pod("expands", "echo $ANNOTATION >/part/f; cat /whole/mine/expands/f", {"v": {"emptyDir": {}}},
                      [("v", "/whole", {}), ("v", "/part", {"subPathExpr": "mine/$(POD_NAME)"})],
                      env=[{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                           {"name": "ANNOTATION", "value": "written"}]))
        self.assertEqual(self.output("expands"), "written\n")

    def test_a_subpath_never_leaves_its_volume(self):
        self.make(pod("escape", "true", {"v": {"emptyDir": {}}}, [("v", "/part", {"subPath": "out/etc"})],
                      initContainers=[{"name": "init", "image": IMAGE, "command": ["ln", "-s", "/", "/v/out"],
                                       "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]),
                  pod("absolute", "true", {"v": {"emptyDir": {}}}, [("v", "/part", {"subPathExpr": "$(WHERE)"})],
                      env=[{"name": "WHERE", "value": "/tmp"}]))
        self.wait_event("escape", "Failed", 'failed to prepare subPath for volumeMount "v" of container "main"')
        self.wait_event("absolute", "Failed", "must be a relative path")
        self.delete("pod", "escape", "absolute")

    def test_managed_files_stay_where_no_volume_takes_their_place(self):
        self.make(config_map("names", {"hosts": "10.0.0.1 mine\n"}),
                  pod("own-hosts", "cat /etc/hosts; grep -c . /etc/resolv.conf >/dev/null && echo resolv", {
                      "names": {"configMap": {"name": "names"}}}, [("names", "/etc/hosts", {"subPath": "hosts"})],
                      dnsPolicy="None", dnsConfig={"nameservers": ["192.0.2.53"]}),
                  pod("own-etc", "cat /etc/hosts /etc/resolv.conf; cat /etc/mine 2>/dev/null || echo none >/etc/mine; ls /dev/termination-log", {
                      "etc": {"emptyDir": {}}}, {"etc": "/etc"}, dnsPolicy="None", dnsConfig={"nameservers": ["192.0.2.53"]}))
        self.assertEqual(self.output("own-hosts"), "10.0.0.1 mine\nresolv\n")
        self.assertIn("Kubernetes-managed hosts file", self.output("own-etc"))
        self.assertIn("nameserver 192.0.2.53", self.output("own-etc"))


class HostPath(Volumes):
    """sig-storage HostPath."""

    def test_should_support_r_w_and_types(self):
        self.cluster.run("h1", "sh", "-c", "mkdir -p /run/srv/there; echo hello >/run/srv/there/f; chmod 2775 /run/srv/there")
        self.make(pod("host", "stat -c %a /v; cat /v/f; echo back >/v/g; ls -d /made; stat -c %F /file /null", {
            "v": {"hostPath": {"path": "/run/srv/there", "type": "Directory"}},
            "made": {"hostPath": {"path": "/run/srv/made/deep", "type": "DirectoryOrCreate"}},
            "file": {"hostPath": {"path": "/run/srv/file", "type": "FileOrCreate"}},
            "null": {"hostPath": {"path": "/dev/null", "type": "CharDevice"}}},
            {"v": "/v", "made": "/made", "file": "/file", "null": "/null"}, namespace=INFRA))
        self.assertEqual(self.output("host", INFRA), "2775\nhello\n/made\nregular empty file\ncharacter special file\n")
        self.assertEqual(self.cluster.run("h1", "cat", "/run/srv/there/g").stdout, "back\n")
        self.delete("pod", "host", ns=INFRA)
        self.wait_gone("pod", "host", INFRA)
        self.assertEqual(self.cluster.run("h1", "cat", "/run/srv/there/f").stdout, "hello\n")

    def test_should_fail_on_mounting_a_folder_as_what_it_is_not(self):
        self.cluster.run("h1", "touch", "/run/srv-file")
        self.make(pod("wrong", "true", {"v": {"hostPath": {"path": "/run/srv-file", "type": "Directory"}}}, {"v": "/v"}, namespace=INFRA))
        self.wait_event("wrong", "FailedMount", 'MountVolume.SetUp failed for volume "v" : hostPath type check failed: '
                                                "/run/srv-file is not a directory")
        self.cluster.run("h1", "sh", "-c", "rm /run/srv-file; mkdir /run/srv-file")
        self.wait_pod("wrong", "its end", lambda p: p["status"].get("phase") == "Succeeded", INFRA)

    def test_needs_a_namespace_that_allows_it(self):
        refused = self.cluster.shoal("h1", "apply", "-f", "-", check=False, input=objects.documents(
            pod("taker", "true", {"v": {"hostPath": {"path": "/"}}}, {"v": "/v"})))
        self.assertIn('hostPath volumes (volume "v"); to allow it, label the namespace: '
                      "pod-security.kubernetes.io/enforce=privileged", refused.stderr)


class Claims(Volumes):
    """sig-storage PersistentVolumes-local: on local storage, WaitForFirstConsumer."""

    def get(self, name):
        return self.cluster.get("pvc", name)

    def folders(self, host):
        return self.cluster.run(host, "sh", "-c", "ls -d /var/lib/shoal/volumes/default/*/ 2>/dev/null; true").stdout.split()

    def mine(self, host, name):
        return [f for f in self.folders(host) if f"/{name}-" in f]

    def user(self, name, claim_name, script, host=None, **more):
        one = pod(name, script, {"data": {"persistentVolumeClaim": {"claimName": claim_name}}}, {"data": "/data"}, **more)
        if host:
            one["spec"]["nodeSelector"] = {"kubernetes.io/hostname": host}
        del one["spec"]["nodeName"]
        return one

    def test_keep_their_data_and_their_host(self):
        self.make(claim("db"))
        self.assertEqual(self.get("db")["status"]["phase"], "Pending")
        self.make(self.user("first", "db", "echo kept >/data/f", host=None, securityContext={"fsGroup": 1234}))
        self.output("first")
        wait_for("it to be bound", lambda: self.get("db")["status"]["phase"] == "Bound", 10)
        bound = self.get("db")
        host = bound["metadata"]["annotations"]["volume.kubernetes.io/selected-node"]
        other = "h2" if host == "h1" else "h1"
        self.assertEqual(bound["status"], {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}})
        self.assertEqual(len(self.mine(host, "db")), 1)
        self.assertEqual(self.mine(other, "db"), [])
        self.assertIn("RWO", self.cluster.shoal("h1", "get", "pvc").stdout)
        self.delete("pod", "first")
        self.cluster.kill_daemon(host)
        self.cluster.start_daemon(host)
        self.make(self.user("second", "db", "cat /data/f; stat -c %g /data/f"), self.user("elsewhere", "db", "true", host=other))
        self.assertEqual(self.output("second"), "kept\n1234\n")
        self.assertEqual(self.pod("second")["spec"]["nodeName"], host)
        self.wait_event("elsewhere", "FailedScheduling", "1 node(s) had volume node affinity conflict")
        self.delete("pod", "elsewhere")
        # A pod that names the other host itself is not started there.
        self.make(pod("forced", "true", {"data": {"persistentVolumeClaim": {"claimName": "db"}}}, {"data": "/data"}, host=other))
        self.wait_event("forced", "FailedMount", "MountVolume.NodeAffinity check failed")
        self.delete("pod", "forced")
        self.wait_gone("pod", "forced")
        self.delete("pvc", "db")
        self.wait_gone("pvc", "db")
        wait_for("its folder to be removed", lambda: not self.mine(host, "db"), 10,
                 on_timeout=lambda: self.cluster.log_tail(host))

    def test_are_protected_while_a_pod_uses_them(self):
        self.make(claim("used"), self.user("user", "used", "echo 1 >/data/f; " + STAYS))
        host = self.running("user")["spec"]["nodeName"]
        self.cluster.shoal("h1", "delete", "pvc", "used", "--no-wait")
        wait_for("it to be terminating", lambda: "Terminating" in self.cluster.shoal("h1", "get", "pvc").stdout, 10,
                 on_timeout=lambda: self.cluster.shoal("h1", "get", "pvc").stdout)
        self.assertEqual(self.get("used")["metadata"]["finalizers"], ["kubernetes.io/pvc-protection"])
        self.make(self.user("late", "used", "true"))
        self.wait_event("late", "FailedScheduling", 'persistentvolumeclaim "used" is being deleted')
        self.assertEqual(self.cluster.shoal(host, "exec", "user", "--", "cat", "/data/f").stdout, "1\n")
        self.delete("pod", "user", "late")
        self.wait_gone("pvc", "used")
        wait_for("its folder to be removed", lambda: not self.mine(host, "used"), 15,
                 on_timeout=lambda: self.cluster.log_tail(host))

    def test_that_no_store_knows_keep_their_folder(self):
        """Deleted while their host was away looks as in a store that was restored from an older copy."""
        self.make(claim("away"))
        self.make(pod("on-h2", "echo 1 >/data/f", {"data": {"persistentVolumeClaim": {"claimName": "away"}}}, {"data": "/data"}, host="h2"))
        self.output("on-h2")
        self.assertEqual(len(self.mine("h2", "away")), 1)
        self.delete("pod", "on-h2")
        self.wait_gone("pod", "on-h2")
        self.cluster.kill_daemon("h2")
        self.delete("pvc", "away")
        self.wait_gone("pvc", "away")
        self.assertEqual(len(self.mine("h2", "away")), 1)
        self.cluster.start_daemon("h2")
        folder = self.mine("h2", "away")[0].rstrip("/")
        wait_for("the log to speak of its folder", lambda: f"its folder {folder} stays" in self.cluster.log_tail("h2"), 20,
                 on_timeout=lambda: self.cluster.log_tail("h2"))
        self.assertEqual(self.cluster.run("h2", "cat", f"{folder}/f").stdout, "1\n")
        self.cluster.run("h2", "rm", "-r", folder, f"{folder}.revision")  # as the log says
        self.cluster.run("h2", "rmdir", "--ignore-fail-on-non-empty", str(Path(folder).parent))

    def test_of_one_pod_at_a_time(self):
        self.make(claim("single", ["ReadWriteOncePod"]), self.user("holder", "single", STAYS))
        self.running("holder")
        self.make(self.user("waits", "single", "echo mine"))
        self.wait_event("waits", "FailedScheduling", "ReadWriteOncePod access mode")
        self.delete("pod", "holder")
        self.assertEqual(self.output("waits"), "mine\n")
        self.delete("pod", "waits")
        self.delete("pvc", "single")


class ZLeaks(Volumes):
    """Last: what all of the above left."""

    def test_nothing_is_left_of_pods_that_are_deleted(self):
        for ns in ("default", INFRA):
            names = [p["metadata"]["name"] for p in self.cluster.items("pods", "-n", ns)]
            if names:
                self.delete("pod", *names, ns=ns)
        for ns in ("default", INFRA):
            wait_for(f"all pods of {ns} to be gone", lambda n=ns: not self.cluster.items("pods", "-n", n), 30)
        for claim_left in self.cluster.items("pvc"):
            self.delete("pvc", claim_left["metadata"]["name"])
        for host in ("h1", "h2"):
            def left(h=host):
                seen = inventory(self.cluster, h)
                return [seen[what] for what in ("shims", "loose", "mounts", "cgroups", "run", "data", "images") if seen[what]] + \
                    self.cluster.run(h, "sh", "-c", "find /var/lib/shoal/volumes -mindepth 1 2>/dev/null; true").stdout.split()
            wait_for(f"nothing of any pod to be on {host}", lambda: not left(), 20, on_timeout=lambda: str(left()) + self.cluster.log_tail(host))
        self.assertEqual(self.cluster.run("h1", "cat", "/run/srv/there/f", check=False).stdout or "hello\n", "hello\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
