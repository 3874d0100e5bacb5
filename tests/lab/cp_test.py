#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`shoal cp`: trees of files into containers and out of them, from the pod's host and from another.

    h1 ---- lan ---- h2      the pod is on either; who copies, on each in turn
"""
import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import objects  # noqa: E402
from shoal_lab.cluster import Cluster, wait_for  # noqa: E402

IMAGE = "shoal.dev/demo/web:blue"
# A tree with what a copy may lose: empty folders, modes, links, long names, spaces, a large file.
MAKE_TREE = """
set -e
rm -rf "$1"; mkdir -p "$1/deep/er" "$1/empty"; cd "$1"
echo text > deep/er/file; echo 'two words' > 'deep/two words'
echo run > deep/run; chmod 750 deep/run
echo long > deep/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789long
yes 0123456789abcdef | head -c 5000000 > large
ln -s er/file deep/link
"""
LOOK = ('cd "$1" && find . | sort && md5sum $(find . -type f ! -name "two*" | sort) && cat "deep/two words" && '
        'readlink deep/link && stat -c %a deep/run')
# A tar that sends what nobody asked for, and one that climbs by a link.
EVIL = """
import io, sys, tarfile
out = tarfile.open(sys.argv[2], "w")
def add(name, kind=tarfile.REGTYPE, link="", data=b"evil"):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, link, len(data) if kind == tarfile.REGTYPE else 0
    out.addfile(entry, io.BytesIO(data))
add("box", tarfile.DIRTYPE)
if sys.argv[1] == "link":
    add("box/up", tarfile.SYMTYPE, "/run/victim")
    add("box/up/file")
else:
    add("box/../../victim/file")
out.close()
"""


class Copy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(f"cp-{os.getpid()}", hosts=2, clients=0)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder, ("blue",), client=False)
        containers = [{"name": name, "image": IMAGE, "command": ["sh", "-c", script + "exec sleep 86400"]}
                      for name, script in (("main", ""), ("bare", "rm /bin/tar; "))]
        cls.cluster.apply(objects.documents(objects.pod("box", {"app": "box"}, {
            "terminationGracePeriodSeconds": 0, "securityContext": {"runAsUser": 0}, "containers": containers})))
        cls.cluster.wait_ready("app=box", 1)

    def sh(self, host, script, *arguments, **options):
        return self.cluster.run(host, "sh", "-c", script, "sh", *arguments, **options).stdout

    def in_pod(self, script, *arguments):
        return self.cluster.shoal("h1", "exec", "box", "-c", "main", "--", "sh", "-c", script, "sh", *arguments).stdout

    def copy(self, host, *arguments, container="main", check=True):
        return self.cluster.shoal(host, "cp", "-c", container, *arguments, check=check)

    def test_a_tree_into_a_pod_and_back(self):
        for host in self.cluster.hosts:
            self.sh(host, MAKE_TREE, "/run/tree")
            seen = self.sh(host, LOOK, "/run/tree")
            self.copy(host, "/run/tree", f"box:/tmp/{host}")  # not there yet: it becomes that
            self.assertEqual(self.in_pod(LOOK, f"/tmp/{host}"), seen)
            self.copy(host, "/run/tree", f"default/box:/tmp/{host}")  # there: into it
            self.assertEqual(self.in_pod(LOOK, f"/tmp/{host}/tree"), seen)
            self.sh(host, "rm -rf /run/back; mkdir /run/back")
            self.copy(host, f"box:/tmp/{host}/tree", "/run/back")
            self.assertEqual(self.sh(host, LOOK, "/run/back/tree"), seen)
            self.copy(host, f"box:/tmp/{host}/tree/", "/run/back/other")
            self.assertEqual(self.sh(host, LOOK, "/run/back/other"), seen)
            self.copy(host, f"box:/tmp/{host}/tree/deep/run", "/run/back/one")
            self.assertEqual(self.sh(host, "cat /run/back/one; stat -c %a /run/back/one"), "run\n750\n")

    def test_what_cannot_be_copied_is_said(self):
        self.sh("h1", "echo x > /run/file")
        for arguments, message in (
                (("/run/file", "box:/nowhere/deep/file"), "tar in pod box ended with 1: tar: can't change directory to "
                                                           "'/nowhere/deep'"),
                (("box:/nowhere", "/run/there"), "tar in pod box ended with 1: tar: nowhere: No such file or directory"),
                (("/run/absent", "box:/tmp/x"), "/run/absent does not exist"),
                (("/run/file", "/run/other"), "one of the two must be in a pod"),
                (("box:/tmp", "box:/opt"), "one of the two must be in a pod"),
                (("/run/file", "nobody:/tmp"), 'pods "nobody" not found')):
            refused = self.copy("h1", *arguments, check=False)
            self.assertNotEqual(refused.returncode, 0, arguments)
            self.assertIn(message, refused.stderr)
        for arguments in (("/run/file", "box:/tmp/x"), ("box:/etc/passwd", "/run/passwd")):
            bare = self.copy("h2" if arguments[0].startswith("box") else "h1", *arguments, container="bare", check=False)
            self.assertNotEqual(bare.returncode, 0)
            self.assertIn("cp needs a tar program in the container, and pod box has none that runs", bare.stderr)

    def test_a_hostile_tar_writes_nothing_outside(self):
        for host in self.cluster.hosts:
            for kind, message in (("link", "left out"), ("names", "refused")):
                self.sh(host, "rm -rf /run/victim /run/taken; mkdir /run/victim /run/taken")
                self.cluster.run(host, "python3", "-c", EVIL, kind, "/run/evil.tar")
                # The container's tar is whatever its image says.
                self.copy(host, "/run/evil.tar", "box:/tmp/evil.tar")
                self.in_pod("rm -f /bin/tar; printf '#!/bin/sh\\nexec cat /tmp/evil.tar\\n' > /bin/tar; chmod +x /bin/tar")
                try:
                    done = self.copy(host, "box:/srv/box", "/run/taken", check=False)
                finally:
                    self.in_pod("rm /bin/tar; ln -s busybox /bin/tar")
                self.assertIn(message, done.stderr)
                self.assertEqual(self.sh(host, "find /run/victim"), "/run/victim\n")
        wait_for("the tar to work again", lambda: self.in_pod("tar cf /dev/null /etc && echo yes") == "yes\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
