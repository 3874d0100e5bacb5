# SPDX-License-Identifier: Apache-2.0
"""A host that something is wrong with: its shoald says what, ends or goes on, and loses nothing.

   LAN 198.18.0.0/24 --+-- h1 .11: cluster A, the store
                       +-- h2 .12: cluster A, pod web; what it has is taken away and given back
                       +-- h3 .13: in no cluster
                       +-- h4 .14: cluster B, the store
"""
import os
import tempfile
import unittest

from . import objects, probe
from .cluster import SHOALD, wait_for
from .service_cluster import ServiceCluster

GIVES_UP_WITHIN_S = 10


class OneSick(unittest.TestCase):
    """Four hosts, of which h2 is the one that something is done to, with a pod that must not notice."""

    NAME = None  # of the lab

    @classmethod
    def setUpClass(cls):
        # A host that is away for the length of a test is not replaced: its pod must be there again.
        cls.cluster = ServiceCluster(f"{cls.NAME}-{os.getpid()}", hosts=4, config={"pod_replace_after_s": 600})
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.members = ["h1", "h2"]
        everyone, cls.cluster.hosts = cls.cluster.hosts, cls.members
        cls.cluster.form()
        for host in everyone[2:]:
            cls.cluster.write_config(host)
            cls.cluster.start_daemon(host)
        cls.cluster.shoal("h4", "init")
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder, client=False)
        cls.cluster.apply(objects.documents(objects.pod("web", {"app": "web"}, objects.web_spec("blue"), "h2"),
                                            objects.service("web", {"app": "web"})))
        cls.web = cls.cluster.wait_ready("app=web", 1)[0]
        cls.vip = cls.cluster.addresses("web")[1]

    # ---- a daemon that does not start, and that does

    def stop(self, host):
        self.cluster.kill_daemon(host, "TERM")
        wait_for(f"shoald on {host} to end", lambda: self.cluster.run(
            host, "sh", "-c", "! kill -0 $(cat /run/shoald.pid)", check=False).returncode == 0, 10)

    def refuses(self, host, *words, flags=(), before=""):
        """shoald on that host ends by itself with an error that has these words; `before` is done in mounts of its own."""
        script = f'{before}\nexec timeout -s KILL {GIVES_UP_WITHIN_S} {SHOALD} "$@" 2>&1'
        done = self.cluster.run(host, "unshare", "-m", "sh", "-c", script, "sh", *flags, check=False)
        self.assertEqual(done.returncode, 1, f"{flags}: {done.stdout}")
        last = done.stdout.strip().splitlines()[-1]
        self.assertIn(" critical ", last)
        for word in words:
            self.assertIn(word, last)
        print(f"    {last.split(' critical ')[1]}")

    def back(self, host="h2"):
        """It starts, is a member again, and has what it had."""
        self.cluster.start_daemon(host)
        self.cluster.wait_members("h1", set(self.members))
        self.cluster.wait_members(host, set(self.members))
        self.still_serves()

    def still_serves(self):
        one = probe.connect(self.cluster, "h1", f"{self.web['status']['podIP']}:8080")[0]
        self.assertEqual((one["outcome"], one["said"].get("pod")), ("ok", "web"), one)

    def tearDown(self):
        now = wait_for("web to be ready", lambda: self.cluster.wait_ready("app=web", 1, 20)[0], 20)
        self.assertEqual(self.life_of(now), self.life_of(self.web))

    @staticmethod
    def life_of(pod):
        container = pod["status"]["containerStatuses"][0]
        return (pod["metadata"]["uid"], pod["status"]["podIP"], container["restartCount"], container["state"])

    def token(self, host="h1", *arguments):
        return self.cluster.shoal(host, "token", "create", *arguments).stdout.strip()
