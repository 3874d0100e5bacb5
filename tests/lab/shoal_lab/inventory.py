# SPDX-License-Identifier: Apache-2.0
"""What a host holds for pods, read from the kernel and the disk and not from shoald: everything that a pod that is
not cleared away in full leaves somewhere.

inventory() looks, differences() compares with the pods that should be there.
"""
import json

# Runs on the host. Prints one JSON document.
_LOOK = r"""
import glob, json, os, re, subprocess

def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""

def link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""

out = {"shims": {}, "pauses": [], "containers": {}, "loose": [], "netns": [], "mounts": [], "cgroups": [], "leases": []}
pods = "/shoal.slice/pod-"
namespaces = set()
for folder in glob.glob("/proc/[0-9]*"):
    pid = int(os.path.basename(folder))
    arguments = read(folder + "/cmdline").split("\0")
    stat = read(folder + "/stat")
    if not stat:
        continue
    start = int(stat.rpartition(")")[2].split()[19])
    namespaces.add(link(folder + "/ns/net"))
    where = re.search(pods + r"([^/\n]+)/([^/\n]+)", read(folder + "/cgroup"))
    if arguments[0].endswith("shoal-shim") and "--dir" in arguments:
        uid = os.path.basename(arguments[arguments.index("--dir") + 1])
        out["shims"].setdefault(uid, []).append([pid, start])
    elif where and arguments[0] == "shoal-pause":
        out["pauses"].append(where.group(1))
    elif where:
        out["loose"].append([where.group(1), where.group(2), pid])
for state in glob.glob("/run/shoal/pods/*/shim.state"):
    uid = state.split("/")[-2]
    for line in read(state).splitlines():
        words = line.split()
        if words[0] == "container" and words[1] != "pid-namespace":
            out["containers"].setdefault(uid, {})[words[1]] = [int(words[2]), int(words[3])]
out["netns"] = sorted(namespaces - {link("/proc/1/ns/net"), ""})
for line in read("/proc/self/mountinfo").splitlines():
    point = line.split()[4]
    found = re.match(r"(/var/lib/shoal|/run/shoal)/pods/([^/]+)", point)
    if found:
        out["mounts"].append([found.group(2), point])
for line in read("/proc/mounts").splitlines():
    words = line.split()
    if words[2] in ("cgroup", "cgroup2"):
        out["cgroups"] += [[os.path.basename(p)[4:], p] for p in glob.glob(words[1] + "/shoal.slice/pod-*")]
# What an OCI runtime left on the file system that a hybrid layout's cgroup2 tree is mounted on.
out["beneath"] = subprocess.run(["unshare", "--mount", "sh", "-c", "for i in 1 2 3 4; do umount -l /sys/fs/cgroup/unified; "
    "done 2>/dev/null; ls /sys/fs/cgroup/unified"], capture_output=True, text=True).stdout.split()
links = json.loads(subprocess.run(["ip", "-j", "link", "show", "group", "7563372"], capture_output=True, text=True).stdout or "[]")
out["links"] = sorted(entry["ifname"] for entry in links if entry)
out["routes"] = sorted(line.split()[0] for line in
                       subprocess.run(["ip", "route"], capture_output=True, text=True).stdout.splitlines() if " dev shl" in line)
out["run"] = sorted(os.listdir("/run/shoal/pods")) if os.path.isdir("/run/shoal/pods") else []
out["data"] = sorted(os.listdir("/var/lib/shoal/pods")) if os.path.isdir("/var/lib/shoal/pods") else []
leased = {}
for line in read("/var/lib/shoal/leases").splitlines():
    words = line.split()
    if words[0] == "lease":
        leased[words[1]] = words[4]
    elif words[0] == "free":
        leased.pop(words[1], None)
out["leases"] = sorted([owner, ip] for ip, owner in leased.items())
out["images"] = sorted(os.path.basename(p)[:-5] for p in glob.glob("/var/lib/shoal/images/leases/*.json"))
print(json.dumps(out))
"""


def inventory(cluster, host):
    return json.loads(cluster.run(host, "python3", "-c", _LOOK).stdout)


def differences(seen, running, kept=(), sharing=()):
    """What is not as it should be when exactly the pods `running` ({uid: names of its containers}) have a sandbox, those
    in `sharing` with one pid namespace, and of those in `kept` only logs and status are left. A list for people; empty
    when all is well."""
    wrong = []

    def expect(what, found, wanted):
        if sorted(found) != sorted(wanted):
            wrong.append(f"{what}: there is {sorted(found)}, should be {sorted(wanted)}")

    containers = [f"{uid}_{name}" for uid, names in running.items() for name in names]
    expect("shims", [uid for uid, shims in seen["shims"].items() for _ in shims], running)
    expect("holders of pid namespaces", seen["pauses"], sharing)
    expect("containers", [f"{uid}_{name.rpartition('-')[0]}" for uid, found in seen["containers"].items() for name in found],
           containers)
    expect("run folders", seen["run"], running)
    expect("data folders", seen["data"], [*running, *kept])
    expect("image leases", [lease.rpartition("-")[0] for lease in seen["images"]], containers)
    expect("address leases", [owner for owner, _ in seen["leases"]], running)
    expect("root file systems", [uid for uid, _ in seen["mounts"]], [uid for uid, names in running.items() for _ in names])
    for what in ("links", "routes", "netns"):
        if len(seen[what]) != len(running):
            wrong.append(f"{what}: there is {seen[what]}, should be one for each of {len(running)} pods")
    expect("files beneath the cgroup2 tree", seen["beneath"], [])
    wrong += [f"cgroup {path}" for uid, path in seen["cgroups"] if uid not in running]
    wrong += [f"process {pid} in {uid}/{leaf}" for uid, leaf, pid in seen["loose"]
              if uid not in running or leaf.rpartition("-")[0] not in running[uid]]
    return wrong
