# SPDX-License-Identifier: Apache-2.0
"""One lab machine: its namespaces, its mounts, its cable. Runs inside the sandbox.

A host (h1, h2, ...) and a client (c1, ...) are made alike; a client has no cluster software, and its transmit checksum
offload is off, so that its packets survive native XDP on the switch.
"""

import json
import os
import subprocess

from . import cgroups, syscalls
from .state import LabError

HOSTS_MAX = 80  # .11 to .90
CLIENTS_MAX = 100  # .101 to .200; .201 to .250 are left for load balancer addresses
BRIDGE = "lan"
ROUTER = "lan"  # the node name of the bridge's own namespace, which owns 198.18.0.1
OVERLAID = ("/etc", "/var/lib", "/var/log")  # changes stay with the host
SYS = "/sys"


def node_addresses(node):
    if node == ROUTER:
        return "198.18.0.1", "2001:db8:1::1"
    number = int(node[1:]) + (10 if node[0] == "h" else 100)
    return f"198.18.0.{number}", f"2001:db8:1::{number}"


def _mac(node, end):
    number = int(node[1:])
    return f"02:5a:{end:02x}:{ord(node[0]):02x}:{number >> 8:02x}:{number & 255:02x}"


def ip_batch(*lines):
    run = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, capture_output=True, check=False)
    if run.returncode != 0:
        raise LabError(f"ip: {run.stderr.strip()}")


def set_sysctl(key, value):
    with open(f"/proc/sys/net/{key}", "w", encoding="utf-8") as file:
        file.write(value)


# --- Mounts -----------------------------------------------------------------------------------------


def fresh_kernel_filesystems():
    """/proc and /sys of the namespaces just made, with the cgroup hierarchies as they are seen from here."""
    hierarchies = cgroups.hierarchies()
    top = os.listdir("/sys/fs/cgroup") if os.path.isdir("/sys/fs/cgroup") else []
    links = {e: os.readlink(f"/sys/fs/cgroup/{e}") for e in top if os.path.islink(f"/sys/fs/cgroup/{e}")}
    syscalls.detach("/proc")
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    syscalls.detach(SYS)
    syscalls.mount("sysfs", SYS, "sysfs", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    if all(h.mount_point != "/sys/fs/cgroup" for h in hierarchies):
        syscalls.mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "mode=755,size=1m")
    for hierarchy in hierarchies:
        os.makedirs(hierarchy.mount_point, exist_ok=True)
        syscalls.mount(hierarchy.fstype, hierarchy.mount_point, hierarchy.fstype, 0, hierarchy.options or None)
    for name, target in links.items():
        os.symlink(target, f"/sys/fs/cgroup/{name}")
    syscalls.mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=700")
    for optional in ("tracing", "debug"):
        try:
            syscalls.mount(optional, f"{SYS}/kernel/{optional}", f"{optional.replace('tracing', 'trace')}fs")
        except OSError:
            pass  # not in every kernel; for people with bpf_printk


def private_folders(node, disk):
    """/run in memory; /etc, /var/lib and /var/log copied on write; /var/lib/shoal plainly on the disk."""
    syscalls.mount("tmpfs", "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755,size=256m")
    for folder in ("/run/shoal", "/run/lock"):
        os.mkdir(folder)
    for folder in OVERLAID:
        layer = f"{disk}/{folder.strip('/').replace('/', '-')}"
        for part in ("upper", "work"):
            os.makedirs(f"{layer}/{part}", exist_ok=True)
        options = f"lowerdir={folder},upperdir={layer}/upper,workdir={layer}/work"
        syscalls.mount("overlay", folder, "overlay", 0, options)
    os.makedirs(f"{disk}/state", exist_ok=True)
    # What the machine itself keeps under these names is none of the host's business.
    for folder in ("/var/lib/shoal", "/etc/shoal"):
        os.makedirs(folder, exist_ok=True)
    syscalls.mount(f"{disk}/state", "/var/lib/shoal", None, syscalls.MS_BIND)
    os.makedirs(f"{disk}/config", exist_ok=True)
    syscalls.mount(f"{disk}/config", "/etc/shoal", None, syscalls.MS_BIND)
    with open("/etc/hostname", "w", encoding="utf-8") as file:
        file.write(f"{node}\n")


def write_hosts_file(nodes):
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    for node in nodes:
        v4, v6 = node_addresses(node)
        lines += [f"{v4} {node}", f"{v6} {node}"]
    with open("/etc/hosts", "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


# --- Network ----------------------------------------------------------------------------------------


def make_switch():
    """The bridge, and the LAN's router, which leads nowhere: what it has no route for is answered `unreachable`."""
    v4, v6 = node_addresses(ROUTER)
    ip_batch(
        "link set lo up",
        f"link add {BRIDGE} address 02:5a:00:00:00:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        f"link set {BRIDGE} up",
        f"addr add {v4}/24 dev {BRIDGE}",
        f"addr add {v6}/64 dev {BRIDGE} nodad",
    )
    set_sysctl("ipv4/ip_forward", "1")
    set_sysctl("ipv6/conf/all/forwarding", "1")


def make_cable(node, inner_pid):
    """From a port of the switch, named like the node, to the node's eth0."""
    ip_batch(
        f"link add {node} address {_mac(node, 1)} mtu 1500 type veth "
        f"peer name eth0 address {_mac(node, 2)} mtu 1500 netns {inner_pid}"
    )
    set_sysctl(f"ipv6/conf/{node}/disable_ipv6", "1")
    ip_batch(f"link set {node} master {BRIDGE}", f"link set {node} up")


def configure_network(node):
    """In the node's own namespace, once the cable is there."""
    v4, v6 = node_addresses(node)
    router4, router6 = node_addresses(ROUTER)
    set_sysctl("ipv6/conf/eth0/accept_dad", "0")
    set_sysctl("ipv6/conf/eth0/accept_ra", "0")
    ip_batch(
        "link set lo up",
        "link set eth0 up",
        f"addr add {v4}/24 dev eth0",
        f"addr add {v6}/64 dev eth0 nodad",
        f"route add default via {router4}",
        f"route add default via {router6}",
    )
    if node[0] == "h":
        set_sysctl("ipv4/ip_forward", "1")
        set_sysctl("ipv6/conf/all/forwarding", "1")
    else:
        subprocess.run(["ethtool", "-K", "eth0", "tx", "off"], check=True, stdout=subprocess.DEVNULL)


# --- Booting ----------------------------------------------------------------------------------------


def _become_host(node, lab, nodes, go_fd, report_fd):
    """Process 1 of the new host: ends by executing lab_init, which closes report_fd."""
    try:
        syscalls.sethostname(node)
        syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        fresh_kernel_filesystems()
        private_folders(node, f"{lab['disk']}/{node}")
        write_hosts_file(nodes)
        if os.read(go_fd, 1) != b"g":
            os._exit(1)
        configure_network(node)
        os.chdir("/")
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.execv(lab["lab_init"], ["lab_init", node, lab["name"]])
    except BaseException as error:  # pylint: disable=broad-except
        os.write(report_fd, json.dumps({"error": f"{node}: {error}"}).encode()[:4000])
        os._exit(1)


def _begin_namespaces(node, lab, nodes, go_fd, report_fd):
    """Begins the host's namespaces and starts its process 1; lives only as long as that takes."""
    try:
        cgroups.join(lab["cgroups"], node, at_root=True)
        syscalls.unshare(
            syscalls.CLONE_NEWCGROUP
            | syscalls.CLONE_NEWNS
            | syscalls.CLONE_NEWNET
            | syscalls.CLONE_NEWPID
            | syscalls.CLONE_NEWUTS
            | syscalls.CLONE_NEWIPC
        )
        cgroups.join(lab["cgroups"], node)
        pid = os.fork()
        if pid == 0:
            _become_host(node, lab, nodes, go_fd, report_fd)
        os.write(report_fd, json.dumps({"inner": pid}).encode() + b"\n")
        os._exit(0)
    except BaseException as error:  # pylint: disable=broad-except
        os.write(report_fd, json.dumps({"error": f"{node}: {error}"}).encode()[:4000])
        os._exit(1)


def boot(node, lab, nodes):
    """Makes a host or client and returns {"inner", "start", "pid_namespace", "net_namespace"}."""
    cgroups.remove([f"{tree}/{node}" for tree in lab["cgroups"]])  # of its former life
    cgroups.make(lab["cgroups"], node)
    os.makedirs(f"{lab['disk']}/{node}", exist_ok=True)
    go_read, go_write = os.pipe()
    report_read, report_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go_write)
        os.close(report_read)
        _begin_namespaces(node, lab, nodes, go_read, report_write)
    os.close(go_read)
    os.close(report_write)
    with os.fdopen(report_read, encoding="utf-8") as report, os.fdopen(go_write, "wb", buffering=0) as go:
        first = json.loads(report.readline() or '{"error": "the host ended before it began"}')
        os.waitpid(child, 0)
        if "error" in first:
            raise LabError(first["error"])
        inner = first["inner"]
        pid_namespace = syscalls.namespace_of(inner, "pid")
        net_namespace = syscalls.namespace_of(inner, "net")
        try:
            make_cable(node, inner)
            go.write(b"g")
        except BrokenPipeError:
            pass  # it has failed and says why
        rest = report.read()  # until lab_init is executed
    if rest:
        raise LabError(json.loads(rest)["error"])
    return {
        "inner": inner,
        "start": syscalls.start_ticks(inner),
        "pid_namespace": pid_namespace,
        "net_namespace": net_namespace,
    }
