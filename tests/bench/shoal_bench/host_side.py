#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in a lab host for as long as a bench does: does what node.Node says, so that no measurement pays for entering.

One request a line on standard input, one answer a line on standard output, both JSON; ends with its input. The first line
that it prints is {"hello_port": N}: where started programs say hello (shoal-loadgen hello). Requests:
  {"run": argv, "input": text or null}       -> {"code", "out", "err"}
  {"start": argv}                            -> {"pid"}; the process runs until this one ends
  {"time": argv, "ids": [text], "input": ...} -> {"code", "err", "running_ms", "heard_ms"}: how long from
      just before argv is executed until the last of the programs that it starts somewhere began to run (which say so
      themselves, by datagrams "ID CLOCK_MONOTONIC"), until the last datagram is here.
  {"repeat": argv, "times": N}               -> {"code", "err", "ms"}: the mean of so many runs, one after the other
"""
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time

TIMEOUT_S = 60
children = []


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def run(request):
    done = subprocess.run(request["run"], input=request.get("input") or "", capture_output=True, text=True,
                          timeout=TIMEOUT_S, check=False)
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr}


def start(request):
    child = subprocess.Popen(request["start"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             preexec_fn=die_with_parent)
    children.append(child)
    return {"pid": child.pid}


def hear(hello, wanted, deadline):
    """The wanted datagrams: (when the last of their senders began, when the last came). Late ones of former requests are
    passed over."""
    missing, running = set(wanted), 0
    while missing:
        hello.settimeout(max(0.001, deadline - time.monotonic()))
        said = hello.recv(256).decode(errors="replace").rpartition(" ")
        if said[0] in missing:
            missing.discard(said[0])
            running = max(running, int(said[2]))
    return running, time.monotonic_ns()


def timed(request, hello):
    began = time.monotonic_ns()
    child = subprocess.Popen(request["time"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                             text=True)
    child.stdin.write(request.get("input") or "")
    child.stdin.close()
    try:
        running, heard = hear(hello, request["ids"], time.monotonic() + TIMEOUT_S)
    except TimeoutError:
        child.kill()
        return {"error": f"{' '.join(request['time'])}: nothing was heard of what it starts for {TIMEOUT_S} s: "
                         f"{child.stderr.read().strip()}"}
    err = child.stderr.read()
    code = child.wait(timeout=TIMEOUT_S)
    return {"code": code, "err": err, "running_ms": (running - began) / 1e6, "heard_ms": (heard - began) / 1e6}


def repeat(request):
    began = time.monotonic_ns()
    for _ in range(request["times"]):
        done = subprocess.run(request["repeat"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=TIMEOUT_S, check=False)
        if done.returncode != 0:
            return {"code": done.returncode, "err": done.stderr}
    return {"code": 0, "err": "", "ms": (time.monotonic_ns() - began) / 1e6 / request["times"]}


def main():
    hello = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    hello.bind(("0.0.0.0", 0))
    print(json.dumps({"hello_port": hello.getsockname()[1]}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "run" in request:
                answer = run(request)
            elif "start" in request:
                answer = start(request)
            elif "repeat" in request:
                answer = repeat(request)
            else:
                answer = timed(request, hello)
        except (OSError, subprocess.SubprocessError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    for child in children:
        child.kill()
        child.wait()
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
