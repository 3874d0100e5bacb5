# SPDX-License-Identifier: Apache-2.0
"""A lab host at the end of a line: commands and measurements in it, without entering it anew each time."""
import json
import select
import subprocess
import sys
from pathlib import Path

from . import shield

HOST_SIDE = Path(__file__).resolve().parent / "host_side.py"
ANSWER_TIMEOUT_S = 150  # longer than any bound that host_side.py sets itself


class NodeError(Exception):
    """A command in a lab host did not do what it was asked for."""


class Node:
    """Use as a context manager. `prefix` is put before the interpreter's command line, inside the host; with `realtime`,
    what it runs may have real-time priority (see shield.py)."""

    def __init__(self, cluster, host, prefix=(), realtime=False):
        self.cluster = cluster
        self.host = host
        self.address = cluster.address(host)
        self.prefix = tuple(map(str, prefix))
        self.realtime = realtime
        self.process = None
        self.hello = None  # "IP:PORT" where this host hears shoal-loadgen hello

    def __enter__(self):
        self.process = subprocess.Popen(
            self.cluster.argv(self.host, *self.prefix, sys.executable, "-B", HOST_SIDE), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, bufsize=1)
        self.hello = f"{self.address}:{self.answer('enter')['hello_port']}"
        if self.realtime:
            shield.lift_cpu_group(self.host_side())
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def host_side(self):
        """The pid of host_side.py as the machine sees it: nsenter waits for it as its only child."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="utf-8").split()
        if len(children) != 1:
            raise NodeError(f"{self.host}: process {self.process.pid} has children {children}, not one")
        return children[0]

    def answer(self, what):
        if not select.select([self.process.stdout], [], [], ANSWER_TIMEOUT_S)[0]:
            raise NodeError(f"{self.host}: {what}: no answer for {ANSWER_TIMEOUT_S} s")
        line = self.process.stdout.readline()
        if not line:
            raise NodeError(f"{self.host}: {what}: the host's side has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise NodeError(f"{self.host}: {what}: {answer['error']}")
        return answer

    def ask(self, request):
        what = " ".join(next(request[verb] for verb in ("run", "start", "time", "repeat") if verb in request))
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.answer(what)
        if answer.get("code", 0) != 0:
            raise NodeError(f"{self.host}: {what}: exit {answer['code']}: {(answer['err'] or answer.get('out', '')).strip()}")
        return answer

    def run(self, *argv, text=None):
        """Standard output of a command that must succeed."""
        return self.ask({"run": [str(a) for a in argv], "input": text})["out"]

    def may(self, *argv):
        """Whether a command succeeds."""
        try:
            self.run(*argv)
            return True
        except NodeError:
            return False

    def start(self, *argv):
        """A process that lives as long as this does."""
        return self.ask({"start": [str(a) for a in argv]})["pid"]

    def time_start(self, *argv, ident, text=None):
        """How long until what a command starts runs: see host_side.py."""
        idents = [ident] if isinstance(ident, str) else list(ident)
        return self.ask({"time": [str(a) for a in argv], "ids": idents, "input": text})

    def mean_ms(self, times, *argv):
        """Of so many runs of a command that must succeed."""
        return self.ask({"repeat": [str(a) for a in argv], "times": times})["ms"]
