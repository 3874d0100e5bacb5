#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks a UDP service, a few times a second from a socket that stays open and from a new one each: udp_asker IP PORT RATE

An answer counts when it comes from the address that was asked, within two seconds and without asking again. `mark NAME`
on standard input prints, as JSON, what was asked since the last mark, once it has been answered or not.
"""
import json
import selectors
import socket
import sys
import time

TIMEOUT_S = 2.0


class Asker:
    def __init__(self, target, rate):
        self.target, self.period = target, 1 / rate
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin, selectors.EVENT_READ)
        self.number = 0
        self.waiting = {}  # question -> (when, its socket)
        self.failures = {}
        self.asked = 0
        self.steady = self.open()

    def open(self):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        self.selector.register(sock, selectors.EVENT_READ)
        return sock

    def close(self, sock):
        if sock is not self.steady:
            self.selector.unregister(sock)
            sock.close()

    def failed(self, what):
        self.failures[what] = self.failures.get(what, 0) + 1

    def ask(self, sock):
        # The answer is as long as its question, so the length tells which one it is of.
        self.number = self.number % 1000 + 1
        question = 100 + self.number
        self.asked += 1
        try:
            sock.sendto(b"?" * question, self.target)
            self.waiting[question] = (time.monotonic(), sock)
        except OSError as error:
            self.failed(f"send: {error}")
            self.close(sock)

    def hear(self, sock):
        try:
            answer, source = sock.recvfrom(4096)
        except OSError as error:
            self.failed(f"receive: {error}")
            return
        when, asker = self.waiting.pop(len(answer), (None, None))
        if when is None or asker is not sock:
            return  # too late, counted already
        if source != self.target:
            self.failed(f"answered by {source[0]}:{source[1]}")
        self.close(sock)

    def expire(self):
        limit = time.monotonic() - TIMEOUT_S
        for question in [q for q, (when, _) in self.waiting.items() if when < limit]:
            _, sock = self.waiting.pop(question)
            self.failed("no answer")
            self.close(sock)

    def run(self, until_answered=False):
        """Asks until a line comes, which it returns (empty at the end of input); or waits until nothing is unanswered."""
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if until_answered and not self.waiting:
                return None
            if not until_answered and now >= due:
                self.ask(self.steady)
                self.ask(self.open())
                due = max(due + 2 * self.period, now - 1)
            for key, _ in self.selector.select(0.05 if until_answered else max(0, due - time.monotonic())):
                if key.fileobj is not sys.stdin:
                    self.hear(key.fileobj)
                elif not until_answered:
                    return sys.stdin.readline()
            self.expire()

    def marks(self):
        while line := self.run():
            self.run(until_answered=True)
            print(json.dumps({"type": "window", "name": line.split()[-1], "requests": self.asked,
                              "failed": sum(self.failures.values()), "failures": self.failures}), flush=True)
            self.asked, self.failures = 0, {}


if __name__ == "__main__":
    Asker((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).marks()
