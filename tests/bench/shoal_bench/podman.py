# SPDX-License-Identifier: Apache-2.0
"""podman as a peer, in a lab host: its storage, configuration, network and state are all the host's and end with it.

The OCI runtime is crun, Debian's default and Shoal's; on a hybrid cgroup layout it wants to see no cgroup2 tree, so the
host's side runs in a mount namespace of its own without one. The network is podman's default one: a bridge with
masquerade, by netavark where that is installed, else by the CNI plugins.
"""
import os
import shutil

from .node import Node

FOLDER = "/var/lib/shoal/bench-podman"  # on the lab host's own disk: overlayfs does not stack on overlayfs
RUN = "/run/bench-podman"
NETAVARK = ("/usr/lib/podman/netavark", "/usr/libexec/podman/netavark")
WITHOUT_CGROUP2 = 'if mountpoint -q /sys/fs/cgroup/unified; then umount -l /sys/fs/cgroup/unified; fi; exec "$@"'
CONFIG = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=8192:8192"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[network]
network_backend = "{backend}"
network_config_dir = "{folder}/net"
"""


def backend():
    return "netavark" if any(os.access(path, os.X_OK) for path in NETAVARK) else "cni"


def node_of(cluster, host):
    """The lab host as podman's crun needs to see it."""
    if not shutil.which("podman"):
        raise FileNotFoundError("podman is not installed: scripts/install-deps installs it")
    return Node(cluster, host, prefix=("unshare", "--mount", "--propagation", "private", "sh", "-c", WITHOUT_CGROUP2, "sh"))


class Podman:
    def __init__(self, node):
        self.node = node

    def argv(self, *args):
        return ["env", f"CONTAINERS_CONF={FOLDER}/containers.conf", "podman", "--root", f"{FOLDER}/root", "--runroot", RUN,
                "--tmpdir", f"{RUN}-tmp", "--storage-driver", "overlay", "--network-config-dir", f"{FOLDER}/net", *args]

    def install(self, image_archive):
        self.node.run("mkdir", "-p", f"{FOLDER}/net")
        self.node.run("tee", f"{FOLDER}/containers.conf", text=CONFIG.format(backend=backend(), folder=FOLDER))
        self.node.run(*self.argv("load", "-q", "-i", image_archive))

    def describe(self):
        version = self.node.run("podman", "--version").split()[-1]
        return f"podman {version} with crun and its default {backend()} bridge"

    def time_run(self, name, image, ident, *command):
        entry, *args = command
        return self.node.time_start(*self.argv("run", "-d", "--name", name, "--entrypoint", entry, image, *args), ident=ident)

    def remove(self, name):
        self.node.run(*self.argv("rm", "-f", "-t", "0", name))
