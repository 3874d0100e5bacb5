# SPDX-License-Identifier: Apache-2.0
import json
import queue
import subprocess
import threading
import time

from shoal_lab.cluster import ClusterError


class LineProcess:
    """A child that is told lines and answers with JSON lines."""

    def __init__(self, argv):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.lines = queue.Queue()
        self.thread = threading.Thread(target=self.pump, daemon=True)
        self.thread.start()

    def pump(self):
        for line in self.process.stdout:
            try:
                self.lines.put(json.loads(line))
            except ValueError:
                self.lines.put({"type": "garbage", "text": line})
        self.lines.put(None)

    def say(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def expect(self, kind, timeout_s):
        deadline = time.monotonic() + timeout_s
        while True:
            item = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            if item is None:
                raise ClusterError(f"the load generator ended before it said {kind!r}")
            if item.get("type") == kind:
                return item

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.thread.join(timeout=30)
        self.process.stdout.close()
