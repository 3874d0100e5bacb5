#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Images from registries: policies, secrets, mirrors, sick registries, crashes, a full disk, and the loop of build, push and
deploy. The names are those of upstream's sig-node "Container Runtime blackbox test when running a container with a new
image" where there is one.

   h1 .11: shoald; its state on a tmpfs of 192 MiB
           127.0.0.1:5000      docker-registry, open to all; docker.io's mirror
           198.18.0.11:5443    docker-registry, under TLS of the test's own authority, for one user
           127.0.0.1:5001      a sick registry
"""
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import image_files, objects  # noqa: E402
from shoal_lab import cluster as lab  # noqa: E402
from shoal_lab.cluster import wait_for  # noqa: E402
from shoal_lab.shells import ShellCluster  # noqa: E402

STATE = "/var/lib/shoal"
OPEN, PRIVATE, SICK = "127.0.0.1:5000", "198.18.0.11:5443", "127.0.0.1:5001"
USER, PASSWORD = "puller", "s3cret-word"
HTPASSWD = "puller:$2b$04$hn0ly1k8TUJqmxiVO0hzfuzgY9Pu9WqQeq9z7Wwy22YE0.7LNnTXe\n"  # of that password, by bcrypt
ERR_PULL = ("ErrImagePull", "ImagePullBackOff")


def pod(name, image, policy=None, secrets=(), labels=None, grace_s=0):
    container = {"name": "main", "image": image, "command": ["/bin/busybox", "sleep", "86400"]}
    if policy:
        container["imagePullPolicy"] = policy
    return objects.pod(name, labels or {"app": name}, {
        "terminationGracePeriodSeconds": grace_s, "containers": [container],
        "imagePullSecrets": [{"name": secret} for secret in secrets]})


class Images(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="shoal-images.")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.sick = cls.folder / "sick"
        cls.sick.mkdir()
        config = textwrap.dedent(f"""\
            images:
              registries:
              - name: docker.io
                mirrors: ['http://{OPEN}/mirrored']
              - name: {PRIVATE}
                ca: {cls.folder}/tls.crt
              pull_stall_s: 5
              gc_min_age_s: 0
            node: {{eviction_disk_percent: 0, eviction_inodes_percent: 0, eviction_images_percent: 0}}
            """)
        cls.cluster = ShellCluster(f"images-{os.getpid()}", hosts=1, clients=0, config_text=config)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.run("h1", "mount", "-t", "tmpfs", "-o", "size=192m,mode=700", "tmpfs", STATE)
        cls.start_registries()
        cls.cluster.form()
        cls.busybox = image_files.busybox_layer()
        cls.publish(OPEN, "e2e/client", "1", {"etc/name": b"client"})

    # ---- registries

    @classmethod
    def background(cls, name, *command):
        cls.cluster.run("h1", "sh", "-c", f'"$@" >{cls.folder}/{name}.log 2>&1 </dev/null &', "sh", *command)

    @classmethod
    def start_registries(cls):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", "/CN=registry", "-addext", f"subjectAltName=IP:{PRIVATE.split(':')[0]}",
                        "-keyout", cls.folder / "tls.key", "-out", cls.folder / "tls.crt"], check=True, capture_output=True)
        (cls.folder / "htpasswd").write_text(HTPASSWD, encoding="utf-8")
        for name, address, more in (("open", OPEN, {}), ("private", PRIVATE, {
                "auth": {"htpasswd": {"realm": "lab", "path": f"{cls.folder}/htpasswd"}},
                "http": {"tls": {"certificate": f"{cls.folder}/tls.crt", "key": f"{cls.folder}/tls.key"}}})):
            config = {"version": "0.1", "log": {"level": "warn"}, **more,
                      "storage": {"filesystem": {"rootdirectory": f"{cls.folder}/{name}"}},
                      "http": {"addr": address, **more.get("http", {})}}
            (cls.folder / f"{name}.yml").write_text(json.dumps(config), encoding="utf-8")
            cls.background(name, "docker-registry", "serve", cls.folder / f"{name}.yml")
        cls.background("sick", sys.executable, "-B", Path(__file__).parent / "shoal_lab/sick_registry.py",
                       SICK.split(":")[1], cls.sick)
        for url in (f"http://{OPEN}/v2/", f"https://{PRIVATE}/v2/", f"http://{SICK}/v2/"):
            wait_for(f"{url} to answer", lambda url=url: cls.cluster.run(
                "h1", "curl", "-sko", "/dev/null", url, check=False).returncode == 0, 15)

    @classmethod
    def layout(cls, files, size=0):
        """An index of two images: another machine's first, then one of busybox and those files."""
        more = image_files.layer({**files, **({"filling": os.urandom(size)} if size else {})})
        layout = image_files.Layout(tempfile.mkdtemp(dir=cls.folder))
        layout.add([image_files.layer({"wrong": b""})], architecture="s390x").add([cls.busybox, more]).finish()
        return layout

    @classmethod
    def publish(cls, registry, name, tag, files, size=0):
        layout = cls.layout(files, size)
        login = ["--dest-creds", f"{USER}:{PASSWORD}"] if registry == PRIVATE else []
        cls.cluster.run("h1", "skopeo", "--insecure-policy", "copy", "--quiet", "--all", "--dest-tls-verify=false", *login,
                        f"oci:{layout.folder}", f"docker://{registry}/{name}:{tag}")
        return json.loads((layout.folder / "index.json").read_text(encoding="utf-8"))["manifests"][0]["digest"]

    def asked(self, registry="open"):
        """What was asked for since the registry began: (method, path)."""
        text = (self.folder / f"{registry}.log").read_text(encoding="utf-8")
        return re.findall(r'"(GET|HEAD) (\S+) HTTP', text)

    # ---- pods

    def apply(self, *pods):
        for one in pods:
            self.addCleanup(self.cluster.shoal, "h1", "delete", one["kind"], one["metadata"]["name"], "--ignore-not-found")
        self.cluster.apply(objects.documents(*pods))

    def describe(self):
        return (self.cluster.shoal("h1", "get", "pods", "-o", "yaml", check=False).stdout +
                self.cluster.shoal("h1", "get", "events", check=False).stdout + self.cluster.log_tail("h1"))

    def status(self, name):
        return (self.cluster.get("pod", name)["status"].get("containerStatuses") or [{}])[0]

    def runs(self, name, timeout=15):
        return wait_for(f"{name} to run", lambda: self.status(name).get("state", {}).get("running") and self.status(name),
                        timeout, on_timeout=self.describe)

    def waits(self, name, reasons, word="", timeout=15):
        def look():
            waiting = self.status(name).get("state", {}).get("waiting", {})
            return waiting if waiting.get("reason") in reasons and word in waiting.get("message", "") else None
        return wait_for(f"{name} to be {'/'.join(reasons)} with {word!r}", look, timeout, on_timeout=self.describe)

    def events(self, name):
        uid = self.cluster.get("pod", name)["metadata"]["uid"]
        return [(e["type"], e["reason"], e["message"]) for e in self.cluster.items("events")
                if e["involvedObject"].get("uid") == uid]

    def has_event(self, name, kind, reason, pattern):
        wait_for(f"event {reason} {pattern!r}", lambda: any(
            (one[0], one[1]) == (kind, reason) and re.search(pattern, one[2]) for one in self.events(name)), 10,
            on_timeout=lambda: f"{self.events(name)}")

    # ---- upstream's

    def test_should_be_able_to_pull_image(self):
        digest = self.publish(OPEN, "e2e/fresh", "1", {"etc/name": b"fresh"})
        image = f"{OPEN}/e2e/fresh:1"
        self.apply(pod("fresh", image))
        self.assertEqual(self.runs("fresh")["imageID"], f"{OPEN}/e2e/fresh@{digest}")
        self.has_event("fresh", "Normal", "Pulling", f'^Pulling image "{image}"$')
        self.has_event("fresh", "Normal", "Pulled", rf'^Successfully pulled image "{image}" in [\d.]+m?s '
                       r"\([\d.]+m?s including waiting\)\. Image size: \d+ bytes\.$")
        self.assertEqual(self.cluster.shoal("h1", "exec", "fresh", "--", "/bin/busybox", "cat", "/etc/name").stdout, "fresh")
        before = len(self.asked())
        self.apply(pod("again", image), pod("by-digest", f"{OPEN}/e2e/fresh@{digest}"))
        self.runs("again")
        self.has_event("again", "Normal", "Pulled", f'^Container image "{image}" already present on machine$')
        self.assertEqual(self.runs("by-digest")["imageID"], f"{OPEN}/e2e/fresh@{digest}")
        self.assertEqual([one for one in self.asked()[before:] if "/blobs/" in one[1]], [])

    def test_should_not_be_able_to_pull_image_from_invalid_registry(self):
        self.apply(pod("invalid", "invalid.registry.k8s.io/invalid/alpine:3.1"), pod("absent", f"{OPEN}/e2e/absent:1"),
                   pod("misnamed", "Not A Name"), pod("never", f"{OPEN}/e2e/client:never", policy="Never"))
        self.waits("invalid", ERR_PULL, "invalid.registry.k8s.io")
        self.waits("absent", ERR_PULL, "manifest unknown")
        self.waits("misnamed", ("InvalidImageName",))
        self.waits("never", ("ErrImageNeverPull",), "is not present with pull policy of Never")
        message = self.waits("absent", ("ImagePullBackOff",))["message"]
        self.assertRegex(message, rf'^Back-off pulling image "{OPEN}/e2e/absent:1": ErrImagePull: ')
        self.has_event("absent", "Warning", "Failed", f'^Failed to pull image "{OPEN}/e2e/absent:1": ')
        self.has_event("absent", "Warning", "Failed", "^Error: ErrImagePull$")
        self.has_event("absent", "Warning", "Failed", "^Error: ImagePullBackOff$")
        self.has_event("absent", "Normal", "BackOff", f'^Back-off pulling image "{OPEN}/e2e/absent:1"$')
        self.has_event("never", "Warning", "ErrImageNeverPull", "pull policy of Never$")

    def test_should_be_able_to_pull_from_private_registry_with_secret(self):
        self.publish(PRIVATE, "team/app", "1", {"etc/name": b"private"})
        image = f"{PRIVATE}/team/app:1"
        self.apply(pod("without", image, secrets=["registry-login"]))
        self.waits("without", ERR_PULL, "auth")
        self.has_event("without", "Warning", "FailedToRetrieveImagePullSecret",
                       r"^Unable to retrieve some image pull secrets \(registry-login\); attempting to pull the image may not succeed\.$")
        login = {"auths": {PRIVATE: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}}
        wrong = {"auths": {PRIVATE: {"username": USER, "password": "guessed"}}}
        secrets = [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "stringData": {key: json.dumps(value)}}
                   for name, kind, key, value in (
                       ("registry-login", "kubernetes.io/dockerconfigjson", ".dockerconfigjson", login),
                       ("wrong-login", "kubernetes.io/dockerconfigjson", ".dockerconfigjson", wrong),
                       ("old-login", "kubernetes.io/dockercfg", ".dockercfg", login["auths"]))]
        self.apply(*secrets)
        # The next try is told by nobody: a pod that asks anew does not wait for it.
        self.apply(pod("with", image, policy="Always", secrets=["wrong-login", "registry-login"]))
        self.runs("with")
        self.apply(pod("with-old", image, policy="Always", secrets=["old-login"]), pod("with-wrong", image, policy="Always",
                                                                                      secrets=["wrong-login"]))
        self.runs("with-old")
        # The image is here; who may not have it is told so all the same.
        self.waits("with-wrong", ERR_PULL, "auth")
        found = self.cluster.run("h1", "grep", "-rlE", f"{PASSWORD}|{login['auths'][PRIVATE]['auth']}", "/run/shoal",
                                 f"{STATE}/images", "/var/log/shoald.log", check=False).stdout
        self.assertEqual(found, "")

    # ---- policies

    def test_always_asks_for_the_manifest_only(self):
        self.publish(OPEN, "e2e/moving", "1", {"etc/name": b"one"})
        image = f"{OPEN}/e2e/moving:1"
        self.apply(pod("first", image, policy="Always"))
        self.runs("first")
        before = len(self.asked())
        self.apply(pod("second", image, policy="Always"))
        self.runs("second")
        paths = [path for _, path in self.asked()[before:] if "e2e/moving" in path]
        self.assertEqual(paths, ["/v2/e2e/moving/manifests/1"])
        moved = self.publish(OPEN, "e2e/moving", "1", {"etc/name": b"two"})
        self.apply(pod("stays", image, policy="IfNotPresent"), pod("third", image, policy="Always"))
        self.assertEqual(self.runs("third")["imageID"], f"{OPEN}/e2e/moving@{moved}")
        self.assertEqual(self.cluster.shoal("h1", "exec", "third", "--", "/bin/busybox", "cat", "/etc/name").stdout, "two")
        self.assertEqual(self.cluster.shoal("h1", "exec", "first", "--", "/bin/busybox", "cat", "/etc/name").stdout, "one")

    def test_an_archive_that_was_loaded(self):
        layout = self.layout({"etc/name": b"loaded"})
        archive = self.folder / "loaded.tar"
        subprocess.run(["tar", "-C", layout.folder, "-cf", archive, "."], check=True)
        for name in ("nowhere.lan/loaded:latest", "localhost/loaded:1"):
            self.cluster.shoal("h1", "image", "load", "--name", name, archive)
        self.apply(pod("asks", "nowhere.lan/loaded"), pod("takes", "nowhere.lan/loaded", policy="IfNotPresent"),
                   pod("never-asks", "nowhere.lan/loaded", policy="Never"), pod("tagged", "localhost/loaded:1"))
        for name in ("takes", "never-asks", "tagged"):
            self.runs(name)
        self.waits("asks", ERR_PULL, "with imagePullPolicy: IfNotPresent it would be used")

    def test_a_mirror_is_asked_first(self):
        self.publish(OPEN, "mirrored/library/tool", "1", {"etc/name": b"mirrored"})
        self.apply(pod("short", "tool:1"))
        self.assertRegex(self.runs("short")["imageID"], "^docker.io/library/tool@sha256:")

    # ---- what goes wrong

    def test_pods_of_one_image_are_one_download(self):
        self.publish(OPEN, "e2e/shared", "1", {"etc/name": b"shared"}, size=2 << 20)
        before = len(self.asked())
        self.apply(*[pod(f"shared-{i}", f"{OPEN}/e2e/shared:1", labels={"app": "shared"}) for i in range(6)])
        for i in range(6):
            self.runs(f"shared-{i}")
        blobs = [path for method, path in self.asked()[before:] if "e2e/shared/blobs/" in path and method == "GET"]
        self.assertEqual(len(blobs), len(set(blobs)), blobs)

    def skopeos(self):
        return self.cluster.run("h1", "pgrep", "-x", "skopeo", check=False).stdout.split()

    def sick_image(self, name):
        """An image of the sick registry whose last layer hangs; the digests of that and of the one before it."""
        layers = [image_files.layer({"own": os.urandom(400_000)}), image_files.layer({"filling": os.urandom(3 << 20)})]
        layout = image_files.Layout(tempfile.mkdtemp(dir=self.folder)).add([self.busybox, *layers])
        layout.finish()
        layout.serve_from(self.sick, name, "1")
        by_size = sorted((self.sick / "v2" / name / "blobs").iterdir(), key=lambda file: file.stat().st_size)
        slow, own = by_size[-1].name, next(file.name for file in by_size if file.stat().st_size > 400_000)
        (self.sick / "hang").write_text(slow, encoding="utf-8")
        self.addCleanup((self.sick / "hang").unlink, missing_ok=True)
        return slow, own

    def test_a_pull_goes_on_after_a_crash_and_ends_with_its_pod(self):
        slow, own = self.sick_image("e2e/slow")
        self.addCleanup(lambda: self.cluster.daemon_lives("h1") or self.cluster.start_daemon("h1"))

        def half_here():
            look = f"ls {STATE}/images/pulls/*/blobs/sha256/{own[7:]} && find {STATE}/images/pulls -type f -size +1300k"
            return len(self.cluster.run("h1", "sh", "-c", look, check=False).stdout.split()) == 2 and self.skopeos()
        self.apply(pod("slow", f"{SICK}/e2e/slow:1"))
        wait_for("a half of the layer", half_here, 10, on_timeout=self.describe)
        self.cluster.kill_daemon("h1")
        wait_for("skopeo to end with the agent", lambda: not self.skopeos(), 5)
        self.cluster.start_daemon("h1")
        # It hangs again: given up for want of progress, and others went on meanwhile.
        self.apply(pod("beside", f"{OPEN}/e2e/client:1", policy="Always"))
        self.runs("beside")
        self.waits("slow", ERR_PULL, "the registry sent nothing for 5 s")
        self.apply(pod("impatient", f"{SICK}/e2e/slow:1"))
        wait_for("a pull for it", self.skopeos, 10, on_timeout=self.describe)
        self.cluster.shoal("h1", "delete", "pod", "impatient")
        wait_for("its end with the pod", lambda: not self.skopeos(), 3, on_timeout=self.describe)
        (self.sick / "hang").unlink()
        length = len((self.sick / "asked").read_text(encoding="utf-8"))
        self.cluster.shoal("h1", "image", "pull", f"{SICK}/e2e/slow:1")
        self.runs("slow")
        asked = (self.sick / "asked").read_text(encoding="utf-8")[length:]
        self.assertIn(f"e2e/slow/blobs/{slow}", asked)
        self.assertNotIn(f"e2e/slow/blobs/{own}", asked)

    def test_a_registry_that_lies(self):
        honest = self.layout({"etc/name": b"honest"})
        digest = honest.serve_from(self.sick, "e2e/liar", "1")
        other = self.layout({"etc/name": b"other"}).serve_from(self.sick, "e2e/liar", "2")
        manifests = self.sick / "v2/e2e/liar/manifests"
        (manifests / digest).write_bytes((manifests / other).read_bytes())
        self.apply(pod("lied-to", f"{SICK}/e2e/liar@{digest}"))
        message = self.waits("lied-to", ERR_PULL, digest)["message"]
        self.assertRegex(message, "does not match|asked for was")

    # ---- the command line

    def test_pull_list_and_remove(self):
        self.publish(PRIVATE, "team/cli", "1", {"etc/name": b"cli"})
        image = f"{PRIVATE}/team/cli:1"
        refused = self.cluster.shoal("h1", "image", "pull", image, check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertRegex(refused.stderr, "auth")
        out = self.cluster.shoal("h1", "image", "pull", image, "--creds", "-", input=f"{USER}:{PASSWORD}\n")
        self.assertIn(f"pulled {image}", out.stdout)
        again = self.cluster.shoal("h1", "image", "pull", image, "--creds", "-", input=f"{USER}:{PASSWORD}\n")
        self.assertIn("up to date", again.stdout)
        # With a grace of 0 the pod leaves the API before its host has stopped it.
        self.apply(pod("user", image, grace_s=1))
        self.runs("user")
        shown = {ref: one for one in self.cluster.shoal_json("h1", "image", "ls")["images"] for ref in one["refs"]}[image]
        self.assertEqual((shown["usedBy"], shown["pinned"]), (["default/user"], False))
        kept = self.cluster.shoal("h1", "image", "rm", image).stdout
        self.assertIn("kept: a container of pod default/user still needs it", kept)
        self.cluster.shoal("h1", "image", "pull", image, "--creds", "-", input=f"{USER}:{PASSWORD}\n")
        self.cluster.shoal("h1", "delete", "pod", "user")
        self.assertIn("deleted", self.cluster.shoal("h1", "image", "rm", image).stdout)

    def test_build_push_deploy_and_roll_back(self):
        context = self.folder / "context"
        context.mkdir()
        shutil.copy(image_files.BUSYBOX, context / "busybox")
        (context / "Containerfile").write_text(
            "FROM scratch\nARG VERSION\nCOPY busybox /bin/busybox\nCOPY version /version\n"
            'ENTRYPOINT ["/bin/busybox", "sleep", "86400"]\n', encoding="utf-8")

        storage = self.folder / "storage.conf"
        storage.write_text(f'[storage]\ndriver = "vfs"\nrunroot = "{self.folder}/run"\ngraphroot = "{self.folder}/graph"\n',
                           encoding="utf-8")

        def deploy(version):
            labels = {"app": "built"}
            spec = {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": f"{OPEN}/e2e/built:{version}"}]}
            self.cluster.apply(objects.documents({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "built"},
                "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                         "template": {"metadata": {"labels": labels}, "spec": spec}}}))

            def shown():
                pods = [p["metadata"]["name"] for p in self.cluster.ready_pods("app=built")]
                return len(pods) == 1 and self.cluster.shoal(
                    "h1", "exec", pods[0], "--", "/bin/busybox", "cat", "/version").stdout == version
            wait_for(f"version {version}", shown, 40, on_timeout=self.describe)
        self.addCleanup(self.cluster.shoal, "h1", "delete", "deployment", "built", "--ignore-not-found")
        for version in ("1", "2"):
            (context / "version").write_text(version, encoding="utf-8")
            image = f"{OPEN}/e2e/built:{version}"
            # The lab's root is an overlay, on which buildah can have none of its own.
            self.cluster.run("h1", "env", f"CONTAINERS_STORAGE_CONF={storage}", lab.SHOAL, "image", "build", "-t", image, context)
            pushed = self.cluster.shoal("h1", "image", "push", image).stdout.split()[-1]
            here = self.cluster.shoal_json("h1", "image", "ls")["images"]
            self.assertIn((image, pushed), [(ref, one["digest"]) for one in here for ref in one["refs"]])
            self.cluster.shoal("h1", "image", "rm", image)  # so that it comes from the registry
            deploy(version)
        deploy("1")

    # ---- the disk; the last by name, and the second of these has another configuration

    def test_z_a_full_disk_makes_room_by_what_nobody_needs(self):
        for name in ("unused", "needed", "next"):
            self.publish(OPEN, f"e2e/{name}", "1", {"etc/name": name.encode()}, size=20 << 20)
        for name in ("unused", "needed"):
            self.cluster.shoal("h1", "image", "pull", f"{OPEN}/e2e/{name}:1")
        self.apply(pod("needs", f"{OPEN}/e2e/needed:1"))
        self.runs("needs")
        self.addCleanup(self.cluster.run, "h1", "rm", "-f", f"{STATE}/fill")
        self.cluster.run("h1", "sh", "-c", f"""
            free=$(df --output=avail -k {STATE} | tail -1)
            dd if=/dev/zero of={STATE}/fill bs=1k count=$((free - 12288)) 2>/dev/null""")
        self.apply(pod("next", f"{OPEN}/e2e/next:1"))
        self.waits("next", ERR_PULL, "space left on device")

        def refs():
            return {ref for one in self.cluster.shoal_json("h1", "image", "ls")["images"] for ref in one["refs"]}
        wait_for("the unused one to go", lambda: f"{OPEN}/e2e/unused:1" not in refs(), 10, on_timeout=self.describe)
        self.assertIn(f"{OPEN}/e2e/needed:1", refs())
        self.cluster.run("h1", "rm", "-f", f"{STATE}/fill")
        self.runs("next", 30)
        metrics = self.cluster.run("h1", "curl", "-s", "http://127.0.0.1:9464/metrics").stdout
        value = {line.split()[0]: float(line.split()[1]) for line in metrics.splitlines() if line.startswith("shoal_image_")}
        self.assertGreaterEqual(value["shoal_image_gc_runs_total"], 1)
        self.assertGreater(value["shoal_image_gc_freed_bytes_total"], 20 << 20)
        self.assertGreater(value['shoal_image_pulls_total{outcome="pulled"}'], 0)
        self.assertGreater(value["shoal_image_pulled_bytes_total"], 60 << 20)

    def test_zz_images_go_before_pods_are_evicted(self):
        for name in ("spare", "used"):
            self.publish(OPEN, f"e2e/{name}", "1", {"etc/name": name.encode()}, size=20 << 20)
            self.cluster.shoal("h1", "image", "pull", f"{OPEN}/e2e/{name}:1")
        self.apply(pod("uses", f"{OPEN}/e2e/used:1"))
        self.runs("uses")
        # Short by less than what the spare image takes; the marks alone would do nothing.
        size, free = (int(word) for word in self.cluster.run(
            "h1", "df", "--output=size,avail", "-k", STATE).stdout.split("\n")[1].split())
        percent = -(-(free + 10 * 1024) * 100 // size)
        self.cluster.config_text = self.cluster.config_text.replace("eviction_images_percent: 0", f"eviction_images_percent: {percent}")
        self.cluster.config_text = self.cluster.config_text.replace("gc_min_age_s: 0", "gc_min_age_s: 0\n  gc_high_percent: 100")
        self.cluster.kill_daemon("h1")
        self.cluster.write_config("h1")
        self.cluster.start_daemon("h1")
        wait_for("the spare image to go", lambda: f"{OPEN}/e2e/spare:1" not in
                 self.cluster.shoal("h1", "image", "ls").stdout, 20, on_timeout=self.describe)
        self.assertIn("EvictionThresholdMet", [e["reason"] for e in self.cluster.items("events")])
        self.assertEqual([e for e in self.cluster.items("events") if e["reason"] == "Evicted"], [])
        self.runs("uses")
        conditions = {c["type"]: c["status"] for c in self.cluster.get("node", "h1")["status"]["conditions"]}
        self.assertEqual(conditions["DiskPressure"], "True", conditions)


if __name__ == "__main__":
    unittest.main(verbosity=2)
