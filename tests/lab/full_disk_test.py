#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disks that are full: what cannot be written is refused and named, all else goes on, and room mends it.

   c1 .101 --- LAN --+-- h1 .11: the store, web       /var/lib/shoal: a tmpfs of 64 MiB
                     +-- h2 .12: web, a talker        /run/shoal: a tmpfs of 8 MiB; each is filled in turn
"""
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import objects, probe  # noqa: E402
from shoal_lab.cluster import build_image, wait_for  # noqa: E402
from shoal_lab.service_cluster import ServiceCluster  # noqa: E402

STATE, RUN = "/var/lib/shoal", "/run/shoal"
NO_SPACE = "No space left on device"
# Lines of more than a block in ten, and how far it is where no disk is.
TALK = """pad=$(head -c 1000 /dev/zero | tr '\\0' .); n=0
while sleep 0.05; do n=$((n+1)); echo "$pad $n"; echo $n >/dev/shm/n; done"""


class FullDisk(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = ServiceCluster(f"full-disk-{os.getpid()}", hosts=2, config={"pod_replace_after_s": 600})
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        for host in cls.cluster.hosts:
            cls.cluster.run(host, "mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", STATE)
            cls.cluster.run(host, "mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs", RUN)
        cls.cluster.form()
        folder = tempfile.TemporaryDirectory(prefix="shoal-lab.")
        cls.addClassCleanup(folder.cleanup)
        cls.archive = build_image("green", Path(folder.name) / "green.tar")
        objects.load_images(cls.cluster, folder.name)
        talker = objects.client_pod("h2")
        talker["metadata"] = {"name": "talker", "labels": {"app": "talker"}}
        talker["spec"]["containers"][0]["command"] = [
            "/bin/busybox", "sh", "-c", TALK]
        cls.cluster.apply(objects.documents(objects.deployment("web", "blue", 2), talker, objects.service("web", {"app": "web"})))
        cls.webs = cls.cluster.wait_ready("app=web", 2)
        cls.talker = cls.cluster.wait_ready("app=talker", 1)[0]
        cls.vip = cls.cluster.addresses("web")[1]
        cls.cluster.wait_rings("web", [p["metadata"]["name"] for p in cls.webs])

    # ---- filling

    def fill(self, host, folder):
        """Until not one more block can be had."""
        self.addCleanup(self.make_room, host, folder)
        script = 'dd if=/dev/zero of="$1/fill" bs=64k; dd if=/dev/zero of="$1/fill-rest" bs=4k; df --output=avail "$1"'
        left = self.cluster.run(host, "sh", "-c", script, "sh", folder, check=False).stdout.split()
        self.assertEqual(left[-1], "0", left)

    def make_room(self, host, folder):
        self.cluster.run(host, "rm", "-f", f"{folder}/fill", f"{folder}/fill-rest")

    def serves(self):
        for source in (*self.cluster.hosts, "c1"):
            seen = probe.connect(self.cluster, source, f"{self.vip}:80", count=5)
            self.assertEqual({one["outcome"] for one in seen}, {"ok"}, (source, seen))

    def restart(self, host):
        self.cluster.kill_daemon(host, "TERM")
        wait_for(f"shoald on {host} to end", lambda: self.cluster.run(
            host, "sh", "-c", "! kill -0 $(cat /run/shoald.pid)", check=False).returncode == 0, 10)
        self.cluster.start_daemon(host)
        for one in self.cluster.hosts:
            self.cluster.wait_members(one, set(self.cluster.hosts))

    def namespace(self, name, host):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        return self.cluster.shoal(host, "apply", "-f", "-", input=json.dumps(body), check=False)

    def tearDown(self):
        now = {p["metadata"]["uid"]: p for p in self.cluster.ready_pods("app=web") + self.cluster.ready_pods("app=talker")}
        for pod in [*self.webs, self.talker]:
            same = now[pod["metadata"]["uid"]]
            self.assertEqual(same["status"]["podIP"], pod["status"]["podIP"])
            self.assertEqual(same["status"]["containerStatuses"][0]["restartCount"], 0)

    # ---- the store's disk

    def test_the_stores_disk(self):
        self.fill("h1", STATE)
        for host in self.cluster.hosts:
            done = self.namespace("refused", host)
            self.assertEqual(done.returncode, 1)
            for words in (f"{STATE}/store.db", "the disk is full, nothing was written; make room", "not written: namespace/refused"):
                self.assertIn(words, done.stderr)
        print(f"    {done.stderr.strip().splitlines()[-1]}")
        self.assertIn("the disk is full", self.cluster.shoal("h1", "token", "create", check=False).stderr)
        gone = self.cluster.shoal("h1", "delete", "pod", self.webs[0]["metadata"]["name"], check=False)
        self.assertIn("the disk is full", gone.stderr)
        image = self.cluster.shoal("h1", "image", "load", self.archive, check=False)
        self.assertEqual(image.returncode, 1)
        self.assertIn(f"{STATE}/uploads", image.stderr)
        self.assertIn(NO_SPACE, image.stderr)
        self.assertEqual(len(self.cluster.ready_pods("app=web", host="h2")), 2)
        self.serves()
        self.make_room("h1", STATE)
        self.assertEqual(self.namespace("accepted", "h2").returncode, 0)
        self.cluster.shoal("h1", "image", "load", self.archive)
        names = {n["metadata"]["name"] for n in self.cluster.items("namespaces")}
        self.assertIn("accepted", names)
        self.assertNotIn("refused", names)

    def test_a_daemon_starts_on_a_full_disk(self):
        for host in self.cluster.hosts:
            self.fill(host, STATE)
        for host in self.cluster.hosts:
            self.restart(host)
            self.serves()
            print("    " + next((line for line in self.cluster.log_tail(host, 8).splitlines() if NO_SPACE in line), f"{host}: nothing to say"))
        self.assertIn("the disk is full", self.namespace("refused", "h1").stderr)
        for host in self.cluster.hosts:
            self.make_room(host, STATE)
        self.assertEqual(self.namespace("after-restart", "h1").returncode, 0)

    # ---- the disks of pods

    def fills_and_mends(self, folder):
        self.cluster.apply(objects.documents(objects.pod("late", {"app": "late"}, objects.web_spec("blue"), "h2")))
        self.addCleanup(self.cluster.shoal, "h1", "delete", "pod", "late", "--ignore-not-found")
        uid = self.cluster.get("pod", "late")["metadata"]["uid"]

        def said():
            return next((e["message"] for e in self.cluster.items("events")
                         if e["involvedObject"].get("uid") == uid and NO_SPACE in e["message"]), None)
        message = wait_for("an event that names the disk", said, 15,
                           on_timeout=lambda: self.cluster.shoal("h1", "get", "events").stdout)
        self.assertIn(folder, message)
        print(f"    {message}")
        self.serves()
        self.make_room("h2", folder)
        self.cluster.wait_ready("app=late", 1, 45)

    def test_a_pods_disk(self):
        self.fill("h2", STATE)
        self.fills_and_mends(STATE)

    def test_the_run_folder(self):
        self.fill("h2", RUN)
        self.restart("h2")
        self.fills_and_mends(RUN)

    def test_a_pod_that_writes_logs_is_not_held_up(self):
        def logged():
            return [int(line.split()[-1]) for line in self.cluster.shoal("h2", "logs", "talker").stdout.splitlines()]

        def said():
            return int(self.cluster.shoal("h2", "exec", "talker", "--", "/bin/cat", "/dev/shm/n").stdout)
        self.fill("h2", STATE)
        full = said()
        wait_for("the talker to go on", lambda: said() > full + 30, 15)
        self.make_room("h2", STATE)
        room = said()
        wait_for("lines from after", lambda: logged()[-1] > room + 10, 15, on_timeout=lambda: str(logged()[-1]))
        numbers = logged()
        lost = sum(b - a - 1 for a, b in zip(numbers, numbers[1:]))
        print(f"    {len(numbers)} lines kept, {lost} lost while the disk was full")
        self.assertEqual(numbers, sorted(numbers), "whole lines, in order")
        self.assertGreater(lost, 0, "the disk was full")


if __name__ == "__main__":
    unittest.main(verbosity=2)
