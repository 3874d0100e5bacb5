# SPDX-License-Identifier: Apache-2.0
"""Ways from a client to a server, and what is measured of them: rates of one closed loop, CPU time of one stream."""
import json

from .node import NodeError
from .rounds import Pair, Row

CRR_PORT = 7000
RR_PORT = 7001
SINK_PORT = 7002
PORTS = {"crr": CRR_PORT, "rr": RR_PORT, "stream": SINK_PORT}
WINDOW = "100ms"  # short: see shield.py
WINDOWS_A_ROUND = 3
WHAT = {"crr": "Connect, request, response, close", "rr": "Request, response on one open connection"}
PLAIN = "plain kernel routing"
TWO_NAMESPACES = "two namespaces behind a router without BPF and netfilter"


# A congestion control that sends at once, and is there in every kernel: with BBR, timers that pace the sender are measured too.
UNPACED = ("sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno")


def start_servers(run, start, shielded, loadgen):
    """One for each mode, where run() runs a command and start() starts a process."""
    run(*UNPACED)
    start(*shielded, loadgen, "serve", "--serial", "--port", CRR_PORT)
    start(*shielded, loadgen, "serve", "--port", RR_PORT, "--keep-alive")
    start(*shielded, loadgen, "sink", "--port", SINK_PORT)


class Path:
    """Where the client runs (run_client runs a command there), and which address it asks; `ports` where the address has
    others than the servers."""

    def __init__(self, run_client, address, shielded, loadgen, ports=None):
        self.run_client = run_client
        self.address = address
        self.argv = (*shielded, loadgen)
        self.ports = PORTS | (ports or {})
        run_client(*UNPACED)

    def _ask(self, mode, window=WINDOW):
        to = f"{self.address}:{self.ports[mode]}"
        return json.loads(self.run_client(*self.argv, mode, "--to", to, "--duration", window).splitlines()[-1])

    def answers(self, mode):
        try:
            self._ask(mode, "1ms")
            return True
        except NodeError:
            return False

    def ready(self, wait_for, modes=tuple(PORTS)):
        """This path, once its servers listen."""
        for mode in modes:
            wait_for(f"{self.address}:{self.ports[mode]} to answer {mode}", lambda m=mode: self.answers(m), 20)
        return self

    def rate(self, mode, row):
        """Of crr or rr, a second."""
        said = self._ask(mode)
        return {row: said["requests"] / said["seconds"], "latency_us": said["latency_us"]}

    def cpu(self, row):
        """Nanoseconds of both ends for a KiB."""
        said = self._ask("stream")
        kib = said["bytes"] / 1024
        return {row: (said["cpu_ns"] + said["sink_cpu_ns"]) / kib, "elapsed_ns_kib": said["seconds"] * 1e9 / kib}


def rate_pair(row, mode, ours, peer, peer_name):
    """`row`: a Row in 1/s, of crr or rr."""
    return Pair(peer_name, (row,), lambda: ours.rate(mode, row.name), lambda: peer.rate(mode, row.name),
                rounds_factor=WINDOWS_A_ROUND)


def cpu_pair(name, ours, peer, peer_name, note, goal=1.0):
    row = Row(name, "ns/KiB", "lower", goal=goal, verdict="interval", note=note)
    return Pair(peer_name, (row,), lambda: ours.cpu(name), lambda: peer.cpu(name), rounds_factor=WINDOWS_A_ROUND)
