# SPDX-License-Identifier: Apache-2.0
"""A registry that serves a folder as it is told, also wrongly: for what a real one does not do.

    python3 sick_registry.py PORT FOLDER

FOLDER/v2/NAME/manifests/REF and FOLDER/v2/NAME/blobs/DIGEST are what it has; a manifest's type is in the file itself.
A file FOLDER/hang with digests in it names blobs of which half comes, and then nothing. FOLDER/asked gets a line for
each request.
"""
import http.server
import json
import socket
import sys
import time
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self):
        # TLS is not spoken here; who tries is told at once.
        if self.connection.recv(1, socket.MSG_PEEK) != b"\x16":
            super().handle()

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        folder = self.server.folder
        with open(folder / "asked", "a", encoding="utf-8") as asked:
            asked.write(f"{self.command} {self.path}\n")
        if self.path == "/v2/":
            return self.answer(200, b"{}", "application/json")
        file = folder / self.path.lstrip("/")
        if not file.is_file():
            return self.answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}', "application/json")
        data = file.read_bytes()
        kind = json.loads(data)["mediaType"] if "/manifests/" in self.path else "application/octet-stream"
        hang = folder / "hang"
        return self.answer(200, data, kind, hang.exists() and file.name in hang.read_text(encoding="utf-8").split())

    def answer(self, status, data, kind, hangs=False):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(data[:len(data) // 2] if hangs else data)
        self.wfile.flush()
        while hangs and (self.server.folder / "hang").exists():
            time.sleep(0.1)
        self.close_connection = True

    def log_message(self, *_):
        pass


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.folder = Path(sys.argv[2])
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
