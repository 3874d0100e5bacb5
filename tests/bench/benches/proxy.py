# SPDX-License-Identifier: Apache-2.0
"""the service proxy beside plain routing and kube-proxy's rules: loading, connections, flows, streams, memory"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lab"))

# pylint: disable=wrong-import-position
from proxy import connections, load, memory, scale  # noqa: E402

BUILD = ("shoal_programs", "shoal-proxyload")
HAS_SMALL = True
PARTS = {"load": load.pairs, "sockets": connections.sockets, "tc": connections.flows, "scale": scale.pairs, "memory": memory.pairs}
