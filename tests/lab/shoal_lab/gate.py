# SPDX-License-Identifier: Apache-2.0
"""A program that stops where a test says: a stand-in for the OCI runtime or the shim that runs the real one.

    gate = Gate(folder, "crun", "/usr/bin/crun", only="run")
    gate.hold("before")          # or "after": the real one has ended, its caller does not know yet
    ... gate.wait("before") -> the stand-in's pid as its host sees it; it waits there
    gate.release("before")       # those that wait go on, and nobody stops there any more

A pipe is what it waits at, so that nothing is polled and a killed one leaves nothing. `only`: an argument without which
the stand-in passes straight through.
"""
import os
from pathlib import Path

from shoal_lab.cluster import wait_for

_SCRIPT = """\
#!/bin/sh
# Made by a test.
gate={folder}
stop() {{
  [ -p "$gate/$1" ] || return 0
  echo $$ >"$gate/at-$1.new" && mv "$gate/at-$1.new" "$gate/at-$1"
  read -r _ <"$gate/$1"
}}
held=no
for argument in "$@"; do [ "$argument" = "{only}" ] && held=yes; done
[ $held = yes ] && stop before
"{real}" "$@"
status=$?
[ $held = yes ] && stop after
exit $status
"""


class Gate:
    def __init__(self, folder, name, real, only):
        self.folder = Path(folder) / f"{name}-gate"
        self.folder.mkdir()
        self.program = Path(folder) / name
        self.program.write_text(_SCRIPT.format(folder=self.folder, real=real, only=only), encoding="utf-8")
        self.program.chmod(0o755)

    def hold(self, where):
        (self.folder / f"at-{where}").unlink(missing_ok=True)
        os.mkfifo(self.folder / where)

    def wait(self, where, timeout_s=20):
        mark = self.folder / f"at-{where}"
        wait_for(f"somebody at the gate {mark}", mark.exists, timeout_s, 0.01)
        return int(mark.read_text(encoding="utf-8"))

    def release(self, where):
        pipe = self.folder / where
        # Opened before it is removed: who waits in open() goes on, who comes later finds nothing.
        end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        pipe.unlink()
        try:
            os.write(end, b"\n" * 16)
        finally:
            self.end = end  # kept: a reader that has not come yet still finds its line
