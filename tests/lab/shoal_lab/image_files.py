# SPDX-License-Identifier: Apache-2.0
"""Images as OCI layout folders, made on the spot, for registries in tests: small, with what a test wants to see in them."""
import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

BUSYBOX = "/bin/busybox"
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(files):
    """A tar of {path: bytes}; programs are those in bin/."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755 if name.startswith("bin/") else 0o644
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def busybox_layer():
    return layer({"bin/busybox": Path(BUSYBOX).read_bytes()})


class Layout:
    """An index of images under one tag, in a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        (self.folder / "blobs/sha256").mkdir(parents=True)
        self.entries = []

    def blob(self, data, kind):
        digest = sha256(data)
        (self.folder / "blobs/sha256" / digest[7:]).write_bytes(data)
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    def document(self, value, kind):
        return self.blob(json.dumps(value).encode(), kind)

    def add(self, layers, architecture=MACHINE):
        config = self.document({
            "architecture": architecture, "os": "linux",
            "config": {"Entrypoint": ["/bin/busybox"], "Cmd": ["sleep", "86400"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(one) for one in layers]}}, CONFIG)
        manifest = self.document({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config,
            "layers": [self.blob(gzip.compress(one, 1, mtime=0), LAYER) for one in layers]}, MANIFEST)
        self.entries.append({**manifest, "platform": {"os": "linux", "architecture": architecture}})
        return self

    def finish(self):
        """Writes the index; its digest, which users know the image by."""
        index = self.document({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.entries}, INDEX)
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}), encoding="utf-8")
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}', encoding="utf-8")
        return index["digest"]

    def serve_from(self, root, name, tag):
        """The same as files of a sick_registry."""
        manifests, blobs = Path(root) / "v2" / name / "manifests", Path(root) / "v2" / name / "blobs"
        manifests.mkdir(parents=True, exist_ok=True)
        blobs.mkdir(parents=True, exist_ok=True)
        top = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))["manifests"][0]["digest"]
        for file in (self.folder / "blobs/sha256").iterdir():
            digest, data = "sha256:" + file.name, file.read_bytes()
            is_manifest = digest == top or digest in [entry["digest"] for entry in self.entries]
            ((manifests if is_manifest else blobs) / digest).write_bytes(data)
        (manifests / tag).write_bytes((self.folder / "blobs/sha256" / top[7:]).read_bytes())
        return top
