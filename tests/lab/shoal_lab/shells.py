# SPDX-License-Identifier: Apache-2.0
"""A Cluster whose commands go through one process a host instead of entering the host anew each time, which takes a
hundred times as long as most of them. For tests that ask a lot.
"""
import json
import subprocess
import sys
import threading

from shoal_lab.cluster import Cluster, ClusterError

# Runs on the host: a command a line in, what came of it a line out.
_SERVE = r"""
import json, subprocess, sys
for line in sys.stdin:
    asked = json.loads(line)
    try:
        done = subprocess.run(asked["argv"], input=asked["input"] or "", capture_output=True, text=True,
                              timeout=asked["timeout"], cwd=asked["cwd"])
        answer = {"code": done.returncode, "out": done.stdout, "err": done.stderr}
    except subprocess.TimeoutExpired:
        answer = {"timeout": True}
    except OSError as error:
        answer = {"code": 127, "out": "", "err": str(error)}
    print(json.dumps(answer), flush=True)
"""


class Shell:
    def __init__(self, argv):
        self.lock = threading.Lock()
        self.process = subprocess.Popen([*argv, sys.executable, "-B", "-c", _SERVE], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def ask(self, question):
        with self.lock:
            try:
                self.process.stdin.write(json.dumps(question) + "\n")
                self.process.stdin.flush()
                answer = self.process.stdout.readline()
            except OSError:
                answer = ""
        return json.loads(answer) if answer else None

    def end(self):
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream.close()
            except OSError:
                pass
        self.process.wait(timeout=30)


class ShellCluster(Cluster):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.shells = {}

    # pylint: disable=arguments-differ
    def run(self, host, *command, check=True, timeout=60, input=None, cwd=None):
        shell = self.shells.get(host)
        if shell is None:
            shell = self.shells[host] = Shell(self.argv(host))
        argv = [str(word) for word in command]
        answer = shell.ask({"argv": argv, "input": input, "timeout": timeout, "cwd": cwd})
        if answer is None:  # the host was killed
            self.shells.pop(host).end()
            raise ClusterError(f"{host}: {' '.join(argv)}: the host is gone")
        if "timeout" in answer:
            raise subprocess.TimeoutExpired(argv, timeout)
        done = subprocess.CompletedProcess(argv, answer["code"], answer["out"], answer["err"])
        if check and done.returncode != 0:
            raise ClusterError(f"{host}: {' '.join(argv)}: exit {done.returncode}: "
                               f"{done.stderr.strip() or done.stdout.strip()}")
        return done

    def lab(self, *args, **options):
        done = super().lab(*args, **options)
        if args[0] == "kill" and args[1] in self.shells:
            self.shells.pop(args[1]).end()
        return done

    def down(self):
        for shell in self.shells.values():
            shell.end()
        self.shells.clear()
        super().down()
